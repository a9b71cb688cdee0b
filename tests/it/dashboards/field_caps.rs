//! The list of fields in the file says what real servers say of theirs: types, and what can be searched and aggregated.

use std::collections::BTreeSet;

use pixel::setup::dashboards::fields::{mapped_fields, name};
use serde_json::{Value, json};

use super::Index;
use super::events::events;
use crate::support::servers::Server;

#[test]
fn the_list_of_fields_is_that_of_every_server() {
    let servers = [
        Server::OpenSearch2,
        Server::OpenSearch3,
        Server::Elasticsearch6,
        Server::Elasticsearch7,
        Server::Elasticsearch8,
    ];
    std::thread::scope(|scope| {
        for server in servers {
            scope.spawn(move || compare(server));
        }
    });
}

fn compare(server: Server) {
    let Some(index) = Index::new(server, "fields") else {
        return;
    };
    let (_, event) = events(10, 1).next().expect("an event");
    let (status, answer) = index.ask("PUT", "/_doc/1?refresh=true", &event.to_string());
    assert_eq!(status, 201, "{server:?}: {answer}");
    let (status, answer) = index.ask("GET", "/_field_caps?fields=*", "");
    assert_eq!(status, 200, "{server:?}: {answer}");
    let problems = problems(&mapped_fields(), &answer["fields"]);
    assert!(problems.is_empty(), "{server:?}: {problems:#?}");
}

/// What of a list is not what a server says. Every document's own fields may be able to do more there, never less.
fn problems(list: &[Value], caps: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for field in list {
        let name = name(field);
        let found = &caps[&name];
        let of_document = name.starts_with('_');
        if of_document && found.is_null() {
            continue;
        }
        let said = found.as_object().into_iter().flatten().collect::<Vec<_>>();
        let [(kind, abilities)] = said.as_slice() else {
            problems.push(format!("`{name}` is {found}"));
            continue;
        };
        if !field["esTypes"].is_null() && field["esTypes"] != json!([kind]) {
            problems.push(format!("`{name}` is {kind}, not {}", field["esTypes"]));
        }
        for ability in ["searchable", "aggregatable"] {
            let differs = field[ability] != abilities[ability];
            if differs && !(of_document && field[ability] == false) {
                problems.push(format!("`{name}` is {ability}: {}", abilities[ability]));
            }
        }
    }
    let listed: BTreeSet<_> = list.iter().map(name).collect();
    let caps = caps.as_object().into_iter().flatten();
    let others = caps.filter(|(name, said)| {
        let is_object = said.get("object").is_some() || said.get("nested").is_some();
        !is_object && !name.starts_with('_') && !listed.contains(*name)
    });
    problems.extend(others.map(|(name, _)| format!("`{name}` is not listed")));
    problems
}

#[test]
fn a_list_that_differs_is_noticed() {
    let list = mapped_fields();
    let caps = |change: fn(&mut Value)| {
        let mut caps = json!({});
        for field in &list {
            let kind = field["esTypes"][0].as_str().unwrap_or("x");
            caps[name(field)] =
                json!({ kind: {"searchable": field["searchable"], "aggregatable": field["aggregatable"]} });
        }
        change(&mut caps);
        problems(&list, &caps)
    };
    assert_eq!(caps(|_| ()), Vec::<String>::new());
    let changes: [fn(&mut Value); 6] = [
        |caps: &mut Value| caps["pixel.code"] = json!({"text": {"searchable": true, "aggregatable": true}}),
        |caps: &mut Value| caps["pixel.code"]["keyword"]["aggregatable"] = false.into(),
        |caps: &mut Value| caps["client.ip"]["ip"]["searchable"] = false.into(),
        |caps: &mut Value| caps["pixel.code"] = Value::Null,
        |caps: &mut Value| caps["context.new"] = json!({"flattened": {"searchable": true, "aggregatable": true}}),
        |caps: &mut Value| caps["_index"]["_index"]["aggregatable"] = false.into(),
    ];
    for change in changes {
        assert_eq!(caps(change).len(), 1);
    }
}
