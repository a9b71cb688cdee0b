//! The search that OpenSearch Dashboards and Kibana send for a saved object: query, filters, time range and aggregations
//! put together as their `search_source`, `build_es_query` and `agg_configs` do it.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use pixel::hit::event::fields::{FIELDS, Kind};
use serde_json::{Map, Value, json};

use super::check::inner;
use super::kql;

/// A time range.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

impl Range {
    /// From what a dashboard restores, as in `now-7d`.
    pub fn since(text: &str, now: DateTime<Utc>) -> Self {
        let amount = text.strip_prefix("now-").expect("a range back from now");
        let (number, unit) = amount.split_at(amount.len() - 1);
        let number = number.parse().expect("a number of units");
        let back = match unit {
            "h" => TimeDelta::hours(number),
            "d" => TimeDelta::days(number),
            _ => panic!("no such unit here: {text}"),
        };
        Self {
            from: now - back,
            to: now,
        }
    }

    fn dsl(self) -> Value {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        json!({"range": {"@timestamp": {"gte": text(self.from), "lte": text(self.to), "format": "strict_date_optional_time"}}})
    }

    /// What `interval: auto` becomes: near fifty steps.
    pub fn step(self) -> TimeDelta {
        let wanted = (self.to - self.from) / 50;
        let minutes = TimeDelta::minutes;
        let steps = [
            (3, 1),
            (9, 5),
            (20, 10),
            (45, 30),
            (120, 60),
            (360, 180),
            (1440, 720),
            (10_080, 1440),
        ];
        let step = steps.into_iter().find(|(below, _)| wanted < minutes(*below));
        minutes(step.expect("a range of less than a year").1)
    }
}

/// The saved query of an object.
pub fn query(object: &Value) -> kql::Query {
    let source = inner(object, "/attributes/kibanaSavedObjectMeta/searchSourceJSON").expect("it has been checked");
    kql::parse(source["query"]["query"].as_str().unwrap_or_default()).expect("it has been checked")
}

fn dates() -> Value {
    let dates = FIELDS
        .iter()
        .filter(|field| matches!(field.kind, Kind::Date | Kind::EpochMillis));
    dates
        .map(|field| json!({"field": field.name, "format": "date_time"}))
        .collect()
}

/// The request for a visualization with aggregations.
pub fn visualization(object: &Value, range: Range) -> Value {
    let state = inner(object, "/attributes/visState").expect("it has been checked");
    let aggs = state["aggs"].as_array().expect("it has been checked");
    let hierarchical = state["type"] == "pie";
    json!({
        "aggs": levels(aggs, hierarchical, range),
        "size": 0,
        "stored_fields": ["*"],
        "script_fields": {},
        "docvalue_fields": dates(),
        "_source": {"excludes": []},
        "query": asked(object, range),
        "track_total_hits": true,
    })
}

/// The request for a saved search.
pub fn list(object: &Value, range: Range) -> Value {
    json!({
        "version": true,
        "size": 500,
        "sort": [{"@timestamp": {"order": "desc", "unmapped_type": "boolean"}}],
        "stored_fields": ["*"],
        "script_fields": {},
        "docvalue_fields": dates(),
        "_source": {"excludes": []},
        "query": asked(object, range),
        "highlight": {"pre_tags": ["@"], "post_tags": ["@"], "fields": {"*": {}}, "fragment_size": 2_147_483_647},
        "track_total_hits": true,
    })
}

/// The visualization's own query, the dashboard's empty one, and the time.
fn asked(object: &Value, range: Range) -> Value {
    json!({"bool": {
        "must": [],
        "filter": [query(object).dsl(), {"match_all": {}}, range.dsl()],
        "should": [],
        "must_not": [],
    }})
}

/// Buckets inside each other in their order, the numbers in the innermost.
fn levels(aggs: &[Value], hierarchical: bool, range: Range) -> Value {
    let (metrics, buckets): (Vec<_>, Vec<_>) = aggs.iter().partition(|agg| agg["schema"] == "metric");
    let numbers: Map<String, Value> = metrics
        .iter()
        .filter(|agg| agg["type"] != "count")
        .map(|agg| (id(agg), number(agg)))
        .collect();
    let mut inside = Value::Object(numbers.clone());
    for (depth, bucket) in buckets.iter().enumerate().rev() {
        let mut dsl = self::bucket(bucket, &metrics, range);
        let mut own = if hierarchical || depth + 1 == buckets.len() {
            numbers.clone()
        } else {
            Map::new()
        };
        own.extend(ordering(bucket, &metrics));
        own.extend(inside.as_object().cloned().unwrap_or_default());
        if !own.is_empty() {
            dsl["aggs"] = Value::Object(own);
        }
        inside = json!({ id(bucket): dsl });
    }
    inside
}

fn id(agg: &Value) -> String {
    agg["id"].as_str().expect("it has been checked").to_owned()
}

fn kind(agg: &Value) -> &str {
    agg["type"].as_str().expect("it has been checked")
}

/// A number of a field's values.
fn number(agg: &Value) -> Value {
    json!({ kind(agg): with_json_input(json!({"field": agg["params"]["field"]}), agg) })
}

/// The members of "JSON input" go into an aggregation, as both products' `param_types/json` does it.
fn with_json_input(mut params: Value, agg: &Value) -> Value {
    if let Some(Value::Object(members)) = inner(agg, "/params/json") {
        for (name, value) in members {
            params[name.as_str()] = value;
        }
    }
    params
}

fn order_metric<'a>(bucket: &Value, metrics: &[&'a Value]) -> Option<&'a Value> {
    metrics
        .iter()
        .copied()
        .find(|metric| metric["id"] == bucket["params"]["orderBy"])
}

/// The number that a bucket is ordered by, unless that is its count.
fn ordering(bucket: &Value, metrics: &[&Value]) -> Option<(String, Value)> {
    let metric = order_metric(bucket, metrics).filter(|metric| metric["type"] != "count")?;
    Some((id(metric), number(metric)))
}

fn bucket(agg: &Value, metrics: &[&Value], range: Range) -> Value {
    let params = &agg["params"];
    match kind(agg) {
        "date_histogram" => json!({"date_histogram": time(params, range)}),
        "terms" => {
            let order = order_metric(agg, metrics).map_or_else(
                || "_key".to_owned(),
                |metric| {
                    if metric["type"] == "count" {
                        "_count".to_owned()
                    } else {
                        id(metric)
                    }
                },
            );
            let mut terms =
                json!({"field": params["field"], "order": {order: params["order"]}, "size": params["size"]});
            if params["missingBucket"] == true {
                terms["missing"] = "__missing__".into();
            }
            json!({ "terms": with_json_input(terms, agg) })
        }
        "filters" => {
            let filters = params["filters"].as_array().expect("it has been checked").iter();
            let named = |filter: &Value| {
                let query =
                    kql::parse(filter["input"]["query"].as_str().unwrap_or_default()).expect("it has been checked");
                let label = filter["label"].as_str().expect("it has been checked").to_owned();
                (
                    label,
                    json!({"bool": {"must": [], "filter": [query.dsl()], "should": [], "must_not": []}}),
                )
            };
            json!({"filters": {"filters": filters.map(named).collect::<Map<_, _>>()}})
        }
        other => panic!("{other} has been refused"),
    }
}

/// Calendar steps where the amount is one, fixed ones elsewhere.
fn time(params: &Value, range: Range) -> Value {
    let minutes = range.step().num_minutes();
    let (name, step) = match minutes {
        1440 => ("calendar_interval", "1d".to_owned()),
        60 => ("calendar_interval", "1h".to_owned()),
        minutes if minutes % 60 == 0 => ("fixed_interval", format!("{}h", minutes / 60)),
        minutes => ("fixed_interval", format!("{minutes}m")),
    };
    json!({"field": params["field"], name: step, "time_zone": "UTC", "min_doc_count": params["min_doc_count"]})
}

/// The body that a Vega panel's data source becomes: the dashboard's query with its range in `must`.
pub fn vega(url: &Value, range: Range) -> Value {
    let mut body = url["body"].clone();
    body["query"] =
        json!({"bool": {"must": [range.dsl()], "filter": [{"match_all": {}}], "should": [], "must_not": []}});
    body
}
