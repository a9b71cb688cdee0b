//! `pixel token`

use anyhow::{Context, bail};
use chrono::Utc;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::{DestinationArgument, configuration};
use crate::delivery::Destination;
use crate::delivery::sqlite::codes::KeptToken;
use crate::delivery::sqlite::{Reader, Store};
use crate::event::iso;
use crate::manage::token::{Scope, hash, hex, of_bytes};
use crate::terminal::{json_line, print, printable, talk};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token and print it, once: only its hash is kept
    New {
        #[command(flatten)]
        destination: DestinationArgument,
        /// A word to tell it apart
        #[arg(long, default_value = "")]
        name: String,
        /// What it is good for; several with commas between them
        #[arg(
            long, value_delimiter = ',', value_parser = scope(), default_values = [Scope::StatsRead.name(), Scope::EventsRead.name()],
            value_name = "stats:read|events:read|codes:write"
        )]
        scope: Vec<Scope>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the tokens that are kept in a file
    List {
        #[command(flatten)]
        destination: DestinationArgument,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token of a file
    Revoke {
        /// Its id, as `pixel token list` shows it
        id: String,
        #[command(flatten)]
        destination: DestinationArgument,
    },
}

fn scope() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::name)).map(|given| Scope::of(&given).unwrap_or(Scope::StatsRead))
}

/// The file, when the destination is one.
fn file(destination: &DestinationArgument) -> anyhow::Result<Option<std::path::PathBuf>> {
    match configuration(destination)?.destination.context("no destination")? {
        Destination::Sqlite(path) => Ok(Some(path)),
        Destination::OpenSearch(_) | Destination::Message(_) => Ok(None),
    }
}

fn reader(destination: &DestinationArgument) -> anyhow::Result<Reader> {
    match file(destination)? {
        Some(path) => Ok(Reader::open(&path)?),
        None => bail!("tokens of an index stand in `PIXEL_TOKENS`, where `pixel serve` or the function finds them"),
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::New {
            destination,
            name,
            scope,
            json,
        } => new(destination, name, scope, *json),
        Command::List { destination, json } => list(&reader(destination)?.tokens()?, *json),
        Command::Revoke { id, destination } => {
            anyhow::ensure!(
                reader(destination)?.revoke_token(id)?,
                "there is no token `{}`",
                printable(id, 40)
            );
            print(&format!("revoked {}", printable(id, 40)))
        }
    }
}

fn new(destination: &DestinationArgument, name: &str, scopes: &[Scope], json: bool) -> anyhow::Result<()> {
    let token = of_bytes(super::random()?);
    let (hash, names) = (
        hash(&token),
        scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>(),
    );
    let entry = format!("{}={}", hex(&hash), names.join("+"));
    let id = hex(&hash).split_at(8).0.to_owned();
    let kept = file(destination)?;
    if let Some(path) = &kept {
        if !path.exists() {
            Store::open(path)?.close();
        }
        let kept = KeptToken {
            id: id.clone(),
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            created: Utc::now(),
        };
        Reader::open(path)?.add_token(&kept, &hash)?;
    }
    if json {
        return print(&json_line(
            &json!({"id": id, "token": token, "scopes": names, "entry": entry}),
        ));
    }
    match kept {
        Some(path) => talk(&format!("the hash of this token is kept in `{}`", path.display())),
        None => talk(&format!("add this to `PIXEL_TOKENS`, commas between several: {entry}")),
    }
    print(&token)
}

fn list(tokens: &[KeptToken], json: bool) -> anyhow::Result<()> {
    let names = |token: &KeptToken| token.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>();
    if json {
        let rows = tokens.iter().map(
            |token| json!({"id": token.id, "name": token.name, "scopes": names(token), "created": iso(token.created)}),
        );
        return print(&json_line(&rows.collect::<Vec<_>>().into()));
    }
    if tokens.is_empty() {
        talk("no tokens are kept; `pixel token new` makes one");
    }
    for token in tokens {
        let scopes = names(token).join(" ");
        print(&format!(
            "{}  {}  {:<40}  {}",
            token.id,
            iso(token.created),
            scopes,
            printable(&token.name, 40)
        ))?;
    }
    Ok(())
}
