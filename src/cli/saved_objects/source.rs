//! The source of the dashboards, as it is written in `kibana/source`.

use serde::Deserialize;

/// A dashboard.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dashboard {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) description: String,
    /// The beginning of the time range that it opens with.
    pub(super) since: String,
    pub(super) panels: Vec<Panel>,
}

/// What a panel is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Markdown,
    Metric,
    Histogram,
    Line,
    Area,
    Bar,
    Pie,
    Table,
    Vega,
    Search,
}

/// A panel: where it is, the question it answers, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Panel {
    pub(super) id: String,
    /// Left, top, width and height on a grid of 48 columns.
    pub(super) place: [u16; 4],
    pub(super) kind: Kind,
    pub(super) title: String,
    #[serde(default)]
    pub(super) question: String,
    /// What is counted, in the Kibana query language.
    #[serde(default)]
    pub(super) filter: String,
    #[serde(default)]
    pub(super) metrics: Vec<Metric>,
    /// What the axis, or the slices, are.
    pub(super) along: Option<Bucket>,
    /// What makes a series of its own.
    pub(super) split: Option<Bucket>,
    /// What makes a row of a table.
    #[serde(default)]
    pub(super) rows: Vec<Bucket>,
    /// Whether the series are shares of their sum.
    #[serde(default)]
    pub(super) percent: bool,
    /// The lines of a text.
    #[serde(default)]
    pub(super) text: Vec<String>,
    /// The file of a Vega specification.
    pub(super) spec: Option<String>,
    /// The columns of a list.
    #[serde(default)]
    pub(super) columns: Vec<String>,
}

/// A number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metric {
    pub(super) of: Of,
    pub(super) field: Option<String>,
    /// Up to how many different values a number of [`Of::Unique`] is exact, at most 40,000; the servers' own is 3,000. It takes
    /// 256 KiB for each row with 40,000. Without it OpenSearch hashes every event's text; with it, it marks in a bitmap which
    /// of a segment's terms were seen, as long as the bitmap is a quarter of that memory: at 40,000, up to half a million terms.
    pub(super) precision_threshold: Option<u32>,
    pub(super) label: String,
}

/// What a number is of a field's values.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Of {
    Count,
    Unique,
    Min,
    Max,
}

/// How events are told apart.
#[derive(Debug, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Bucket {
    /// By time.
    Time,
    /// By a field's values.
    Terms {
        field: String,
        size: u32,
        /// What events without the field are called; without it they are left out.
        missing: Option<String>,
        /// How a server looks for them, where its own way is slow.
        execution_hint: Option<ExecutionHint>,
        label: Option<String>,
    },
    /// By conditions: label and query.
    Filters {
        filters: Vec<(String, String)>,
        label: Option<String>,
    },
}

/// How a server tells a field's values apart.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExecutionHint {
    /// By the texts of the events that are meant, for a field with far more values than those have; else by the numbers of all
    /// values of the index, which it makes anew after every change.
    Map,
}

impl ExecutionHint {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
        }
    }
}

impl Bucket {
    /// The field whose values tell events apart.
    pub(super) fn field(&self) -> Option<&str> {
        match self {
            Self::Terms { field, .. } => Some(field),
            _ => None,
        }
    }
}
