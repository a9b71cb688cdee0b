//! `pixel backup`

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::json;

use super::{DestinationArgument, configuration};
use crate::destination::Destination;
use crate::sqlite::Reader;
use crate::terminal::{json_line, print};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The new file
    #[arg(value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    destination: DestinationArgument,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Copies committed data into a new file, also while `pixel serve` writes.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    let path = match config.destination.as_ref().context("no destination")? {
        Destination::Sqlite(path) => path,
        Destination::Message(outlet) => bail!("{outlet} cannot be copied; this copies a file"),
        Destination::OpenSearch(_) => bail!("an index is backed up by its server's snapshots; this copies a file"),
    };
    Reader::open(path)?.backup(&arguments.to)?;
    let bytes = std::fs::metadata(&arguments.to)?.len();
    if arguments.json {
        return print(&json_line(&json!({"file": arguments.to, "bytes": bytes})));
    }
    print(&format!(
        "`{}` is in `{}`, {bytes} bytes",
        path.display(),
        arguments.to.display()
    ))
}
