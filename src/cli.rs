//! The command line: data on stdout, talk on stderr, exit code 0 when all went well, 1 when not, 2 for wrong arguments or
//! configuration, 130 when it was interrupted (Ctrl-C) and 143 when it was told to end (`SIGTERM`) before it was done.

mod archive;
mod audit;
mod backup;
mod code;
mod codes;
mod config;
mod connect;
mod dashboards;
mod demo;
mod erase;
mod hits;
mod interruption;
mod invoke;
mod login;
mod migrate;
mod opt_outs;
mod privacy;
mod privacy_key;
mod prune;
mod public_url;
mod queue;
mod reclassify;
mod replay;
mod serve;
mod setup;
mod sink;
mod snippet;
mod source;
mod stats;
mod token;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{CommandFactory, Parser, Subcommand};

use crate::aws::client::secure_random;
use crate::config::{Config, Problem, Variables};
use crate::terminal::talk;
use interruption::Interrupted;

#[derive(Debug, Parser)]
#[command(
    name = "pixel",
    version,
    about = "Open and event tracking with a 1x1 image",
    propagate_version = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the pixel on this machine and store its hits
    Serve(serve::Arguments),
    /// List the latest hits of a destination
    Hits(hits::Arguments),
    /// Print the lines to paste into pages, mails and feeds
    Snippet(snippet::Arguments),
    /// Count events: totals, time series, most frequent values
    Stats(stats::Arguments),
    /// List the codes that were made, with how often they were opened
    Codes(codes::Arguments),
    /// Make, list and revoke tokens for the HTTP interface, and sessions of the page
    Token(token::Arguments),
    /// Print a link that signs a browser in to the page of `pixel serve`
    Login(login::Arguments),
    /// Make an index ready: template, lifecycle, and what events are written to
    Setup(setup::Arguments),
    /// Print the dashboards, to import them into OpenSearch Dashboards or Kibana
    Dashboards(dashboards::Arguments),
    /// Delete old indices, or old events of a file
    Prune(prune::Arguments),
    /// Class stored events by the rules of this version
    Reclassify(reclassify::Arguments),
    /// Delete what is stored of a user, a visitor or a code, and print a receipt
    Erase(erase::EraseArguments),
    /// Print what is stored of a user, a visitor or a code
    Export(erase::ExportArguments),
    /// Print a paragraph for a privacy notice, from the configuration
    Privacy(privacy::Arguments),
    /// Bring events from a queue, a log, a file or a store to a destination; what is there already stays once
    Replay(replay::Arguments),
    /// Move a store to an index or another file: events, codes, tokens and opt-outs
    Migrate(migrate::Arguments),
    /// Compare what the stage answered with where the hits are now; exit code 1 when one is unaccounted for
    Audit(audit::Arguments),
    /// Copy a file of events into a new one, also while it is being written
    Backup(backup::Arguments),
    /// Store made-up events, for a first look at what real ones will look like
    Demo(demo::Arguments),
    /// List, add and remove opt-outs of mails' recipients
    OptOuts(opt_outs::Arguments),
    /// Make and check signed codes, and keys for them
    Code(code::Arguments),
    /// Feed a payload file to the function's handler and print its reply and the event
    Invoke(invoke::Arguments),
    /// Show the configuration, and check it against the destination
    Config(config::Arguments),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where events go, or come from.
#[derive(Debug, clap::Args)]
struct DestinationArgument {
    /// Where events go: `sqlite:FILE`, or `https://HOST/INDEX` of OpenSearch or Elasticsearch
    /// [default: `$PIXEL_DESTINATION`, else `sqlite:pixel.db`]
    #[arg(long, short, value_name = "URL")]
    destination: Option<String>,
}

/// The destination's help where queues and streams are possible, too.
const ANY_DESTINATION: &str = "Where events go: `sqlite:FILE`, `https://HOST/INDEX` of OpenSearch or Elasticsearch, `sqs://HOST/ACCOUNT/QUEUE`, or `firehose://HOST/STREAM` [default: `$PIXEL_DESTINATION`, else `sqlite:pixel.db`]";

/// Runs the command line and says how the process should end.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
                talk(&interrupted.to_string());
                return interrupted.signal.exit_code();
            }
            talk(&format!("error: {error:#}"));
            let asked_wrongly =
                error.is::<Misconfigured>() || error.is::<source::WrongOption>() || error.is::<WrongArguments>();
            ExitCode::from(if asked_wrongly { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Hits(arguments) => hits::run(&arguments),
        Command::Snippet(arguments) => snippet::run(&arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Codes(arguments) => codes::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Login(arguments) => login::run(&arguments),
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Dashboards(arguments) => dashboards::run(&arguments),
        Command::Prune(arguments) => prune::run(&arguments),
        Command::Reclassify(arguments) => reclassify::run(&arguments),
        Command::Erase(arguments) => erase::erase(&arguments),
        Command::Export(arguments) => erase::export(&arguments),
        Command::Privacy(arguments) => privacy::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Migrate(arguments) => migrate::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::OptOuts(arguments) => opt_outs::run(&arguments),
        Command::Code(arguments) => code::run(&arguments),
        Command::Invoke(arguments) => invoke::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "pixel", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug)]
struct Misconfigured(Vec<Problem>);

impl std::fmt::Display for Misconfigured {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the configuration is not valid")?;
        self.0.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
    }
}

impl std::error::Error for Misconfigured {}

/// Arguments that contradict each other, or the destination.
#[derive(Debug)]
struct WrongArguments(String);

impl std::fmt::Display for WrongArguments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for WrongArguments {}

/// The environment's variables; those that are no text cannot be ours.
pub(crate) fn environment() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The environment's variables with the destination of the command line before them, and where the destination came from.
fn variables(argument: &DestinationArgument) -> (Variables, &'static str) {
    let mut variables = environment();
    let (destination, source) = match (&argument.destination, variables.get("PIXEL_DESTINATION")) {
        (Some(given), _) => (given.clone(), "command line"),
        (None, Some(set)) => (set.clone(), "environment"),
        (None, None) => ("sqlite:pixel.db".to_owned(), "default"),
    };
    variables.insert("PIXEL_DESTINATION".to_owned(), destination);
    (variables, source)
}

/// The configuration of the environment, with the destination of the command line before it.
fn configuration(argument: &DestinationArgument) -> anyhow::Result<Config> {
    let variables = variables(argument).0;
    let (mut config, problems) = Config::read(&variables);
    if problems.is_empty() {
        privacy_key::apply_file(&mut config, &variables)?;
        Ok(config)
    } else {
        Err(Misconfigured(problems).into())
    }
}

/// The configuration, of which only these variables matter.
fn of_environment(names: &[&str]) -> anyhow::Result<Config> {
    let mut variables = environment();
    variables.retain(|name, _| names.contains(&name.as_str()));
    let (config, problems) = Config::read(&variables);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(Misconfigured(problems).into())
    }
}

/// Parses a number of days, with or without `d`.
fn days(text: &str) -> Result<u32, String> {
    let days = text.strip_suffix('d').unwrap_or(text).parse().ok();
    days.filter(|days| (1..=36_500).contains(days))
        .ok_or_else(|| "give a whole number of days from 1 to 36500, as in 90d".to_owned())
}

/// Parses a whole number of this range.
fn whole<T: FromStr + PartialOrd + Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    RangeInclusive<T>: Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("give a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Parses a day or a moment.
fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let moment = || DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc());
    day.or_else(|_| moment())
        .map_err(|_| "give a day or an RFC 3339 time, as in 2026-03-01 or 2026-03-01T09:30:00Z".to_owned())
}

/// Random bytes that nobody can guess.
fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    anyhow::ensure!(secure_random(&mut bytes), "the system gives no random bytes");
    Ok(bytes)
}

/// A runtime with one worker per core.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
