//! `pixel setup` where the server puts old indices away by itself.
//!
//! The servers of the matrix have neither Index State Management nor Index Lifecycle Management, so this is a server of the
//! tests' own. It keeps templates, policies and names of indices, and behaves as the two references say:
//!
//! - OpenSearch, "ISM API": `GET _plugins/_ism/policies` lists; `GET …/policies/ID` answers `_id`, `_version`, `_seq_no`,
//!   `_primary_term` and the policy with members of the server's own (`policy_id`, `last_updated_time`, `schema_version`, a
//!   `retry` in each action); `PUT` creates, and of one that is there needs `if_seq_no` and `if_primary_term`, else 409;
//!   `_ism/explain/PATTERN` has a member for each index, with a null `policy_id` where it has no policy, and
//!   `total_managed_indices`; `_ism/add/INDEX` and `_ism/change_policy/INDEX` answer `updated_indices`, `failures` and
//!   `failed_indices`. A policy's `ism_template` works for new indices only, and a changed policy for indices that are
//!   attached anew or told to change.
//! - Elasticsearch, "Index lifecycle management APIs": `GET _ilm/policy/ID` answers by the name, with `version`,
//!   `modified_date` and the policy, in which `min_age` of the first phase and `delete_searchable_snapshot` are added; `PUT`
//!   replaces. An index is attached by its setting `index.lifecycle.name`.
//!
//! It runs no policy, checks no body, and knows no users.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pixel::setup::schema::mappings;
use serde_json::{Map, Value, json};

use crate::destination::index_setup::{failed, pixel, printed, succeeded};
use crate::support::small_server::{Asked, Reaction, SmallServer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ism,
    Ilm,
}

#[derive(Debug)]
struct State {
    kind: Kind,
    /// Each with its sequence number.
    policies: BTreeMap<String, (Value, u64)>,
    templates: BTreeMap<String, Value>,
    /// Each with its policy.
    indices: BTreeMap<String, Option<String>>,
    sequence: u64,
    /// Somebody else writes the policy after it was looked at, so many times.
    rivals: u32,
}

impl State {
    fn react(&mut self, asked: &Asked) -> Reaction {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match (asked.method.as_str(), segments.as_slice()) {
            ("GET", [""]) => self.root(),
            ("GET", ["_cluster", "health"]) => ok(&json!({"status": "green"})),
            ("GET", ["_plugins", "_ism", "policies"]) if self.kind == Kind::Ism => {
                ok(&json!({"policies": [], "total_policies": self.policies.len()}))
            }
            ("GET", ["_ilm", "policy"]) if self.kind == Kind::Ilm => ok(&json!({})),
            (method, ["_plugins", "_ism", "policies", name] | ["_ilm", "policy", name]) => {
                self.policy(method, name, query, &asked.json())
            }
            ("GET", ["_plugins", "_ism", "explain", _]) => self.explain(),
            ("POST", ["_plugins", "_ism", "add", index]) => self.attach(index, &asked.json()["policy_id"]),
            ("POST", ["_plugins", "_ism", "change_policy", _]) => changed(),
            ("PUT", [index, "_settings"]) => self.attach(index, &asked.json()["index.lifecycle.name"]),
            ("GET", [_, "_settings"]) => self.settings(),
            ("GET", [_, "_mapping"]) => {
                let index = |name: &String| (name.clone(), json!({"mappings": mappings()}));
                ok(&Value::Object(self.indices.keys().map(index).collect()))
            }
            ("GET", ["_index_template", name]) => self.templates.get(*name).map_or_else(missing, |template| {
                ok(&json!({"index_templates": [{"name": name, "index_template": template}]}))
            }),
            ("PUT", ["_index_template", name]) => {
                self.templates.insert((*name).to_owned(), asked.json());
                ok(&json!({"acknowledged": true}))
            }
            ("GET", ["_alias", alias]) => {
                let first = format!("{alias}-000001");
                let found = self.indices.contains_key(&first);
                let index = json!({first: {"aliases": {*alias: {"is_write_index": true}}}});
                if found { ok(&index) } else { missing() }
            }
            // The policy is attached to new indices by the server.
            ("PUT", [index]) => {
                let policy = self.policies.keys().next().cloned();
                self.indices.insert((*index).to_owned(), policy);
                ok(&json!({"acknowledged": true}))
            }
            _ => missing(),
        }
    }

    fn root(&self) -> Reaction {
        ok(&match self.kind {
            Kind::Ism => json!({"version": {"number": "2.19.4", "distribution": "opensearch"}}),
            Kind::Ilm => json!({"version": {"number": "8.15.0"}}),
        })
    }

    fn policy(&mut self, method: &str, name: &str, query: &str, body: &Value) -> Reaction {
        let found = self.policies.get(name).cloned();
        if method == "GET" {
            let Some((policy, sequence)) = found else {
                return missing();
            };
            if self.rivals > 0 {
                self.rivals -= 1;
                self.write(name, policy.clone());
            }
            return ok(&self.shown(name, policy, sequence));
        }
        let expected = match (self.kind, found) {
            (Kind::Ism, Some((_, sequence))) => format!("if_seq_no={sequence}&if_primary_term=1"),
            _ => String::new(),
        };
        if query != expected {
            let reason = format!("[{name}]: version conflict, required {query}");
            let error = json!({"type": "version_conflict_engine_exception", "reason": reason});
            return Reaction::json(409, &json!({"error": error, "status": 409}));
        }
        self.write(name, body["policy"].clone());
        ok(&json!({"_id": name, "acknowledged": true}))
    }

    fn write(&mut self, name: &str, policy: Value) {
        self.sequence += 1;
        self.policies.insert(name.to_owned(), (policy, self.sequence));
    }

    /// The policy as the server shows it.
    fn shown(&self, name: &str, mut policy: Value, sequence: u64) -> Value {
        if self.kind == Kind::Ilm {
            if let Some(delete) = policy.pointer_mut("/phases/delete/actions/delete") {
                delete["delete_searchable_snapshot"] = true.into();
            }
            policy["phases"]["hot"]["min_age"] = "0ms".into();
            return json!({name: {"version": sequence, "modified_date": "2026-03-01T00:00:00Z", "policy": policy}});
        }
        policy["policy_id"] = name.into();
        policy["schema_version"] = 21.into();
        policy["last_updated_time"] = 1_772_357_400_123_u64.into();
        policy["error_notification"] = Value::Null;
        for state in policy["states"].as_array_mut().into_iter().flatten() {
            for action in state["actions"].as_array_mut().into_iter().flatten() {
                action["retry"] = json!({"count": 3, "backoff": "exponential", "delay": "1m"});
            }
        }
        json!({"_id": name, "_version": 1, "_seq_no": sequence, "_primary_term": 1, "policy": policy})
    }

    fn explain(&self) -> Reaction {
        let managed = self.indices.values().flatten().count();
        let index = |(name, policy): (&String, &Option<String>)| {
            let shown = json!({"index.plugins.index_state_management.policy_id": policy, "index.opendistro.index_state_management.policy_id": policy});
            (name.clone(), shown)
        };
        let mut shown: Map<_, _> = self.indices.iter().map(index).collect();
        shown.insert("total_managed_indices".to_owned(), managed.into());
        ok(&Value::Object(shown))
    }

    fn settings(&self) -> Reaction {
        let index = |(name, policy): (&String, &Option<String>)| {
            let settings = policy.as_ref().map(|policy| json!({"index.lifecycle.name": policy}));
            (name.clone(), json!({"settings": settings.unwrap_or_else(|| json!({}))}))
        };
        ok(&Value::Object(self.indices.iter().map(index).collect()))
    }

    fn attach(&mut self, index: &str, policy: &Value) -> Reaction {
        let known = policy.as_str().filter(|policy| self.policies.contains_key(*policy));
        match (known, self.indices.get_mut(index)) {
            (Some(policy), Some(attached)) => {
                *attached = Some(policy.to_owned());
                changed()
            }
            _ => missing(),
        }
    }
}

fn ok(body: &Value) -> Reaction {
    Reaction::json(200, body)
}

fn changed() -> Reaction {
    ok(&json!({"updated_indices": 1, "failures": false, "failed_indices": [], "acknowledged": true}))
}

fn missing() -> Reaction {
    Reaction::json(
        404,
        &json!({"error": {"type": "status_exception", "reason": "not found"}, "status": 404}),
    )
}

struct Stub {
    server: SmallServer,
    state: Arc<Mutex<State>>,
}

impl Stub {
    fn start(kind: Kind) -> Self {
        let state = Arc::new(Mutex::new(State {
            kind,
            policies: BTreeMap::new(),
            templates: BTreeMap::new(),
            indices: BTreeMap::new(),
            sequence: 6,
            rivals: 0,
        }));
        let shared = Arc::clone(&state);
        let react = move |asked: &Asked| shared.lock().unwrap_or_else(PoisonError::into_inner).react(asked);
        Self {
            server: SmallServer::start(react),
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `pixel setup` with success: what it says, and what it wrote.
    fn setup(&self, rotation: &str, keep: &str) -> (String, Vec<String>) {
        self.server.forget();
        let url = format!("{}/events", self.server.url());
        let output = pixel(&["setup", "-d", &url, "--rotation", rotation, "--keep", keep]);
        let said = succeeded(&output, &format!("{:?}, {rotation}, {keep}", self.state().kind));
        (said, self.server.writes())
    }

    fn policy(&self) -> Value {
        self.state().policies["pixel-events"].0.clone()
    }
}

/// All requests of setups where indices are there from before, and of one with other days.
pub fn asked_of_state_management() -> Vec<Asked> {
    let stub = Stub::start(Kind::Ism);
    stub.state().indices = BTreeMap::from([("events-2026.01.01".to_owned(), None)]);
    let mut asked = Vec::new();
    for (rotation, keep) in [
        ("daily", "30d"),
        ("daily", "60d"),
        ("rollover", "60d"),
        ("rollover", "90d"),
    ] {
        stub.setup(rotation, keep);
        asked.extend(stub.server.asked());
    }
    asked
}

#[test]
fn a_policy_is_made_once_and_follows_what_is_asked_for() {
    for kind in [Kind::Ism, Kind::Ilm] {
        for (rotation, side) in [
            ("daily", None),
            ("monthly", None),
            ("rollover", Some("PUT /events-000001")),
        ] {
            check_policy(kind, rotation, side);
        }
    }
}

/// Where a policy says after how many days indices are deleted.
fn age(kind: Kind) -> &'static str {
    match kind {
        Kind::Ism => "/states/0/transitions/0/conditions/min_index_age",
        Kind::Ilm => "/phases/delete/min_age",
    }
}

fn check_policy(kind: Kind, rotation: &str, side: Option<&str>) {
    let what = format!("{kind:?}, {rotation}");
    let stub = Stub::start(kind);
    let (said, writes) = stub.setup(rotation, "30d");
    let path = match kind {
        Kind::Ism => "/_plugins/_ism/policies/pixel-events",
        Kind::Ilm => "/_ilm/policy/pixel-events",
    };
    let expected = [
        Some(format!("PUT {path}")),
        Some("PUT /_index_template/pixel-events".to_owned()),
        side.map(Into::into),
    ];
    assert_eq!(
        writes,
        expected.into_iter().flatten().collect::<Vec<_>>(),
        "{what}: {said}"
    );
    assert!(said.contains("created     lifecycle policy"), "{what}: {said}");
    assert_eq!(stub.policy().pointer(age(kind)), Some(&json!("30d")), "{what}");

    let (said, writes) = stub.setup(rotation, "30d");
    assert!(
        said.contains("nothing to write") && writes.is_empty(),
        "{what}: {said}{writes:?}"
    );

    let (said, writes) = stub.setup(rotation, "60d");
    assert!(said.contains("updated     lifecycle policy"), "{what}: {said}");
    let (first, others) = writes.split_first().expect("it writes");
    match kind {
        Kind::Ism => assert_eq!(*first, format!("PUT {path}?if_seq_no=7&if_primary_term=1"), "{what}"),
        Kind::Ilm => assert_eq!(*first, format!("PUT {path}"), "{what}"),
    }
    // Index State Management must be told for the index that is there already.
    let told = kind == Kind::Ism && side.is_some();
    let expected: &[&str] = if told {
        &["POST /_plugins/_ism/change_policy/events-000001"]
    } else {
        &[]
    };
    assert_eq!(others, expected, "{what}");
    assert_eq!(stub.policy().pointer(age(kind)), Some(&json!("60d")), "{what}");

    let (said, writes) = stub.setup(rotation, "60d");
    assert!(
        said.contains("nothing to write") && writes.is_empty(),
        "{what}: {said}{writes:?}"
    );
}

#[test]
fn indices_from_before_the_policy_come_under_it() {
    for kind in [Kind::Ism, Kind::Ilm] {
        let stub = Stub::start(kind);
        stub.state().indices = BTreeMap::from([
            ("events-2026.01.01".to_owned(), None),
            ("events-2026.01.02".to_owned(), Some("another".to_owned())),
        ]);
        let (said, writes) = stub.setup("daily", "30d");
        assert!(
            said.contains("lifecycle of 1 earlier indices"),
            "{kind:?}: {said}{writes:?}"
        );
        let attached = stub.state().indices.clone();
        let attached: Vec<_> = attached.values().map(|policy| policy.as_deref()).collect();
        assert_eq!(
            attached,
            [Some("pixel-events"), Some("another")],
            "{kind:?}: {writes:?}"
        );
        let (said, writes) = stub.setup("daily", "30d");
        assert!(
            said.contains("nothing to write") && writes.is_empty(),
            "{kind:?}: {said}{writes:?}"
        );
    }
}

#[test]
fn a_rival_s_change_is_not_overwritten_unseen() {
    let stub = Stub::start(Kind::Ism);
    stub.setup("daily", "30d");
    stub.state().rivals = 1;
    let url = format!("{}/events", stub.server.url());
    let output = pixel(&["setup", "-d", &url, "--rotation", "daily", "--keep", "60d"]);
    failed(&output, &["status 409", "version_conflict"], "stale");
    let (said, _) = stub.setup("daily", "60d");
    assert!(said.contains("updated     lifecycle policy"), "{said}");
}

/// What is printed for people who apply it themselves has the lifecycle that the server has.
#[test]
fn what_is_printed_fits_the_server() {
    for (kind, path) in [
        (Kind::Ism, "/_plugins/_ism/policies/pixel-events"),
        (Kind::Ilm, "/_ilm/policy/pixel-events"),
    ] {
        let stub = Stub::start(kind);
        let url = format!("{}/events", stub.server.url());
        let output = pixel(&["setup", "-d", &url, "--rotation", "rollover", "--print"]);
        succeeded(&output, path);
        let requests: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        assert_eq!(requests[0]["path"], path);
        assert_eq!(stub.server.writes(), Vec::<String>::new());
    }
    let nowhere = pixel(&["setup", "-d", "http://127.0.0.1:1/events", "--print"]);
    let said = printed(&nowhere);
    assert!(
        nowhere.status.success() && said.contains("printing for OpenSearch 3"),
        "{said}"
    );
}
