//! The checker finds faults: each of these, put into the sound file, must be told.

use serde_json::{Value, json};

use super::check::{inner, problems};
use super::generated;

/// What is wrong, a part of what must be said of it, and how to do it to the objects.
type Mutation = (&'static str, &'static str, fn(&mut Vec<Value>));

fn object<'a>(objects: &'a mut [Value], id: &str) -> &'a mut Value {
    objects
        .iter_mut()
        .find(|object| object["id"] == id)
        .expect("it is there")
}

/// Changes JSON that stands in a text.
fn within(object: &mut Value, pointer: &str, change: impl FnOnce(&mut Value)) {
    let mut value = inner(object, pointer).expect("it is JSON");
    change(&mut value);
    *object.pointer_mut(pointer).expect("it is there") = value.to_string().into();
}

fn state(objects: &mut [Value], id: &str, change: impl FnOnce(&mut Value)) {
    within(object(objects, id), "/attributes/visState", change);
}

fn specification(objects: &mut [Value], id: &str, change: impl FnOnce(&mut Value)) {
    state(objects, id, |state| {
        let text = state["params"]["spec"].as_str().expect("a specification");
        let mut specification = serde_json::from_str(text).expect("it is JSON");
        change(&mut specification);
        state["params"]["spec"] = specification.to_string().into();
    });
}

fn board(objects: &mut [Value], change: impl FnOnce(&mut Value)) {
    within(object(objects, "pixel-overview"), "/attributes/panelsJSON", change);
}

fn query(objects: &mut [Value], id: &str, query: &str) {
    let source = "/attributes/kibanaSavedObjectMeta/searchSourceJSON";
    within(object(objects, id), source, |source| {
        source["query"]["query"] = query.into();
    });
}

fn remove(value: &mut Value, name: &str) {
    value.as_object_mut().expect("an object").remove(name);
}

const PAGES: &str = "pixel-overview-pages";
const NUMBERS: &str = "pixel-overview-numbers";
const EVENTS: &str = "pixel-overview-events";
const HOURS: &str = "pixel-overview-hours";

const MUTATIONS: [Mutation; 50] = [
    ("an empty list of fields", "list of fields", |all| {
        all[0]["attributes"]["fields"] = "[]".into();
    }),
    ("a field too few", "list of fields", |all| {
        within(&mut all[0], "/attributes/fields", |fields| {
            fields.as_array_mut().expect("a list").pop();
        });
    }),
    ("a field without its abilities", "is not whole", |all| {
        within(&mut all[0], "/attributes/fields", |fields| {
            remove(&mut fields[0], "aggregatable");
        });
    }),
    ("a newer version", "another migrationVersion", |all| {
        all[0]["migrationVersion"]["index-pattern"] = "7.11.0".into();
    }),
    ("a version of the new kind", "has the members", |all| {
        all[0]["typeMigrationVersion"] = "8.8.0".into();
    }),
    ("a type of Kibana's own", "not both products", |all| {
        object(all, PAGES)["type"] = "lens".into();
    }),
    ("an underscore in an id", "not of a-z", |all| {
        object(all, PAGES)["id"] = "top_pages".into();
    }),
    ("an object twice", "is there twice", |all| all.push(all[3].clone())),
    ("a title twice", "title is another's", |all| {
        let title = object(all, EVENTS)["attributes"]["title"].clone();
        object(all, PAGES)["attributes"]["title"] = title;
    }),
    ("no title", "has no title", |all| {
        object(all, PAGES)["attributes"]["title"] = "".into();
    }),
    ("two titles", "two titles", |all| {
        object(all, PAGES)["attributes"]["title"] = "Other".into();
    }),
    ("an attribute of Kibana's own", "strict mapping", |all| {
        object(all, "pixel-health")["attributes"]["controlGroupInput"] = json!({});
    }),
    ("an attribute of new OpenSearch Dashboards", "strict mapping", |all| {
        object(all, "pixel-health")["attributes"]["variablesJSON"] = "{}".into();
    }),
    ("no search source", "no attribute `kibanaSavedObjectMeta`", |all| {
        remove(&mut object(all, PAGES)["attributes"], "kibanaSavedObjectMeta");
    }),
    ("a version as text", "number 1", |all| {
        object(all, PAGES)["attributes"]["version"] = "1".into();
    }),
    ("a reference into nowhere", "not in the file", |all| {
        object(all, PAGES)["references"][0]["id"] = "other".into();
    }),
    ("a reference too few", "and uses", |all| {
        object(all, PAGES)["references"] = json!([]);
    }),
    ("a reference of Kibana 8's form", "and uses", |all| {
        object(all, "pixel-health")["references"][0]["name"] = "1:panel_1".into();
    }),
    ("an object that nothing shows", "is used by nothing", |all| {
        let mut copy = object(all, PAGES).clone();
        copy["id"] = "alone".into();
        all.push(copy);
    }),
    ("a dashboard on a dashboard", "no panel", |all| {
        object(all, "pixel-health")["references"][0]["type"] = "dashboard".into();
        object(all, "pixel-health")["references"][0]["id"] = "pixel-overview".into();
    }),
    ("JSON input that is none", "JSON input", |all| {
        state(all, NUMBERS, |it| {
            it["aggs"][1]["params"]["json"] = "{precision_threshold: 3}".into();
        });
    }),
    ("JSON input of one product", "JSON input", |all| {
        let input = json!({"precision_threshold": 3000, "execution_hint": "ordinals"});
        state(all, NUMBERS, |it| {
            it["aggs"][1]["params"]["json"] = input.to_string().into();
        });
    }),
    ("more precision than there is", "precision_threshold", |all| {
        let input = json!({"precision_threshold": 40_001});
        state(all, NUMBERS, |it| {
            it["aggs"][1]["params"]["json"] = input.to_string().into();
        });
    }),
    ("more precision in a Vega panel", "precision_threshold", |all| {
        specification(all, "pixel-campaigns-repeated", |it| {
            let codes = "/data/0/url/body/aggs/known/aggs/codes/aggs/users/cardinality/precision_threshold";
            *it.pointer_mut(codes).expect("it is there") = "40000".into();
        });
    }),
    ("exact counts in very many rows", "more memory", |all| {
        let input = json!({"precision_threshold": 40_000});
        state(all, PAGES, |it| {
            it["aggs"][1]["params"]["json"] = input.to_string().into();
            it["aggs"][3]["params"]["size"] = 250.into();
        });
    }),
    ("a field that is not there", "`url.pth` is not in events", |all| {
        state(all, PAGES, |it| it["aggs"][3]["params"]["field"] = "url.pth".into());
    }),
    (
        "a dynamic mapping's subfield",
        "`url.path.keyword` is not in events",
        |all| {
            state(all, PAGES, |it| {
                it["aggs"][3]["params"]["field"] = "url.path.keyword".into();
            });
        },
    ),
    ("a field that is not indexed", "wrong type", |all| {
        state(all, PAGES, |it| it["aggs"][3]["params"]["field"] = "params".into());
    }),
    ("time steps of a word", "wrong type", |all| {
        state(all, EVENTS, |it| {
            it["aggs"][1]["params"]["field"] = "event.action".into();
        });
    }),
    ("a mean of words", "wrong type", |all| {
        state(all, "pixel-health-numbers", |it| {
            it["aggs"][1]["params"]["field"] = "event.id".into();
        });
    }),
    ("a query of no field", "`visit.clas` is not in events", |all| {
        query(all, EVENTS, "visit.clas: human");
    }),
    ("a query that cannot be read", "cannot be read", |all| {
        query(all, EVENTS, "not (visit.class: human");
    }),
    ("a column that is not there", "is not in events", |all| {
        object(all, "pixel-overview-latest")["attributes"]["columns"][0] = "action".into();
    }),
    ("an empty sort", "no list of pairs", |all| {
        object(all, "pixel-overview-latest")["attributes"]["sort"] = json!([]);
    }),
    ("an order by nothing", "ordered by", |all| {
        state(all, PAGES, |it| it["aggs"][3]["params"]["orderBy"] = "7".into());
    }),
    ("an aggregation's id twice", "texts of their own", |all| {
        state(all, PAGES, |it| it["aggs"][1]["id"] = "1".into());
    }),
    ("an aggregation's id as number", "texts of their own", |all| {
        state(all, PAGES, |it| it["aggs"][1]["id"] = 2.into());
    }),
    ("a role that the type does not take", "takes no such", |all| {
        state(all, PAGES, |it| it["aggs"][3]["schema"] = "segment".into());
    }),
    ("an axis without labels", "has no params/categoryAxes", |all| {
        state(all, EVENTS, |it| remove(&mut it["params"]["categoryAxes"][0], "labels"));
    }),
    ("series for no number", "seriesParams", |all| {
        state(all, EVENTS, |it| {
            it["params"]["seriesParams"][0]["data"]["id"] = "2".into();
        });
    }),
    ("a type of visualization of one product", "not in both", |all| {
        state(all, PAGES, |it| it["type"] = "visualization-visbuilder".into());
    }),
    ("state that is no JSON", "visState is no JSON", |all| {
        object(all, PAGES)["attributes"]["visState"] = "{".into();
    }),
    ("a panel without a version", "no version", |all| {
        board(all, |panels| remove(&mut panels[2], "version"));
    }),
    ("overlapping panels", "overlap", |all| {
        board(all, |panels| panels[3]["gridData"]["x"] = 23.into());
    }),
    ("a hole", "holes", |all| {
        board(all, |panels| panels[3]["gridData"]["w"] = 23.into());
    }),
    ("a panel beyond the grid", "not on the grid", |all| {
        board(all, |panels| panels[3]["gridData"]["w"] = 25.into());
    }),
    ("another colour for a class", "another colour", |all| {
        within(object(all, EVENTS), "/attributes/uiStateJSON", |it| {
            it["vis"]["colors"]["human"] = "#000000".into();
        });
    }),
    ("a query beside the dashboard's", "beside %context%", |all| {
        specification(all, HOURS, |it| {
            it["data"][0]["url"]["body"]["query"] = json!({"match_all": {}});
        });
    }),
    ("steps that new servers refuse", "newer servers refuse", |all| {
        specification(all, "pixel-health-rate", |it| {
            it["data"][0]["url"]["body"]["aggs"]["time"]["date_histogram"]["interval"] = "1m".into();
        });
    }),
    ("a field of no event in Vega", "is not in events", |all| {
        specification(all, HOURS, |it| {
            it["data"][0]["url"]["body"]["aggs"]["people"]["filter"]["bool"]["must_not"][0] =
                json!({"terms": {"class": ["x"]}});
        });
    }),
];

#[test]
fn every_fault_is_found() {
    let sound = generated();
    for (what, expected, mutate) in MUTATIONS {
        let mut objects: Vec<Value> = sound
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line"))
            .collect();
        mutate(&mut objects);
        let lines: Vec<_> = objects.iter().map(Value::to_string).collect();
        let file = lines.join("\n") + "\n";
        assert!(file != sound, "{what}: nothing was changed");
        let found = problems(&file);
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{what}: found only {found:?}"
        );
    }
    assert!(!problems(&format!("{sound}<html>\n")).is_empty(), "a page in the file");
}
