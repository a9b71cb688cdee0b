//! `pixel code`

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use chrono::{DateTime, Duration, Utc};
use serde_json::json;

use super::{moment, public_url};
use crate::code::{self, Checked, Contents, Keys, Signature};
use crate::event::iso;
use crate::terminal::{json_line, print, printable, talk};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a signed code, or one for each line of a CSV file
    New(New),
    /// Say what a code says, and whether a key of ours made it; exit code 1 when none did
    Check {
        /// The code
        code: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a new key for `PIXEL_CODE_KEYS`
    Key {
        /// Its id, another one than those of the keys in use
        #[arg(long, default_value_t = 1)]
        id: u8,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// The campaign's name
    #[arg(long, value_name = "NAME")]
    campaign: Option<String>,
    /// Who it is sent to; only a keyed hash of it is kept
    #[arg(long, value_name = "WHO")]
    recipient: Option<String>,
    /// When it is sent: a day or an RFC 3339 time [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    sent: Option<DateTime<Utc>>,
    /// Until when it is good: days after it is sent, as in 90d, or a time [default: for ever]
    #[arg(long, value_name = "DAYS|TIME", value_parser = expiry)]
    expires: Option<Expiry>,
    /// Print the URL of the image below this one, which is the URL below which visitors reach the pixel
    /// [default: `$PIXEL_PUBLIC_URL`, else only the code is printed]
    #[arg(long, value_name = "URL", value_parser = public_url::parse)]
    url: Option<String>,
    /// Make a code for each line of a CSV file (`-` is stdin) and print it with the columns `code` and, where the URL
    /// is known, `url` added; its columns `campaign`, `recipient`, `sent` and `expires` say what the options say otherwise
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
}

/// Until when a code is good.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    After(Duration),
    At(DateTime<Utc>),
}

impl Expiry {
    fn of(self, sent: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::After(duration) => sent.checked_add_signed(duration),
            Self::At(time) => Some(time),
        }
    }
}

fn expiry(text: &str) -> Result<Expiry, String> {
    let days = || super::days(text).map(|days| Expiry::After(Duration::days(days.into())));
    moment(text)
        .map(Expiry::At)
        .or_else(|_| days())
        .map_err(|_| "give days, as in 90d, or a time".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Key { id } => print(&code::key_text(*id, super::random()?)),
        Command::New(new) => {
            let keys = keys()?;
            match &new.csv {
                Some(path) => bulk(&keys, new, path),
                None => one(&keys, new),
            }
        }
        Command::Check { code, json } => check(&keys()?, code, *json),
    }
}

fn keys() -> anyhow::Result<Keys> {
    let keys = super::of_environment(&["PIXEL_CODE_KEYS"])?.code_keys;
    if keys.is_empty() {
        bail!(
            "there is no key: set `PIXEL_CODE_KEYS` to what `pixel code key` prints, here and where the pixel is served"
        );
    }
    Ok(keys)
}

/// What the options say, before a line of a file says otherwise.
struct Defaults {
    campaign: Option<String>,
    sent: DateTime<Utc>,
    expires: Option<Expiry>,
}

impl Defaults {
    fn of(new: &New) -> Self {
        Self {
            campaign: new.campaign.clone(),
            sent: new.sent.unwrap_or_else(Utc::now),
            expires: new.expires,
        }
    }

    fn contents(&self, keys: &Keys, recipient: Option<&str>) -> anyhow::Result<Contents> {
        let expires = self
            .expires
            .map(|expires| expires.of(self.sent).context("it expires too late"))
            .transpose()?;
        if let Some(expires) = expires
            && expires <= self.sent
        {
            bail!(
                "it would have expired before it is sent: it is sent {}, and expires {}",
                iso(self.sent),
                iso(expires)
            );
        }
        Ok(Contents {
            campaign: self.campaign.clone(),
            recipient: recipient.map(|recipient| keys.recipient(recipient)).transpose()?,
            sent: Some(self.sent),
            expires,
        })
    }
}

fn image(base: &str, code: &str) -> String {
    format!("{base}/pixel/{code}.gif")
}

fn one(keys: &Keys, new: &New) -> anyhow::Result<()> {
    let contents = Defaults::of(new).contents(keys, new.recipient.as_deref())?;
    let code = keys.sign(&contents)?;
    let base = public_url::find(new.url.as_ref())?;
    let url = base.map(|base| image(&base, &code));
    if new.json {
        return print(&json_line(
            &json!({"code": code, "url": url, "contents": spell(&contents)}),
        ));
    }
    print(&url.unwrap_or(code))
}

fn spell(contents: &Contents) -> serde_json::Value {
    json!({
        "campaign": contents.campaign,
        "recipient": contents.recipient.map(|recipient| recipient.to_string()),
        "sent": contents.sent.map(iso),
        "expires": contents.expires.map(iso),
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

/// What is not ours ends with exit code 1.
fn genuine(checked: &Checked) -> anyhow::Result<()> {
    match checked.signature {
        Signature::Valid | Signature::Expired => Ok(()),
        Signature::Invalid => bail!("no key of ours made it"),
        _ => bail!("it is no signed code"),
    }
}

/// The places of the columns that say something, and below which URL the images are.
#[derive(Default)]
struct Columns {
    base: Option<String>,
    campaign: Option<usize>,
    recipient: Option<usize>,
    sent: Option<usize>,
    expires: Option<usize>,
}

/// Their names.
const COLUMNS: [&str; 4] = ["campaign", "recipient", "sent", "expires"];

impl Columns {
    fn of(header: &csv::StringRecord, base: Option<String>) -> anyhow::Result<Self> {
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

/// Reads line by line, so a file may be of any length.
fn bulk(keys: &Keys, new: &New, path: &std::path::Path) -> anyhow::Result<()> {
    let input: Box<dyn io::Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| format!("`{}`", path.display()))?)
    };
    let mut reader = csv::ReaderBuilder::new().from_reader(io::BufReader::with_capacity(1 << 16, input));
    let out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut writer = csv::Writer::from_writer(out);
    let made = copy(keys, new, &mut reader, &mut writer).with_context(|| format!("`{}`", path.display()));
    match made {
        Ok(count) => {
            talk(&format!("{count} codes"));
            Ok(())
        }
        // Whoever stops reading has what they wanted.
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

fn copy<R: io::Read, W: Write>(
    keys: &Keys,
    new: &New,
    reader: &mut csv::Reader<R>,
    writer: &mut csv::Writer<W>,
) -> anyhow::Result<u64> {
    let mut header = reader.headers()?.clone();
    let columns = Columns::of(&header, public_url::find(new.url.as_ref())?)?;
    header.push_field("code");
    if columns.base.is_some() {
        header.push_field("url");
    }
    writer.write_record(&header)?;
    let defaults = Defaults::of(new);
    let mut record = csv::StringRecord::new();
    let mut count = 0;
    while reader.read_record(&mut record)? {
        let line = reader.position().line();
        let code = of_record(keys, &defaults, new, &columns, &record).with_context(|| format!("before line {line}"))?;
        record.push_field(&code);
        if let Some(base) = &columns.base {
            record.push_field(&image(base, &code));
        }
        writer.write_record(&record)?;
        count += 1;
    }
    writer.flush()?;
    Ok(count)
}

fn of_record(
    keys: &Keys,
    defaults: &Defaults,
    new: &New,
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
    let own = Defaults {
        campaign: cell(record, columns.campaign)
            .map_or_else(|| defaults.campaign.clone(), |name| Some(name.to_owned())),
        sent: sent.unwrap_or(defaults.sent),
        expires: expires.or(defaults.expires),
    };
    let recipient = cell(record, columns.recipient).or(new.recipient.as_deref());
    Ok(keys.sign(&own.contents(keys, recipient)?)?)
}
