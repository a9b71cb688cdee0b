//! `pixel config`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{DestinationArgument, connect, privacy_key};
use crate::client::http::{ClientRequest, ClientResponse, Deliverer, SendError};
use crate::config::{Config, Problem, VARIABLES, Variable, Variables};
use crate::destination::hide_password;
use crate::destination::message::{MessageService, MessageTarget};
use crate::destination::opensearch::{Target, verdict};
use crate::destination::{Destination, Verdict};
use crate::hit::event::Event;
use crate::server::geo_file::GeoFile;
use crate::setup::plan::Plan;
use crate::setup::server;
use crate::sqlite;
use crate::terminal::{json_line, print, print_message, printable};

#[derive(Debug, clap::Args)]
#[command(mut_arg("destination", |argument| argument.help(super::ANY_DESTINATION)))]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// Connect to the destination, write a probe document and delete it again
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows the configuration, then all its errors, then tests it if asked to.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (variables, source) = super::variables(&arguments.destination);
    let (config, problems) = Config::read(&variables);
    let key_file = key_file(&config, &variables);
    let (warnings, mut problems): (Vec<_>, Vec<_>) = problems.into_iter().partition(Problem::is_unknown_variable);
    problems.extend(key_file.as_ref().err().cloned());
    super::name_argument(&mut problems, &arguments.destination);
    problems.extend(config.geo_file.as_deref().and_then(|file| GeoFile::open(file).err()));
    let wanted = arguments.check && problems.is_empty();
    if !arguments.json {
        show(&variables, source, key_file.as_ref().ok())?;
    }
    let mut findings = Findings::default();
    let checked = if wanted {
        super::runtime()?.block_on(check(&config, &mut findings))
    } else {
        Ok(())
    };
    if arguments.json {
        let check = wanted.then(|| findings.json(&checked));
        show_json(
            &variables,
            source,
            key_file.as_ref().ok(),
            [&warnings, &problems],
            check,
        )?;
    }
    if !problems.is_empty() {
        return Err(super::Misconfigured(problems).into());
    }
    checked
}

/// The file of the privacy key.
struct KeyFile {
    path: Option<PathBuf>,
    exists: bool,
}

fn key_file(config: &Config, variables: &Variables) -> Result<KeyFile, Problem> {
    let destination = config.destination.as_ref();
    let path = destination.and_then(|destination| privacy_key::path_for(destination, variables));
    let found = match &path {
        Some(path) if !config.has_key => privacy_key::read_file(path),
        _ => Ok(None),
    };
    match found {
        Ok(found) => Ok(KeyFile {
            exists: found.is_some(),
            path,
        }),
        Err(error) => Err(Problem {
            variable: "PIXEL_PRIVACY_KEY".to_owned(),
            value: String::new(),
            remedy: error.to_string(),
        }),
    }
}

/// The results of a check, which are all reported together.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn note(&mut self, line: String) {
        print_message(&line);
        self.0.push(line);
    }

    fn json(&self, checked: &anyhow::Result<()>) -> Value {
        let error = checked.as_ref().err().map(|error| format!("{error:#}"));
        json!({"ok": checked.is_ok(), "findings": self.0, "error": error})
    }
}

/// One variable with its value in force.
struct Row {
    name: &'static str,
    value: String,
    source: &'static str,
}

fn row(variable: &Variable, variables: &Variables, destination: &'static str) -> Row {
    let set = variables
        .get(variable.name)
        .map(String::as_str)
        .filter(|value| !value.trim().is_empty());
    let source = match (set, variable.name) {
        (Some(_), "PIXEL_DESTINATION") => destination,
        (Some(_), _) => "environment",
        (None, _) => "default",
    };
    let value = match set {
        Some(_) if variable.secret => "[hidden]".to_owned(),
        Some(value) => hide_password(value),
        None => variable.default.replace('`', ""),
    };
    Row {
        name: variable.name,
        value,
        source,
    }
}

fn rows(variables: &Variables, destination: &'static str, key: Option<&KeyFile>) -> impl Iterator<Item = Row> {
    VARIABLES.iter().map(move |variable| {
        let mut row = row(variable, variables, destination);
        if variable.name == "PIXEL_PRIVACY_KEY"
            && row.source == "default"
            && let Some(KeyFile {
                path: Some(path),
                exists,
            }) = key
        {
            let path = path.display();
            (row.source, row.value) = if *exists {
                ("file", format!("[hidden] in {path}"))
            } else {
                (
                    "default",
                    format!("{path}, which `pixel serve` makes at its first start"),
                )
            };
        }
        row
    })
}

fn show(variables: &Variables, destination: &'static str, key: Option<&KeyFile>) -> anyhow::Result<()> {
    let lines = rows(variables, destination, key)
        .map(|row| format!("{:<26}{:<14}{}", row.name, row.source, printable(&row.value, 200)));
    print(&lines.collect::<Vec<_>>().join("\n"))
}

fn show_json(
    variables: &Variables,
    destination: &'static str,
    key: Option<&KeyFile>,
    [warnings, problems]: [&[Problem]; 2],
    check: Option<Value>,
) -> anyhow::Result<()> {
    let rows: Vec<Value> = rows(variables, destination, key)
        .map(|row| json!({"name": row.name, "value": row.value, "source": row.source}))
        .collect();
    let texts = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut whole = json!({"variables": rows, "warnings": texts(warnings), "problems": texts(problems)});
    if let Some(check) = check {
        whole["check"] = check;
    }
    print(&json_line(&whole))
}

async fn check(config: &Config, findings: &mut Findings) -> anyhow::Result<()> {
    match config.destination.as_ref().context("no destination")? {
        Destination::Sqlite(path) => check_store(path, findings),
        Destination::Message(outlet) => check_outlet(config, outlet, findings).await,
        Destination::OpenSearch(target) => {
            check_index(&connect::open_deliverer(config, target).await?, target, findings).await
        }
    }
}

/// Checks a store's file. A missing file is not created: its name may be mistyped.
fn check_store(path: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    let shown = path.display();
    if path.exists() {
        sqlite::probe(path, &probe())?;
        findings.note(format!("ok: wrote an event to `{shown}` and took it back"));
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("`{shown}` cannot be made: there is no folder `{}`", folder.display());
    }
    findings.note(format!(
        "ok: `{shown}` is not there; it will be made when it is first written"
    ));
    Ok(())
}

/// Checks a queue by asking for its number of messages; a writer may send no such request to a stream.
async fn check_outlet(config: &Config, outlet: &MessageTarget, findings: &mut Findings) -> anyhow::Result<()> {
    if outlet.kind == MessageService::Firehose {
        findings.note(format!(
            "{outlet} is not checked: only a record would show whether it takes records"
        ));
        return Ok(());
    }
    let messages = super::queue::count(&super::queue::open(config, outlet).await?).await?;
    findings.note(format!("ok: {outlet} answers; it holds about {messages} messages"));
    Ok(())
}

/// Returns an event that no hit caused.
fn probe() -> Event {
    let time = chrono::Utc::now();
    let document = json!({"@timestamp": crate::hit::event::format_iso(time), "date": time.timestamp_millis(), "event": {"action": "probe"}});
    Event {
        id: format!("pixel-probe-{}", uuid::Uuid::now_v7()),
        time,
        document: document.to_string(),
    }
}

async fn check_index(deliverer: &Deliverer, target: &Target, findings: &mut Findings) -> anyhow::Result<()> {
    match server::product(deliverer).await {
        Ok(product) => findings.note(format!("ok: {} is {product}", target.base)),
        Err(error) if error.is_silent() => return Err(error.into()),
        // A user who may only write may not ask; what matters is that writing works.
        Err(error) => findings.note(format!("{error}\ntrying to write all the same")),
    }
    let probe = probe();
    refuse_to_make(deliverer, target, &probe).await?;
    let mut request = target.store(&probe, true);
    let mut answer = send(deliverer, request.method, &request.url, &probe.document).await?;
    let mut verdict_of_write = verdict(answer.status, &answer.body);
    if verdict_of_write == Verdict::RefusesIds {
        request = target.store(&probe, false);
        answer = send(deliverer, request.method, &request.url, &probe.document).await?;
        verdict_of_write = verdict(answer.status, &answer.body);
    }
    match verdict_of_write {
        Verdict::Indexed | Verdict::Duplicate => findings.note(format!("ok: wrote a probe document to {target}")),
        Verdict::Retry(reason) | Verdict::Refused(reason) | Verdict::Denied(reason) => {
            bail!("{}", explain(&reason, target))
        }
        Verdict::RefusesIds => bail!("{target} refuses documents with and without an id"),
    }
    delete(deliverer, target, &probe, &answer, findings).await
}

/// Refuses to write a probe to an index that does not exist and has no template: that would create the index with a mapping
/// that cannot be corrected later.
async fn refuse_to_make(deliverer: &Deliverer, target: &Target, probe: &Event) -> anyhow::Result<()> {
    let plan = Plan::new(&target.index, None, None).map_err(anyhow::Error::msg)?;
    let (index, template) = (target.index.name(probe.time), plan.name());
    for path in [
        format!("/{index}"),
        format!("/_index_template/{template}"),
        format!("/_template/{template}"),
    ] {
        // A user who may not ask can still go on.
        let answer = server::send_request(deliverer, "GET", &path, None).await;
        let unknown = |status: u16| (400..=405).contains(&status) && (status == 404 || path.starts_with("/_"));
        if !answer.is_ok_and(|reply| unknown(reply.status)) {
            return Ok(());
        }
    }
    bail!(
        "{target}: there is no index `{index}` yet, and no template for it\n  run `pixel setup` first: the first event would make it with a mapping that cannot be mended later"
    )
}

/// Deletes the probe by the id that the index gave it.
async fn delete(
    deliverer: &Deliverer,
    target: &Target,
    probe: &Event,
    stored: &ClientResponse,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let stored: Value = serde_json::from_slice(&stored.body)?;
    let id = stored.get("_id").and_then(Value::as_str).unwrap_or(&probe.id);
    let url = format!("{}/{}/_doc/{id}", target.base, target.index.name(probe.time));
    let answer = send(deliverer, "DELETE", &url, "").await?;
    if answer.status == 200 {
        findings.note("ok: deleted it again".to_owned());
    } else {
        // The function needs no more than to write.
        findings.note(format!(
            "could not delete the probe document `{id}` (status {}); it may stay",
            answer.status
        ));
    }
    Ok(())
}

async fn send(deliverer: &Deliverer, method: &'static str, url: &str, body: &str) -> anyhow::Result<ClientResponse> {
    let answer = deliverer
        .send(
            ClientRequest::json(method, url, body.to_owned()),
            1 << 20,
            std::time::Duration::from_secs(10),
        )
        .await;
    answer.map_err(|error| match error {
        SendError::Transport(reason) | SendError::Slow(reason) => {
            anyhow::anyhow!("{}", explain(&reason, deliverer.target()))
        }
        SendError::Impossible(reason) => anyhow::anyhow!("{reason}"),
    })
}

fn explain(reason: &str, target: &Target) -> String {
    server::explain(reason, &target.to_string(), target.auth.name())
}
