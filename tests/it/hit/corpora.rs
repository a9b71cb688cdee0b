//! Classes of visit and programs, held against other people's collections of agents and against ours.
//!
//! Others' collections are installed, none is copied: the crawlers of `crawler-user-agents` and Matomo's suite of devices,
//! which `device-detector` carries (both `PyPI`), and `uap-core`'s suite, which the crate `ua-parser` holds. Ours are in
//! `tests/agents/`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pixel::hit::enrich::classify::{Class, Signals, Visit, classify};
use pixel::hit::enrich::rules;
use pixel::hit::enrich::user_agent;
use pixel::hit::enrich::user_agent::{Device, UserAgent};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use crate::support::setup;

fn visit(agent: &str) -> Visit {
    let signals = Signals {
        agent: Some(agent),
        accepts: true,
        ..Signals::default()
    };
    classify(&signals, &rules::agents().search(agent))
}

fn read(agent: &str) -> UserAgent {
    user_agent::parse_user_agent(agent, &rules::agents().search(agent), |_| None)
}

// Ours.

fn people() -> impl Iterator<Item = &'static str> {
    include_str!("../../agents/people.txt").lines()
}

#[test]
fn people_are_people() {
    assert!(people().count() > 150);
    for agent in people() {
        assert_eq!(visit(agent).class, Class::Human, "{agent}");
    }
}

#[test]
fn every_proxy_of_mail_is_one() {
    let proxies = [
        (
            "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            "gmail_image_proxy",
        ),
        (
            "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
            "yahoo_mail_proxy",
        ),
        ("Mozilla/5.0", "apple_mail_privacy"),
    ];
    for (agent, reason) in proxies {
        let visit = visit(agent);
        assert_eq!((visit.class, visit.reasons[0]), (Class::PrivacyProxy, reason));
        // Neither a network nor the time takes that away.
        let signals = Signals {
            agent: Some(agent),
            network: Some(15_169),
            seconds_since_sent: Some(1),
            ..Signals::default()
        };
        let found = rules::agents().search(agent);
        assert_eq!(classify(&signals, &found).class, Class::PrivacyProxy, "{agent}");
    }
}

const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

#[test]
fn other_signals_count_together_and_are_named_alone() {
    let person = Signals {
        agent: Some(CHROME),
        accepts: true,
        ..Signals::default()
    };
    let cases: [(&str, Signals<'_>, Class, &[&str]); 8] = [
        ("a person", person, Class::Human, &["browser"]),
        (
            "in a data centre",
            Signals {
                network: Some(16_509),
                ..person
            },
            Class::Human,
            &["browser", "data_center_network"],
        ),
        (
            "at once",
            Signals {
                seconds_since_sent: Some(3),
                ..person
            },
            Class::Human,
            &["browser", "opened_when_sent"],
        ),
        (
            "both: a gateway's scanner",
            Signals {
                network: Some(16_509),
                seconds_since_sent: Some(3),
                ..person
            },
            Class::Automation,
            &["data_center_network", "opened_when_sent", "browser"],
        ),
        (
            "a week later",
            Signals {
                seconds_since_sent: Some(604_800),
                ..person
            },
            Class::Human,
            &["browser"],
        ),
        (
            "a program that calls itself a browser",
            Signals {
                accepts: false,
                network: Some(24_940),
                ..person
            },
            Class::Automation,
            &["data_center_network", "no_accept_headers", "browser"],
        ),
        (
            "ahead of time",
            Signals {
                purpose: Some("prefetch;prerender"),
                ..person
            },
            Class::Prefetch,
            &["prefetch_header", "browser"],
        ),
        ("nothing", Signals::default(), Class::Automation, &["no_agent"]),
    ];
    for (name, signals, class, reasons) in cases {
        let visit = classify(&signals, &rules::agents().search(signals.agent.unwrap_or_default()));
        assert_eq!((visit.class, visit.reasons.as_slice()), (class, reasons), "{name}");
    }
}

#[test]
fn well_known_agents_are_read_whole() {
    for line in include_str!("../../agents/known.tsv").lines() {
        let columns: [&str; 6] = line.split('\t').collect::<Vec<_>>().try_into().expect("six columns");
        let (agent, expected) = (columns[0], &columns[1..]);
        let read = read(agent);
        let text = |text: Option<String>| text.unwrap_or_default();
        let found = [
            text(read.name),
            text(read.version),
            text(read.os),
            text(read.os_version),
            read.device.map(Device::name).unwrap_or_default().to_owned(),
        ];
        assert_eq!(found, expected, "{agent}");
    }
}

#[test]
fn client_hints_tell_what_a_frozen_agent_does_not() {
    let hints = |name: &str| match name {
        "sec-ch-ua" => Some(r#""Chromium";v="142", "Brave";v="142", "Not=A?Brand";v="8""#),
        "sec-ch-ua-platform" => Some(r#""Windows""#),
        "sec-ch-ua-platform-version" => Some(r#""15.0.0""#),
        _ => None,
    };
    let read = user_agent::parse_user_agent(CHROME, &rules::agents().search(CHROME), hints);
    assert_eq!(
        (read.name.as_deref(), read.os_version.as_deref()),
        (Some("Brave"), Some("11"))
    );
}

#[test]
fn hostile_agents_take_no_longer_than_their_first_kilobyte() {
    let hostile = [
        "a",
        "(",
        "bot",
        "Mozilla/5.0 (",
        "\u{fffd}",
        "%40",
        "Android bot/",
        "1.",
        "é",
    ];
    for piece in hostile {
        let long = piece.repeat(100_000 / piece.len());
        // What is behind it is not looked at.
        let cut = &long[..long.floor_char_boundary(rules::MAX_TEXT_BYTES)];
        assert_eq!(visit(&long), visit(cut), "{piece}");
        assert_eq!(read(&long).os, read(cut).os, "{piece}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// In steps, which are the same on every machine.
    #[test]
    fn no_agent_costs_more_than_some_steps_for_each_of_its_first_kilobyte(
        pieces in vec(prop_oneof![
            select(include_str!("../../../src/hit/enrich/rules/visits.rules").split([' ', '<', '|', '&', '^', '!']).collect::<Vec<_>>()).prop_map(ToOwned::to_owned),
            "[a-z]{1,3}",
            any::<String>(),
        ], 1..20),
        times in 1_usize..2_000,
    ) {
        let agent = pieces.concat().repeat(times);
        let found = rules::agents().search(&agent);
        prop_assert!(found.tried() <= 40 * rules::MAX_TEXT_BYTES, "{} for {agent}", found.tried());
        let cut = &agent[..agent.floor_char_boundary(rules::MAX_TEXT_BYTES)];
        prop_assert_eq!(visit(&agent), visit(cut));
        prop_assert_eq!(read(&agent).device, read(cut).device);
    }
}

#[test]
fn usual_agents_cost_few_steps() {
    let (steps, bytes) = people().fold((0, 0), |(steps, bytes), agent| {
        (steps + rules::agents().search(agent).tried(), bytes + agent.len())
    });
    assert!(steps <= 3 * bytes, "{steps} steps for {bytes} bytes");
}

// Others'.

#[derive(Clone, Debug)]
struct Case {
    corpus: String,
    agent: String,
    name: String,
    version: String,
}

/// A folder for every version of what makes the list.
fn folder() -> PathBuf {
    let mut made_by = DefaultHasher::new();
    include_str!("../../agents/requirements.txt").hash(&mut made_by);
    include_str!("../../agents/corpora.py").hash(&mut made_by);
    setup::cache_dir().join(format!("agents-{:016x}", made_by.finish()))
}

fn corpora() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        setup::require(&["python3"]);
        let folder = folder();
        let _one_makes_it = setup::lock(&folder.with_added_extension("lock"));
        let listed = folder.join("cases");
        if !listed.exists() {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).expect("the cache can be written");
            if let Err(why) = install(&folder) {
                panic!("no collections of agents: {why}");
            }
        }
        let text = std::fs::read_to_string(listed).expect("the list was made");
        text.lines().map(case).collect()
    })
}

fn case(line: &str) -> Case {
    let members: Vec<Value> = serde_json::from_str(line).expect("a list");
    let text = |place: usize| members[place].as_str().unwrap_or_default().to_owned();
    Case {
        corpus: text(0),
        agent: text(1),
        name: text(2),
        version: text(3),
    }
}

/// Installs the collections, and lists them.
fn install(folder: &Path) -> Result<(), String> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let write = |path: PathBuf, what: &str| std::fs::write(path, what).map_err(|error| error.to_string());
    let python = text(folder.join("python"));
    setup::run(&["python3"], &["-m", "venv", &python]).or_else(|_| {
        setup::complete("python3")?;
        setup::run(&["python3"], &["-m", "venv", &python])
    })?;
    let requirements = text(folder.join("requirements.txt"));
    write(
        folder.join("requirements.txt"),
        include_str!("../../agents/requirements.txt"),
    )?;
    let python = format!("{python}/bin/python");
    setup::run(
        &[&python],
        &[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "-r",
            &requirements,
        ],
    )?;
    // A package of its own, since nothing of this one uses the crate.
    let package = folder.join("suite");
    std::fs::create_dir_all(&package).map_err(|error| error.to_string())?;
    write(
        package.join("Cargo.toml"),
        "[package]\nname = \"suite\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[lib]\npath = \"lib.rs\"\n[dependencies]\nua-parser = \"=0.2.2\"\n",
    )?;
    write(package.join("lib.rs"), "")?;
    let manifest = text(package.join("Cargo.toml"));
    let vendored = text(package.join("vendor"));
    setup::run(
        &[env!("CARGO")],
        &["vendor", "--quiet", "--manifest-path", &manifest, &vendored],
    )?;
    let suite = text(package.join("vendor/ua-parser/uap-core"));
    let output = Command::new(python)
        .args(["-c", include_str!("../../agents/corpora.py"), &suite])
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    std::fs::write(folder.join("cases"), output.stdout).map_err(|error| error.to_string())
}

/// The share, in thousandths, of a corpus's cases for which `holds`; what it does not hold for is listed.
fn share(corpus: &str, fewest: usize, holds: impl Fn(&Case) -> bool) -> usize {
    let cases: Vec<_> = corpora().iter().filter(|case| case.corpus == corpus).collect();
    let count = cases.len();
    assert!(count >= fewest, "{corpus}: {count}");
    let (held, missed): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| holds(case));
    let shown: Vec<_> = missed
        .iter()
        .map(|case| format!("{} {}: {}", case.name, case.version, case.agent))
        .collect();
    // For who looks for what to better: a file beside the collections.
    let missed = folder().join(format!("missed-{corpus}"));
    std::fs::write(missed, shown.join("\n")).expect("the cache can be written");
    held.len() * 1000 / count
}

#[test]
fn crawlers_are_automation() {
    for (corpus, fewest) in [("crawlers", 2000), ("robots", 1300)] {
        let share = share(corpus, fewest, |case| {
            matches!(visit(&case.agent).class, Class::Automation | Class::PrivacyProxy)
        });
        assert!(share >= 990, "{corpus}: {share} of 1000");
    }
}

#[test]
fn hardly_anybody_is_taken_for_a_robot() {
    let corpora = [
        ("phones", 20_000),
        ("tablets", 6000),
        ("desktops", 600),
        ("televisions", 3000),
        ("consoles", 50),
        ("cars", 60),
        ("wearables", 200),
        ("players", 70),
        ("podcasts", 450),
        ("apps", 350),
        ("devices", 15_000),
    ];
    for (corpus, fewest) in corpora {
        let share = share(corpus, fewest, |case| visit(&case.agent).class == Class::Human);
        assert!(share >= 990, "{corpus}: {share} of 1000");
    }
}

#[test]
fn browsers_have_the_names_of_the_reference() {
    let share = share("browsers", 1900, |case| {
        read(&case.agent).name.as_deref().unwrap_or("Other") == case.name
    });
    assert!(share >= 985, "{share} of 1000");
}

#[test]
fn systems_have_the_names_of_the_reference() {
    let share = share("systems", 460, |case| {
        read(&case.agent).os.as_deref().unwrap_or("Other") == case.name
    });
    assert!(share >= 990, "{share} of 1000");
}
