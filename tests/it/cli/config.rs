//! The configuration: what each variable does, and what is said of a wrong one.

use std::time::Duration;

use pixel::config::{CodeStanding, Config, ReplyOrder, VARIABLES, Variables};
use pixel::destination::Destination;
use pixel::destination::hide_password;
use pixel::hit::privacy::AddressPolicy;

use crate::destination::urls::spell;

/// Stands in every secret.
const SECRET: &str = "hush-hush";

const URL: (&str, &str) = ("PIXEL_DESTINATION", "https://search.example/events");

fn read(variables: &[(&str, &str)]) -> (Config, Vec<String>) {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: Variables = variables.iter().map(owned).collect();
    let (config, problems) = Config::read(&variables);
    (config, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn the_variables_and_the_url_decide_on_authentication() {
    let signed = ("AWS_REGION", "eu-west-1");
    let key = ("PIXEL_API_KEY", "a2V5");
    let user = ("PIXEL_DESTINATION", "https://me:pw@search.example/events");
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[URL], "none"),
        (&[user], "basic me pw"),
        (&[user, ("PIXEL_AUTH", "basic")], "basic me pw"),
        (&[user, ("PIXEL_AUTH", "none")], "none"),
        (&[URL, key], "api-key a2V5"),
        (&[URL, key, ("PIXEL_AUTH", "api-key")], "api-key a2V5"),
        (&[URL, key, ("PIXEL_AUTH", "none")], "none"),
        (&[URL, signed], "none"),
        (&[URL, signed, ("PIXEL_AUTH", "es")], "es eu-west-1"),
        (&[URL, signed, ("PIXEL_AUTH", " aoss\n")], "aoss eu-west-1"),
    ];
    for (variables, auth) in cases {
        let (config, problems) = read(variables);
        assert_eq!(problems, Vec::<String>::new(), "{variables:?}");
        let Some(Destination::OpenSearch(target)) = config.destination else {
            panic!("{variables:?}: {config:?}");
        };
        assert_eq!(spell(&target.auth), auth, "{variables:?}");
    }
}

#[test]
fn each_variable_does_its_work() {
    type Holds = fn(&Config) -> bool;
    let cases: [(&str, &str, Holds); 25] = [
        ("PIXEL_CODE_STANDING", "", |config| {
            config.code_standing == CodeStanding::None
        }),
        ("PIXEL_CODE_STANDING", "index", |config| {
            config.code_standing == CodeStanding::Index
        }),
        ("PIXEL_PAGE", "", |config| !config.page),
        ("PIXEL_PAGE", "on", |config| config.page),
        ("PIXEL_DESTINATION", " ", |config| config.destination.is_none()),
        ("PIXEL_REPLY", "", |config| config.reply == ReplyOrder::First),
        ("PIXEL_REPLY", "first", |config| config.reply == ReplyOrder::First),
        ("PIXEL_REPLY", "after-indexing", |config| {
            config.reply == ReplyOrder::AfterIndexing
        }),
        ("PIXEL_CONNECT_TIMEOUT_MS", "1", |config| {
            config.timing.connect == Duration::from_millis(1)
        }),
        ("PIXEL_CONNECT_TIMEOUT_MS", "", |config| {
            config.timing.connect == Duration::from_secs(1)
        }),
        ("PIXEL_ATTEMPT_TIMEOUT_MS", "900000", |config| {
            config.timing.attempt == Duration::from_mins(15)
        }),
        ("PIXEL_ATTEMPT_TIMEOUT_MS", "", |config| {
            config.timing.attempt == Duration::from_secs(2)
        }),
        ("PIXEL_BUDGET_MS", "250", |config| {
            config.timing.budget == Duration::from_millis(250)
        }),
        ("PIXEL_BUDGET_MS", "", |config| {
            config.timing.budget == Duration::from_secs(5)
        }),
        ("PIXEL_MAX_EVENT_BYTES", "8192", |config| {
            config.policy.max_bytes == 8192
        }),
        ("PIXEL_MAX_EVENT_BYTES", "1048576", |config| {
            config.policy.max_bytes == 1_048_576
        }),
        ("PIXEL_MAX_EVENT_BYTES", "", |config| config.policy.max_bytes == 32_768),
        ("PIXEL_TRUSTED_HOPS", "16", |config| config.trusted_hops == 16),
        ("PIXEL_TRUSTED_HOPS", "", |config| config.trusted_hops == 0),
        ("PIXEL_PRIVACY_IP", "", |config| {
            config.policy.address == AddressPolicy::Shorten
        }),
        ("PIXEL_PRIVACY_IP", "full", |config| {
            config.policy.address == AddressPolicy::Full
        }),
        ("PIXEL_PRIVACY_IP", "drop", |config| {
            config.policy.address == AddressPolicy::Drop
        }),
        ("PIXEL_CORS_ORIGIN", "*", |config| {
            config.cors_origin.as_deref() == Some("*")
        }),
        ("PIXEL_CORS_ORIGIN", "https://a.example:8443", |config| {
            config.cors_origin.as_deref() == Some("https://a.example:8443")
        }),
        ("PIXEL_CA_FILE", "/etc/ca.pem", |config| {
            config.ca_file.as_deref() == Some("/etc/ca.pem".as_ref())
        }),
    ];
    for (name, value, holds) in cases {
        let (config, problems) = read(&[(name, value)]);
        assert_eq!(problems, Vec::<String>::new(), "{name}={value}");
        assert!(holds(&config), "{name}={value}: {config:?}");
    }
}

const BASIC: (&str, &str) = ("PIXEL_AUTH", "basic");

/// Variables, and part of the one problem with them.
const PROBLEMS: [(&[(&str, &str)], &str); 32] = [
    (
        &[("PIXEL_REPLY", "First")],
        "`PIXEL_REPLY` is `First`: give one of `first`, `after-indexing`",
    ),
    (
        &[("PIXEL_PRIVACY_IP", "none")],
        "`PIXEL_PRIVACY_IP` is `none`: give one of `shorten`, `full`, `drop`",
    ),
    (
        &[("PIXEL_CONNECT_TIMEOUT_MS", "0")],
        "`PIXEL_CONNECT_TIMEOUT_MS` is `0`: give a whole number from 1 to 900000",
    ),
    (
        &[("PIXEL_ATTEMPT_TIMEOUT_MS", "2s")],
        "`PIXEL_ATTEMPT_TIMEOUT_MS` is `2s`: give a whole number from 1 to 900000",
    ),
    (
        &[("PIXEL_BUDGET_MS", "900001")],
        "`PIXEL_BUDGET_MS` is `900001`: give a whole number from 1 to 900000",
    ),
    (
        &[("PIXEL_BUDGET_MS", "-1")],
        "`PIXEL_BUDGET_MS` is `-1`: give a whole number from 1 to 900000",
    ),
    (
        &[("PIXEL_BUDGET_MS", "1.5")],
        "`PIXEL_BUDGET_MS` is `1.5`: give a whole number",
    ),
    (
        &[("PIXEL_BUDGET_MS", "99999999999999999999999")],
        "`PIXEL_BUDGET_MS` is `99999999999999999999999`: give a whole number",
    ),
    (
        &[("PIXEL_MAX_EVENT_BYTES", "8191")],
        "`PIXEL_MAX_EVENT_BYTES` is `8191`: give a whole number from 8192 to 1048576",
    ),
    (
        &[("PIXEL_MAX_EVENT_BYTES", "32KB")],
        "`PIXEL_MAX_EVENT_BYTES` is `32KB`: give a whole number from 8192 to 1048576",
    ),
    (
        &[("PIXEL_TRUSTED_HOPS", "17")],
        "`PIXEL_TRUSTED_HOPS` is `17`: give a whole number from 0 to 16",
    ),
    (
        &[("PIXEL_CORS_ORIGIN", "example.org")],
        "`PIXEL_CORS_ORIGIN` is `example.org`: give `*` or an origin such as",
    ),
    (
        &[("PIXEL_CORS_ORIGIN", "https://a.example/")],
        "`PIXEL_CORS_ORIGIN` is `https://a.example/`: give `*` or an origin",
    ),
    (
        &[("PIXEL_CORS_ORIGIN", "null")],
        "`PIXEL_CORS_ORIGIN` is `null`: give `*` or an origin",
    ),
    (
        &[URL, ("PIXEL_AUTH", "sigv4")],
        "`PIXEL_AUTH` is `sigv4`: give one of `es`, `aoss`, `basic`, `api-key`, `none`",
    ),
    (
        &[URL, ("PIXEL_AUTH", "api-key")],
        "`PIXEL_API_KEY` is not set: give the key, since `PIXEL_AUTH` is `api-key`",
    ),
    (&[URL, ("PIXEL_AUTH", "es")], "`AWS_REGION` is not set: give the region"),
    (
        &[URL, BASIC],
        "`PIXEL_DESTINATION` is `https://search.example/events`: put user and password into the URL",
    ),
    (
        &[("PIXEL_DESTINATION", "https://search.example/a@b"), BASIC],
        "put user and password into the URL",
    ),
    (
        &[("PIXEL_DESTINATION", "events")],
        "`PIXEL_DESTINATION` is `events`: give `https://host/index`, `sqs://host/account/queue`, `firehose://host/stream` or `sqlite:file`",
    ),
    (
        &[("PIXEL_DESTINATION", "https://me:hush-hush@search.example/Events")],
        "`PIXEL_DESTINATION` is `https://me:…@search.example/Events`: `Events` cannot be an index",
    ),
    (
        &[("PIXEL_DESTINATION", "https://me:hush-hush@search.example")],
        "`PIXEL_DESTINATION` is `https://me:…@search.example`: name the index, as in `https://me:…@search.example/events`",
    ),
    (
        &[("PIXEL_DESTINATION", "me:hush-hush@search.example/events")],
        "`PIXEL_DESTINATION` is `me:…@search.example/events`: give `https://host/index`",
    ),
    (
        &[("PIXEL_DESTINATION", "https://me:hush-hush/#?@search.example/events")],
        "`PIXEL_DESTINATION` is `https://me:…@search.example/events`: give `https://host/index`",
    ),
    (
        &[("PIXEL_DESTINATION", "https://me:a@hush-hush@:1/events")],
        "`PIXEL_DESTINATION` is `https://me:…@:1/events`: give `https://host/index`",
    ),
    (
        &[("PIXEL_DESTINATION", "https://search.example/events?api_key=hush-hush")],
        "`PIXEL_DESTINATION` is `https://search.example/events?…`: leave out `?` and `#`",
    ),
    (
        &[("PIXEL_DESTNATION", "hush-hush")],
        "`PIXEL_DESTNATION` is `…`: there is no such variable; did you mean `PIXEL_DESTINATION`?",
    ),
    (
        &[("PIXEL_APIKEY", "hush-hush")],
        "`PIXEL_APIKEY` is `…`: there is no such variable; did you mean `PIXEL_API_KEY`?",
    ),
    (&[("PIXEL_MAX_EVENT_KB", "1")], "did you mean `PIXEL_MAX_EVENT_BYTES`?"),
    (
        &[("PIXEL_", "1")],
        "`PIXEL_` is `…`: there is no such variable; `pixel config` lists them",
    ),
    (
        &[("PIXEL_FOO", "1")],
        "`PIXEL_FOO` is `…`: there is no such variable; `pixel config` lists them",
    ),
    (
        &[("PIXEL_TELEMETRY", "1")],
        "`PIXEL_TELEMETRY` is `…`: there is no such variable; `pixel config` lists them",
    ),
];

#[test]
fn what_is_mistyped_on_the_command_line_is_told_with_what_is_wanted() {
    let cases: [(&[&str], &str); 5] = [
        (
            &["prune", "--older-than", "9999999d"],
            "give a number of days from 1 to 36500, as in `90d`",
        ),
        (
            &["demo", "--seed", "x"],
            "give a whole number from 0 to 18446744073709551615",
        ),
        (&["demo", "--events", "x"], "give a whole number from 1 to 10000000"),
        (&["demo", "--days", "3651"], "give a number of days from 1 to 3650"),
        (&["dashboards", "--index-pattern", ""], "as in `events*`"),
    ];
    for (arguments, words) in cases {
        let output = crate::destination::index_setup::pixel(arguments);
        crate::destination::index_setup::asked_wrongly(&output, &[words], &format!("{arguments:?}"));
    }
}

/// The help names queues and streams where they are possible, and only there.
#[test]
fn the_help_names_the_destinations_that_are_possible() {
    let takes = ["serve", "demo", "replay", "config"];
    for command in [
        "serve", "demo", "replay", "config", "hits", "stats", "setup", "prune", "export",
    ] {
        let output = crate::destination::index_setup::pixel(&[command, "--help"]);
        let help = crate::destination::index_setup::succeeded(&output, command);
        for outlet in ["sqs://", "firehose://"] {
            assert_eq!(help.contains(outlet), takes.contains(&command), "{command}: {help}");
        }
    }
}

#[test]
fn each_problem_names_the_variable_its_value_and_what_would_be_right() {
    for (variables, expected) in PROBLEMS {
        let (config, problems) = read(variables);
        assert_eq!(problems.len(), 1, "{variables:?}: {problems:?}");
        assert!(problems[0].contains(expected), "{variables:?}: {}", problems[0]);
        let everything = format!("{problems:?} {config:?}");
        assert!(!everything.contains(SECRET), "{variables:?}: {everything}");
    }
}

#[test]
fn all_problems_are_told_at_once_and_the_rest_holds() {
    let (config, problems) = read(&[
        ("PIXEL_DESTINATION", "https://me:hush-hush@search.example/events"),
        ("PIXEL_AUTH", "magic"),
        ("PIXEL_REPLY", "soon"),
        ("PIXEL_BUDGET_MS", "many"),
        ("PIXEL_TRUSTED_HOPS", "-1"),
        ("PIXEL_MAX_EVENT_BYTES", "16384"),
        ("PIXEL_PRIVACY", "on"),
        ("PATH", "/bin"),
        ("pixel_reply", "first"),
    ]);
    let named: Vec<_> = problems
        .iter()
        .map(|problem| problem.split('`').nth(1).unwrap())
        .collect();
    let mut sorted = named.clone();
    sorted.sort_unstable();
    let expected = [
        "PIXEL_AUTH",
        "PIXEL_BUDGET_MS",
        "PIXEL_PRIVACY",
        "PIXEL_REPLY",
        "PIXEL_TRUSTED_HOPS",
    ];
    assert_eq!(sorted, expected, "{problems:?}");
    assert_eq!((config.reply, config.trusted_hops), (ReplyOrder::First, 0));
    assert_eq!(
        (config.timing.budget, config.policy.max_bytes),
        (Duration::from_secs(5), 16_384)
    );
    let destination = config.destination.as_ref().map(ToString::to_string);
    assert_eq!(destination.as_deref(), Some("https://search.example/events"));
    assert!(!format!("{config:?} {config:#?} {problems:?}").contains(SECRET));
}

#[test]
fn secrets_do_not_show_themselves() {
    let (config, problems) = read(&[URL, ("PIXEL_API_KEY", SECRET), ("PIXEL_PRIVACY_KEY", &SECRET.repeat(3))]);
    assert_eq!(problems, Vec::<String>::new());
    assert!(!format!("{config:?}").contains(SECRET));
    let secret = VARIABLES
        .iter()
        .filter(|variable| variable.secret)
        .map(|variable| variable.name);
    assert_eq!(
        secret.collect::<Vec<_>>(),
        ["PIXEL_API_KEY", "PIXEL_PRIVACY_KEY", "PIXEL_CODE_KEYS", "PIXEL_TOKENS"]
    );
}

#[test]
fn a_password_is_found_wherever_it_could_be() {
    for (url, shown) in [
        ("https://host/events", "https://host/events"),
        ("sqlite:pixel.db", "sqlite:pixel.db"),
        ("https://me:hush-hush@host/events", "https://me:…@host/events"),
        ("https://me:hush@hush-hush@host/events", "https://me:…@host/events"),
        ("https://me:hush-hush/@host/events", "https://me:…@host/events"),
        ("https://:hush-hush@host/events", "https://:…@host/events"),
        ("me:hush-hush@host/events", "me:…@host/events"),
        ("//me:hush-hush@host/events", ":…@host/events"),
        ("https://host/events?key=hush-hush", "https://host/events?…"),
        ("https://host/events#hush-hush", "https://host/events#…"),
        (
            "https://me:hush-hush@host/events?key=hush-hush#hush-hush",
            "https://me:…@host/events?…",
        ),
    ] {
        assert_eq!(hide_password(url), shown, "{url}");
    }
}

/// A collection may take half a minute to wake up, and nobody waits for that after the reply.
#[test]
fn a_destination_that_can_pause_has_a_budget_that_outlasts_it() {
    let timing = |destination: &str, more: &[(&str, &str)]| {
        let mut variables = Variables::from([("PIXEL_DESTINATION".to_owned(), destination.to_owned())]);
        variables.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let (config, problems) = Config::read(&variables);
        assert_eq!(problems, [], "{destination}");
        let timing = config.destination_timing();
        (timing.attempt.as_secs(), timing.budget.as_secs())
    };
    let own = [("PIXEL_AUTH", "aoss"), ("AWS_REGION", "eu-west-1")];
    for (destination, more) in [
        ("https://abc.eu-west-1.aoss.amazonaws.com/events", &[][..]),
        ("https://abc.aoss.eu-west-1.on.aws/events", &[]),
        ("https://collection.internal.example/events", &own),
    ] {
        let (attempt, budget) = timing(destination, more);
        assert!(attempt >= 35 && budget > attempt, "{destination}: {attempt} {budget}");
        let waits = [more, &[("PIXEL_REPLY", "after-indexing")]].concat();
        assert_eq!(timing(destination, &waits), (2, 5), "{destination}");
        let chosen = [
            more,
            &[("PIXEL_ATTEMPT_TIMEOUT_MS", "3000"), ("PIXEL_BUDGET_MS", "9000")],
        ]
        .concat();
        assert_eq!(timing(destination, &chosen), (3, 9), "{destination}");
    }
    for destination in [
        "https://search-x.eu-west-1.es.amazonaws.com/events",
        "http://127.0.0.1:9200/events",
        "sqs://sqs.eu-west-1.amazonaws.com/123456789012/pixel",
    ] {
        assert_eq!(timing(destination, &[]), (2, 5), "{destination}");
    }
}
