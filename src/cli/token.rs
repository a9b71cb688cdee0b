//! `pixel token`

use anyhow::Context;
use chrono::Utc;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::source::Source;
use super::{DestinationArgument, configuration};
use crate::config::token::{KeptToken, Scope, TokenKind, encode_hex, encode_token};
use crate::destination::Destination;
use crate::hit::event::format_iso;
use crate::sqlite::{Reader, Store};

use crate::terminal::{json_line, print, print_message, printable};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token and print it once: only its hash is kept
    New {
        #[command(flatten)]
        destination: DestinationArgument,
        /// A word to recognise it by
        #[arg(long, default_value = "")]
        name: String,
        /// The scopes of the token; several with commas between them
        #[arg(
            long, value_delimiter = ',', value_parser = scope(), default_values = [Scope::StatsRead.name(), Scope::EventsRead.name()],
            value_name = "stats:read|events:read|codes:write"
        )]
        scope: Vec<Scope>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the tokens and sessions that are kept with the events
    List {
        #[command(flatten)]
        destination: DestinationArgument,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token or a session, and the sessions that were begun with the token
    Revoke {
        /// Its id, as `pixel token list` shows it
        id: String,
        #[command(flatten)]
        destination: DestinationArgument,
    },
}

fn scope() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::name)).map(|given| Scope::parse(&given).unwrap_or(Scope::StatsRead))
}

/// Returns the path of the file, if the destination is one.
fn file(destination: &DestinationArgument) -> anyhow::Result<Option<std::path::PathBuf>> {
    match configuration(destination)?.destination.context("no destination")? {
        Destination::Sqlite(path) => Ok(Some(path)),
        Destination::OpenSearch(_) | Destination::Message(_) => Ok(None),
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
        Command::List { destination, json } => {
            let tokens = super::runtime()?.block_on(async { Source::open(destination).await?.tokens().await })?;
            let now = Utc::now();
            let tokens: Vec<_> = tokens
                .into_iter()
                .filter(|token| token.is_valid(token.kind, now))
                .collect();
            list(&tokens, *json)
        }
        Command::Revoke { id, destination } => super::runtime()?.block_on(revoke(id, destination)),
    }
}

async fn revoke(id: &str, destination: &DestinationArgument) -> anyhow::Result<()> {
    let source = Source::open(destination).await?;
    let tokens = source.tokens().await?;
    let token = tokens.iter().find(|token| token.id == id);
    let token = token.with_context(|| {
        format!(
            "there is no token `{}` with the events; those of `PIXEL_TOKENS` are revoked by taking them out of it",
            printable(id, 40)
        )
    })?;
    source.delete_token(&token.hash).await?;
    let begun = tokens.iter().filter(|other| other.parent == Some(token.hash));
    for session in begun {
        source.delete_token(&session.hash).await?;
    }
    print("revoked")
}

fn new(destination: &DestinationArgument, name: &str, scopes: &[Scope], json: bool) -> anyhow::Result<()> {
    let token = encode_token(super::random()?);
    let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
    let stored = KeptToken {
        name: name.to_owned(),
        ..KeptToken::new(TokenKind::Token, &token, scopes, Utc::now())
    };
    let entry = format!("{}={}", encode_hex(&stored.hash), names.join("+"));
    let kept = file(destination)?;
    if let Some(path) = &kept {
        if !path.exists() {
            Store::open(path)?.close();
        }
        Reader::open(path)?.add_token(&stored)?;
    }
    if json {
        return print(&json_line(
            &json!({"id": stored.id, "token": token, "scopes": names, "entry": entry}),
        ));
    }
    match kept {
        Some(path) => print_message(&format!("the hash of this token is kept in `{}`", path.display())),
        None => print_message(&format!("add this to `PIXEL_TOKENS`, commas between several: {entry}")),
    }
    print(&token)
}

fn list(tokens: &[KeptToken], json: bool) -> anyhow::Result<()> {
    let names = |token: &KeptToken| token.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>();
    if json {
        let rows = tokens.iter().map(
            |token| json!({"id": token.id, "kind": token.kind.name(), "name": token.name, "scopes": names(token), "created": format_iso(token.created), "expires": token.expires.map(format_iso)}),
        );
        return print(&json_line(&rows.collect::<Vec<_>>().into()));
    }
    if tokens.is_empty() {
        print_message(
            "no tokens are kept with the events; `pixel token new` makes one, `pixel login` begins a session",
        );
    }
    for token in tokens {
        let scopes = names(token).join(" ");
        let expires = token.expires.map_or_else(|| "-".to_owned(), format_iso);
        print(&format!(
            "{}  {:<7}  {}  {expires:<24}  {scopes:<40}  {}",
            token.id,
            token.kind.name(),
            format_iso(token.created),
            printable(&token.name, 40)
        ))?;
    }
    Ok(())
}
