//! `pixel config`

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{DestinationArgument, connect, printable, talk};
use crate::aws::client::{Answer, Deliverer, SendError};
use crate::config::{Config, Problem, VARIABLES, Variable, Variables, hide_password};
use crate::delivery::opensearch::{Target, verdict};
use crate::delivery::sqlite::Store;
use crate::delivery::{Destination, Verdict};
use crate::event::Event;

#[derive(Debug, clap::Args)]
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

/// Shows the configuration, then everything that is wrong with it, then tries it when asked to.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (variables, source) = super::variables(&arguments.destination);
    let (config, problems) = Config::read(&variables);
    show(&variables, source, &problems, arguments.json)?;
    if !problems.is_empty() {
        return Err(super::Misconfigured(problems).into());
    }
    if arguments.check {
        super::runtime()?.block_on(check(&config))?;
    }
    Ok(())
}

/// One variable as it is in force.
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

fn show(variables: &Variables, destination: &'static str, problems: &[Problem], json: bool) -> anyhow::Result<()> {
    let rows: Vec<Row> = VARIABLES
        .iter()
        .map(|variable| row(variable, variables, destination))
        .collect();
    if json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| json!({"name": row.name, "value": row.value, "source": row.source}))
            .collect();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return super::print(&json!({"variables": rows, "problems": problems}).to_string());
    }
    let lines = rows
        .iter()
        .map(|row| format!("{:<26}{:<14}{}", row.name, row.source, printable(&row.value, 200)));
    super::print(&lines.collect::<Vec<_>>().join("\n"))
}

async fn check(config: &Config) -> anyhow::Result<()> {
    match config.destination.as_ref().context("no destination")? {
        Destination::Sqlite(path) => {
            Store::open(path)?.close();
            talk(&format!("ok: `{}` can be written", path.display()));
            Ok(())
        }
        Destination::OpenSearch(target) => check_index(&connect::deliverer(config, target).await?, target).await,
    }
}

async fn check_index(deliverer: &Deliverer, target: &Target) -> anyhow::Result<()> {
    match product(deliverer, target).await? {
        Some(product) => talk(&format!("ok: {} is {product}", target.base)),
        None => talk(&format!("{} answers, and does not tell what it is", target.base)),
    }
    let time = chrono::Utc::now();
    let document =
        json!({"@timestamp": crate::event::iso(time), "date": time.timestamp_millis(), "event": {"action": "probe"}});
    let probe = Event {
        id: format!("pixel-probe-{}", uuid::Uuid::now_v7()),
        time,
        document: document.to_string(),
    };
    let mut request = target.store(&probe, true);
    let mut answer = send(deliverer, request.method, &request.url, &probe.document).await?;
    let mut judged = verdict(answer.status, &answer.body);
    if judged == Verdict::RefusesIds {
        request = target.store(&probe, false);
        answer = send(deliverer, request.method, &request.url, &probe.document).await?;
        judged = verdict(answer.status, &answer.body);
    }
    match judged {
        Verdict::Indexed | Verdict::Duplicate => talk(&format!("ok: wrote a probe document to {target}")),
        Verdict::Retry(reason) | Verdict::Refused(reason) => bail!("{}", explain(&reason, target)),
        Verdict::RefusesIds => bail!("{target} refuses documents with and without an id"),
    }
    delete(deliverer, target, &probe, &answer).await
}

/// Deletes the probe under the id that the index gave it.
async fn delete(deliverer: &Deliverer, target: &Target, probe: &Event, stored: &Answer) -> anyhow::Result<()> {
    let stored: Value = serde_json::from_slice(&stored.body)?;
    let id = stored.get("_id").and_then(Value::as_str).unwrap_or(&probe.id);
    let url = format!("{}/{}/_doc/{id}", target.base, target.index.name(probe.time));
    let answer = send(deliverer, "DELETE", &url, "").await?;
    if answer.status == 200 {
        talk("ok: deleted it again");
    } else {
        // Writing is all that the function needs.
        talk(&format!(
            "could not delete the probe document `{id}` (status {}); it may stay",
            answer.status
        ));
    }
    Ok(())
}

async fn send(deliverer: &Deliverer, method: &str, url: &str, body: &str) -> anyhow::Result<Answer> {
    let answer = deliverer
        .send(
            method,
            url,
            body.as_bytes().to_vec(),
            1 << 20,
            std::time::Duration::from_secs(10),
        )
        .await;
    answer.map_err(|error| match error {
        SendError::Transport(reason) => anyhow::anyhow!("{}", explain(&reason, deliverer.target())),
        SendError::Impossible(reason) => anyhow::anyhow!("{reason}"),
    })
}

/// Flavour and version. Some servers do not answer at their root.
async fn product(deliverer: &Deliverer, target: &Target) -> anyhow::Result<Option<String>> {
    if target.serverless {
        return Ok(Some("OpenSearch Serverless".to_owned()));
    }
    let root = send(deliverer, "GET", &format!("{}/", target.base), "").await?;
    if root.status == 401 {
        bail!("{}", explain("status 401", target));
    }
    let version: Value = serde_json::from_slice(&root.body).unwrap_or_default();
    if let Some(number) = version.pointer("/version/number").and_then(Value::as_str) {
        let flavour = version
            .pointer("/version/distribution")
            .and_then(Value::as_str)
            .unwrap_or("elasticsearch");
        let name = if flavour == "opensearch" {
            "OpenSearch"
        } else {
            "Elasticsearch"
        };
        return Ok(Some(format!("{name} {}", printable(number, 40))));
    }
    let nodes = send(
        deliverer,
        "GET",
        &format!("{}/_nodes/_local?filter_path=nodes.*.version", target.base),
        "",
    )
    .await?;
    let nodes: Value = serde_json::from_slice(&nodes.body).unwrap_or_default();
    let node = nodes
        .get("nodes")
        .and_then(Value::as_object)
        .and_then(|nodes| nodes.values().next());
    let number = node.and_then(|node| node.get("version")?.as_str());
    Ok(number.map(|number| format!("a server of version {}", printable(number, 40))))
}

/// A reason with what to do about it.
fn explain(reason: &str, target: &Target) -> String {
    let lower = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let hint = if says(&["dns", "lookup", "resolve"]) {
        "the host's name is not known here; is it spelt right, and is the domain in a VPC that this machine cannot see?"
            .to_owned()
    } else if says(&["certificate", "unknownissuer", "tls", "handshake"]) {
        "the server's certificate is not trusted; for a private authority set `PIXEL_CA_FILE`".to_owned()
    } else if says(&["refused"]) && says(&["connect"]) {
        "nothing listens there; is the server up and the port right?".to_owned()
    } else if says(&["timed out"]) {
        "no answer in time; security group, firewall, or a VPC that this machine cannot see?".to_owned()
    } else if says(&["status 401"]) {
        format!(
            "the credentials (`{}`) are not accepted; check user and password, API key or AWS credentials",
            target.auth.name()
        )
    } else if says(&["read-only", "cluster_block", "read_only"]) {
        "the index is read-only, most often because the disk was full: free space, then set `index.blocks.read_only_allow_delete` to null".to_owned()
    } else if says(&["status 403"]) {
        format!(
            "the credentials (`{}`) may not do this; allow the action named above (`es:ESHttpPut` and `es:ESHttpPost` on the index in IAM and the access policy, `create_index` and `write` in the role mapping)",
            target.auth.name()
        )
    } else if says(&["status 404"]) {
        "there is no such index, and it is not created by itself; is the URL's path right?".to_owned()
    } else {
        return format!("{target}: {reason}");
    };
    format!("{target}: {reason}\n  {hint}")
}
