//! `pixel privacy`

use serde_json::json;

use super::{DestinationArgument, configuration};
use crate::config::Config;
use crate::hit::privacy::{AddressPolicy, Recording, SignalPolicy, UserPolicy};
use crate::terminal::print;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// Print the effective settings as JSON instead
    #[arg(long)]
    json: bool,
}

/// Prints a paragraph for the owner's privacy notice, from the effective configuration.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    if arguments.json {
        return print(&settings(&config).to_string());
    }
    print(&paragraph(&config))
}

fn settings(config: &Config) -> serde_json::Value {
    json!({
        "record": config.recording == Recording::On,
        "address": match config.policy.address {
            AddressPolicy::Shorten => "shorten",
            AddressPolicy::Full => "full",
            AddressPolicy::Drop => "drop",
        },
        "user_id": match config.policy.user {
            UserPolicy::Hash => "hash",
            UserPolicy::Plain => "plain",
            UserPolicy::Drop => "drop",
        },
        "signal": match config.policy.signal {
            SignalPolicy::Record => "record",
            SignalPolicy::Anonymise => "anonymise",
            SignalPolicy::Ignore => "ignore",
        },
        "key": config.has_key,
        "opt_out_codes": config.opt_out.len(),
        "keep_days": config.keep_days,
    })
}

fn paragraph(config: &Config) -> String {
    if config.recording == Recording::Off {
        return "Our pages and mails may hold an image of one pixel. When it is loaded, nothing is stored.".to_owned();
    }
    let address = match config.policy.address {
        AddressPolicy::Shorten => "the network of your IP address (without its last part)",
        AddressPolicy::Full => "your IP address",
        AddressPolicy::Drop => "no IP address",
    };
    let user = match config.policy.user {
        UserPolicy::Hash => {
            "Names of users and mail addresses are stored only as a keyed hash, which nobody can turn back without trying."
        }
        UserPolicy::Plain => {
            "Where a mail or page was sent to you personally, your user name or mail address is stored."
        }
        UserPolicy::Drop => "Names of users and mail addresses are not stored.",
    };
    let visits = "A number is made of your IP address, your program and the day, to tell visitors of one day apart; \
                  the next day it is another.";
    let signal = match config.policy.signal {
        SignalPolicy::Record => {
            "We note whether your browser asks not to be tracked (Global Privacy Control, Do Not Track)."
        }
        SignalPolicy::Anonymise => {
            "If your browser asks not to be tracked (Global Privacy Control, Do Not Track), nothing is stored \
             that tells you from others."
        }
        SignalPolicy::Ignore => {
            "If your browser asks not to be tracked (Global Privacy Control, Do Not Track), nothing is stored."
        }
    };
    let keep = config.keep_days.map_or_else(
        || "[Say here for how long you keep this.]".to_owned(),
        |days| format!("This is deleted after {days} days."),
    );
    format!(
        "Our pages and mails hold an image of one pixel. When your program loads it, we store the time, {address}, the country and \
         network where our provider tells them, your program, system and kind of device, the page or mail with the image, and the \
         page that led you there. No cookie is set. {user} {visits} {signal} You can ask not to be counted at all on the page \
         `/opt-out` of the pixel's address. {keep}"
    )
}
