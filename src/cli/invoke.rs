//! `pixel invoke`

use crate::hit::settings::Lookups;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Value, json};

use super::{DestinationArgument, configuration};
use crate::hit::answer;
use crate::hit::answer::Answer;
use crate::hit::read::RequestContext;
use crate::terminal::{harmless_json, print};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file with the payload that the function would be invoked with; `-` reads stdin
    #[arg(value_name = "FILE")]
    payload: PathBuf,
    /// Print only the reply, as the function would give it
    #[arg(long)]
    reply: bool,
}

/// Prints the function's reply and the event that it would store. Nothing is stored.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&DestinationArgument { destination: None })?;
    let payload = read(arguments)?;
    let (reply, rest) = match answer::answer(&payload, &config.settings()) {
        Answer::Accepted { reply, request } => {
            let context = RequestContext {
                now: chrono::Utc::now(),
                invocation: uuid::Uuid::now_v7().to_string(),
                trusted_hops: config.trusted_hops,
            };
            let ingress = request.ingress;
            let event = answer::build_event(*request, &context, &config.settings(), &Lookups::none());
            let document: Value = serde_json::from_str(&event.document)?;
            (
                reply,
                json!({"outcome": "accepted", "ingress": ingress.name(), "event": document}),
            )
        }
        Answer::Ignored { reply, ingress, why } => (
            reply,
            json!({"outcome": "ignored", "reason": why.name(), "ingress": ingress.name()}),
        ),
        Answer::Refused(error) => return Err(error).with_context(|| format!("`{}`", arguments.payload.display())),
    };
    let mut printed: Value = serde_json::from_str(&reply)?;
    if !arguments.reply {
        let mut whole = rest;
        whole["reply"] = printed;
        printed = whole;
    }
    print(&harmless_json(&serde_json::to_string_pretty(&printed)?))
}

fn read(arguments: &Arguments) -> anyhow::Result<Vec<u8>> {
    let mut payload = Vec::new();
    if arguments.payload.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .read_to_end(&mut payload)
            .context("reading stdin")?;
    } else {
        payload =
            std::fs::read(&arguments.payload).with_context(|| format!("reading `{}`", arguments.payload.display()))?;
    }
    Ok(payload)
}
