//! The products and versions that a destination can be.

use std::fmt;

/// A product and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// OpenSearch.
    OpenSearch(u32, u32),
    /// OpenSearch Serverless.
    Serverless,
    /// Elasticsearch.
    Elasticsearch(u32, u32),
}

impl fmt::Display for Product {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenSearch(major, minor) => write!(formatter, "OpenSearch {major}.{minor}"),
            Self::Serverless => formatter.write_str("OpenSearch Serverless"),
            Self::Elasticsearch(major, minor) => write!(formatter, "Elasticsearch {major}.{minor}"),
        }
    }
}

impl Product {
    /// Returns true if it still has mapping types and only legacy templates.
    pub const fn has_types(self) -> bool {
        matches!(self, Self::Elasticsearch(6, _))
    }

    /// Returns true if it has composable templates.
    pub const fn has_composable_templates(self) -> bool {
        match self {
            Self::OpenSearch(..) | Self::Serverless => true,
            Self::Elasticsearch(major, minor) => major > 7 || (major == 7 && minor >= 8),
        }
    }

    /// Returns true if the project is tested with this version or another of the same major version.
    pub const fn is_supported(self) -> bool {
        match self {
            Self::Serverless => true,
            Self::OpenSearch(major, _) => matches!(major, 1..=3),
            Self::Elasticsearch(major, minor) => matches!(major, 7..=9) || (major == 6 && minor >= 8),
        }
    }
}
