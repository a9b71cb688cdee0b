//! The command line: data on stdout, messages on stderr, exit code 0 for success, 1 for failure, 2 for wrong arguments or
//! configuration, 130 when interrupted (Ctrl-C) and 143 when terminated (`SIGTERM`) before it was done.

mod archive;
pub mod audit;
mod backup;
mod code;
mod config;
mod connect;
mod dashboards;
pub mod demo;
mod erase;
mod export;
mod help;
mod hits;
mod interruption;
mod invoke;
mod listen;
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
#[cfg(feature = "cli")]
pub mod saved_objects;
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

use chrono::{DateTime, Utc};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::client::http::secure_random;
use crate::config::timespan::{DURATION_FORMS, MOMENT_FORMS, parse_days, parse_duration, parse_moment};
use crate::config::{Config, Problem, Variables};
use crate::terminal::print_message;
use interruption::Interrupted;

#[derive(Debug, Parser)]
#[command(
    name = "pixel",
    version,
    about = "Open and event tracking with a 1x1 image",
    propagate_version = true
)]
struct Arguments {
    /// Refuse unknown variables that begin with `PIXEL_`, instead of warning about them
    #[arg(long, global = true)]
    strict: bool,
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
    /// Make, list and revoke tokens for the HTTP interface, and sessions of the page
    Token(token::Arguments),
    /// Print a link that signs a browser in to the page of `pixel serve`
    Login(login::Arguments),
    /// Prepare an index: template, lifecycle and the target of writes
    Setup(setup::Arguments),
    /// Print the dashboards, to import them into OpenSearch Dashboards or Kibana
    Dashboards(dashboards::Arguments),
    /// Delete old indices, or old events of a file
    Prune(prune::Arguments),
    /// Classify stored events by the rules of this version
    Reclassify(reclassify::Arguments),
    /// Delete the stored events of a user, a visitor or a code, and print a receipt
    Erase(erase::EraseArguments),
    /// Print all events, or those of a user, a visitor or a code
    Export(export::Arguments),
    /// Print a paragraph for a privacy notice, from the configuration
    Privacy(privacy::Arguments),
    /// Copy events from a queue, a log or a file to a destination; none is stored twice
    Replay(replay::Arguments),
    /// Move a store to an index or another file: events, codes, tokens and opt-outs
    Migrate(migrate::Arguments),
    /// Compare the server's answers with the events stored now; exit code 1 when a hit is unaccounted for
    Audit(audit::Arguments),
    /// Copy a file of events into a new one, also while it is being written
    Backup(backup::Arguments),
    /// Store made-up events, for a first look
    Demo(demo::Arguments),
    /// List, add and remove opt-outs of mail recipients
    OptOuts(opt_outs::Arguments),
    /// Make, list, check and revoke codes, and make keys for signed ones
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

/// The destination or source of events.
#[derive(Debug, clap::Args)]
struct DestinationArgument {
    /// The destination of events: `sqlite:FILE`, or `https://HOST/INDEX` of OpenSearch or Elasticsearch
    /// [default: `$PIXEL_DESTINATION`, else `sqlite:pixel.db`]
    #[arg(long, short, value_name = "URL")]
    destination: Option<String>,
}

/// The help of `--destination` for commands that also take queues and streams.
const ANY_DESTINATION: &str = "The destination of events: `sqlite:FILE`, `https://HOST/INDEX` of OpenSearch or Elasticsearch, `sqs://HOST/ACCOUNT/QUEUE`, or `firehose://HOST/STREAM` [default: `$PIXEL_DESTINATION`, else `sqlite:pixel.db`]";

/// Returns the command line's grammar.
fn grammar() -> clap::Command {
    help::complete(Arguments::command())
}

/// Warns of unknown variables, or refuses them.
fn check_names(strict: bool) -> Result<(), Misconfigured> {
    let (_, problems) = Config::read(&environment());
    let unknown: Vec<_> = problems.into_iter().filter(Problem::is_unknown_variable).collect();
    if strict && !unknown.is_empty() {
        return Err(Misconfigured(unknown));
    }
    for problem in unknown {
        print_message(&format!("warning: `{}`: {}", problem.variable, problem.remedy));
    }
    Ok(())
}

/// Runs the command line and returns the exit code of the process.
pub fn main() -> ExitCode {
    let arguments = Arguments::from_arg_matches(&grammar().get_matches()).unwrap_or_else(|error| error.exit());
    let checked = check_names(arguments.strict).map_err(anyhow::Error::from);
    match checked.and_then(|()| run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
                print_message(&interrupted.to_string());
                return interrupted.signal.exit_code();
            }
            print_message(&format!("error: {error:#}"));
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
        Command::Token(arguments) => token::run(&arguments),
        Command::Login(arguments) => login::run(&arguments),
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Dashboards(arguments) => dashboards::run(&arguments),
        Command::Prune(arguments) => prune::run(&arguments),
        Command::Reclassify(arguments) => reclassify::run(&arguments),
        Command::Erase(arguments) => erase::erase(&arguments),
        Command::Export(arguments) => export::run(&arguments),
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
            clap_complete::generate(shell, &mut grammar(), "pixel", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// All errors of the configuration.
#[derive(Debug)]
struct Misconfigured(Vec<Problem>);

impl std::fmt::Display for Misconfigured {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the configuration is not valid")?;
        self.0.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
    }
}

impl std::error::Error for Misconfigured {}

/// Arguments that contradict each other or the destination.
#[derive(Debug)]
struct WrongArguments(String);

impl std::fmt::Display for WrongArguments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for WrongArguments {}

/// Returns the environment's variables, except those that are not UTF-8: they cannot be ours.
pub(crate) fn environment() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns the environment's variables, with `--destination` before them, and the origin of the destination.
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

/// Reads the configuration from the environment, with `--destination` before it.
fn configuration(argument: &DestinationArgument) -> anyhow::Result<Config> {
    let variables = variables(argument).0;
    let (mut config, problems) = Config::read(&variables);
    refuse(problems, argument)?;
    privacy_key::apply_file(&mut config, &variables)?;
    Ok(config)
}

/// Refuses a configuration with problems. [`main`] has warned of unknown variables already; a destination that was given as
/// an argument is called by the argument's name.
fn refuse(mut problems: Vec<Problem>, argument: &DestinationArgument) -> Result<(), Misconfigured> {
    problems.retain(|problem| !problem.is_unknown_variable());
    name_argument(&mut problems, argument);
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Misconfigured(problems))
    }
}

/// Calls the destination `--destination` in problems if it was given as an argument.
fn name_argument(problems: &mut [Problem], argument: &DestinationArgument) {
    let given = problems
        .iter_mut()
        .filter(|problem| problem.variable == "PIXEL_DESTINATION");
    if argument.destination.is_some() {
        given.for_each(|problem| "--destination".clone_into(&mut problem.variable));
    }
}

/// Reads the configuration for a command to which only these variables matter.
fn read_environment(names: &[&str]) -> anyhow::Result<Config> {
    let mut variables = environment();
    variables.retain(|name, _| names.contains(&name.as_str()));
    let (config, problems) = Config::read(&variables);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(Misconfigured(problems).into())
    }
}

/// Parses a duration of whole days.
fn days(text: &str) -> Result<u32, String> {
    parse_days(text)
}

/// Parses a duration.
fn duration(text: &str) -> Result<chrono::Duration, String> {
    parse_duration(text).ok_or_else(|| format!("give a duration, as in {DURATION_FORMS}"))
}

/// Parses a whole number within a range.
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

/// Parses a moment.
fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    parse_moment(text, Utc::now()).ok_or_else(|| format!("give a day or an RFC 3339 time, as in {MOMENT_FORMS}"))
}

/// Returns random bytes that cannot be guessed.
fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    anyhow::ensure!(secure_random(&mut bytes), "the system gives no random bytes");
    Ok(bytes)
}

/// Creates a runtime with one worker per core.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
