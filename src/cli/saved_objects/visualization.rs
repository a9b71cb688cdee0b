//! The state of a visualization. Every parameter is written out: the programs add missing ones only on the top level, and
//! newer ones read nested ones without checking that they exist.

use serde_json::{Map, Value, json};

use super::SourceError;
use super::source::{Bucket, Kind, Metric, Of, Panel};

/// Returns the state of a panel's visualization.
pub(super) fn state(
    panel: &Panel,
    specification: impl Fn() -> Result<String, SourceError>,
) -> Result<Value, SourceError> {
    let params = match panel.kind {
        Kind::Markdown => json!({"fontSize": 12, "openLinksInNewTab": false, "markdown": panel.text.join("\n")}),
        Kind::Vega => json!({"spec": specification()?}),
        Kind::Metric => metric(),
        Kind::Pie => pie(),
        Kind::Table => table(),
        Kind::Histogram | Kind::Line | Kind::Area | Kind::Bar => axes(panel),
        Kind::Search => return Err(format!("panel `{}` is a list, not a visualization", panel.id).into()),
    };
    let kind = name(panel.kind);
    Ok(json!({"title": panel.title, "type": kind, "aggs": aggregations(panel), "params": params}))
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Markdown => "markdown",
        Kind::Metric => "metric",
        Kind::Histogram => "histogram",
        Kind::Line => "line",
        Kind::Area => "area",
        Kind::Bar => "horizontal_bar",
        Kind::Pie => "pie",
        Kind::Table => "table",
        Kind::Vega => "vega",
        Kind::Search => "search",
    }
}

fn aggregations(panel: &Panel) -> Vec<Value> {
    let (segment, rows) = ("segment", "bucket");
    let metrics = panel
        .metrics
        .iter()
        .map(|metric| ("metric", metric_aggregation(metric)));
    let along = panel.along.iter().map(|along| (segment, bucket(along)));
    let split = panel.split.iter().map(|split| ("group", bucket(split)));
    let rows = panel.rows.iter().map(|row| (rows, bucket(row)));
    let all = metrics.chain(along).chain(split).chain(rows).enumerate();
    let numbered = |(number, (schema, (kind, params))): (usize, (&str, (&str, Value)))| {
        let id = (number + 1).to_string();
        json!({"id": id, "enabled": true, "type": kind, "schema": schema, "params": params})
    };
    all.map(numbered).collect()
}

fn metric_aggregation(metric: &Metric) -> (&'static str, Value) {
    let kind = match metric.of {
        Of::Count => "count",
        Of::Unique => "cardinality",
        Of::Min => "min",
        Of::Max => "max",
    };
    let mut params = json!({"customLabel": metric.label});
    if let Some(field) = &metric.field {
        params["field"] = field.as_str().into();
    }
    if let Some(most) = metric.precision_threshold {
        params["json"] = json_input(&json!({"precision_threshold": most}));
    }
    (kind, params)
}

/// Returns the "JSON input" of an aggregation: a text whose members the programs add to the aggregation that they send.
fn json_input(members: &Value) -> Value {
    members.to_string().into()
}

/// Returns a grouping, ordered by the first number, which has the id 1.
fn bucket(bucket: &Bucket) -> (&'static str, Value) {
    let (kind, mut params, label) = match bucket {
        Bucket::Time => (
            "date_histogram",
            json!({"field": "@timestamp", "interval": "auto", "drop_partials": false, "min_doc_count": 1, "extended_bounds": {}}),
            &None,
        ),
        Bucket::Terms {
            field,
            size,
            missing,
            execution_hint,
            label,
        } => {
            let mut params = json!({
                "field": field, "orderBy": "1", "order": "desc", "size": size,
                "otherBucket": false, "otherBucketLabel": "Other",
                "missingBucket": missing.is_some(), "missingBucketLabel": missing.as_deref().unwrap_or("Missing"),
            });
            if let Some(hint) = execution_hint {
                params["json"] = json_input(&json!({"execution_hint": hint.name()}));
            }
            ("terms", params, label)
        }
        Bucket::Filters { filters, label } => ("filters", json!({"filters": conditions(filters)}), label),
    };
    if let Some(label) = label {
        params["customLabel"] = label.as_str().into();
    }
    (kind, params)
}

fn conditions(filters: &[(String, String)]) -> Value {
    let condition =
        |(label, query): &(String, String)| json!({"input": {"query": query, "language": "kuery"}, "label": label});
    filters.iter().map(condition).collect()
}

fn metric() -> Value {
    json!({"addTooltip": true, "addLegend": false, "type": "metric", "metric": {
        "percentageMode": false, "useRanges": false, "colorSchema": "Green to Red", "metricColorMode": "None",
        "colorsRange": [{"from": 0, "to": 10000}], "labels": {"show": true}, "invertColors": false,
        "style": {"bgFill": "#000", "bgColor": false, "labelColor": false, "subText": "", "fontSize": 30},
    }})
}

fn pie() -> Value {
    json!({
        "type": "pie", "addTooltip": true, "addLegend": true, "legendPosition": "bottom", "isDonut": true,
        "labels": {"show": false, "values": true, "last_level": true, "truncate": 100},
    })
}

fn table() -> Value {
    json!({
        "perPage": 10, "showPartialRows": false, "showMetricsAtAllLevels": false, "showTotal": false,
        "totalFunc": "sum", "percentageCol": "",
    })
}

fn axes(panel: &Panel) -> Value {
    let bar = panel.kind == Kind::Bar;
    let (along, up) = if bar { ("left", "bottom") } else { ("bottom", "left") };
    let mut params = Map::new();
    let mut put = |name: &str, value: Value| params.insert(name.to_owned(), value);
    put("type", chart_type(panel.kind).into());
    put("grid", json!({"categoryLines": false}));
    put(
        "categoryAxes",
        json!([category_axis(along, if bar { 200 } else { 100 })]),
    );
    put("valueAxes", json!([value_axis(panel, up)]));
    put("seriesParams", series(panel));
    put("addTooltip", true.into());
    put("addLegend", (panel.split.is_some() || panel.metrics.len() > 1).into());
    put("legendPosition", "bottom".into());
    put("times", json!([]));
    put("addTimeMarker", false.into());
    put("labels", json!({"show": false}));
    put(
        "thresholdLine",
        json!({"show": false, "value": 10, "width": 1, "style": "full", "color": "#E7664C"}),
    );
    Value::Object(params)
}

/// Returns the type of the visualization; a horizontal bar is a rotated histogram.
const fn chart_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Line => "line",
        Kind::Area => "area",
        _ => "histogram",
    }
}

fn category_axis(position: &str, truncate: u32) -> Value {
    json!({
        "id": "CategoryAxis-1", "type": "category", "position": position, "show": true, "style": {},
        "scale": {"type": "linear"}, "labels": {"show": true, "filter": true, "truncate": truncate, "rotate": 0}, "title": {},
    })
}

fn value_axis(panel: &Panel, position: &str) -> Value {
    let mode = if panel.percent { "percentage" } else { "normal" };
    let title = match panel.metrics.as_slice() {
        [only] => only.label.as_str(),
        _ => "Number",
    };
    json!({
        "id": "ValueAxis-1", "name": "LeftAxis-1", "type": "value", "position": position, "show": true, "style": {},
        "scale": {"type": "linear", "mode": mode}, "labels": {"show": true, "rotate": 0, "filter": true, "truncate": 100},
        "title": {"text": title},
    })
}

fn series(panel: &Panel) -> Value {
    let mode = if panel.split.is_some() { "stacked" } else { "normal" };
    let one = |(number, metric): (usize, &Metric)| {
        json!({
            "show": true, "type": chart_type(panel.kind), "mode": mode,
            "data": {"label": metric.label, "id": (number + 1).to_string()}, "valueAxis": "ValueAxis-1",
            "drawLinesBetweenPoints": true, "lineWidth": 2, "interpolate": "linear", "showCircles": true,
        })
    };
    panel.metrics.iter().enumerate().map(one).collect()
}
