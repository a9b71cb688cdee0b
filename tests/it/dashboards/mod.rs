//! The dashboards: that the file is what the source makes, that both products can read it, and that every panel shows what
//! the events say, on real servers.

mod check;
mod count;
mod events;
mod field_caps;
mod file;
mod import;
mod kql;
mod mutations;
mod pictures;
mod search;
mod stack;
mod stub;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use pixel::cli::saved_objects::{INDEX_PATTERN, ndjson, objects};
use pixel::client::http::{Deliverer, http_client};
use pixel::config::Timing;
use pixel::destination::Destination;
use pixel::hit::code::Signature;
use pixel::hit::enrich::classify::Class;
use pixel::hit::enrich::referrer::Medium;
use pixel::hit::enrich::user_agent::Device;
use pixel::hit::request::Ingress;
use pixel::setup::plan::Plan;
use pixel::setup::run;
use serde_json::{Value, json};

use crate::support::matrix;
use crate::support::servers::{self, Running, Server};
use check::inner;
use events::{Stored, events, now};
use file::File;
use search::Range;

pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kibana/pixel.ndjson");

fn generated() -> String {
    ndjson(INDEX_PATTERN).expect("the source is sound")
}

#[test]
fn the_file_is_what_the_source_makes() {
    let file = fs::read_to_string(FILE).expect("the file is there");
    assert!(file == generated(), "run `pixel dashboards > kibana/pixel.ndjson`");
}

#[test]
fn the_file_has_no_problems() {
    let problems = check::problems(&generated());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_program_prints_them_for_an_index_of_any_name() {
    for name in ["events*", "hits-%", "a\"b\\c"] {
        let output = Command::new(env!("CARGO_BIN_EXE_pixel"))
            .args(["dashboards", "--index-pattern", name])
            .output()
            .expect("the program runs");
        let printed = String::from_utf8(output.stdout).expect("it prints text");
        assert_eq!(printed, ndjson(name).expect("the source is sound"), "{name}");
        assert!(!printed.contains(INDEX_PATTERN) || name == INDEX_PATTERN, "{name}");
        let named = objects(name).expect("the source is sound");
        assert_eq!(named[0]["attributes"]["title"], name);
        let specifications = named.iter().filter_map(specification);
        assert!(
            specifications
                .map(|it| it["data"][0]["url"]["index"].clone())
                .all(|index| index == name)
        );
    }
}

/// The function has the file, the command line the source.
#[test]
fn the_function_imports_what_the_program_prints() {
    for name in ["events", "hits-2026.of_me", "e"] {
        let made = objects(&format!("{name}*")).expect("the source is sound");
        assert_eq!(pixel::setup::dashboards::objects(name), Ok(made), "{name}");
    }
}

fn specification(object: &Value) -> Option<Value> {
    let state = inner(object, "/attributes/visState").filter(|state| state["type"] == "vega")?;
    Some(serde_json::from_str(state["params"]["spec"].as_str()?).expect("it has been checked"))
}

/// Okabe and Ito's, which the colour-blind tell apart, and a grey.
const COLOURS: [&str; 9] = [
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
];

#[test]
fn every_value_of_a_closed_set_has_a_colour_of_its_own() {
    let sets = [
        ("visit.class", Class::ALL.map(Class::name).to_vec()),
        ("pixel.signature", Signature::ALL.map(Signature::name).to_vec()),
        ("referrer.medium", Medium::ALL.map(Medium::name).to_vec()),
        ("user_agent.device.type", Device::ALL.map(Device::name).to_vec()),
        ("event.ingress", Ingress::ALL.map(Ingress::name).to_vec()),
    ];
    let panels = panels();
    for (field, names) in sets {
        let mut shown = 0;
        for panel in panels.iter().filter(|panel| panel.tells_apart(field)) {
            shown += 1;
            let what = format!("{} of {}", field, panel.object["id"]);
            let state = inner(&panel.object, "/attributes/uiStateJSON").expect("it has been checked");
            let colours = state["vis"]["colors"].as_object().cloned().unwrap_or_default();
            for name in &names {
                assert!(colours.contains_key(*name), "{what}: no colour for {name}");
            }
            let different: BTreeSet<_> = colours.values().filter_map(Value::as_str).collect();
            assert_eq!(different.len(), colours.len(), "{what}: two have the same colour");
            assert!(
                different.iter().all(|colour| COLOURS.contains(colour)),
                "{what}: {different:?}"
            );
        }
        assert!(shown > 0, "no panel tells {field} apart");
    }
}

// Real servers.

/// Elasticsearch 6.8 is not among them: its Kibana knows no object of these versions.
#[test]
fn every_panel_shows_what_the_events_say_on_opensearch_2() {
    prove(Server::OpenSearch2);
}

#[test]
fn every_panel_shows_what_the_events_say_on_opensearch_3() {
    prove(Server::OpenSearch3);
}

#[test]
fn every_panel_shows_what_the_events_say_on_elasticsearch_7() {
    prove(Server::Elasticsearch7);
}

#[test]
fn every_panel_shows_what_the_events_say_on_elasticsearch_8() {
    prove(Server::Elasticsearch8);
}

fn prove(server: Server) {
    let Some(index) = Index::new(server, "panels") else {
        return;
    };
    let empty = File::of(&[]);
    for panel in panels() {
        // Nothing there yet is no error.
        panel.verify(&index, &[], &empty);
    }
    let events: Vec<_> = events(4000, 10).collect();
    index.load(&events);
    let file = File::of(&events);
    let panels = panels();
    let shown = panels.iter().map(|panel| panel.verify(&index, &events, &file));
    let shown: usize = shown.sum();
    assert!(shown > 500, "{server:?}: only {shown} buckets");
}

/// An index of a test, made as `pixel setup` makes it.
pub struct Index {
    running: Running,
    pub name: String,
}

impl Index {
    /// None where there is no such server.
    pub fn new(server: Server, subject: &str) -> Option<Self> {
        if !matrix::has(server, &format!("dashboards: {subject}")) {
            return None;
        }
        let index = Self {
            running: servers::start(server),
            name: format!("events-dashboards-{subject}-{}p", std::process::id()),
        };
        index.set_up();
        Some(index)
    }

    fn set_up(&self) {
        let url = self.url();
        let Ok(Destination::OpenSearch(target)) = Destination::parse(&url, None, None) else {
            panic!("{url} is an index");
        };
        let timing = Timing::default();
        let http = http_client(self.running.ca_file.as_deref(), &timing).expect("a client");
        let plan = Plan::new(&target.index, None, None).expect("a plan");
        let deliverer = Deliverer::new(http, target, timing, None);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime
            .block_on(run::run(&deliverer, &plan, true))
            .expect("it is set up");
    }

    pub fn url(&self) -> String {
        format!("{}/{}", self.running.url, self.name)
    }

    pub fn load(&self, events: &[Stored]) {
        for part in events.chunks(500) {
            let lines = part
                .iter()
                .map(|(id, document)| format!("{}\n{document}\n", json!({"index": {"_id": id}})));
            let (status, answer) = self.ask("POST", "/_bulk?refresh=true", &lines.collect::<String>());
            assert!(status == 200 && answer["errors"] == false, "{status} {answer}");
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, answer) = servers::request(&self.running, method, &format!("/{}{path}", self.name), Some(body));
        (status, serde_json::from_str(&answer).unwrap_or(Value::Null))
    }

    /// A search as the products send it, which must succeed on every shard.
    pub fn search(&self, body: &Value) -> Value {
        self.search_elsewhere("", body)
    }

    /// The same in the indices whose names go on like this.
    pub fn search_elsewhere(&self, more: &str, body: &Value) -> Value {
        let path = format!("/{}{more}/_search?ignore_unavailable=true", self.name);
        let (status, answer) = servers::request(&self.running, "POST", &path, Some(&body.to_string()));
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let whole = status == 200 && answer["_shards"]["failed"] == 0 && answer["timed_out"] == false;
        assert!(whole, "{body}\n{status} {answer}");
        answer
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // A server that is gone is the test's to tell; a second panic would end all tests.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.ask("DELETE", "", "");
            let template = format!("/_index_template/pixel-{}", self.name);
            servers::request(&self.running, "DELETE", &template, None)
        }));
    }
}

/// A panel on its dashboard.
pub struct Panel {
    pub object: Value,
    pub dashboard: Value,
    /// Its place: x, y, width, height.
    pub place: Value,
}

/// All panels of all dashboards, in their order.
pub fn panels() -> Vec<Panel> {
    let objects = objects(INDEX_PATTERN).expect("the source is sound");
    let dashboards = objects.iter().filter(|object| object["type"] == "dashboard");
    let of_dashboard = |dashboard: &Value| {
        let places = inner(dashboard, "/attributes/panelsJSON").expect("it has been checked");
        let places = places.as_array().cloned().unwrap_or_default();
        let references = dashboard["references"].as_array().cloned().unwrap_or_default();
        let referred = references.into_iter().zip(places);
        let panel = |(reference, place): (Value, Value)| Panel {
            object: objects
                .iter()
                .find(|object| object["type"] == reference["type"] && object["id"] == reference["id"])
                .expect("it has been checked")
                .clone(),
            dashboard: dashboard.clone(),
            place: place["gridData"].clone(),
        };
        referred.map(panel).collect::<Vec<_>>()
    };
    dashboards.flat_map(of_dashboard).collect()
}

impl Panel {
    pub fn range(&self) -> Range {
        Range::since(
            self.dashboard["attributes"]["timeFrom"]
                .as_str()
                .expect("it has been checked"),
            now(),
        )
    }

    /// The kind of visualization, or `search`.
    pub fn kind(&self) -> String {
        let state = inner(&self.object, "/attributes/visState");
        state.map_or("search".to_owned(), |state| {
            state["type"].as_str().unwrap_or_default().to_owned()
        })
    }

    /// Whether its slices or series are this field's values.
    fn tells_apart(&self, field: &str) -> bool {
        let state = inner(&self.object, "/attributes/visState").unwrap_or_default();
        let schema = if state["type"] == "pie" { "segment" } else { "group" };
        let mut aggs = state["aggs"].as_array().into_iter().flatten();
        aggs.any(|agg| agg["schema"] == schema && agg["params"]["field"] == field)
    }

    /// The answer to the panel's search; none for a text.
    pub fn answer(&self, index: &Index) -> Option<Value> {
        let body = match self.kind().as_str() {
            "markdown" => return None,
            "search" => search::list(&self.object, self.range()),
            "vega" => search::vega(&specification(&self.object)?["data"][0]["url"], self.range()),
            _ => search::visualization(&self.object, self.range()),
        };
        Some(index.search(&body))
    }

    /// Holds the panel's answer against the events, and against the same in a file, and says how many buckets it had.
    fn verify(&self, index: &Index, events: &[Stored], file: &File) -> usize {
        let what = format!("{} on {}", self.object["id"], index.running.url);
        let Some(answer) = self.answer(index) else {
            return 0;
        };
        let totals = file.verify(&self.object, self.range(), &answer);
        totals.unwrap_or_else(|problem| panic!("{what}: {problem}\n{answer}"));
        let shown = match self.kind().as_str() {
            "search" => Ok(count::meant(&self.object, events, self.range()).len()).and_then(|meant| {
                if answer["hits"]["total"]["value"] == meant {
                    Ok(meant)
                } else {
                    Err(format!("{meant} events are meant"))
                }
            }),
            "vega" => vega(&self.object, events, self.range(), &answer),
            _ => count::verify(&self.object, events, self.range(), &answer),
        };
        let shown = shown.unwrap_or_else(|problem| panic!("{what}: {problem}\n{answer}"));
        assert!(
            shown > 0 || events.is_empty(),
            "{what}: the events have nothing for it: {answer}"
        );
        shown
    }
}

/// Those of the fifteen most frequent codes; of equally frequent ones those whose names come first.
fn of_frequent_codes(events: Vec<&Value>) -> Vec<&Value> {
    let mut codes: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in events {
        let code = event["pixel"]["code"].as_str().expect("it has one");
        codes.entry(code).or_default().push(event);
    }
    let mut codes: Vec<_> = codes.into_values().collect();
    codes.sort_by_key(|events| Reverse(events.len()));
    codes.into_iter().take(15).flatten().collect()
}

/// Holds what a Vega panel was answered against the events.
fn vega(object: &Value, events: &[Stored], range: Range, answer: &Value) -> Result<usize, String> {
    let people = "not visit.class: (automation or prefetch)";
    let known = format!("event.action: open and user.id: * and pixel.code: * and {people}");
    let (query, pointer) = match object["id"].as_str().unwrap_or_default() {
        "pixel-overview-hours" => (people, "/people/hours/buckets"),
        "pixel-campaigns-repeated" => (known.as_str(), "/known/codes/buckets"),
        "pixel-health-rate" | "pixel-health-delay" => ("", "/time/buckets"),
        other => return Err(format!("{other} is not counted here")),
    };
    let query = kql::parse(query)?;
    let mut meant: Vec<_> = count::meant(object, events, range)
        .into_iter()
        .filter(|event| query.holds(event))
        .collect();
    if object["id"] == "pixel-campaigns-repeated" {
        meant = of_frequent_codes(meant);
    }
    let buckets = answer["aggregations"]
        .pointer(pointer)
        .and_then(Value::as_array)
        .ok_or("no buckets")?;
    let sum = |number: &dyn Fn(&Value) -> f64| buckets.iter().map(number).sum::<f64>();
    let count = |bucket: &Value| bucket["doc_count"].as_f64().unwrap_or_default();
    let expect = |name: &str, got: f64, expected: f64| {
        if (got - expected).abs() < 0.5 {
            Ok(())
        } else {
            Err(format!("{name}: {got}, expected {expected}"))
        }
    };
    let number = |number: usize| f64::from(u32::try_from(number).expect("few events"));
    expect("events", sum(&count), number(meant.len()))?;
    match object["id"].as_str().unwrap_or_default() {
        "pixel-campaigns-repeated" => {
            let pairs: BTreeSet<_> = meant
                .iter()
                .map(|event| (event["pixel"]["code"].to_string(), event["user"]["id"].to_string()))
                .collect();
            expect(
                "first opens",
                sum(&|bucket| bucket["users"]["value"].as_f64().unwrap_or_default()),
                number(pairs.len()),
            )?;
        }
        "pixel-health-delay" => {
            let mean = |bucket: &Value, name: &str| bucket[name]["value"].as_f64().unwrap_or_default();
            let answered = sum(&|bucket| count(bucket) * (mean(bucket, "ingested") - mean(bucket, "requested")));
            let delay = |event: &&Value| {
                let time = |value: &Value| {
                    chrono::DateTime::parse_from_rfc3339(value.as_str().expect("a time")).expect("a time")
                };
                (time(&event["event"]["ingested"]) - time(&event["@timestamp"])).as_seconds_f64() * 1000.0
            };
            expect("delay", answered, meant.iter().map(delay).sum())?;
        }
        _ => {}
    }
    Ok(buckets.len())
}
