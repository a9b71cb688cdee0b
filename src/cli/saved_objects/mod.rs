//! Dashboards for OpenSearch Dashboards and Kibana, made of a short source that a person can review.
//!
//! The source is in `kibana/source`: a file per dashboard, the specifications of its Vega panels, and the colours. The
//! result, one saved object per line, is `kibana/pixel.ndjson`; a test compares that file with [`ndjson`]. The objects use
//! only what OpenSearch Dashboards 1 to 3 and Kibana 7.10 to 8 have in common. No I/O.

mod source;
mod visualization;

use serde_json::{Map, Value, json};

use crate::setup::dashboards::fields::mapped_fields;
use source::{Bucket, Dashboard, Kind, Panel};

/// The default index pattern: the indices of a destination `…/events`, rotated or not.
pub const INDEX_PATTERN: &str = "events*";

/// The id of the index pattern's object.
const INDEX_PATTERN_ID: &str = "pixel-events";

const DASHBOARDS: [&str; 3] = [
    include_str!("../../../kibana/source/overview.json"),
    include_str!("../../../kibana/source/campaigns.json"),
    include_str!("../../../kibana/source/health.json"),
];

const COLOURS: &str = include_str!("../../../kibana/source/colours.json");

/// The Vega specifications by the name that a panel gives.
const SPECIFICATIONS: [(&str, &str); 4] = [
    (
        "hours.vega.json",
        include_str!("../../../kibana/source/hours.vega.json"),
    ),
    (
        "repeated.vega.json",
        include_str!("../../../kibana/source/repeated.vega.json"),
    ),
    ("rate.vega.json", include_str!("../../../kibana/source/rate.vega.json")),
    (
        "delay.vega.json",
        include_str!("../../../kibana/source/delay.vega.json"),
    ),
];

/// The versions from which newer programs migrate the objects, and which older ones already know.
const VERSIONS: [(&str, &str); 4] = [
    ("index-pattern", "7.6.0"),
    ("visualization", "7.10.0"),
    ("dashboard", "7.9.3"),
    ("search", "7.9.3"),
];

/// The name of the reference from an object to its index pattern.
const INDEX_REFERENCE: &str = "kibanaSavedObjectMeta.searchSourceJSON.index";

/// An error in the source; a test excludes it.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Returns the saved objects for an index pattern, one per line.
///
/// # Errors
///
/// [`SourceError`]
pub fn ndjson(index_pattern: &str) -> Result<String, SourceError> {
    let mut lines: Vec<_> = objects(index_pattern)?.iter().map(Value::to_string).collect();
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// Returns the saved objects for an index pattern.
///
/// # Errors
///
/// [`SourceError`]
pub fn objects(index_pattern: &str) -> Result<Vec<Value>, SourceError> {
    let generator = Generator {
        index_pattern,
        colours: serde_json::from_str(COLOURS)?,
    };
    let mut objects = vec![generator.index_pattern()];
    for text in DASHBOARDS {
        let dashboard: Dashboard = serde_json::from_str(text)?;
        for panel in &dashboard.panels {
            objects.push(generator.panel(&dashboard, panel)?);
        }
        objects.push(board(&dashboard));
    }
    Ok(objects)
}

struct Generator<'a> {
    index_pattern: &'a str,
    colours: Map<String, Value>,
}

impl Generator<'_> {
    fn index_pattern(&self) -> Value {
        let fields = Value::Array(mapped_fields()).to_string();
        let attributes = json!({"title": self.index_pattern, "timeFieldName": "@timestamp", "fields": fields});
        object("index-pattern", INDEX_PATTERN_ID, &attributes, &json!([]))
    }

    fn panel(&self, dashboard: &Dashboard, panel: &Panel) -> Result<Value, SourceError> {
        let id = panel_id(dashboard, panel);
        let mut attributes = json!({"title": panel.title, "description": panel.question, "version": 1});
        let indexed = !matches!(panel.kind, Kind::Markdown | Kind::Vega);
        attributes["kibanaSavedObjectMeta"] = json!({"searchSourceJSON": search_source(panel, indexed).to_string()});
        let reference = json!({"name": INDEX_REFERENCE, "type": "index-pattern", "id": INDEX_PATTERN_ID});
        let references = if indexed { json!([reference]) } else { json!([]) };
        if panel.kind == Kind::Search {
            attributes["hits"] = 0.into();
            attributes["columns"] = json!(panel.columns);
            attributes["sort"] = json!([["@timestamp", "desc"]]);
            return Ok(object("search", &id, &attributes, &references));
        }
        let state = visualization::state(panel, || self.specification(panel))?;
        attributes["visState"] = state.to_string().into();
        attributes["uiStateJSON"] = self.colours(panel).to_string().into();
        Ok(object("visualization", &id, &attributes, &references))
    }

    /// Returns a Vega specification with the index filled in.
    fn specification(&self, panel: &Panel) -> Result<String, SourceError> {
        let index = Value::from(self.index_pattern).to_string();
        Ok(specification(panel)?.replace("\"%index%\"", &index))
    }

    /// Returns the colours of a panel's classes: always the same for the same class.
    fn colours(&self, panel: &Panel) -> Value {
        let colours = |name: &str| self.colours.get(name).cloned();
        let of_bucket = |bucket: &Option<Bucket>| bucket.as_ref().and_then(Bucket::field).and_then(colours);
        let told_apart = match panel.kind {
            Kind::Pie => of_bucket(&panel.along),
            Kind::Histogram | Kind::Line | Kind::Area | Kind::Bar if panel.split.is_some() => of_bucket(&panel.split),
            Kind::Histogram | Kind::Line | Kind::Area | Kind::Bar => self.metric_colours(panel),
            _ => None,
        };
        told_apart.map_or(json!({}), |colours| json!({"vis": {"colors": colours}}))
    }

    fn metric_colours(&self, panel: &Panel) -> Option<Value> {
        let all = self.colours.get("metrics")?;
        let own = |label: &String| Some((label.clone(), all.get(label)?.clone()));
        let labels = panel.metrics.iter().map(|metric| &metric.label);
        Some(Value::Object(labels.filter_map(own).collect()))
    }
}

fn specification(panel: &Panel) -> Result<&'static str, SourceError> {
    let named = |name: &str| panel.spec.as_deref() == Some(name);
    let found = SPECIFICATIONS.into_iter().find(|(name, _)| named(name));
    let (_, text) = found.ok_or_else(|| format!("panel `{}` names no specification", panel.id))?;
    Ok(text)
}

fn panel_id(dashboard: &Dashboard, panel: &Panel) -> String {
    format!("{}-{}", dashboard.id, panel.id)
}

fn object(kind: &str, id: &str, attributes: &Value, references: &Value) -> Value {
    let version = VERSIONS.into_iter().find(|(name, _)| *name == kind);
    let version: Map<_, _> = version
        .map(|(name, version)| (name.to_owned(), version.into()))
        .into_iter()
        .collect();
    json!({"type": kind, "id": id, "attributes": attributes, "references": references, "migrationVersion": version})
}

fn search_source(panel: &Panel, indexed: bool) -> Value {
    let mut source = json!({"query": {"query": panel.filter, "language": "kuery"}, "filter": []});
    if indexed {
        source["indexRefName"] = INDEX_REFERENCE.into();
    }
    if panel.kind == Kind::Search {
        source["highlightAll"] = true.into();
        source["version"] = true.into();
    }
    source
}

fn board(dashboard: &Dashboard) -> Value {
    let numbered = || dashboard.panels.iter().enumerate();
    let panels: Vec<_> = numbered().map(|(number, panel)| place(number, panel)).collect();
    let references: Vec<_> = numbered()
        .map(|(number, panel)| {
            let kind = if panel.kind == Kind::Search {
                "search"
            } else {
                "visualization"
            };
            json!({"name": format!("panel_{number}"), "type": kind, "id": panel_id(dashboard, panel)})
        })
        .collect();
    let source = json!({"query": {"query": "", "language": "kuery"}, "filter": []});
    let options = json!({"useMargins": true, "hidePanelTitles": false});
    let attributes = json!({
        "title": dashboard.title,
        "description": dashboard.description,
        "hits": 0,
        "version": 1,
        "panelsJSON": Value::Array(panels).to_string(),
        "optionsJSON": options.to_string(),
        "timeRestore": true,
        "timeFrom": dashboard.since,
        "timeTo": "now",
        "refreshInterval": {"pause": true, "value": 0},
        "kibanaSavedObjectMeta": {"searchSourceJSON": source.to_string()},
    });
    object("dashboard", &dashboard.id, &attributes, &Value::Array(references))
}

fn place(number: usize, panel: &Panel) -> Value {
    let index = (number + 1).to_string();
    let [x, y, w, h] = panel.place;
    json!({
        "version": "7.10.0",
        "gridData": {"x": x, "y": y, "w": w, "h": h, "i": index},
        "panelIndex": index,
        "embeddableConfig": {},
        "panelRefName": format!("panel_{number}"),
    })
}
