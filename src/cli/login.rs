//! `pixel login`

use chrono::Utc;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::source::Source;
use super::{DestinationArgument, public_url};
use crate::config::token::{KeptToken, LOGIN_LIFETIME, Scope, TokenKind, encode_token};
use crate::hit::event::format_iso;
use crate::terminal::{json_line, print, print_message};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// The URL of the server, as in `https://pixel.example/prod`
    /// [default: `$PIXEL_PUBLIC_URL`, else `http://127.0.0.1:8080`]
    #[arg(long, short, value_name = "URL", value_parser = public_url::parse)]
    url: Option<String>,
    /// The scopes of the session; several with commas between them [default: everything]
    #[arg(long, value_delimiter = ',', value_parser = scope())]
    scope: Vec<Scope>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn scope() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::name)).map(|given| Scope::parse(&given).unwrap_or(Scope::StatsRead))
}

/// Stores the hash of a new link's secret and returns the secret; it begins one session, within a quarter of an hour.
pub(super) async fn new_login(source: &Source, scopes: &[Scope]) -> anyhow::Result<String> {
    let secret = encode_token(super::random()?);
    source
        .add_token(&KeptToken::new(TokenKind::Login, &secret, scopes, Utc::now()))
        .await?;
    Ok(secret)
}

/// Returns the link with this secret. A browser never sends the part after `#` to a server.
pub(super) fn link(base: &str, secret: &str) -> String {
    format!("{base}/#token={secret}")
}

/// Prints a link; the server may be running.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let base = public_url::find(arguments.url.as_ref())?.unwrap_or_else(|| {
        print_message(
            "note: this link is for a server at its usual address; give another with `--url` or `PIXEL_PUBLIC_URL`",
        );
        "http://127.0.0.1:8080".to_owned()
    });
    let scopes = if arguments.scope.is_empty() {
        &Scope::ALL
    } else {
        arguments.scope.as_slice()
    };
    let secret = super::runtime()?.block_on(async {
        let source = Source::open(&arguments.destination).await?;
        new_login(&source, scopes).await
    })?;
    let link = link(&base, &secret);
    if arguments.json {
        let expires = format_iso(Utc::now() + LOGIN_LIFETIME);
        return print(&json_line(&json!({"url": link, "expires": expires})));
    }
    print_message(&format!(
        "open this within {} minutes; it works once, and the browser stays signed in for 30 days",
        LOGIN_LIFETIME.num_minutes()
    ));
    print(&link)
}
