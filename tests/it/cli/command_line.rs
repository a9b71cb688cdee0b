//! The command line as people type it: addresses, numbers, names and durations, and what the help says.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pixel::sqlite::Reader;
use serde_json::{Value, json};

use crate::support::serving::{pixel, run, serve, wait_for};

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", errors(output));
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Arguments that are refused with exit code 2, and a part of the message.
fn refused(folder: &Path, arguments: &[&str], says: &str) {
    let output = run(folder, arguments);
    let told = errors(&output);
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(2), 0),
        "{arguments:?}: {told}"
    );
    assert!(told.contains(says), "{arguments:?}: no `{says}` in {told}");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

fn demo(folder: &Path) {
    let events = ["demo", "--events", "300", "--days", "10", "--end", "2026-03-15"];
    succeeded(&run(folder, &events));
}

#[test]
fn addresses_to_listen_on_are_read_as_people_write_them() {
    for arguments in [
        &["--listen", "0"][..],
        &["--listen", ":0"],
        &["--listen", "localhost:0"],
        &["-l", "127.0.0.1:0"],
        &["--listen", "[::1]:0"],
        &["--port", "0"],
    ] {
        let served = serve().listen_with(arguments).start();
        assert!(served.address.ip().is_loopback(), "{arguments:?}: {}", served.address);
        assert_eq!(served.get("/pixel.gif").status, 200, "{arguments:?}");
    }
    let folder = folder();
    for text in ["localhost", "a.example:80", "127.0.0.1", "70000", "-1", "127.0.0.1:x"] {
        let says = "give ADDRESS:PORT, as in 127.0.0.1:8080";
        refused(folder.path(), &["serve", "--listen", text], says);
    }
    refused(
        folder.path(),
        &["serve", "--port", "70000"],
        "give a whole number from 0 to 65535",
    );
    refused(
        folder.path(),
        &["serve", "--port", "1", "--listen", "127.0.0.1:2"],
        "cannot be used with",
    );
}

#[test]
fn a_wrong_destination_is_called_by_what_it_was_given_as() {
    let folder = folder();
    for command in ["serve", "hits", "config"] {
        let output = run(folder.path(), &[command, "-d", "nope.db"]);
        let told = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{command}: {told}");
        for part in ["`--destination` is `nope.db`", "did you mean `sqlite:nope.db`?"] {
            assert!(told.contains(part), "{command}: no `{part}` in {told}");
        }
        assert!(!told.contains("PIXEL_DESTINATION"), "{command}: {told}");
        let output = pixel(folder.path())
            .arg(command)
            .env("PIXEL_DESTINATION", "nope.db")
            .output();
        let told = errors(&output.expect("pixel starts"));
        assert!(told.contains("`PIXEL_DESTINATION` is `nope.db`"), "{command}: {told}");
    }
    // What could be a password is in no guess.
    let output = run(folder.path(), &["hits", "-d", "me:hush-hush@host.db"]);
    assert!(!errors(&output).contains("hush"), "{}", errors(&output));
}

#[test]
fn a_destination_that_is_away_is_told_at_the_start_with_what_becomes_of_hits() {
    for (fallback, hits) in [
        (None, "written whole to the log"),
        (Some("sqlite:else.db"), "go to sqlite:else.db"),
    ] {
        let mut serving = serve().to("http://127.0.0.1:9/events");
        if let Some(fallback) = fallback {
            serving = serving.variable("PIXEL_FALLBACK", fallback);
        }
        let served = serving.start();
        served.stderr.wait_for("the warning", |line| {
            line.starts_with("warning: the destination cannot be reached") && line.contains("127.0.0.1:9")
        });
        served
            .stderr
            .wait_for("what becomes of hits", |line| line.contains(hits));
        assert_eq!(served.get("/pixel.gif").status, 200, "it serves anyway");
    }
    let queue = serve()
        .to("sqs+http://127.0.0.1:9/123456789012/pixel")
        .variable("AWS_REGION", "eu-west-1");
    let queue = queue
        .variable("AWS_ACCESS_KEY_ID", "x")
        .variable("AWS_SECRET_ACCESS_KEY", "y")
        .start();
    queue.stderr.wait_for("the warning", |line| {
        line.starts_with("warning: the destination cannot be reached") && line.contains("127.0.0.1:9")
    });
}

#[test]
fn mistyped_names_are_guessed() {
    let folder = folder();
    demo(folder.path());
    let table: [(&[&str], &str); 10] = [
        (&["stats", "--by", "url.domian"], "did you mean `url.domain`?"),
        (
            &["stats", "--filter", "campain.name=x"],
            "did you mean `campaign.name`?",
        ),
        (&["stats", "--unique", "user_id"], "did you mean `user.id`?"),
        (&["stats", "--filter", "foo=bar"], "`pixel stats --fields`"),
        (&["stats", "--zone", "Berlin"], "it needs `--interval`"),
        (&["stats", "--zone", "Berlin"], "zones look like `Europe/Berlin`"),
        (
            &["stats", "--zone", "Berlin", "--interval", "day"],
            "did you mean `Europe/Berlin`?",
        ),
        (
            &["stats", "--zone", "Europe/Berlni", "--interval", "day"],
            "did you mean `Europe/Berlin`?",
        ),
        (&["stas"], "'stats'"),
        (&["stats", "--fliter", "a=b"], "'--filter'"),
    ];
    for (arguments, says) in table {
        refused(folder.path(), arguments, says);
    }
    let served = serve().start();
    let reply = served.get("/v1/api/status");
    assert_eq!(reply.status, 200);
    let token = succeeded(&run(served.folder(), &["token", "new"]));
    let asked = crate::support::serving::request(
        "GET",
        "/v1/api/stats?by=url.domian",
        &[("Authorization", format!("Bearer {}", token.trim()).as_bytes())],
    );
    let reply = crate::support::serving::send(served.address, &asked);
    let problem: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!((reply.status, &problem["parameter"]), (400, &json!("by")));
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.contains("did you mean `url.domain`?")),
        "{problem}"
    );
}

#[test]
fn fields_are_listed_without_a_server() {
    let folder = folder();
    let fields = succeeded(&run(folder.path(), &["stats", "--fields"]));
    for name in ["url.domain", "campaign.name", "visit.class"] {
        assert!(
            fields.lines().any(|line| line.starts_with(&format!("{name} "))),
            "{name}: {fields}"
        );
    }
    assert!(!fields.contains("body-json"), "what cannot be listed: {fields}");
    let fields = succeeded(&run(folder.path(), &["stats", "--fields", "--json"]));
    let fields: Value = serde_json::from_str(&fields).expect("JSON");
    let class = fields
        .as_array()
        .into_iter()
        .flatten()
        .find(|field| field["name"] == "visit.class");
    assert_eq!(class.expect("it is there")["values"][0], "human");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        0,
        "nothing is made"
    );
}

#[test]
fn one_grammar_of_durations_is_read_everywhere() {
    let folder = folder();
    demo(folder.path());
    let file = ["-d", "sqlite:pixel.db"];
    for duration in ["7", "7d", "48h", "2w", "3mo", "1y"] {
        for command in [
            &["stats", "--since", duration][..],
            &["prune", "--dry-run", "--older-than", duration],
            &["setup", "--dry-run", "--keep", duration],
            &["demo", "--events", "1", "--days", duration],
        ] {
            succeeded(&run(folder.path(), &[command, &file].concat()));
        }
        let output = pixel(folder.path())
            .arg("privacy")
            .env("PIXEL_KEEP_DAYS", duration)
            .output();
        let told = succeeded(&output.expect("pixel starts"));
        assert!(told.contains("is deleted after"), "{duration}: {told}");
    }
    let count = |arguments: &[&str]| {
        let told = succeeded(&run(folder.path(), &[&["stats", "--json"], arguments].concat()));
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["totals"]["events"].as_u64().expect("a number")
    };
    for arguments in [
        &["--since", "yesterday"][..],
        &["--since", "today"],
        &["--from", "yesterday", "--to", "today"],
    ] {
        assert!(count(arguments) < 300, "{arguments:?}");
    }
    assert!(count(&["--since", "2026-01-01"]) >= 300 && count(&["--since", "30y"]) >= 300);
    for (arguments, says) in [
        (["prune", "--older-than", "3m"], "for months write `3mo`"),
        (["serve", "--keep", "soon"], "as in `90d`, `12w`, `3mo` or `1y`"),
        (["stats", "--since", "soon"], "`yesterday`"),
        (["stats", "--from", "soon"], "`2026-03-01T09:30:00Z`"),
    ] {
        refused(folder.path(), &arguments, says);
    }
}

#[test]
fn numbers_out_of_range_are_told_the_range() {
    let folder = folder();
    for (command, range) in [
        (&["hits"][..], "from 1 to 10000"),
        (&["stats"], "from 1 to 1000"),
        (&["code", "list"], "from 1 to 1000"),
    ] {
        for value in ["abc", "-5", "0", "99999999999999999999"] {
            refused(folder.path(), &[command, &["-n", value]].concat(), range);
        }
    }
    refused(folder.path(), &["code", "key", "--id", "300"], "from 0 to 255");
    refused(folder.path(), &["demo", "-n", "5"], "unexpected argument '-n'");
}

#[test]
fn unknown_variables_are_warned_of_and_refused_when_asked() {
    let served = serve().start();
    served.get("/pixel.gif");
    let with = |name: &str, arguments: &[&str]| {
        let output = pixel(served.folder()).args(arguments).env(name, "hush-hush").output();
        output.expect("pixel starts")
    };
    for (name, says) in [
        ("PIXEL_FOO", "`pixel config` lists them"),
        ("PIXEL_DESTINATON", "did you mean `PIXEL_DESTINATION`?"),
        ("PIXEL_PRIVACY_IPP", "the privacy settings are the strictest"),
    ] {
        let output = with(name, &["hits"]);
        let told = errors(&output);
        assert_eq!(succeeded(&output).lines().count(), 2, "{told}");
        assert!(
            told.starts_with(&format!("warning: `{name}`: ")) && told.contains(says),
            "{told}"
        );
        assert!(!told.contains("hush"), "{told}");
        for arguments in [["--strict", "hits"], ["hits", "--strict"]] {
            let output = with(name, &arguments);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
            assert!(
                errors(&output).contains(&format!("`{name}` is `…`")),
                "{}",
                errors(&output)
            );
        }
        let shown = succeeded(&with(name, &["config", "--json"]));
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["warnings"].as_array().map(Vec::len), Some(1), "{shown}");
        assert_eq!(shown["problems"], json!([]), "{shown}");
    }
    let output = pixel(served.folder())
        .args(["hits", "--strict"])
        .env("PIXEL_REPLY", "first")
        .output();
    succeeded(&output.expect("pixel starts"));
}

#[test]
fn codes_are_listed_and_revoked() {
    let served = serve().start();
    let code = |arguments: &[&str]| run(served.folder(), &[&["code"], arguments].concat());
    let says = "give `--campaign` or `--recipient`";
    refused(served.folder(), &["code", "new"], says);
    refused(served.folder(), &["code", "new", "--list"], says);
    refused(served.folder(), &["code", "new", "--code", "spring"], "--list");
    let output = code(&["list"]);
    assert!(
        errors(&output).contains("`pixel code new --list` lists one"),
        "{}",
        errors(&output)
    );

    assert_eq!(
        succeeded(&code(&["new", "--list", "--code", "spring", "--note", "March"])),
        "spring\n"
    );
    let random = succeeded(&code(&["new", "--list", "--campaign", "autumn"]));
    let output = code(&["new", "--list", "--code", "spring"]);
    assert_eq!(output.status.code(), Some(1), "it is there: {}", errors(&output));
    refused(served.folder(), &["code", "new", "--list", "--code", "a b"], "`--code`");

    // The server learns of it, as of what its own interface lists.
    let marked = |code: &str| {
        served.get(&format!("/pixel/{code}.gif"));
        let event = served.events().pop().expect("an event");
        event["pixel"]["signature"].as_str().map(ToOwned::to_owned)
    };
    wait_for("the server to know the code", || {
        (marked("spring")? == "listed").then_some(())
    });
    let revoked: Value = serde_json::from_str(&succeeded(&code(&["revoke", "spring", "--json"]))).expect("JSON");
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    assert!(
        succeeded(&code(&["revoke", "spring"])).contains("revoked spring"),
        "once more is no error"
    );
    wait_for("the server to know that", || {
        (marked("spring")? == "revoked").then_some(())
    });

    let listed = succeeded(&code(&["list"]));
    for (name, part) in [("spring", "March (revoked)"), (random.trim(), "autumn")] {
        let line = listed.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.contains(part)), "{name}: {listed}");
    }
    let output = code(&["list", "-n", "1"]);
    assert!(errors(&output).contains("1 of 2 codes"), "{}", errors(&output));
    let output = code(&["revoke", "nope"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("`pixel code list`"), "{}", errors(&output));
    assert_eq!(
        run(served.folder(), &["codes"]).status.code(),
        Some(2),
        "the old name is gone"
    );
}

#[test]
fn codes_of_a_file_are_listed_when_asked() {
    let folder = folder();
    std::fs::write(
        folder.path().join("people.csv"),
        "recipient\nann@example.org\nbob@example.org\n",
    )
    .expect("written");
    let key = ("PIXEL_CODE_KEYS", "1:MDEyMzQ1Njc4OWFiY2RlZg");
    let code = |arguments: &[&str]| {
        let output = pixel(folder.path()).arg("code").args(arguments).envs([key]).output();
        output.expect("pixel starts")
    };
    let output = code(&["new", "--csv", "people.csv", "--campaign", "spring"]);
    assert!(errors(&output).contains("none of them listed"), "{}", errors(&output));
    let made = succeeded(&code(&["new", "--csv", "people.csv", "--campaign", "spring", "--list"]));
    let listed: Value = serde_json::from_str(&succeeded(&code(&["list", "--json"]))).expect("JSON");
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 2);
    for row in listed {
        let code = row["code"].as_str().expect("a code");
        assert!(made.contains(&format!(",{code}\n")), "{code}: {made}");
        assert_eq!(row["campaign"], "spring");
    }
    let told = succeeded(&code(&["check", listed[0]["code"].as_str().expect("a code")]));
    assert!(told.starts_with("signature   valid"), "{told}");
}

#[test]
fn a_token_reads_unless_more_is_asked() {
    let folder = folder();
    let made: Value = serde_json::from_str(&succeeded(&run(folder.path(), &["token", "new", "--json"]))).expect("JSON");
    assert_eq!(made["scopes"], json!(["stats:read", "events:read"]));
    let one = succeeded(&run(
        folder.path(),
        &["token", "new", "--json", "--scope", "codes:write"],
    ));
    assert_eq!(
        serde_json::from_str::<Value>(&one).expect("JSON")["scopes"],
        json!(["codes:write"])
    );
    let help = succeeded(&run(folder.path(), &["token", "new", "--help"]));
    assert!(help.contains("<stats:read|events:read|codes:write>"), "{help}");
    let id = made["id"].as_str().expect("an id");
    assert!(succeeded(&run(folder.path(), &["token", "revoke", id])).contains("revoked"));
    for arguments in [&["token", "--help"][..], &["code", "--help"], &["--help"]] {
        let help = succeeded(&run(folder.path(), arguments)).to_lowercase();
        assert!(!help.contains("forget") && help.contains("revoke"), "{help}");
    }
}

#[test]
fn numbers_have_heads_and_no_absurd_changes() {
    let folder = folder();
    demo(folder.path());
    let period = [
        "--from",
        "2026-03-01",
        "--to",
        "2026-03-16",
        "--compare",
        "--by",
        "campaign.source",
    ];
    let table = succeeded(&run(folder.path(), &[&["stats"], &period[..]].concat()));
    let head = table.lines().next().unwrap_or_default();
    assert!(head.contains("EVENTS") && head.contains("VISITORS (DAILY)"), "{table}");
    let line = |name: &str| {
        table
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(line("total").contains("300"), "{table}");
    assert!(
        line("change").contains('–') && !line("change").contains('%'),
        "nothing before: {table}"
    );
    assert!(
        line("campaign.source").contains("VISITORS (DAILY)") && line("campaign.source").contains("SHARE"),
        "{table}"
    );
    let users = succeeded(&run(folder.path(), &["stats", "--since", "all", "--unique", "user.id"]));
    assert!(users.contains("DIFFERENT user.id"), "{users}");
    let events = succeeded(&run(folder.path(), &["stats", "--since", "all", "--unique", "none"]));
    assert!(!events.contains("VISITORS"), "{events}");
}

#[test]
fn a_reader_that_stops_is_no_error() {
    let folder = folder();
    succeeded(&run(folder.path(), &["demo", "--events", "3000"]));
    // More than are read at once.
    let all = succeeded(&run(folder.path(), &["export", "--all"]));
    assert_eq!(all.lines().count(), 3000);
    for form in ["--csv", "--ndjson"] {
        let mut export = pixel(folder.path());
        export
            .args(["export", "--all", form])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = export.spawn().expect("pixel starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{form}: {}", errors(&output));
    }
    for (arguments, says) in [
        (&["export"][..], "--all"),
        (&["export", "--since", "7d"], "--all"),
        (&["export", "--all", "--code", "x"], "cannot be used with"),
        (&["export", "--code", "x", "--since", "7d"], "cannot be used with"),
        (&["export", "--code", "x", "--csv"], "cannot be used with"),
    ] {
        refused(folder.path(), arguments, says);
    }
    refused(folder.path(), &["export", "--all", "--since", "soon"], "`--since`");
    refused(folder.path(), &["export", "--all", "--filter", "foo=bar"], "`--filter`");
    let output = run(
        folder.path(),
        &["export", "--all", "--filter", "visit.class=prefetch", "--since", "1h"],
    );
    assert!(
        errors(&output).trim().ends_with("events"),
        "the count is told: {}",
        errors(&output)
    );
}

/// Runs a command whose stdout is a terminal, and gives what it gets.
fn on_terminal(folder: &Path, command: &str) -> String {
    let line = format!("{} {command}", env!("CARGO_BIN_EXE_pixel"));
    let mut script = Command::new("script");
    script
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .current_dir(folder)
        .stdin(Stdio::null());
    let output = script.output().expect("script starts");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {shown}");
    shown
}

#[test]
fn a_terminal_gets_nothing_of_a_visitors_that_it_would_obey() {
    let served = serve().start();
    // ESC, BEL, a C1 control and text that runs backwards, wherever a visitor can put it.
    let hostile = "a%1b%5d0;x%07%c2%9b31m%e2%80%ae";
    served.get(&format!("/pixel/{hostile}.gif?utm_source={hostile}&utm_campaign={hostile}&url=https://x.example/{hostile}&title={hostile}"));
    served.events();
    let obeyed = |character: char| {
        (character.is_control() && !matches!(character, '\n' | '\r')) || ('\u{202a}'..='\u{202e}').contains(&character)
    };
    for command in [
        "stats --csv --by campaign.source,campaign.name,pixel.code,page.title,labels,url.full",
        "stats --by campaign.source,campaign.name,pixel.code,page.title,labels,url.full",
        "stats --json --by campaign.source",
        "export --all --csv",
        "export --all",
        "hits",
        "hits --json",
        "code list --csv",
    ] {
        let shown = on_terminal(served.folder(), command);
        // The spinner that counts events is ours, and on stderr.
        let shown: String = if command.starts_with("export") {
            let lines = shown
                .lines()
                .filter(|line| line.contains("x.example") || line.contains("utm_source"));
            lines
                .map(|line| line.rsplit_once("\u{1b}[2K").map_or(line, |(_, rest)| rest))
                .collect()
        } else {
            shown
        };
        assert!(!shown.contains(obeyed), "{command}: {shown:?}");
    }
    // A pipe gets the exact values.
    let exact = succeeded(&run(served.folder(), &["export", "--all"]));
    let event: Value = serde_json::from_str(exact.trim()).expect("one line of JSON");
    let source = event["campaign"]["source"].as_str().expect("a source").to_owned();
    let csv = succeeded(&run(served.folder(), &["stats", "--csv", "--by", "campaign.source"]));
    assert!(
        csv.contains(&format!("campaign.source,{source},1,")),
        "{csv:?}: {source:?}"
    );
    let line = served
        .stdout
        .wait_for("the line of the hit", |line| line.contains("indexed"));
    assert!(!line.contains(obeyed), "{line:?}");
}

/// A server that refuses everything, in words that a terminal would obey.
fn hostile_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let text = "a\u{202e}b\u{9b}31mc\u{7}";
        let body = json!({"error": {"type": text, "reason": text}, "status": 400, "name": text}).to_string();
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // The whole head of a small request comes at once.
            let _ = stream.read(&mut [0; 8192]);
            let _ = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    format!("http://{address}/events")
}

#[test]
fn what_a_hostile_index_says_is_cleaned() {
    let url = hostile_server();
    let folder = folder();
    let obeyed = |character: char| {
        (character.is_control() && character != '\n') || ('\u{202a}'..='\u{202e}').contains(&character)
    };
    for arguments in [
        &["config", "--check"][..],
        &["config", "--check", "--json"],
        &["prune", "--older-than", "1d"],
        &["setup"],
        &["stats"],
        &["hits"],
        &["code", "list"],
        &["export", "--all"],
        &["erase", "--code", "x"],
        &["demo", "--events", "3"],
    ] {
        let output = run(folder.path(), &[arguments, &["-d", &url]].concat());
        let told = errors(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && !told.contains(obeyed),
            "{arguments:?}: {told:?}"
        );
    }
    let served = serve().to(url).start();
    served.get("/pixel.gif");
    let line = served
        .stdout
        .wait_for("the line of the hit", |line| line.contains("failed"));
    assert!(line.contains('a') && !line.contains(obeyed), "{line:?}");
}

/// The lines below `Examples:` in a command's help.
fn examples(help: &str) -> Vec<String> {
    let (_, rest) = help.split_once("Examples:\n").unwrap_or_default();
    let lines = rest.lines().take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// All examples that need neither a network nor a file of the reader's run as they stand.
#[test]
fn the_examples_of_the_help_run() {
    let folder = folder();
    demo(folder.path());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("recipients.csv", "recipient\nann@shop.example\n");
    write("codes.txt", "spring-mail-0008\n");
    write(
        "payload.json",
        r#"{"params": {"path": {}, "querystring": {}, "header": {}}, "context": {}}"#,
    );
    let variables = [
        ("PIXEL_CODE_KEYS", "1:MDEyMzQ1Njc4OWFiY2RlZg"),
        ("PIXEL_PRIVACY_KEY", "a secret of sixteen letters"),
    ];
    let help = succeeded(&run(folder.path(), &["--help"]));
    let commands = help.split("Options:").next().unwrap_or_default().lines();
    let commands = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let mut ran = 0;
    for command in commands {
        let inner: &[&str] = match command {
            "code" => &["new", "list", "check", "revoke", "key"],
            "token" => &["new", "list", "revoke"],
            "opt-outs" => &["list", "add", "remove"],
            _ => &[""],
        };
        for inner in inner {
            let path: Vec<&str> = [command, inner].into_iter().filter(|word| !word.is_empty()).collect();
            let help = succeeded(&run(folder.path(), &[&path[..], &["--help"]].concat()));
            let lines = examples(&help);
            assert!(!lines.is_empty(), "{path:?}: {help}");
            for line in lines {
                let elsewhere = [
                    "http://",
                    "sqs://",
                    "search.example",
                    "/var/lib",
                    "access.ndjson",
                    "--follow",
                    "pixel serve",
                    "log-export",
                ];
                let not_there = ["_AQIDBAUGBwg", "token revoke", "code revoke", "pixel invoke -"];
                if elsewhere.iter().chain(&not_there).any(|part| line.contains(part)) {
                    continue;
                }
                let command = line.replacen("pixel", env!("CARGO_BIN_EXE_pixel"), 1);
                let mut shell = Command::new("sh");
                shell
                    .args(["-f", "-c", &command])
                    .current_dir(folder.path())
                    .env_clear()
                    .envs(variables);
                let output = shell.stdin(Stdio::null()).output().expect("sh starts");
                assert!(output.status.success(), "{line}: {}", errors(&output));
                ran += 1;
            }
        }
    }
    assert!(ran >= 30, "{ran}");
    assert!(Reader::open(&folder.path().join("copy.db")).is_ok());
}
