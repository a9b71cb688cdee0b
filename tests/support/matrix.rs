//! Which servers the tests run on, and what a test needs of one.
//!
//! Without the variable `TEST_SERVERS`, all that this machine can start; what it cannot is said in one line each. With a list
//! of [`NAMES`], as in `TEST_SERVERS=opensearch-2,elasticsearch-6`, exactly those, and with `all` every one: then one that
//! cannot be started fails the tests.

use std::env;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use super::servers::{self, Running, Server};
use super::serving;

/// The names in `TEST_SERVERS`.
pub const NAMES: [(&str, Server); Server::ALL.len()] = [
    ("opensearch-2", Server::OpenSearch2),
    ("opensearch-3", Server::OpenSearch3),
    ("opensearch-2-secured", Server::OpenSearch2Secured),
    ("elasticsearch-6", Server::Elasticsearch6),
    ("elasticsearch-7", Server::Elasticsearch7),
    ("elasticsearch-8", Server::Elasticsearch8),
    ("elasticsearch-8-secured", Server::Elasticsearch8Secured),
];

/// A server that is busy with other tests is slow, and not down.
pub const PATIENT: [(&str, &str); 3] = [
    ("PIXEL_CONNECT_TIMEOUT_MS", "20000"),
    ("PIXEL_ATTEMPT_TIMEOUT_MS", "20000"),
    ("PIXEL_BUDGET_MS", "25000"),
];

/// So many servers are tested at the same time.
const AT_ONCE: usize = 3;

/// Finds out once which servers are tested.
fn chosen() -> &'static [(&'static str, Server)] {
    static CHOSEN: OnceLock<Vec<(&str, Server)>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let asked = env::var("TEST_SERVERS").unwrap_or_default();
        let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        let asked: Vec<_> = match asked.trim() {
            "" => Vec::new(),
            "all" => known.clone(),
            list => list.split(',').map(str::trim).collect(),
        };
        for name in &asked {
            assert!(
                known.contains(name),
                "TEST_SERVERS: `{name}` is none of {known:?}, nor `all`"
            );
        }
        let mut chosen = Vec::new();
        for (name, server) in NAMES {
            if !asked.is_empty() && !asked.contains(&name) {
                continue;
            }
            match servers::runnable(server) {
                Ok(()) => chosen.push((name, server)),
                // Not by `eprintln`, which is not shown for tests that pass.
                Err(why) if asked.is_empty() => {
                    let _ = writeln!(std::io::stderr(), "not tested on {name}: {why}");
                }
                Err(why) => panic!("{name} cannot be tested: {why}"),
            }
        }
        assert!(!chosen.is_empty(), "this machine can start none of {known:?}");
        chosen
    })
}

/// Checks something on every server, on a few at the same time.
pub fn each(check: impl Fn(&Subject) + Sync) {
    let (chosen, next, failed) = (chosen(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, server)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| check(&Subject::start(name, *server))));
                    if let Err(panic) = outcome {
                        let said = panic.downcast_ref::<String>().cloned();
                        let failure = format!("{name}: {}", said.unwrap_or_else(|| "a panic".to_owned()));
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "failed on\n{}", failed.join("\n"));
}

/// One of the servers, when it does not matter which.
pub fn any() -> Subject {
    let (name, server) = chosen()[0];
    Subject::start(name, server)
}

/// The same, not started.
pub fn any_server() -> Server {
    chosen()[0].1
}

/// Whether a test that needs this very server can run; else it is said what is not tested.
pub fn has(server: Server, what: &str) -> bool {
    let there = chosen().iter().any(|(_, chosen)| *chosen == server);
    if !there {
        let name = NAMES.iter().find(|(_, named)| *named == server);
        let name = name.map_or("another server", |(name, _)| name);
        let _ = writeln!(std::io::stderr(), "not tested, for want of {name}: {what}");
    }
    there
}

/// Waits for something from a test that is no asynchronous function.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(future)
}

/// A server under test.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: &'static str,
    pub server: Server,
    pub running: Running,
}

/// Name and password.
pub type User = (String, String);

impl Subject {
    fn start(name: &'static str, server: Server) -> Self {
        let running = servers::start(server);
        Self { name, server, running }
    }

    /// The URL of an index, for one who may do everything.
    pub fn destination(&self, index: &str) -> String {
        self.destination_as(self.running.admin.as_ref(), index)
    }

    /// The URL of an index, with the credentials of somebody or of nobody.
    pub fn destination_as(&self, user: Option<&User>, index: &str) -> String {
        let (scheme, address) = self.running.url.split_once("://").expect("it is a URL");
        let user = user.map(|(name, password)| format!("{name}:{password}@"));
        format!("{scheme}://{}{address}/{index}", user.unwrap_or_default())
    }

    /// What must be set for whoever connects to it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let authority = self.running.ca_file.as_ref();
        let authority = authority.map(|file| ("PIXEL_CA_FILE", file.to_str().expect("a plain path").to_owned()));
        let patient = PATIENT.map(|(name, value)| (name, value.to_owned()));
        patient.into_iter().chain(authority).collect()
    }

    /// Sends a request as the administrator: status and JSON, null where there is none.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, answer) = servers::request(&self.running, method, path, body.map(Value::to_string).as_deref());
        (status, serde_json::from_str(&answer).unwrap_or_default())
    }

    /// Sends a request that must succeed.
    pub fn expect(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!(
            matches!(status, 200 | 201),
            "{}: {method} {path}: {status} {answer}",
            self.name
        );
        answer
    }

    /// Runs the command line to its end.
    pub fn pixel(&self, arguments: &[&str]) -> Output {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut command = serving::pixel(folder.path());
        command.args(arguments).envs(self.variables());
        command.output().expect("pixel starts")
    }

    /// Whether its mappings have types.
    pub fn has_types(&self) -> bool {
        self.server == Server::Elasticsearch6
    }

    /// Whether it can put old indices away by itself, in one of the two ways.
    pub fn has_lifecycle(&self) -> bool {
        ["/_plugins/_ism/policies", "/_ilm/policy", "/_opendistro/_ism/policies"]
            .iter()
            .any(|path| self.ask("GET", path, None).0 == 200)
    }

    pub fn has_data_streams(&self) -> bool {
        self.ask("GET", "/_data_stream/no-such-stream", None).0 == 404
    }

    /// A mapping in the form in which an index is made with it.
    pub fn mappings(&self, properties: &Value) -> Value {
        let mapping = json!({"properties": properties});
        let mapping = if self.has_types() {
            json!({"_doc": mapping})
        } else {
            mapping
        };
        json!({"mappings": mapping})
    }
}

/// A name of one test on one server, for an index and what belongs to it.
#[derive(Debug)]
pub struct Index {
    pub subject: Subject,
    pub name: String,
}

impl Index {
    pub fn new(subject: &Subject, what: &str) -> Self {
        Self {
            subject: subject.clone(),
            // Ends in a letter, so that no other process's name begins with it.
            name: format!("events-{what}-{}p", std::process::id()),
        }
    }

    /// Where to write, with no more permissions than that needs, where the server knows such a user.
    pub fn destination(&self) -> String {
        let running = &self.subject.running;
        self.subject
            .destination_as(running.writer.as_ref().or(running.admin.as_ref()), &self.name)
    }

    /// Sends a request below the index and expects a success.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.subject.expect(method, &format!("/{}{path}", self.name), body)
    }

    /// What a search finds once everything that was stored can be found: ids and sources.
    pub fn search(&self, query: &Value) -> Vec<(String, Value)> {
        self.ask("POST", "/_refresh", None);
        let mut found = self.ask("POST", "/_search?size=1000", Some(&json!({"query": query})));
        let hits = found["hits"]["hits"].as_array_mut().expect("a search has hits");
        let id = |hit: &Value| hit["_id"].as_str().unwrap_or_default().to_owned();
        hits.iter_mut().map(|hit| (id(hit), hit["_source"].take())).collect()
    }

    pub fn all(&self) -> Vec<(String, Value)> {
        self.search(&json!({"match_all": {}}))
    }

    /// The mapping of an index, without the type.
    pub fn mapping_of(&self, index: &str) -> Value {
        let mut mappings = self.subject.expect("GET", &format!("/{index}/_mapping"), None)[index]["mappings"].take();
        if self.subject.has_types() {
            mappings = mappings["_doc"].take();
        }
        mappings
    }

    /// Where the template of this name is.
    pub fn template_path(&self) -> String {
        let kind = if self.subject.has_types() {
            "_template"
        } else {
            "_index_template"
        };
        format!("/{kind}/pixel-{}", self.name)
    }

    /// The template of this name, as the server gives it; none when there is none.
    pub fn template(&self) -> Option<Value> {
        let (status, template) = self.subject.ask("GET", &self.template_path(), None);
        (status == 200).then_some(template)
    }

    /// The indices that belong to this name, sorted, hidden ones too.
    pub fn indices(&self) -> Vec<String> {
        let path = format!(
            "/_cat/indices/{name}*,.ds-{name}-*?format=json&h=index&s=index",
            name = self.name
        );
        let rows = self.subject.expect("GET", &path, None);
        let name = |row: &Value| row["index"].as_str().expect("a name").to_owned();
        rows.as_array().expect("a list").iter().map(name).collect()
    }
}

/// The server may be used by others for long.
impl Drop for Index {
    fn drop(&mut self) {
        // A server that is gone is the test's to tell; a second panic would end all tests.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.remove()));
    }
}

impl Index {
    fn remove(&self) {
        let Self { subject, name } = self;
        let indices = self.indices();
        if indices.iter().any(|index| index.starts_with(".ds-")) {
            subject.ask("DELETE", &format!("/_data_stream/{name}"), None);
        }
        let indices: Vec<_> = indices.into_iter().filter(|index| !index.starts_with('.')).collect();
        let indices = indices.join(",");
        let delete = || subject.ask("DELETE", &format!("/{indices}"), None).0;
        if !indices.is_empty() && delete() != 200 {
            // Blocks do not forbid this.
            let free = json!({"index.blocks.write": null, "index.blocks.read_only": null, "index.blocks.read_only_allow_delete": null});
            subject.ask("PUT", &format!("/{indices}/_settings"), Some(&free));
            delete();
        }
        subject.ask("DELETE", &self.template_path(), None);
    }
}
