//! The source of the dashboards, in the format of `kibana/source`.

use serde::Deserialize;

/// A dashboard.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dashboard {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) description: String,
    /// The beginning of the time range on opening.
    pub(super) since: String,
    pub(super) panels: Vec<Panel>,
}

/// The kind of a panel.
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

/// A panel: its position, the question it answers, and its visualization.
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
    /// The filter of the counted events, in the Kibana query language.
    #[serde(default)]
    pub(super) filter: String,
    #[serde(default)]
    pub(super) metrics: Vec<Metric>,
    /// The field or condition of the axis, or of the slices.
    pub(super) along: Option<Bucket>,
    /// The field or condition that splits the events into series.
    pub(super) split: Option<Bucket>,
    /// The field or condition of the rows of a table.
    #[serde(default)]
    pub(super) rows: Vec<Bucket>,
    /// True if the series are shares of their sum.
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

/// A number in a panel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metric {
    pub(super) of: Of,
    pub(super) field: Option<String>,
    /// The number of different values up to which a number of [`Of::Unique`] is exact, at most 40,000; the servers' default
    /// is 3,000. It takes 256 KiB for each row with 40,000. Without it OpenSearch hashes every event's text; with it, it
    /// marks in a bitmap which of a segment's terms were seen, as long as the bitmap is a quarter of that memory: at 40,000,
    /// up to half a million terms.
    pub(super) precision_threshold: Option<u32>,
    pub(super) label: String,
}

/// The aggregation of a field's values.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Of {
    Count,
    Unique,
    Min,
    Max,
}

/// The grouping of events.
#[derive(Debug, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Bucket {
    /// By time.
    Time,
    /// By a field's values.
    Terms {
        field: String,
        size: u32,
        /// The label of events without the field; without a label they are left out.
        missing: Option<String>,
        /// The method by which a server looks for them, if its default is slow.
        execution_hint: Option<ExecutionHint>,
        label: Option<String>,
    },
    /// By conditions: label and query.
    Filters {
        filters: Vec<(String, String)>,
        label: Option<String>,
    },
}

/// The method by which a server groups a field's values.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExecutionHint {
    /// By the texts of the matching events, for a field with far more values than those have; the default uses the numbers
    /// of all values of the index, which are built again after every change.
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
    /// Returns the field whose values group events.
    pub(super) fn field(&self) -> Option<&str> {
        match self {
            Self::Terms { field, .. } => Some(field),
            _ => None,
        }
    }
}
