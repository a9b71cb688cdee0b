//! Signatures that a service refuses: credentials that end while events are on their way, and a clock that is off. The
//! service is made up and strict: it lets nobody in by a key that has ended, nor by a time that is not its own.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::destination::faults::hit;
use crate::function::index_role::{blocking, counted, counts, event, events, invoke, numbered, options, set};
use crate::support::lambda_rig::{Rig, RigOptions};
use crate::support::queue::Queue;
use crate::support::serving::pixel;
use crate::support::small_server::{Asked, Reaction, SmallServer};

const EXPIRED: &str = r#"{"message":"The security token included in the request is expired"}"#;

/// As services allow.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// What the service knows.
#[derive(Default)]
struct Service {
    /// How often each id was stored.
    stored: BTreeMap<String, usize>,
    refused: usize,
    /// Requests that were to store something.
    asked: usize,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Service>>);

impl Shared {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn look<T>(&self, look: impl FnOnce(&mut Service) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn refuse(&self) {
        self.look(|service| service.refused += 1);
    }

    /// Stores what was asked for; of many events, or of one.
    fn take(&self, asked: &Asked) -> (u16, Value) {
        if asked.method == "HEAD" {
            return (200, Value::Null);
        }
        self.look(|service| {
            let mut store = |id: &str| {
                let times = service.stored.entry(id.to_owned()).or_default();
                *times += 1;
                if *times == 1 { 201 } else { 409 }
            };
            if asked.path.contains("/_bulk") {
                let lines = asked.body.lines().step_by(2);
                let ids = lines.map(|line| serde_json::from_str::<Value>(line).expect("an action"));
                let items: Vec<_> = ids
                    .map(
                        |action| json!({"create": {"status": store(action["create"]["_id"].as_str().expect("an id"))}}),
                    )
                    .collect();
                (200, json!({"errors": false, "items": items}))
            } else {
                let id = asked.path.split(['/', '?']).nth(3).expect("an id");
                (store(id), json!({"result": "created"}))
            }
        })
    }

    fn ids(&self) -> Vec<String> {
        self.look(|service| {
            assert!(service.stored.values().all(|times| *times == 1), "each once");
            service.stored.keys().cloned().collect()
        })
    }
}

fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    let found = asked.headers.iter().find(|(known, _)| known == name);
    found.map_or("", |(_, value)| value)
}

/// Takes requests by `first` so many times, and by `second` from then on.
fn changing(shared: &Shared, first: &'static str, times: usize, second: &'static str) -> SmallServer {
    let shared = shared.clone();
    SmallServer::start(move |asked| {
        let by = |key: &str| header(asked, "authorization").contains(&format!("Credential={key}/"));
        let ended = shared.look(|service| {
            service.asked += usize::from(asked.method != "HEAD");
            service.asked > times
        });
        if by(if ended { second } else { first }) {
            let (status, body) = shared.take(asked);
            Reaction::json(status, &body)
        } else {
            shared.refuse();
            Reaction::Answer(403, EXPIRED.to_owned())
        }
    })
}

const KEYS: [&str; 2] = ["ASIAFIRSTFIRSTFIRST1", "ASIASECONDSECONDSEC2"];

/// A program that gives the first key and then the second, and notes each time it is asked.
fn credentials_process(folder: &Path) {
    let script = format!(
        r#"#!/bin/sh
echo asked >> "{asked}"
case $(wc -l < "{asked}") in
    1) key={} ;;
    *) key={} ;;
esac
echo '{{"Version":1,"AccessKeyId":"'$key'","SecretAccessKey":"secret","SessionToken":"token-'$key'","Expiration":"2099-01-01T00:00:00Z"}}'
"#,
        KEYS[0],
        KEYS[1],
        asked = folder.join("asked").display()
    );
    let path = folder.join("credentials.sh");
    std::fs::write(&path, script).expect("it can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it can be made a program");
    let config = format!("[default]\ncredential_process = {}\n", path.display());
    std::fs::write(folder.join("config"), config).expect("it can be written");
}

/// The command line asks for other credentials when the service says that these have ended, and only then.
#[test]
fn credentials_that_end_in_the_middle_of_a_replay_are_renewed() {
    const COUNT: usize = 12_000;
    let folder = tempfile::tempdir().expect("a folder");
    credentials_process(folder.path());
    let shared = Shared::new();
    let service = changing(&shared, KEYS[0], 3, KEYS[1]);
    let lines: String = (0..COUNT)
        .map(|number| event(&format!("event-{number}"), number, 20).to_string() + "\n")
        .collect();
    std::fs::write(folder.path().join("events.ndjson"), lines).expect("it can be written");
    let destination = format!("{}/events", service.url());
    let output = pixel(folder.path())
        .args(["replay", "events.ndjson", "--json", "-d", &destination])
        .env("PIXEL_AUTH", "es")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_CONFIG_FILE", folder.path().join("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("none"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .expect("pixel starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&summary["indexed"], &summary["failed"]),
        (&json!(COUNT), &json!(0)),
        "{summary}"
    );
    assert_eq!(set(shared.ids()), numbered("event", COUNT));
    assert!(shared.look(|service| service.refused) > 0, "the first key has ended");
    let asked = std::fs::read_to_string(folder.path().join("asked")).expect("it was asked");
    assert_eq!(asked.lines().count(), 2, "the program is asked once for each key");
}

fn signed(destination: &str, key: &str) -> RigOptions {
    options(destination)
        .env("PIXEL_AUTH", "es")
        .env("AWS_ACCESS_KEY_ID", key)
}

/// Lambda never changes the credentials of a sandbox. What it could not store goes back to the queue, at once, and the next
/// sandbox has credentials of its own.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_sandbox_that_end_leave_the_rest_to_the_next() {
    const COUNT: usize = 10_000;
    let shared = Shared::new();
    let service = changing(&shared, KEYS[0], 1, KEYS[1]);
    let destination = format!("{}/events", service.url());
    let messages = events(COUNT, 60);
    let first = Rig::start(signed(&destination, KEYS[0])).await;
    // Else it would be the one request that the first key is good for.
    let began = std::time::Instant::now();
    let left = invoke(&first, &messages).await;
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "it is not tried again and again"
    );
    let returned = counts(&first);
    assert_eq!(returned.values().sum::<u64>(), COUNT as u64, "{returned:?}");
    assert_eq!(returned.get("Returned"), Some(&(left.len() as u64)), "{returned:?}");
    assert!(!left.is_empty() && left.len() <= COUNT);
    let stored = set(shared.ids());
    let acknowledged = messages.iter().filter(|(id, _)| !left.contains(id));
    assert!(
        acknowledged
            .clone()
            .all(|(id, _)| stored.contains(&id.replace("message", "event")))
    );
    drop(first);

    let second = Rig::start(signed(&destination, KEYS[1])).await;
    let rest: Vec<_> = messages.into_iter().filter(|(id, _)| left.contains(id)).collect();
    assert_eq!(invoke(&second, &rest).await, set::<&str>([]));
    assert_eq!(counts(&second), counted([("Indexed", rest.len() as u64)]));
    assert_eq!(set(shared.ids()), numbered("event", COUNT));
}

/// A service whose clock is ahead of ours by so much, and which may say so.
fn ahead(shared: &Shared, ahead: TimeDelta, tells: bool) -> SmallServer {
    let shared = shared.clone();
    SmallServer::start(move |asked| {
        let now = Utc::now() + ahead;
        let signed = NaiveDateTime::parse_from_str(header(asked, "x-amz-date"), "%Y%m%dT%H%M%SZ");
        let signed = signed.map_or(DateTime::UNIX_EPOCH, |time| time.and_utc());
        let (status, body) = if (signed - now).abs() <= TOLERANCE {
            let (status, body) = shared.take(asked);
            (status, body.to_string())
        } else {
            shared.refuse();
            let form = |time: DateTime<Utc>| time.format("%Y%m%dT%H%M%SZ");
            let words = if signed < now {
                format!(
                    "Signature expired: {} is now earlier than {}",
                    form(signed),
                    form(now - TOLERANCE)
                )
            } else {
                format!(
                    "Signature not yet current: {} is still later than {}",
                    form(signed),
                    form(now + TOLERANCE)
                )
            };
            (403, json!({ "message": words }).to_string())
        };
        if tells {
            Reaction::Dated(status, body, now.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
        } else {
            Reaction::Answer(status, body)
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_corrected_by_what_the_service_says() {
    for off in [TimeDelta::hours(1), TimeDelta::days(-400)] {
        let shared = Shared::new();
        let service = ahead(&shared, off, true);
        let destination = format!("{}/events", service.url());
        let index = Rig::start(signed(&destination, KEYS[0])).await;
        for batch in 0..3 {
            let messages: Vec<_> = events(20, 5)
                .into_iter()
                .map(|(id, body)| (id, body.replace("event-", &format!("event-{batch}-"))))
                .collect();
            assert_eq!(invoke(&index, &messages).await, set::<&str>([]), "{off}");
            assert_eq!(counts(&index), counted([("Indexed", 20)]), "{off}");
        }
        // Learnt once: by the connection that is made beforehand, or else by the first batch.
        assert!(shared.look(|service| service.refused) <= 2, "{off}");
        let line = index
            .log_lines()
            .into_iter()
            .rfind(|line| line.contains("\"batch\""))
            .expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let told = line["clock_offset_seconds"].as_i64().expect("it is told");
        assert!((told - off.num_seconds()).abs() < 30, "{line}");

        let capture = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
            .env("PIXEL_DESTINATION", &destination)
            .env("PIXEL_AUTH", "es")
            .env("PIXEL_REPLY", "after-indexing");
        let capture = Rig::start(capture).await;
        capture.invoke(hit(7)).await;
        let line = capture.wait_for_log("the hit", |line| line.contains("\"hit\"")).await;
        assert!(line.contains("\"outcome\":\"indexed\""), "{line}");
        assert_eq!(shared.ids().len(), 61, "{off}");
    }
}

/// Where nobody says what time it is, nothing is lost: it goes to the fallback, or back to the queue, with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_nobody_corrects_loses_nothing() {
    let shared = Shared::new();
    let service = ahead(&shared, TimeDelta::hours(1), false);
    let destination = format!("{}/events", service.url());
    let index = Rig::start(signed(&destination, KEYS[0])).await;
    assert_eq!(invoke(&index, &events(20, 5)).await, numbered("message", 20));
    assert_eq!(counts(&index), counted([("Returned", 20)]));
    let log = index.log_lines().join("\n");
    assert!(log.contains("Signature expired"), "{log}");

    let queue = blocking(|| Queue::new("clock")).await;
    let capture = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
        .env("PIXEL_DESTINATION", &destination)
        .env("PIXEL_AUTH", "es")
        .env("PIXEL_FALLBACK", queue.destination());
    let capture = Rig::start(capture).await;
    capture.invoke(hit(7)).await;
    capture
        .wait_for_log("the hit", |line| line.contains("\"fallback\""))
        .await;
    let kept = blocking(move || queue.take_all(1)).await;
    assert!(kept[0].contains("Signature expired"), "{}", kept[0]);
    assert!(shared.ids().is_empty());
}
