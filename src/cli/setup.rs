//! `pixel setup`

use std::path::Path;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::{DestinationArgument, WrongArguments, configuration, connect, dashboards};
use crate::client::http::Deliverer;
use crate::destination::Destination;
use crate::destination::opensearch::Target;
use crate::destination::rotation::Rotation;
use crate::setup::plan::{Lifecycle, Plan};
use crate::setup::product::Product;
use crate::setup::run::{self, SetupReport, StepResult};
use crate::setup::server::{ServerError, product};
use crate::sqlite::Store;
use crate::terminal::{json_line, print, print_message};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// The rotation of indices [default: `$PIXEL_ROTATION`, else by the date in the URL, else none]
    #[arg(long, value_parser = rotation())]
    rotation: Option<Rotation>,
    /// Delete rotated indices after this time, if the server has lifecycle management: `90d`, `3mo`, `1y`; a number alone
    /// means days [default: `$PIXEL_KEEP_DAYS`, else never]
    #[arg(long, value_name = "DURATION", value_parser = super::days)]
    keep: Option<u32>,
    /// Report what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the requests as JSON, to send them yourself; `pixel dashboards` prints the dashboards
    #[arg(long, conflicts_with = "dashboards")]
    print: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    import: dashboards::Import,
}

fn rotation() -> impl TypedValueParser<Value = Rotation> {
    let names = Rotation::ALL.map(|(name, _)| name);
    PossibleValuesParser::new(names).map(|given| {
        Rotation::ALL
            .into_iter()
            .find(|(name, _)| *name == given)
            .map_or(Rotation::None, |(_, rotation)| rotation)
    })
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    match config.destination.as_ref().context("no destination")? {
        Destination::Sqlite(_) if arguments.import.is_wanted() => {
            anyhow::bail!("dashboards show an index: give its URL as `--destination`")
        }
        Destination::Sqlite(path) => {
            if path.exists() {
                Store::open(path)?.close();
            }
            show_store(arguments, path)
        }
        Destination::Message(outlet) => {
            anyhow::bail!("{outlet} is made by its stack, not by `pixel setup`; name the index that its events come to")
        }
        Destination::OpenSearch(target) => super::runtime()?.block_on(async {
            // All arguments are checked before anything is written.
            let plan = Plan::new(
                &target.index,
                arguments.rotation.or(config.rotation),
                arguments.keep.or(config.keep_days),
            )
            .map_err(WrongArguments)?;
            let place = arguments.import.place(target)?;
            let deliverer = connect::open_deliverer(&config, target).await?;
            if arguments.print {
                return print_plan(&deliverer, &plan).await;
            }
            let write = !arguments.dry_run;
            let mut report = run::run(&deliverer, &plan, write).await?;
            let imported = match place {
                Some(place) => arguments
                    .import
                    .run(place, &config, &plan, write)
                    .await
                    .map(|step| report.steps.push(step)),
                None => Ok(()),
            };
            show(arguments, &report)?;
            imported?;
            advise(&plan, target);
            Ok(())
        }),
    }
}

/// Prints the requests for the server that answers, else for the newest OpenSearch.
async fn print_plan(deliverer: &Deliverer, plan: &Plan) -> anyhow::Result<()> {
    let found = async {
        let product = product(deliverer).await?;
        Ok::<_, ServerError>((product, run::lifecycle(deliverer, product, plan).await?))
    };
    let (product, lifecycle) = match found.await {
        Ok(found) => found,
        Err(error) => {
            print_message(&format!("{error}\nprinting for OpenSearch 3"));
            (Product::OpenSearch(3, 0), Lifecycle::Ism("/_plugins"))
        }
    };
    print(&serde_json::to_string_pretty(&run::print(plan, product, lifecycle))?)
}

/// Shows the setup of a file, which has no requests and nothing that could differ.
fn show_store(arguments: &Arguments, path: &Path) -> anyhow::Result<()> {
    if arguments.print {
        return print("[]");
    }
    let (subject, why) = (format!("`{}`", path.display()), "it is made when it is first written");
    if arguments.json {
        let step = json!({"subject": subject, "result": "unchanged", "why": why});
        let whole = json!({"product": "SQLite", "dry_run": arguments.dry_run, "steps": [step]});
        return print(&json_line(&whole));
    }
    print(&format!("unchanged   {subject} needs no setup: {why}"))
}

fn show(arguments: &Arguments, report: &SetupReport) -> anyhow::Result<()> {
    let writes = report.steps.iter().filter(|step| step.writes()).count();
    if arguments.json {
        let word = |done: &StepResult| match done {
            StepResult::Unchanged => "unchanged",
            StepResult::Created => "created",
            StepResult::Updated => "updated",
            StepResult::Unavailable(_) => "unavailable",
        };
        let steps: Vec<_> = report
            .steps
            .iter()
            .map(|step| {
                let why = match &step.done {
                    StepResult::Unavailable(why) => Some(why),
                    _ => None,
                };
                json!({"subject": step.subject, "result": word(&step.done), "why": why})
            })
            .collect();
        let whole = json!({"product": report.product.to_string(), "dry_run": arguments.dry_run, "steps": steps});
        return print(&json_line(&whole));
    }
    let steps = report
        .steps
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    let product = report.product;
    let lacks = report
        .steps
        .iter()
        .any(|step| matches!(step.done, StepResult::Unavailable(_)));
    let except = if lacks { ", except what is unavailable here" } else { "" };
    let summary = match (writes, arguments.dry_run) {
        (0, _) => format!("{product} is as declared{except}; nothing to write"),
        (_, true) => format!("{product}: {writes} of these would be written"),
        (_, false) => format!("{product} is as declared now{except}"),
    };
    print(&format!("{steps}\n{summary}"))
}

/// Prints a note if events must be sent to another URL than the one that was given.
fn advise(plan: &Plan, target: &Target) {
    if plan.index != target.index {
        print_message(&format!(
            "now send events to {}/{} (`PIXEL_DESTINATION`)",
            target.base, plan.index.pattern
        ));
    }
}
