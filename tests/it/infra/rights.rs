//! What the functions may do in a domain, held to what they do: the stack's policies by IAM's rules, and the roles that
//! `domain.yaml` writes into the domain by a server with the same security plugin.
//!
//! The functions run as the stack declares them; between them and the server stands a proxy that signs in as their role and
//! writes down what they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};

use crate::destination::index_setup::{pixel, succeeded};
use crate::destination::lifecycle::asked_of_state_management;
use crate::function::index_role::batch;
use crate::infra::templates::resolve;
use crate::support::lambda_rig::{Rig, RigOptions};
use crate::support::matrix;
use crate::support::servers::{self, Running, Server};
use crate::support::serving::wait_for;
use crate::support::small_server::{Asked, Reaction, SmallServer};

const ENDPOINT: &str = "https://index.example.org";
const DOMAIN: &str = "arn:aws:es:eu-central-1:123456789012:domain/search";

/// The main stack with a domain. One index for ever has no age at which it could be deleted.
fn stack(index: &str, rotation: &str, delivery: &str) -> Value {
    let keep = if rotation == "none" { 0 } else { 30 };
    let parameters = [
        format!("Endpoint={ENDPOINT}"),
        "DomainName=search".to_owned(),
        format!("KeepDays={keep}"),
        "Manage=iam".to_owned(),
        format!("Index={index}"),
        format!("Rotation={rotation}"),
        format!("Delivery={delivery}"),
    ];
    let parameters: Vec<_> = parameters.iter().map(String::as_str).collect();
    resolve("pixel.yaml", &parameters)["resources"].take()
}

/// Actions and resources that a role of a stack is allowed in its domain.
fn rights(resources: &Value, role: &str) -> Vec<(String, String)> {
    let texts = |value: &Value| match value {
        Value::Array(values) => values.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        value => value.as_str().map(ToOwned::to_owned).into_iter().collect::<Vec<_>>(),
    };
    let all = resources.as_object().unwrap().values();
    let policies = all.filter(|resource| resource["Properties"]["RoleName"] == format!("<{role}>"));
    let mut rights = Vec::new();
    for statement in policies.flat_map(|policy| policy["Properties"]["PolicyDocument"]["Statement"].as_array().unwrap())
    {
        assert_eq!(statement["Effect"], "Allow");
        for action in texts(&statement["Action"]) {
            let resources = texts(&statement["Resource"]).into_iter();
            rights.extend(
                resources
                    .filter(|resource| resource.starts_with(DOMAIN))
                    .map(|resource| (action.clone(), resource)),
            );
        }
    }
    rights
}

/// IAM's wildcards: `*` is any characters, slashes among them.
fn covers(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    text.strip_prefix(before)
        .is_some_and(|text| (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| covers(rest, text))))
}

/// Action and resource that IAM sees in a request; a query is no part of it.
fn needed(asked: &Asked) -> (String, String) {
    let (first, rest) = asked.method.split_at(1);
    let path = asked.path.split('?').next().unwrap();
    (
        format!("es:ESHttp{first}{}", rest.to_lowercase()),
        format!("{DOMAIN}{path}"),
    )
}

/// Requests that IAM refuses to a role of a stack.
fn refused(rights: &[(String, String)], asked: &[Asked]) -> BTreeSet<(String, String)> {
    let needed = asked.iter().map(needed);
    needed
        .filter(|(action, resource)| {
            !rights
                .iter()
                .any(|(allowed, pattern)| allowed == action && covers(pattern, resource))
        })
        .collect()
}

/// The rights of a role, with which of them were used.
#[derive(Default)]
struct Used(BTreeMap<(String, String), bool>);

impl Used {
    fn note(&mut self, rights: &[(String, String)], asked: &[Asked], index: &str) {
        let needed: Vec<_> = asked.iter().map(needed).collect();
        for (action, pattern) in rights {
            let used = needed
                .iter()
                .any(|(needed, resource)| needed == action && covers(pattern, resource));
            let name = pattern[DOMAIN.len()..].replace(index, "INDEX");
            *self.0.entry((action.clone(), name)).or_default() |= used;
        }
    }

    fn unused(&self) -> Vec<String> {
        let unused = self.0.iter().filter(|(_, used)| !**used);
        unused.map(|((action, path), _)| format!("{action} {path}")).collect()
    }
}

#[test]
fn wildcards_are_iam_s() {
    for (pattern, text, expected) in [
        ("a/events*/_doc*", "a/events-2026.03/_doc/1", true),
        ("a/events*/_bulk", "a/events/_bulk", true),
        ("a/events*/_bulk", "a/events/_doc/_bulk", true),
        ("a/events*/_bulk", "a/_bulk", false),
        ("a/events", "a/events-1", false),
        ("a/", "a/_search", false),
        ("a/*", "a/", true),
    ] {
        assert_eq!(covers(pattern, text), expected, "{pattern} {text}");
    }
}

/// What stands on its own reads its queue with the rights of the other's reader.
#[test]
fn both_readers_of_a_queue_have_the_same_rights() {
    let parameters = |standing: &'static str| {
        let domain = [&format!("Endpoint={ENDPOINT}"), "DomainName=search", standing];
        rights(&resolve("queue.yaml", &domain)["resources"], "IndexRole")
    };
    let with_lists = rights(&stack("events", "monthly", "queue"), "IndexRole");
    assert_eq!(parameters("CodeStanding=index"), with_lists);
    let without: Vec<_> = with_lists
        .into_iter()
        .filter(|(_, path)| !path.ends_with("/_mget"))
        .collect();
    assert_eq!(parameters("CodeStanding=none"), without);
}

#[test]
fn the_setup_may_ask_for_all_of_state_management() {
    let rights = rights(&stack("events", "daily", "direct"), "SetupRole");
    let asked = asked_of_state_management();
    let posts = asked.iter().filter(|asked| asked.method == "POST").count();
    assert!(
        posts >= 2,
        "earlier indices are attached, and told to change: {asked:#?}"
    );
    assert_eq!(refused(&rights, &asked), BTreeSet::new());
}

/// Somebody with one role of the domain, and a proxy that speaks for them.
struct Domain {
    running: Running,
    names: Vec<String>,
}

impl Domain {
    /// Writes the roles that `domain.yaml` declares for indices of these names.
    fn with_roles(running: Running, index: &str) -> Self {
        let parameters = [
            format!("Index={index}"),
            "ReaderRoleArn=arn:aws:iam::123456789012:role/reader".to_owned(),
        ];
        let parameters: Vec<_> = parameters.iter().map(String::as_str).collect();
        let declared = resolve("domain.yaml", &parameters);
        let roles = declared["resources"]["Roles"]["Properties"]["Roles"].as_str().unwrap();
        let roles: Value = serde_json::from_str(roles).unwrap();
        let mut domain = Self { running, names: vec![] };
        for (name, declared) in roles.as_object().unwrap() {
            let (role, password) = domain.user(name);
            let user = json!({"password": password, "opendistro_security_roles": [role]});
            domain.ask("PUT", &format!("/_plugins/_security/api/roles/{role}"), &declared[0]);
            domain.ask("PUT", &format!("/_plugins/_security/api/internalusers/{role}"), &user);
            domain.names.push(role);
        }
        domain
    }

    fn ask(&self, method: &str, path: &str, body: &Value) {
        let body = Some(body).filter(|body| !body.is_null()).map(Value::to_string);
        let (status, answer) = servers::request(&self.running, method, path, body.as_deref());
        assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
    }

    /// Name and password of somebody who has this role.
    fn user(&self, role: &str) -> (String, String) {
        let password = self.running.admin.as_ref().unwrap().1.clone();
        (format!("{role}-{}", std::process::id()), password)
    }

    fn acting_as(&self, role: &str) -> SmallServer {
        let (running, user) = (self.running.clone(), self.user(role));
        let reader = self.user("pixel_dashboards");
        SmallServer::start(move |asked| {
            if let Some(path) = asked.path.strip_prefix("/_dashboards/api/") {
                let (status, body) = dashboards(&running, &reader, path, asked);
                return Reaction::Answer(status, body);
            }
            let body = Some(asked.body.as_str()).filter(|body| !body.is_empty());
            let (status, body) = servers::request_as(&running, Some(&user), &asked.method, &asked.path, body);
            Reaction::Answer(status, body)
        })
    }
}

/// The index in which this stands for OpenSearch Dashboards; its name is one of those that the program chooses.
fn objects_index() -> String {
    format!("/.kibana_rights-{}p", std::process::id())
}

/// What OpenSearch Dashboards does with a request, in the name of who sent it: single objects are documents, an import is
/// `_bulk` (`src/core/server/saved_objects/service/lib/repository.ts`).
fn dashboards(running: &Running, user: &(String, String), path: &str, asked: &Asked) -> (u16, String) {
    let ask = |method: &str, path: &str, body: Option<&str>| {
        servers::request_as(running, Some(user), method, &format!("{}{path}", objects_index()), body)
    };
    if path == "status" {
        return (200, json!({"version": {"number": "2.19.4"}}).to_string());
    }
    if path.starts_with("saved_objects/_import") {
        let objects: Vec<Value> = asked
            .body
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let lines = objects.iter().map(|object| {
            let id = format!("{}:{}", object["type"], object["id"]).replace('"', "");
            let document = json!({"kept": object.to_string()});
            format!("{}\n{document}\n", json!({"index": {"_id": id}}))
        });
        let (status, answer) = ask("POST", "/_bulk?refresh=true", Some(&lines.collect::<String>()));
        let written: Value = serde_json::from_str(&answer).unwrap_or_default();
        assert!(status == 200 && written["errors"] == false, "{status} {answer}");
        return (200, json!({"success": true, "successCount": objects.len()}).to_string());
    }
    if path.starts_with("v1/configuration/account") {
        let tenants = json!({"data": {"user_name": user.0, "tenants": {"global_tenant": true}}});
        return (200, tenants.to_string());
    }
    if path.starts_with("index_patterns/") {
        let pattern = path
            .split("pattern=")
            .nth(1)
            .and_then(|rest| rest.split('&').next())
            .unwrap_or_default();
        let fields = format!("/{pattern}/_field_caps?fields=*");
        let (status, answer) = servers::request_as(running, Some(user), "GET", &fields, None);
        assert!(matches!(status, 200 | 404), "{pattern}: {status} {answer}");
        return (
            404,
            json!({"statusCode": 404, "message": "No indices match"}).to_string(),
        );
    }
    let object = path.trim_start_matches("saved_objects/").replace('/', ":");
    let (status, answer) = ask("GET", &format!("/_doc/{object}"), None);
    let found: Value = serde_json::from_str(&answer).unwrap_or_default();
    match found["_source"]["kept"].as_str() {
        Some(kept) => (200, kept.to_owned()),
        None if status == 404 => (404, json!({"statusCode": 404, "message": "Not found"}).to_string()),
        None => (status, answer),
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = servers::request(&self.running, "DELETE", &objects_index(), None);
            for kind in ["internalusers", "roles"] {
                let path = format!("/_plugins/_security/api/{kind}/{name}");
                let _ = servers::request(&self.running, "DELETE", &path, None);
            }
        }
    }
}

/// A function as the stack declares it, with the proxy for its index.
async fn function(resources: &Value, name: &str, index: &str) -> Rig {
    let declared = &resources[name]["Properties"];
    let mut options = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
        .handler(declared["Handler"].as_str().unwrap())
        .timeout(Duration::from_mins(1));
    for (variable, value) in declared["Environment"]["Variables"].as_object().unwrap() {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        // Names of resources stand in angle brackets.
        options = options.env(variable, value.replace(ENDPOINT, index).replace(['<', '>'], ""));
    }
    // What CloudFormation puts where the secret is named.
    let options = options.env("PIXEL_CODE_KEYS", "1:MDEyMzQ1Njc4OWFiY2RlZg");
    let rig = Rig::start(options.env("PIXEL_ATTEMPT_TIMEOUT_MS", "30000")).await;
    assert_eq!(rig.init_error(), None);
    rig
}

async fn succeeds(resources: &Value, name: &str, server: &SmallServer, what: &str) -> Value {
    succeeds_with(resources, name, server, "{}", what).await
}

async fn succeeds_with(resources: &Value, name: &str, server: &SmallServer, payload: &str, what: &str) -> Value {
    let rig = function(resources, name, &server.url()).await;
    let invocation = rig.invoke(payload.to_owned()).await;
    let reply = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| invocation.reply_json()));
    reply.unwrap_or_else(|_| panic!("{what}: {name}: {invocation:#?}"))
}

/// Every kind of question, as the stack's API hands it on for somebody whom IAM has let in.
async fn asks_everything(resources: &Value, server: &SmallServer, what: &str) {
    let rig = function(resources, "ManageFunction", &server.url()).await;
    let new = json!({"code": "spring", "campaign": "spring", "recipient": "ann@shop.example"}).to_string();
    for (method, path, body, status) in [
        ("GET", "status", "", 200),
        ("GET", "stats", "", 200),
        ("GET", "events", "", 200),
        ("POST", "codes", new.as_str(), 201),
        ("POST", "codes", new.as_str(), 409),
        ("GET", "codes", "", 200),
        ("GET", "codes/spring", "", 200),
        ("GET", "info/spring", "", 200),
        ("PATCH", "codes/spring", r#"{"note": "a note"}"#, 200),
        ("DELETE", "codes/spring", "", 200),
        ("GET", "gen-image", "", 200),
    ] {
        let payload = json!({
            "httpMethod": method, "path": format!("/v1/api/{path}"), "resource": "/v1/api/{proxy+}",
            "headers": {"Host": "manage.example"}, "body": body, "isBase64Encoded": false,
            "requestContext": {"requestId": "1", "identity": {"userArn": "arn:aws:iam::123456789012:user/ann"}, "httpMethod": method},
        });
        let reply = rig.invoke(payload.to_string()).await.reply_json();
        assert_eq!(
            reply["statusCode"],
            status,
            "{what}: {method} {path}: {reply}: {:?}",
            rig.log_lines()
        );
        let text = reply["body"].as_str().unwrap_or_default();
        let url = serde_json::from_str::<Value>(text).unwrap_or_default()["image_url"].take();
        let url = url.as_str().unwrap_or("https://Api.execute-api");
        assert!(
            url.starts_with("https://Api.execute-api"),
            "{what}: {method} {path}: {text}"
        );
    }
    // The recipient of a mail, whom nobody has let in.
    for (method, query, status) in [
        ("GET", json!({}), 200),
        ("POST", json!({}), 303),
        ("POST", json!({"in": "1"}), 303),
        ("HEAD", json!({}), 200),
    ] {
        let payload = json!({
            "httpMethod": method, "path": "/opt-out/spring", "resource": "/opt-out/{code}", "queryStringParameters": query,
            "headers": {"Host": "manage.example", "Origin": "https://manage.example"}, "body": null, "isBase64Encoded": false,
            "requestContext": {"requestId": "1", "identity": {"userArn": null}, "httpMethod": method},
        });
        let reply = rig.invoke(payload.to_string()).await.reply_json();
        let said = rig.log_lines();
        assert_eq!(
            reply["statusCode"], status,
            "{what}: {method} /opt-out/spring: {reply}: {said:?}"
        );
    }
}

fn hit(id: &str) -> String {
    let time = Utc::now().timestamp_millis().to_string();
    let context = json!({"extended-request-id": id, "request-time-epoch": time, "source-ip": "203.0.113.9", "http-method": "GET"});
    let params = json!({"path": {"code": "spring"}, "querystring": {"n": "1"}, "header": {}});
    json!({"body-json": {}, "params": params, "stage-variables": {}, "context": context}).to_string()
}

/// The setup and the import, the second time with nothing left to do; what was asked for meanwhile.
async fn sets_up_twice(domain: &Domain, resources: &Value, rotation: &str) -> Vec<Asked> {
    let keeper = domain.acting_as("pixel_keeper");
    let _ = servers::request(&domain.running, "DELETE", &objects_index(), None);
    domain.ask("PUT", &objects_index(), &json!({"mappings": {"enabled": false}}));
    for (run, dashboards) in [("first", "created"), ("second", "unchanged")] {
        let what = format!("{rotation}, {run} run");
        let mut properties = resources["Setup"]["Properties"].clone();
        properties["DashboardsUrl"] = properties["DashboardsUrl"]
            .as_str()
            .expect("those of the domain")
            .replace(ENDPOINT, &keeper.url())
            .into();
        let payload = json!({"ResourceProperties": properties}).to_string();
        let reply = succeeds_with(resources, "SetupFunction", &keeper, &payload, &what).await;
        assert!(reply["Product"].is_string(), "{what}: {reply}");
        let said = reply["Dashboards"].as_str().unwrap_or_default();
        assert!(said.starts_with(dashboards), "{what}: {reply}");
    }
    keeper.asked()
}

/// Deletes what is old, and says what it asked for.
async fn prunes(domain: &Domain, resources: &Value, rotation: &str, deleted: &[String]) -> Vec<Asked> {
    let pruner = domain.acting_as("pixel_keeper");
    let reply = succeeds(resources, "PruneFunction", &pruner, rotation).await;
    assert_eq!(reply["deleted"], json!(deleted), "{rotation}: {reply}");
    let (allowed, asked) = (rights(resources, "PruneRole"), pruner.asked());
    assert_eq!(refused(&allowed, &asked), BTreeSet::new(), "{rotation}");
    asked
}

/// The reader of the queue has a batch; what was asked for meanwhile.
async fn reads_a_batch(domain: &Domain, resources: &Value, rotation: &str) -> Vec<Asked> {
    let writer = domain.acting_as("pixel_writer");
    let rig = function(resources, "IndexFunction", &writer.url()).await;
    let payload = batch(&[("message-1".to_owned(), hit("hit-2"))]);
    let reply = rig.invoke(payload).await.reply_json();
    assert_eq!(
        reply,
        json!({"batchItemFailures": []}),
        "{rotation}: {:?}",
        rig.log_lines()
    );
    let line = rig.wait_for_log("the batch", |line| line.contains("\"batch\"")).await;
    assert!(!line.contains("code_standing"), "{rotation}: {line}");
    wait_for("the preparation", || {
        let asked = writer.asked();
        asked.iter().any(|asked| asked.method == "HEAD").then_some(())
    });
    writer.asked()
}

/// Nobody has more than their own.
fn nobody_has_more(domain: &Domain, index: &str, rotation: &str) {
    for (role, method, path) in [
        ("pixel_writer", "DELETE", format!("/{index}")),
        ("pixel_writer", "GET", format!("/{index}*/_search")),
        ("pixel_reader", "POST", format!("/{index}/_doc")),
        ("pixel_manager", "POST", format!("/{index}/_doc")),
        ("pixel_manager", "DELETE", format!("/{index}")),
        (
            "pixel_manager",
            "DELETE",
            format!("/pixel-codes-of-{index}/_doc/spring"),
        ),
        ("pixel_manager", "GET", format!("/pixel-opt-outs-of-{index}/_search")),
        ("pixel_manager", "DELETE", format!("/pixel-opt-outs-of-{index}")),
        ("pixel_dashboards", "GET", format!("/{index}*/_search")),
        ("pixel_keeper", "GET", "/_plugins/_security/api/roles".to_owned()),
    ] {
        let body = (method == "POST").then_some("{}");
        let (status, answer) = servers::request_as(&domain.running, Some(&domain.user(role)), method, &path, body);
        assert_eq!(status, 403, "{rotation}: {role}: {method} {path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_may_do_what_they_do() {
    if !matrix::has(Server::OpenSearch2Secured, "the rights of the functions") {
        return;
    }
    let running = servers::start(Server::OpenSearch2Secured);
    let prefix = format!("events-rights-{}p", std::process::id());
    let domain = Domain::with_roles(running, &prefix);
    let mut used = [(); 5].map(|()| Used::default());
    let [setup, capture_rights, index_rights, prune, manage] = &mut used;
    let events = rights(&stack("events", "daily", "direct"), "SetupRole");
    setup.note(&events, &asked_of_state_management(), "events");
    for (rotation, dates, earlier) in [
        ("none", "", None),
        ("daily", "-%Y.%m.%d", Some("-2020.01.01")),
        ("monthly", "-%Y.%m", Some("-2020.01")),
        ("rollover", "", None),
        ("data-stream", "", None),
    ] {
        let index = format!("{prefix}-{rotation}");
        let (direct, queue) = (stack(&index, rotation, "direct"), stack(&index, rotation, "queue"));
        if let Some(earlier) = earlier {
            // Without our fields, so that the setup has to complete it.
            domain.ask("PUT", &format!("/{index}{earlier}"), &json!({}));
        }

        let asked = sets_up_twice(&domain, &direct, rotation).await;
        let allowed = rights(&direct, "SetupRole");
        assert_eq!(refused(&allowed, &asked), BTreeSet::new(), "{rotation}");
        setup.note(&allowed, &asked, &index);

        let writer = domain.acting_as("pixel_writer");
        let capture = function(&direct, "Capture", &writer.url()).await;
        capture.invoke(hit("hit-1")).await;
        let line = capture
            .wait_for_log("the outcome", |line| line.contains("\"outcome\""))
            .await;
        assert!(line.contains("\"indexed\""), "{rotation}: {line}");
        assert!(!line.contains("code_standing"), "{rotation}: {line}");
        let allowed = rights(&direct, "CaptureRole");
        assert_eq!(refused(&allowed, &writer.asked()), BTreeSet::new(), "{rotation}");
        capture_rights.note(&allowed, &writer.asked(), &index);

        let loader = domain.acting_as("pixel_writer");
        let url = format!("{}/{index}{dates}", loader.url());
        let made = pixel(&["demo", "-d", &url, "--events", "50", "--days", "1", "--yes"]);
        succeeded(&made, rotation);
        let batches: Vec<_> = loader
            .asked()
            .into_iter()
            .filter(|asked| asked.path.contains("_bulk"))
            .collect();
        assert!(!batches.is_empty(), "{rotation}");
        let allowed = rights(&queue, "IndexRole");
        assert_eq!(refused(&allowed, &batches), BTreeSet::new(), "{rotation}");

        let asked = reads_a_batch(&domain, &queue, rotation).await;
        assert_eq!(refused(&allowed, &asked), BTreeSet::new(), "{rotation}");
        index_rights.note(&allowed, &asked, &index);
        assert_eq!(
            rights(&queue, "CaptureRole"),
            [],
            "{rotation}: before a queue, the function has no business in the domain"
        );

        if rotation != "none" {
            let deleted: Vec<_> = earlier.iter().map(|earlier| format!("{index}{earlier}")).collect();
            let asked = prunes(&domain, &direct, rotation, &deleted).await;
            prune.note(&rights(&direct, "PruneRole"), &asked, &index);
        }

        domain.ask("POST", &format!("/{index}*/_refresh"), &Value::Null);
        let reader = domain.acting_as("pixel_reader");
        let url = format!("{}/{index}{dates}", reader.url());
        let said = succeeded(&pixel(&["hits", "-d", &url, "--json"]), rotation);
        assert!(!said.is_empty(), "{rotation}");

        let manager = domain.acting_as("pixel_manager");
        asks_everything(&direct, &manager, rotation).await;
        let allowed = rights(&direct, "ManageRole");
        assert_eq!(refused(&allowed, &manager.asked()), BTreeSet::new(), "{rotation}");
        manage.note(&allowed, &manager.asked(), &index);

        nobody_has_more(&domain, &index, rotation);
        let path = if rotation == "data-stream" {
            format!("/_data_stream/{index}")
        } else {
            format!("/{index}*")
        };
        let _ = servers::request(&domain.running, "DELETE", &path, None);
        for beside in ["codes", "opt-outs"] {
            let path = format!("/pixel-{beside}-of-{index}");
            let _ = servers::request(&domain.running, "DELETE", &path, None);
        }
        let template = format!("/_index_template/pixel-{index}");
        let _ = servers::request(&domain.running, "DELETE", &template, None);
    }
    // Nothing is allowed that nobody asks for, except for what only other servers than this one are asked.
    let unused = used.map(|used| used.unused());
    let expected: [&[&str]; 5] = [
        // Old clients' compatibility setting, and Elasticsearch before it had composable templates.
        &[
            "es:ESHttpGet /_nodes/_local",
            "es:ESHttpGet /_template/pixel-INDEX",
            "es:ESHttpPut /_template/pixel-INDEX",
        ],
        &[],
        &[],
        // A stream's first index is not old yet.
        &["es:ESHttpDelete /.ds-INDEX-*"],
        &[],
    ];
    assert_eq!(unused, expected.map(<[_]>::to_vec));
}
