//! The number of hits by outcome: the metrics of the function and of the server.

use serde_json::{Value, json};

use crate::hit::outcome::Outcome;

/// The number of hits for each kind of outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; KINDS.len()]);

/// The names of the outcomes and of their metrics.
const KINDS: [(&str, &str); 7] = [
    ("indexed", "Indexed"),
    ("queued", "Queued"),
    ("duplicate", "Duplicate"),
    ("ignored", "Ignored"),
    ("fallback", "Fallback"),
    ("returned", "Returned"),
    ("failed", "Failed"),
];

/// The namespace of the metrics in `CloudWatch`.
pub const NAMESPACE: &str = "Pixel";

impl Counts {
    /// Counts one outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        self.add_named(outcome.name());
    }

    /// Counts one outcome by its name; returns false if the name is unknown.
    pub fn add_named(&mut self, name: &str) -> bool {
        let position = KINDS.iter().position(|(known, _)| *known == name);
        if let Some(position) = position {
            self.0[position] += 1;
        }
        position.is_some()
    }

    /// Adds the numbers from a log line that [`Counts::embed`] wrote.
    pub fn add_embedded(&mut self, line: &Value) {
        for (count, (_, metric)) in self.0.iter_mut().zip(KINDS) {
            *count += line[metric].as_u64().unwrap_or_default();
        }
    }

    /// Returns each outcome's name and number.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KINDS.iter().zip(self.0).map(|((name, _), count)| (*name, count))
    }

    /// Returns the number of one outcome, or 0 if the name is unknown.
    pub fn get(&self, name: &str) -> u64 {
        self.iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, count)| count)
    }

    /// Returns the sum over all outcomes.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds the Embedded Metric Format to a log line, from which `CloudWatch` makes metrics, with the function's name
    /// as the only dimension (`CloudWatch` user guide, "Embedded metric format specification"). Outcomes that did not
    /// occur are left out.
    pub fn embed(&self, line: &mut Value, function: &str, milliseconds: i64) {
        let occurred: Vec<_> = KINDS.iter().zip(self.0).filter(|(_, count)| *count > 0).collect();
        let metrics: Vec<_> = occurred
            .iter()
            .map(|((_, metric), _)| json!({"Name": metric, "Unit": "Count"}))
            .collect();
        line["_aws"] = json!({
            "Timestamp": milliseconds,
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["Function"]], "Metrics": metrics}],
        });
        line["Function"] = function.into();
        for ((_, metric), count) in occurred {
            line[*metric] = count.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::outcome::{Failure, Ignored};

    fn all() -> [Outcome; 7] {
        let failure = || Failure {
            reason: String::new(),
            temporary: true,
        };
        [
            Outcome::Indexed,
            Outcome::Queued,
            Outcome::Duplicate,
            Outcome::Ignored(Ignored::Preflight),
            Outcome::Fallback(failure()),
            Outcome::Returned(failure()),
            Outcome::Failed(failure()),
        ]
    }

    #[test]
    fn every_outcome_is_counted_under_its_name() {
        let mut counts = Counts::default();
        for (number, outcome) in all().iter().enumerate() {
            for _ in 0..=number {
                counts.add(outcome);
            }
            assert_eq!(counts.get(outcome.name()), number as u64 + 1, "{outcome:?}");
        }
        assert_eq!(counts.total(), 28);
        assert!(!counts.add_named("lost"));
    }

    #[test]
    fn a_line_has_the_embedded_metric_format() {
        let mut counts = Counts::default();
        counts.add(&Outcome::Indexed);
        counts.add(&Outcome::Indexed);
        counts.add(&Outcome::Duplicate);
        let mut line = json!({"message": "hit"});
        counts.embed(&mut line, "pixel-Function-1", 1_780_000_000_123);
        let metrics = json!([{"Name": "Indexed", "Unit": "Count"}, {"Name": "Duplicate", "Unit": "Count"}]);
        assert_eq!(
            line,
            json!({
                "message": "hit", "Function": "pixel-Function-1", "Indexed": 2, "Duplicate": 1,
                "_aws": {"Timestamp": 1_780_000_000_123_i64, "CloudWatchMetrics": [
                    {"Namespace": "Pixel", "Dimensions": [["Function"]], "Metrics": metrics}
                ]}
            })
        );
        let mut read = Counts::default();
        read.add_embedded(&line);
        assert_eq!(read, counts);
    }
}
