//! The help: commands under headings, examples, exit codes. Each example is run through the parser by a test.

use std::fmt::Write;

use clap::Command;

/// The commands by purpose, in the order in which people need them.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Serve and look", &["serve", "hits", "stats", "demo", "snippet"]),
    ("Codes and tokens", &["code", "token", "login", "opt-outs"]),
    (
        "Data",
        &[
            "export",
            "erase",
            "prune",
            "reclassify",
            "backup",
            "migrate",
            "replay",
            "privacy",
        ],
    ),
    ("Index", &["setup", "dashboards"]),
    ("Operate", &["config", "audit", "invoke", "completions"]),
];

/// The heading for commands that no group names.
const OTHERS: &str = "Others";

/// The examples by command.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "serve",
        &[
            "pixel serve",
            "pixel serve --port 9000 --keep 1y",
            "pixel serve --listen 0.0.0.0:80 --destination https://user:password@search.example:9200/events",
        ],
    ),
    (
        "hits",
        &["pixel hits --limit 50", "pixel hits --follow", "pixel hits --json"],
    ),
    (
        "stats",
        &[
            "pixel stats --since yesterday",
            "pixel stats --since 3mo --interval week --zone Europe/Berlin",
            "pixel stats --by url.domain,campaign.name --class human --compare",
            "pixel stats --filter url.domain=shop.example --csv",
            "pixel stats --fields",
        ],
    ),
    (
        "demo",
        &[
            "pixel demo --destination sqlite:demo.db",
            "pixel demo --events 500 --days 1w --destination sqlite:demo.db",
        ],
    ),
    (
        "snippet",
        &[
            "pixel snippet html --url https://pixel.example",
            "pixel snippet mail --url https://pixel.example --campaign spring --merge \"userid=*|UNIQID|*\"",
        ],
    ),
    (
        "code new",
        &[
            "pixel code new --campaign spring --recipient ann@shop.example --url https://pixel.example",
            "pixel code new --campaign spring --csv recipients.csv --expires 3mo",
            "pixel code new --list --code spring-mail --note \"the mail of March\"",
        ],
    ),
    ("code list", &["pixel code list", "pixel code list --limit 100 --csv"]),
    (
        "code check",
        &["pixel code check _AQIDBAUGBwg", "pixel code check --json _AQIDBAUGBwg"],
    ),
    ("code revoke", &["pixel code revoke spring-mail"]),
    ("code key", &["pixel code key", "pixel code key --id 2"]),
    (
        "token new",
        &["pixel token new", "pixel token new --name ci --scope stats:read"],
    ),
    ("token list", &["pixel token list", "pixel token list --json"]),
    ("token revoke", &["pixel token revoke 1a2b3c4d"]),
    (
        "login",
        &[
            "pixel login --url https://pixel.example",
            "pixel login --scope stats:read",
        ],
    ),
    ("opt-outs list", &["pixel opt-outs list", "pixel opt-outs list --json"]),
    (
        "opt-outs add",
        &[
            "pixel opt-outs add spring-mail-0007",
            "pixel opt-outs add --file codes.txt",
        ],
    ),
    ("opt-outs remove", &["pixel opt-outs remove spring-mail-0007"]),
    (
        "export",
        &[
            "pixel export --user anna@shop.example",
            "pixel export --all --since 1y --csv",
            "pixel export --all --filter campaign.name=spring --destination http://127.0.0.1:9200/events",
        ],
    ),
    (
        "erase",
        &[
            "pixel erase --user anna@shop.example --dry-run",
            "pixel erase --code spring-mail --json",
        ],
    ),
    (
        "prune",
        &[
            "pixel prune --older-than 1y --dry-run",
            "pixel prune --older-than 90d --destination http://127.0.0.1:9200/events-%Y.%m",
        ],
    ),
    ("reclassify", &["pixel reclassify --dry-run", "pixel reclassify"]),
    (
        "backup",
        &[
            "pixel backup copy.db",
            "pixel backup copy.db --destination sqlite:/var/lib/pixel/pixel.db",
        ],
    ),
    (
        "replay",
        &[
            "pixel replay log-export.json --destination http://127.0.0.1:9200/events --dry-run",
            "pixel replay sqs://sqs.eu-west-1.amazonaws.com/123456789012/pixel-fallback --destination http://127.0.0.1:9200/events",
        ],
    ),
    (
        "migrate",
        &[
            "pixel migrate --from sqlite:pixel.db --to http://127.0.0.1:9200/events",
            "pixel migrate --from sqlite:pixel.db --to sqlite:other.db --json",
        ],
    ),
    ("privacy", &["pixel privacy", "pixel privacy --json"]),
    (
        "setup",
        &[
            "pixel setup --destination http://127.0.0.1:9200/events --rotation monthly --keep 1y --dry-run",
            "pixel setup --destination http://127.0.0.1:9200/events --dashboards http://127.0.0.1:5601",
        ],
    ),
    (
        "dashboards",
        &["pixel dashboards", "pixel dashboards --index-pattern hits*"],
    ),
    (
        "config",
        &[
            "pixel config",
            "pixel config --destination http://127.0.0.1:9200/events --check",
        ],
    ),
    (
        "audit",
        &["pixel audit --from yesterday --to today --access-log access.ndjson"],
    ),
    ("invoke", &["pixel invoke payload.json", "pixel invoke - --reply"]),
    ("completions", &["pixel completions bash", "pixel completions zsh"]),
];

/// The variables that change a command, for commands whose options do not name them all.
const VARIABLES: &[(&str, &str)] = &[
    (
        "serve",
        "PIXEL_FALLBACK, PIXEL_PRIVACY_KEY, PIXEL_CODE_KEYS, PIXEL_TOKENS, PIXEL_PUBLIC_URL, PIXEL_TRUSTED_HOPS and PIXEL_PRIVACY_*",
    ),
    ("code new", "PIXEL_CODE_KEYS, PIXEL_PUBLIC_URL"),
    ("code check", "PIXEL_CODE_KEYS"),
    ("token new", "PIXEL_TOKENS, where the destination is an index"),
    ("erase", "PIXEL_PRIVACY_KEY, PIXEL_CODE_KEYS, PIXEL_FALLBACK"),
    ("export", "PIXEL_PRIVACY_KEY, PIXEL_CODE_KEYS"),
    (
        "setup",
        "PIXEL_ROTATION, PIXEL_KEEP_DAYS, PIXEL_AUTH, PIXEL_API_KEY, PIXEL_CA_FILE",
    ),
    (
        "replay",
        "PIXEL_CODE_STANDING, PIXEL_AUTH, PIXEL_API_KEY, PIXEL_CA_FILE",
    ),
    ("invoke", "all, as in the function"),
    ("privacy", "PIXEL_PRIVACY_*, PIXEL_KEEP_DAYS"),
];

const EXIT_CODES: &str = "\
Exit codes:
  0    everything went well
  1    it failed, or something is missing: the message says what
  2    wrong arguments or configuration
  130  interrupted (Ctrl-C) before it was done
  143  told to end (SIGTERM) before it was done";

const FIRST_STEPS: &str = "\
Examples:
  pixel serve
  pixel demo --destination sqlite:demo.db
  pixel stats --since today --by url.domain

`pixel help COMMAND` has examples of each command. Data goes to stdout, messages to stderr.";

/// Adds headings, examples, variables and exit codes to the help.
pub(super) fn complete(mut command: Command) -> Command {
    let paths: Vec<&str> = EXAMPLES.iter().map(|(path, _)| *path).collect();
    for path in paths {
        let text = after_help(path);
        command = edit(command, path, |command| command.after_help(text));
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}{{after-help}}",
        overview(&command)
    );
    command
        .help_template(template)
        .after_help(format!("{EXIT_CODES}\n\n{FIRST_STEPS}"))
}

/// Changes the command at a path of names, if it exists.
fn edit(command: Command, path: &str, change: impl FnOnce(Command) -> Command) -> Command {
    let (first, rest) = path.split_once(' ').unwrap_or((path, ""));
    if command.find_subcommand(first).is_none() {
        return command;
    }
    command.mut_subcommand(first, |inner| {
        if rest.is_empty() {
            change(inner)
        } else {
            edit(inner, rest, change)
        }
    })
}

fn after_help(path: &str) -> String {
    let examples = EXAMPLES.iter().filter(|(known, _)| *known == path);
    let lines = examples.flat_map(|(_, lines)| *lines).map(|line| format!("\n  {line}"));
    let mut text = format!("Examples:{}", lines.collect::<String>());
    if let Some((_, names)) = VARIABLES.iter().find(|(known, _)| *known == path) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n\nVariables:\n  {names}; `pixel config` shows all");
    }
    text
}

/// Returns the commands with their summaries, by group.
fn overview(command: &Command) -> String {
    let visible: Vec<&Command> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .collect();
    let width = visible
        .iter()
        .map(|command| command.get_name().len())
        .max()
        .unwrap_or(0);
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let others: Vec<&str> = visible
        .iter()
        .map(|command| command.get_name())
        .filter(|name| !grouped(name) && *name != "help")
        .collect();
    let mut text = String::new();
    for (heading, names) in GROUPS.into_iter().chain([(OTHERS, others.as_slice())]) {
        let members = names
            .iter()
            .filter_map(|name| visible.iter().find(|command| command.get_name() == *name));
        let mut lines = String::new();
        for command in members {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(lines, "  {:<width$}  {about}", command.get_name());
        }
        if !lines.is_empty() {
            let _ = write!(text, "{heading}:\n{lines}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects the paths of all commands that can be run.
    fn paths(command: &Command, prefix: &str, found: &mut Vec<String>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = format!("{prefix}{}", inner.get_name());
            if inner.has_subcommands() {
                paths(inner, &format!("{path} "), found);
            } else {
                found.push(path);
            }
        }
    }

    /// Splits a line into words, some of which are in quotes.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('"').enumerate();
        let words = parts.flat_map(|(place, part)| {
            if place % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(ToOwned::to_owned).collect()
            }
        });
        words.collect()
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        let mut found = Vec::new();
        paths(&super::super::grammar(), "", &mut found);
        assert!(found.len() >= 24, "{found:?}");
        for path in &found {
            let examples = EXAMPLES.iter().find(|(known, _)| known == path);
            let (_, lines) = examples.unwrap_or_else(|| panic!("`{path}` has no examples"));
            for line in *lines {
                assert!(line.starts_with(&format!("pixel {path}")), "{line}");
                let parsed = super::super::grammar().try_get_matches_from(words(line));
                assert!(
                    parsed.is_ok(),
                    "{line}: {}",
                    parsed.err().map(|error| error.to_string()).unwrap_or_default()
                );
            }
        }
    }

    #[test]
    fn every_command_stands_under_a_heading() {
        let help = super::super::grammar().render_help().to_string();
        assert!(!help.contains(OTHERS), "{help}");
        for (heading, _) in GROUPS {
            assert!(help.contains(&format!("\n{heading}:\n")), "{heading}: {help}");
        }
        for command in super::super::grammar().get_subcommands() {
            let line = format!("\n  {} ", command.get_name());
            assert!(command.get_name() == "help" || help.contains(&line), "{line}: {help}");
        }
        assert!(help.contains("Exit codes:") && help.contains("  143  "), "{help}");
    }

    /// Each option and argument has a help text.
    #[test]
    fn every_option_has_a_help_text() {
        fn check(command: &Command) {
            for argument in command.get_arguments() {
                let name = format!("{} {}", command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some(), "{name}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&super::super::grammar());
    }
}
