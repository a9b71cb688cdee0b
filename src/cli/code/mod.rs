//! `pixel code`

mod list;
mod registry;

use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail};
use chrono::{DateTime, Duration, Utc};
use serde_json::json;

use super::{DestinationArgument, WrongArguments, moment, public_url};
use crate::config::timespan::{DURATION_FORMS, MOMENT_FORMS};
use crate::hit::code;
use crate::hit::code::{Checked, Contents, Keys, Signature};
use crate::hit::event::format_iso;
use crate::terminal::{CsvWriter, json_line, print, print_message, printable};
use registry::Registry;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a code, or one for each line of a CSV file
    New(Box<New>),
    /// List the codes of a destination, with how often they were opened
    List(list::Arguments),
    /// Show what a signed code says, and check that one of our keys signed it; exit code 1 if none did
    Check {
        /// The code
        code: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a code of the list; its hits are still stored, marked `revoked`
    Revoke {
        /// The code, as `pixel code list` shows it
        code: String,
        #[command(flatten)]
        destination: DestinationArgument,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a new key for `PIXEL_CODE_KEYS`
    Key {
        /// The id of the key, different from those of the keys in use
        #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = super::whole(0..=u8::MAX))]
        id: u8,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// The campaign's name, signed into the code; for a UTM parameter use `pixel snippet --campaign`
    #[arg(long, value_name = "NAME")]
    campaign: Option<String>,
    /// The recipient of the mail; only a keyed hash of it is kept
    #[arg(long, value_name = "WHO")]
    recipient: Option<String>,
    /// The time of sending: `today`, a day or an RFC 3339 time [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    sent: Option<DateTime<Utc>>,
    /// The end of its validity: a duration after sending, as in 90d or 1y, or a time [default: never]
    #[arg(long, value_name = "DURATION|TIME", value_parser = expiry)]
    expires: Option<Expiry>,
    /// Print the URL of the image, below this URL at which visitors reach the pixel
    /// [default: `$PIXEL_PUBLIC_URL`, else only the code is printed]
    #[arg(long, value_name = "URL", value_parser = public_url::parse)]
    url: Option<String>,
    /// Make a code for each line of a CSV file (`-` is stdin) and print it with the columns `code` and, where the URL
    /// is known, `url` added; its columns `campaign`, `recipient`, `sent` and `expires` override the options
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Put the code into the destination's list, where `pixel code list` and the page show it
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    destination: DestinationArgument,
    /// With `--list`: a word of your own as the code, which is then not signed
    #[arg(long, value_name = "WORD", requires = "list", conflicts_with_all = ["csv", "recipient", "sent", "expires"])]
    code: Option<String>,
    /// With `--list`: a note to find it by
    #[arg(long, value_name = "TEXT", requires = "list")]
    note: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
}

/// The end of a code's validity.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    After(Duration),
    At(DateTime<Utc>),
}

impl Expiry {
    fn expires_at(self, sent: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::After(duration) => sent.checked_add_signed(duration),
            Self::At(time) => Some(time),
        }
    }
}

fn expiry(text: &str) -> Result<Expiry, String> {
    moment(text)
        .map(Expiry::At)
        .or_else(|_| super::duration(text).map(Expiry::After))
        .map_err(|_| format!("give a duration, as in {DURATION_FORMS}, or a time, as in {MOMENT_FORMS}"))
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Key { id } => print(&code::key_text(*id, super::random()?)),
        Command::List(arguments) => list::run(arguments),
        Command::Revoke {
            code,
            destination,
            json,
        } => revoke(code, destination, *json),
        Command::New(new) => match &new.csv {
            Some(path) => bulk(new, path),
            None => one(new),
        },
        Command::Check { code, json } => check(&keys()?, code, *json),
    }
}

fn keys() -> anyhow::Result<Keys> {
    let keys = read_keys()?;
    if keys.is_empty() {
        bail!(
            "there is no key: set `PIXEL_CODE_KEYS` to what `pixel code key` prints, here and where the pixel is served"
        );
    }
    Ok(keys)
}

fn read_keys() -> anyhow::Result<Keys> {
    Ok(super::read_environment(&["PIXEL_CODE_KEYS"])?.code_keys)
}

fn revoke(code: &str, destination: &DestinationArgument, json: bool) -> anyhow::Result<()> {
    let revoked = super::runtime()?.block_on(async {
        let registry = Registry::open(destination, false).await?;
        registry.revoke(code).await
    })?;
    if json {
        return print(&json_line(&revoked));
    }
    print(&format!("revoked {}", printable(code, 256)))
}

/// A maker of codes.
enum Maker {
    /// The keys that sign codes.
    Signer(Keys),
    /// A list that new codes are added to, signed if there is a key.
    Lister {
        registry: Registry,
        runtime: tokio::runtime::Runtime,
    },
}

impl Maker {
    fn new(new: &New) -> anyhow::Result<Self> {
        if !new.list {
            return Ok(Self::Signer(keys()?));
        }
        let runtime = super::runtime()?;
        let registry = runtime.block_on(Registry::open(&new.destination, true))?;
        Ok(Self::Lister { registry, runtime })
    }

    fn make(&self, draft: &Draft<'_>) -> anyhow::Result<String> {
        let expires = draft.expiry()?;
        match self {
            Self::Signer(keys) => Ok(keys.sign(&Contents {
                campaign: draft.campaign.map(ToOwned::to_owned),
                recipient: draft.recipient.map(|recipient| keys.recipient(recipient)).transpose()?,
                sent: Some(draft.sent.unwrap_or(draft.now)),
                expires,
            })?),
            Self::Lister { registry, runtime } => {
                let mut body = json!({});
                let members = [
                    ("code", draft.code.map(ToOwned::to_owned)),
                    ("campaign", draft.campaign.map(ToOwned::to_owned)),
                    ("recipient", draft.recipient.map(ToOwned::to_owned)),
                    ("sent", draft.sent.map(format_iso)),
                    ("expires", expires.map(format_iso)),
                    ("note", draft.note.map(ToOwned::to_owned)),
                ];
                for (name, value) in members {
                    if let Some(value) = value {
                        body[name] = value.into();
                    }
                }
                runtime.block_on(registry.add(&body))
            }
        }
    }
}

/// The properties of a code that is to be made.
#[derive(Clone, Copy)]
struct Draft<'a> {
    code: Option<&'a str>,
    campaign: Option<&'a str>,
    recipient: Option<&'a str>,
    sent: Option<DateTime<Utc>>,
    expires: Option<Expiry>,
    note: Option<&'a str>,
    now: DateTime<Utc>,
}

impl<'a> Draft<'a> {
    fn from_options(new: &'a New, now: DateTime<Utc>) -> Self {
        Self {
            code: new.code.as_deref(),
            campaign: new.campaign.as_deref(),
            recipient: new.recipient.as_deref(),
            sent: new.sent,
            expires: new.expires,
            note: new.note.as_deref(),
            now,
        }
    }

    fn expiry(&self) -> anyhow::Result<Option<DateTime<Utc>>> {
        let sent = self.sent.unwrap_or(self.now);
        let expires = self
            .expires
            .map(|expires| expires.expires_at(sent).context("it expires too late"));
        let expires = expires.transpose()?;
        if let Some(expires) = expires
            && expires <= sent
        {
            bail!(
                "it would have expired before it is sent: it is sent {}, and expires {}",
                format_iso(sent),
                format_iso(expires)
            );
        }
        Ok(expires)
    }
}

fn image(base: &str, code: &str) -> String {
    format!("{base}/pixel/{code}.gif")
}

fn one(new: &New) -> anyhow::Result<()> {
    let draft = Draft::from_options(new, Utc::now());
    if draft.code.or(draft.campaign).or(draft.recipient).is_none() {
        let message = "give `--campaign` or `--recipient`: a code that names neither tells you nothing";
        return Err(WrongArguments(message.to_owned()).into());
    }
    let code = Maker::new(new)?.make(&draft)?;
    let base = public_url::find(new.url.as_ref())?;
    let url = base.map(|base| image(&base, &code));
    if new.json {
        let contents = spell(&read_keys()?.check(&code, draft.now).contents);
        return print(&json_line(&json!({"code": code, "url": url, "contents": contents})));
    }
    print(&url.unwrap_or(code))
}

fn spell(contents: &Contents) -> serde_json::Value {
    json!({
        "campaign": contents.campaign,
        "recipient": contents.recipient.map(|recipient| recipient.to_string()),
        "sent": contents.sent.map(format_iso),
        "expires": contents.expires.map(format_iso),
    })
}

fn check(keys: &Keys, code: &str, json: bool) -> anyhow::Result<()> {
    let checked = keys.check(code, Utc::now());
    let contents = spell(&checked.contents);
    if json {
        print(&json_line(
            &json!({"signature": checked.signature.name(), "contents": contents}),
        ))?;
        return genuine(&checked);
    }
    let mut lines = vec![format!("signature   {}", checked.signature.name())];
    for name in ["campaign", "recipient", "sent", "expires"] {
        if let Some(text) = contents[name].as_str() {
            lines.push(format!("{name:<11} {}", printable(text, 200)));
        }
    }
    print(&lines.join("\n"))?;
    genuine(&checked)
}

/// Fails, with exit code 1, if a code is not ours.
fn genuine(checked: &Checked) -> anyhow::Result<()> {
    match checked.signature {
        Signature::Valid | Signature::Expired => Ok(()),
        Signature::Invalid => bail!("no key of ours made it"),
        _ => bail!("it is not a signed code"),
    }
}

/// The positions of the columns that are used, and the URL of the images.
#[derive(Default)]
struct Columns {
    base: Option<String>,
    campaign: Option<usize>,
    recipient: Option<usize>,
    sent: Option<usize>,
    expires: Option<usize>,
}

/// The names of the columns.
const COLUMNS: [&str; 4] = ["campaign", "recipient", "sent", "expires"];

impl Columns {
    fn parse_header(header: &csv::StringRecord, base: Option<String>) -> anyhow::Result<Self> {
        let place = |name: &str| {
            header
                .iter()
                .position(|column| column.trim().eq_ignore_ascii_case(name))
        };
        for name in ["code", "url"] {
            if place(name).is_some() {
                bail!("it has a column `{name}` already, which is to be added");
            }
        }
        let [campaign, recipient, sent, expires] = COLUMNS.map(place);
        if COLUMNS.iter().all(|name| place(name).is_none()) {
            bail!(
                "its first line has none of the columns `{}`, so that all codes would be the same; columns are told apart by `,`, not by `;`",
                COLUMNS.join("`, `")
            );
        }
        Ok(Self {
            base,
            campaign,
            recipient,
            sent,
            expires,
        })
    }
}

fn cell(record: &csv::StringRecord, place: Option<usize>) -> Option<&str> {
    place
        .and_then(|place| record.get(place))
        .filter(|text| !text.is_empty())
}

/// Makes a code for each line of a CSV file of any length; it is read line by line.
fn bulk(new: &New, path: &std::path::Path) -> anyhow::Result<()> {
    let maker = Maker::new(new)?;
    let input: Box<dyn io::Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| format!("`{}`", path.display()))?)
    };
    let mut reader = csv::ReaderBuilder::new().from_reader(io::BufReader::with_capacity(1 << 16, input));
    let made = copy(&maker, new, &mut reader).with_context(|| format!("`{}`", path.display()));
    match made {
        Ok(count) => {
            let listed = if new.list {
                ""
            } else {
                ", none of them listed (see `--list`)"
            };
            print_message(&format!("{count} codes{listed}"));
            Ok(())
        }
        // A reader that stops early has what it wanted.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn copy<R: io::Read>(maker: &Maker, new: &New, reader: &mut csv::Reader<R>) -> anyhow::Result<u64> {
    let mut header = reader.headers()?.clone();
    let columns = Columns::parse_header(&header, public_url::find(new.url.as_ref())?)?;
    header.push_field("code");
    if columns.base.is_some() {
        header.push_field("url");
    }
    let mut writer = CsvWriter::stdout();
    writer.row(&header)?;
    let defaults = Draft::from_options(new, Utc::now());
    let mut record = csv::StringRecord::new();
    let mut count = 0;
    while reader.read_record(&mut record)? {
        let line = reader.position().line();
        let code = make_record(maker, defaults, &columns, &record).with_context(|| format!("before line {line}"))?;
        record.push_field(&code);
        if let Some(base) = &columns.base {
            record.push_field(&image(base, &code));
        }
        writer.row(&record)?;
        count += 1;
    }
    writer.flush()?;
    Ok(count)
}

fn make_record(
    maker: &Maker,
    defaults: Draft<'_>,
    columns: &Columns,
    record: &csv::StringRecord,
) -> anyhow::Result<String> {
    let say = |what: &'static str| move |error: String| anyhow::anyhow!("column `{what}`: {error}");
    let sent = cell(record, columns.sent)
        .map(moment)
        .transpose()
        .map_err(say("sent"))?;
    let expires = cell(record, columns.expires)
        .map(expiry)
        .transpose()
        .map_err(say("expires"))?;
    maker.make(&Draft {
        campaign: cell(record, columns.campaign).or(defaults.campaign),
        recipient: cell(record, columns.recipient).or(defaults.recipient),
        sent: sent.or(defaults.sent),
        expires: expires.or(defaults.expires),
        ..defaults
    })
}
