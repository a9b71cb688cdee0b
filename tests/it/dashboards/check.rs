//! What a file must be like for OpenSearch Dashboards 1 to 3 and Kibana 7.10 to 8 to import it and to open what it holds.
//! Neither program can be had as a package, so the rules come from their source: the mappings and migrations of saved
//! objects, the types of visualizations and aggregations, and reports of imports that failed.

use std::collections::{BTreeMap, BTreeSet};

use pixel::hit::event::fields::{FIELDS, Kind};
use serde_json::{Map, Value};

use super::kql;

const VERSIONS: [(&str, &str); 4] = [
    ("index-pattern", "7.6.0"),
    ("visualization", "7.10.0"),
    ("dashboard", "7.9.3"),
    ("search", "7.9.3"),
];

/// What an object of each type must have, and what it may have: `strict` mappings refuse the rest.
const ATTRIBUTES: [(&str, &str, &str); 4] = [
    (
        "index-pattern",
        "title timeFieldName fields",
        "fieldFormatMap sourceFilters",
    ),
    (
        "visualization",
        "title description version visState uiStateJSON kibanaSavedObjectMeta",
        "savedSearchRefName",
    ),
    (
        "dashboard",
        "title description version hits panelsJSON optionsJSON timeRestore kibanaSavedObjectMeta",
        "timeFrom timeTo refreshInterval",
    ),
    (
        "search",
        "title description version hits columns sort kibanaSavedObjectMeta",
        "",
    ),
];

/// The members of `params` that no program completes or reads with care.
const PARAMS: [(&str, &str); 9] = [
    (
        "metric",
        "addTooltip addLegend type metric/style metric/labels metric/colorsRange metric/metricColorMode metric/colorSchema metric/useRanges metric/percentageMode metric/invertColors",
    ),
    (
        "table",
        "perPage showPartialRows showMetricsAtAllLevels showTotal totalFunc percentageCol",
    ),
    (
        "pie",
        "type addTooltip addLegend legendPosition isDonut labels/show labels/values labels/last_level labels/truncate",
    ),
    ("histogram", XY),
    ("line", XY),
    ("area", XY),
    ("horizontal_bar", XY),
    ("markdown", "fontSize openLinksInNewTab markdown"),
    ("vega", "spec"),
];

const XY: &str = "type grid/categoryLines categoryAxes/0/labels/filter categoryAxes/0/scale/type categoryAxes/0/title categoryAxes/0/style valueAxes/0/labels/filter valueAxes/0/scale/mode valueAxes/0/title/text valueAxes/0/name valueAxes/0/style seriesParams/0/data/label seriesParams/0/mode addTooltip addLegend legendPosition times addTimeMarker labels/show thresholdLine/show thresholdLine/value thresholdLine/width thresholdLine/style thresholdLine/color";

/// How many aggregations of each role a visualization takes: metric, segment, group, bucket; `9` is any number.
const ROLES: [(&str, [usize; 4], [usize; 4]); 7] = [
    ("metric", [1, 0, 0, 0], [9, 0, 1, 0]),
    ("table", [1, 0, 0, 0], [9, 0, 0, 9]),
    ("pie", [1, 1, 0, 0], [1, 9, 0, 0]),
    ("histogram", [1, 1, 0, 0], [9, 1, 9, 0]),
    ("line", [1, 1, 0, 0], [9, 1, 9, 0]),
    ("area", [1, 1, 0, 0], [9, 1, 9, 0]),
    ("horizontal_bar", [1, 1, 0, 0], [9, 1, 9, 0]),
];

/// What a panel's unique counts may take of a server's memory, of which small ones have 512 MiB: in bytes.
const MEMORY: u64 = 64 << 20;

const SEARCH_SOURCE: &str = "/attributes/kibanaSavedObjectMeta/searchSourceJSON";

/// Everything that is wrong with a file.
pub fn problems(file: &str) -> Vec<String> {
    let mut problems = Problems::default();
    let mut objects = Vec::new();
    for (number, line) in file.lines().enumerate() {
        match serde_json::from_str::<Value>(line) {
            Ok(object) if object.is_object() => objects.push(object),
            _ => problems.add(&format!("line {}", number + 1), "is no JSON object"),
        }
    }
    for object in &objects {
        problems.envelope(object);
        problems.references(object, &objects);
        match object["type"].as_str() {
            Some("visualization") => problems.visualization(object),
            Some("dashboard") => problems.dashboard(object),
            Some("search") => problems.search(object),
            _ => problems.index_pattern(object),
        }
    }
    problems.unique(&objects);
    problems.colours(&objects);
    problems.found
}

/// A text that holds JSON.
pub fn inner(object: &Value, pointer: &str) -> Option<Value> {
    serde_json::from_str(object.pointer(pointer)?.as_str()?).ok()
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn name(object: &Value) -> String {
    let part = |name: &str| object[name].as_str().unwrap_or("?").to_owned();
    format!("{} {}", part("type"), part("id"))
}

#[derive(Default)]
struct Problems {
    found: Vec<String>,
}

impl Problems {
    fn add(&mut self, what: &str, problem: &str) {
        self.found.push(format!("{what}: {problem}"));
    }

    fn demand(&mut self, holds: bool, what: &str, problem: &str) {
        if !holds {
            self.add(what, problem);
        }
    }

    // Every object.

    fn envelope(&mut self, object: &Value) {
        let what = name(object);
        let kind = object["type"].as_str().unwrap_or_default();
        let id = object["id"].as_str().unwrap_or_default();
        // With a data source, OpenSearch Dashboards takes an id apart at `_`.
        let readable =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
        self.demand(
            !id.is_empty() && id.chars().all(readable),
            &what,
            "its id is not of a-z, 0-9 and -",
        );
        let keys = ["attributes", "id", "migrationVersion", "references", "type"];
        let own: Vec<_> = object.as_object().into_iter().flat_map(Map::keys).collect();
        self.demand(own == keys, &what, &format!("has the members {own:?}"));
        let Some((_, version)) = VERSIONS.into_iter().find(|(name, _)| *name == kind) else {
            return self.add(&what, "is of a type that not both products have");
        };
        let versions = serde_json::json!({ kind: version });
        self.demand(
            object["migrationVersion"] == versions,
            &what,
            "has another migrationVersion",
        );
        self.attributes(object, &what, kind);
    }

    fn attributes(&mut self, object: &Value, what: &str, kind: &str) {
        let (_, required, optional) = ATTRIBUTES
            .into_iter()
            .find(|(name, ..)| *name == kind)
            .expect("a known type");
        let own: BTreeSet<_> = object["attributes"]
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .collect();
        for absent in required.split_whitespace().filter(|name| !own.contains(name)) {
            self.add(what, &format!("has no attribute `{absent}`"));
        }
        for foreign in own
            .iter()
            .filter(|own| !required.split(' ').chain(optional.split(' ')).any(|name| name == **own))
        {
            self.add(
                what,
                &format!("has the attribute `{foreign}`, which a strict mapping refuses"),
            );
        }
        let title = object["attributes"]["title"].as_str().unwrap_or_default();
        self.demand(!title.is_empty(), what, "has no title");
        if kind == "index-pattern" {
            return;
        }
        self.demand(
            object["attributes"]["version"] == 1,
            what,
            "its version is not the number 1",
        );
        let source = inner(object, SEARCH_SOURCE).unwrap_or_default();
        self.demand(
            source["query"]["language"] == "kuery",
            what,
            "its searchSourceJSON has no query in kuery",
        );
        self.demand(
            source["filter"] == serde_json::json!([]),
            what,
            "its searchSourceJSON has filter pills",
        );
        self.query(what, source["query"]["query"].as_str().unwrap_or_default());
    }

    fn unique(&mut self, objects: &[Value]) {
        let mut seen = BTreeSet::new();
        for object in objects {
            let id = name(object);
            self.demand(seen.insert(id.clone()), &id, "is there twice");
            let title = format!("{} {}", object["type"], object["attributes"]["title"]);
            self.demand(seen.insert(title), &id, "its title is another's, too");
        }
        let orphans = objects
            .iter()
            .filter(|object| object["type"] != "dashboard" && !is_used(object, objects));
        for orphan in orphans {
            self.add(&name(orphan), "is used by nothing");
        }
    }

    fn references(&mut self, object: &Value, objects: &[Value]) {
        let what = name(object);
        let Some(references) = object["references"].as_array() else {
            return self.add(&what, "has no list of references");
        };
        let mut named: Vec<_> = references
            .iter()
            .filter_map(|reference| reference["name"].as_str())
            .collect();
        for reference in references {
            let there = objects
                .iter()
                .any(|other| other["type"] == reference["type"] && other["id"] == reference["id"]);
            self.demand(
                there,
                &what,
                &format!("refers to {reference}, which is not in the file"),
            );
        }
        let mut used = Vec::new();
        for pointer in [SEARCH_SOURCE, "/attributes/panelsJSON", "/attributes/visState"] {
            let value = inner(object, pointer).unwrap_or_default();
            reference_names(&value, &mut used);
        }
        reference_names(&object["attributes"], &mut used);
        named.sort_unstable();
        used.sort_unstable();
        self.demand(
            named == used,
            &what,
            &format!("has references {named:?} and uses {used:?}"),
        );
    }

    // Fields.

    fn field(&mut self, what: &str, name: &str, fits: fn(Kind) -> bool) {
        match FIELDS.iter().find(|field| field.name == name) {
            None => self.add(what, &format!("the field `{name}` is not in events")),
            Some(field) if !fits(field.kind) => {
                self.add(
                    what,
                    &format!("the field `{name}` is of the wrong type, {}", field.kind.name()),
                );
            }
            Some(_) => {}
        }
    }

    fn query(&mut self, what: &str, text: &str) {
        match kql::parse(text) {
            Err(error) => self.add(what, &format!("its query `{text}` cannot be read: {error}")),
            Ok(query) => {
                for (field, number) in query.fields() {
                    self.field(what, field, if number { is_number } else { is_indexed });
                }
            }
        }
    }

    fn index_pattern(&mut self, object: &Value) {
        let what = name(object);
        let time = object["attributes"]["timeFieldName"].as_str().unwrap_or_default();
        self.field(&what, time, is_date);
        let fields = inner(object, "/attributes/fields").unwrap_or_default();
        let listed: BTreeSet<_> = items(&fields)
            .iter()
            .filter_map(|field| field["name"].as_str())
            .collect();
        let of_index = FIELDS
            .iter()
            .filter(|field| field.kind != Kind::Raw)
            .map(|field| field.name);
        let expected: BTreeSet<_> = of_index
            .chain(["_id", "_index", "_score", "_source", "_type"])
            .collect();
        self.demand(
            listed == expected && items(&fields).len() == expected.len(),
            &what,
            "its list of fields is not that of the mapping, as text",
        );
        for field in items(&fields) {
            let has = |name: &str, fits: fn(&Value) -> bool| fits(&field[name]);
            let whole = has("type", Value::is_string)
                && ["searchable", "aggregatable", "readFromDocValues"]
                    .iter()
                    .all(|name| has(name, Value::is_boolean))
                && field["scripted"] == false
                && field["count"] == 0;
            self.demand(whole, &what, &format!("its field {} is not whole", field["name"]));
        }
    }

    fn search(&mut self, object: &Value) {
        let what = name(object);
        let columns = texts(&object["attributes"]["columns"]);
        self.demand(!columns.is_empty(), &what, "has no columns");
        for column in columns {
            self.field(&what, column, |_| true);
        }
        for sort in items(&object["attributes"]["sort"]) {
            self.field(&what, sort[0].as_str().unwrap_or_default(), is_date);
        }
        let sorted = items(&object["attributes"]["sort"])
            .iter()
            .all(|sort| sort.as_array().is_some_and(|sort| sort.len() == 2));
        self.demand(
            sorted && !items(&object["attributes"]["sort"]).is_empty(),
            &what,
            "`sort` is no list of pairs",
        );
        let source = inner(object, SEARCH_SOURCE).unwrap_or_default();
        self.demand(source["indexRefName"].is_string(), &what, "has no index");
    }

    // Visualizations.

    fn visualization(&mut self, object: &Value) {
        let what = name(object);
        let Some(state) = inner(object, "/attributes/visState") else {
            return self.add(&what, "its visState is no JSON");
        };
        self.demand(
            inner(object, "/attributes/uiStateJSON").is_some_and(|state| state.is_object()),
            &what,
            "its uiStateJSON is no JSON",
        );
        self.demand(state["title"] == object["attributes"]["title"], &what, "has two titles");
        let kind = state["type"].as_str().unwrap_or_default();
        let Some((_, params)) = PARAMS.into_iter().find(|(name, _)| *name == kind) else {
            return self.add(&what, &format!("the visualization `{kind}` is not in both products"));
        };
        for param in params.split_whitespace() {
            self.demand(
                state["params"].pointer(&format!("/{param}")).is_some(),
                &what,
                &format!("has no params/{param}"),
            );
        }
        let source = inner(object, SEARCH_SOURCE).unwrap_or_default();
        let indexed = !matches!(kind, "markdown" | "vega");
        self.demand(
            source["indexRefName"].is_string() == indexed,
            &what,
            "has an index where it needs none, or none where it does",
        );
        let description = object["attributes"]["description"].as_str().unwrap_or_default();
        self.demand(
            kind == "markdown" || !description.is_empty(),
            &what,
            "does not say what it counts",
        );
        match kind {
            "markdown" => {}
            "vega" => self.vega(&what, state["params"]["spec"].as_str().unwrap_or_default()),
            _ => self.aggregations(&what, kind, &state),
        }
    }

    fn aggregations(&mut self, what: &str, kind: &str, state: &Value) {
        let aggs = items(&state["aggs"]);
        let ids: Vec<_> = aggs.iter().filter_map(|agg| agg["id"].as_str()).collect();
        let different: BTreeSet<_> = ids.iter().collect();
        self.demand(
            ids.len() == aggs.len() && different.len() == ids.len(),
            what,
            "the ids of its aggregations are not texts of their own",
        );
        let of_role = |role: &str| aggs.iter().filter(|agg| agg["schema"] == role).collect::<Vec<_>>();
        let roles = ["metric", "segment", "group", "bucket"].map(of_role);
        let (_, least, most) = ROLES
            .into_iter()
            .find(|(name, ..)| *name == kind)
            .expect("a known type");
        let counts = roles.each_ref().map(Vec::len);
        let fits = (0..4).all(|role| (least[role]..=most[role]).contains(&counts[role]));
        self.demand(
            fits && counts.iter().sum::<usize>() == aggs.len(),
            what,
            &format!("a {kind} takes no such aggregations: {counts:?}"),
        );
        for agg in aggs {
            self.aggregation(what, agg, &roles[0]);
            self.json_input(what, agg);
        }
        self.demand(
            memory(aggs) <= MEMORY,
            what,
            "its unique counts can take more memory than small servers have",
        );
        if state["params"]["seriesParams"].is_array() {
            let ids = |values: Vec<&Value>, pointer: &str| {
                values
                    .iter()
                    .map(|value| value.pointer(pointer).cloned().unwrap_or_default())
                    .collect::<Vec<_>>()
            };
            let series = ids(items(&state["params"]["seriesParams"]).iter().collect(), "/data/id");
            self.demand(
                series == ids(roles[0].clone(), "/id"),
                what,
                "its seriesParams are not its numbers",
            );
        }
    }

    fn aggregation(&mut self, what: &str, agg: &Value, metrics: &[&Value]) {
        let params = &agg["params"];
        let field = params["field"].as_str().unwrap_or_default();
        match (
            agg["schema"].as_str().unwrap_or_default(),
            agg["type"].as_str().unwrap_or_default(),
        ) {
            ("metric", "count") => self.demand(field.is_empty(), what, "a count has no field"),
            ("metric", "cardinality") => self.field(what, field, is_indexed),
            ("metric", "min" | "max" | "avg") => self.field(what, field, |kind| is_date(kind) || is_number(kind)),
            ("segment" | "group" | "bucket", "date_histogram") => {
                self.field(what, field, is_date);
                self.demand(
                    params["interval"] == "auto" && params["min_doc_count"] == 1,
                    what,
                    "its time steps are not automatic",
                );
            }
            ("segment" | "group" | "bucket", "terms") => {
                self.field(what, field, is_indexed);
                let known = metrics.iter().any(|metric| metric["id"] == params["orderBy"]);
                self.demand(
                    known || params["orderBy"] == "_key",
                    what,
                    "is ordered by a number that it does not have",
                );
                self.demand(
                    params["size"].as_u64().is_some_and(|size| size > 0),
                    what,
                    "shows no values",
                );
                self.demand(
                    params["otherBucket"] == false,
                    what,
                    "asks for the rest, which takes another request",
                );
            }
            ("segment" | "group" | "bucket", "filters") => {
                let labels: BTreeSet<_> = items(&params["filters"])
                    .iter()
                    .filter_map(|filter| filter["label"].as_str())
                    .collect();
                self.demand(
                    labels.len() == items(&params["filters"]).len() && !labels.is_empty(),
                    what,
                    "its filters have no labels of their own",
                );
                for filter in items(&params["filters"]) {
                    self.query(what, filter["input"]["query"].as_str().unwrap_or_default());
                }
            }
            (role, kind) => self.add(what, &format!("the aggregation {role} {kind} is not known here")),
        }
    }

    /// What the products put into an aggregation as it stands; of invalid JSON they take nothing, and say nothing.
    fn json_input(&mut self, what: &str, agg: &Value) {
        if agg["params"].get("json").is_none() {
            return;
        }
        let members = inner(agg, "/params/json").unwrap_or_default();
        let names: Vec<_> = members.as_object().into_iter().flat_map(Map::keys).collect();
        let known = match agg["type"].as_str() {
            Some("cardinality") => names == ["precision_threshold"],
            Some("terms") => members == serde_json::json!({"execution_hint": "map"}),
            _ => false,
        };
        self.demand(
            known,
            what,
            &format!("the JSON input {} is not known here", agg["params"]["json"]),
        );
        self.precision(what, &members);
    }

    fn precision(&mut self, what: &str, params: &Value) {
        if let Some(threshold) = params.get("precision_threshold") {
            self.demand(
                threshold.as_u64().is_some_and(|most| (1..=40_000).contains(&most)),
                what,
                "its precision_threshold is none that servers know",
            );
        }
    }

    fn vega(&mut self, what: &str, text: &str) {
        let Ok(specification) = serde_json::from_str::<Value>(text) else {
            return self.add(what, "its specification is no JSON");
        };
        self.demand(
            specification["$schema"] == "https://vega.github.io/schema/vega/v5.json",
            what,
            "is not of Vega 5",
        );
        for own in ["width", "height", "autosize"] {
            self.demand(
                specification.get(own).is_none(),
                what,
                &format!("sets `{own}`, which is the program's"),
            );
        }
        for data in items(&specification["data"])
            .iter()
            .filter(|data| data.get("url").is_some())
        {
            let (url, body) = (&data["url"], &data["url"]["body"]);
            self.demand(
                url["index"].as_str().is_some_and(|index| !index.contains('%')),
                what,
                "names no index",
            );
            self.demand(
                url["%context%"] == true && url["%timefield%"] == "@timestamp",
                what,
                "does not follow the dashboard's filters and time",
            );
            self.demand(body.get("query").is_none(), what, "has a query beside %context%");
            self.demand(body["size"] == 0, what, "asks for documents");
            self.vega_aggregations(what, &body["aggs"]);
        }
    }

    fn vega_aggregations(&mut self, what: &str, aggs: &Value) {
        for agg in aggs.as_object().into_iter().flat_map(Map::values) {
            for (kind, params) in agg.as_object().into_iter().flatten() {
                let field = params["field"].as_str().unwrap_or_default();
                match kind.as_str() {
                    "aggs" => self.vega_aggregations(what, params),
                    "filter" => self.vega_filter(what, params),
                    "terms" | "cardinality" => {
                        self.field(what, field, is_indexed);
                        self.precision(what, params);
                    }
                    "avg" | "min" | "max" => self.field(what, field, |kind| is_date(kind) || is_number(kind)),
                    "date_histogram" => {
                        self.field(what, field, is_date);
                        self.demand(
                            params.get("interval").is_none(),
                            what,
                            "uses `interval`, which newer servers refuse",
                        );
                    }
                    _ => self.add(what, &format!("the aggregation {kind} is not known here")),
                }
            }
        }
    }

    fn vega_filter(&mut self, what: &str, filter: &Value) {
        match filter {
            Value::Array(clauses) => clauses.iter().for_each(|clause| self.vega_filter(what, clause)),
            Value::Object(members) => {
                for (name, inner) in members {
                    match name.as_str() {
                        "bool" | "filter" | "must" | "must_not" | "should" => self.vega_filter(what, inner),
                        "exists" => self.field(what, inner["field"].as_str().unwrap_or_default(), is_indexed),
                        "term" | "terms" => inner
                            .as_object()
                            .into_iter()
                            .flat_map(Map::keys)
                            .for_each(|field| self.field(what, field, is_indexed)),
                        _ => self.add(what, &format!("the query {name} is not known here")),
                    }
                }
            }
            _ => {}
        }
    }

    // Dashboards.

    fn dashboard(&mut self, object: &Value) {
        let what = name(object);
        self.demand(
            inner(object, "/attributes/optionsJSON").is_some(),
            &what,
            "its optionsJSON is no JSON",
        );
        let Some(panels) = inner(object, "/attributes/panelsJSON") else {
            return self.add(&what, "its panelsJSON is no JSON");
        };
        let attributes = &object["attributes"];
        let timed = ["timeFrom", "timeTo", "refreshInterval"].map(|name| attributes.get(name).is_some());
        self.demand(
            timed == [attributes["timeRestore"] == true; 3],
            &what,
            "restores a time that it does not have",
        );
        let mut indices = BTreeSet::new();
        for (number, panel) in items(&panels).iter().enumerate() {
            let index = &panel["panelIndex"];
            let what = format!("{what}, panel {number}");
            self.demand(panel["version"] == "7.10.0", &what, "has no version");
            self.demand(
                index.is_string() && *index == panel["gridData"]["i"],
                &what,
                "its index is not the one of its place",
            );
            self.demand(indices.insert(index.to_string()), &what, "its index is another's, too");
            self.demand(
                panel["panelRefName"] == format!("panel_{number}"),
                &what,
                "its reference is not called after its number",
            );
            self.demand(
                panel.get("type").is_none() && panel.get("id").is_none(),
                &what,
                "has type or id beside its reference",
            );
        }
        for reference in items(&object["references"]) {
            let fits = matches!(reference["type"].as_str(), Some("visualization" | "search"));
            self.demand(fits, &what, "shows something that is no panel");
        }
        self.layout(&what, items(&panels));
    }

    fn layout(&mut self, what: &str, panels: &[Value]) {
        let mut cells: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        for panel in panels {
            let at = |name: &str| panel["gridData"][name].as_u64().unwrap_or_default();
            let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
            self.demand(
                w > 0 && h > 0 && x + w <= 48,
                what,
                &format!("a panel is not on the grid of 48: {}", panel["gridData"]),
            );
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                *cells.entry(cell).or_default() += 1;
            }
        }
        let bottom = cells.keys().map(|(_, y)| y + 1).max().unwrap_or_default();
        self.demand(cells.values().all(|panels| *panels == 1), what, "panels overlap");
        let whole = cells.keys().filter(|(x, _)| *x < 48).count() as u64 == 48 * bottom;
        self.demand(whole, what, "the layout has holes");
    }

    /// A label has one colour wherever it stands for the same field.
    fn colours(&mut self, objects: &[Value]) {
        let mut colours: BTreeMap<(String, String), Value> = BTreeMap::new();
        for object in objects.iter().filter(|object| object["type"] == "visualization") {
            let state = inner(object, "/attributes/visState").unwrap_or_default();
            let mut buckets = items(&state["aggs"])
                .iter()
                .rev()
                .filter(|agg| agg["schema"] != "metric");
            let told_apart = buckets.find(|agg| agg["type"] == "terms");
            let field = told_apart
                .and_then(|agg| agg["params"]["field"].as_str())
                .unwrap_or_default();
            let ui = inner(object, "/attributes/uiStateJSON").unwrap_or_default();
            for (label, colour) in ui["vis"]["colors"].as_object().into_iter().flatten() {
                let known = colours
                    .entry((field.to_owned(), label.clone()))
                    .or_insert_with(|| colour.clone());
                self.demand(
                    known == colour,
                    &name(object),
                    &format!("`{label}` has another colour elsewhere"),
                );
            }
        }
    }
}

/// The most that a visualization's unique counts take of a shard's memory, in bytes: for each bucket that the shard keeps,
/// the registers of `HyperLogLogPlusPlus` as OpenSearch and Elasticsearch size them.
fn memory(aggs: &[Value]) -> u64 {
    let (metrics, buckets): (Vec<_>, Vec<_>) = aggs.iter().partition(|agg| agg["schema"] == "metric");
    let kept = |agg: &&Value| match agg["type"].as_str() {
        // A shard keeps more than it is asked for.
        Some("terms") => agg["params"]["size"].as_u64().unwrap_or_default() * 3 / 2 + 10,
        Some("filters") => items(&agg["params"]["filters"]).len() as u64,
        // What `histogram:maxBars` allows.
        _ => 100,
    };
    let registers = |agg: &Value| {
        let input = inner(agg, "/params/json").unwrap_or_default();
        let threshold = input["precision_threshold"].as_u64().unwrap_or(3000).min(40_000);
        2 << (threshold.max(1) * 4).div_ceil(3).saturating_mul(4).ilog2()
    };
    let unique = metrics.into_iter().filter(|agg| agg["type"] == "cardinality");
    buckets.iter().map(kept).product::<u64>() * unique.map(registers).sum::<u64>()
}

fn is_date(kind: Kind) -> bool {
    matches!(kind, Kind::Date | Kind::EpochMillis)
}

fn is_number(kind: Kind) -> bool {
    kind == Kind::Long
}

fn is_indexed(kind: Kind) -> bool {
    kind != Kind::Raw
}

fn is_referred(object: &Value, by: &Value) -> bool {
    items(&by["references"])
        .iter()
        .any(|reference| reference["type"] == object["type"] && reference["id"] == object["id"])
}

fn is_used(object: &Value, objects: &[Value]) -> bool {
    objects.iter().any(|by| is_referred(object, by))
}

/// The names that stand in members ending in `RefName`.
fn reference_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(reference) if name.ends_with("RefName") => names.push(reference.to_owned()),
                    _ => reference_names(value, names),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| reference_names(value, names)),
        _ => {}
    }
}
