//! The declared state of an index for a product and a rotation: names, patterns, bodies. No I/O.

use crate::destination::rotation::Rotation;
use serde_json::{Map, Value, json};

use super::product::Product;
use super::schema;
use crate::destination::opensearch::Index;

/// The plugin that rolls over and deletes old indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Index State Management, at this path prefix.
    Ism(&'static str),
    /// Index Lifecycle Management.
    Ilm,
    /// Neither is available.
    Absent,
}

/// The declared state of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The name without a date.
    pub base: String,
    /// The rotation of indices.
    pub rotation: Rotation,
    /// The index name that the destination must have, so that events arrive in this plan's indices.
    pub index: Index,
    /// Days after which indices are deleted.
    pub keep_days: Option<u32>,
}

impl Plan {
    /// Makes the plan for a destination's index. Without a rotation, the index's own date pattern decides.
    ///
    /// # Errors
    ///
    /// A message if index, rotation and days contradict each other.
    pub fn new(index: &Index, rotation: Option<Rotation>, keep_days: Option<u32>) -> Result<Self, String> {
        let dated = index.pattern.contains('%');
        let base = index
            .pattern
            .split('%')
            .next()
            .unwrap_or_default()
            .trim_end_matches(['-', '.', '_'])
            .to_owned();
        if base.is_empty() {
            return Err(format!(
                "`{}` has nothing before its date; put a name there, as in `events-%Y.%m.%d`",
                index.pattern
            ));
        }
        let own = if index.pattern.contains("%d") || index.pattern.contains("%j") {
            Rotation::Daily
        } else {
            Rotation::Monthly
        };
        let rotation = match (dated, rotation) {
            (true, None) => own,
            (false, None) => Rotation::None,
            (true, Some(rotation)) if rotation == own => rotation,
            (true, Some(_)) => {
                return Err(format!(
                    "`{}` is a dated index; leave out `--rotation`, or the date",
                    index.pattern
                ));
            }
            (false, Some(rotation)) => rotation,
        };
        if rotation == Rotation::None && keep_days.is_some() {
            return Err("one index for ever has no age at which it could be deleted; choose a rotation (`--rotation`, `PIXEL_ROTATION`), or leave out the days (`--keep`, `PIXEL_KEEP_DAYS`)".to_owned());
        }
        let pattern = match rotation {
            _ if dated => index.pattern.clone(),
            Rotation::Daily => format!("{base}-%Y.%m.%d"),
            Rotation::Monthly => format!("{base}-%Y.%m"),
            _ => base.clone(),
        };
        Ok(Self {
            base,
            rotation,
            index: Index { pattern },
            keep_days,
        })
    }

    /// Returns the pattern of names that the template applies to.
    pub fn pattern(&self) -> String {
        match self.rotation {
            Rotation::None | Rotation::DataStream => self.base.clone(),
            Rotation::Daily | Rotation::Monthly => self.index.wildcard(),
            Rotation::Rollover => format!("{}-*", self.base),
        }
    }

    /// Returns the name of the template and the policy.
    pub fn name(&self) -> String {
        format!("pixel-{}", self.base)
    }

    /// Returns the path and the body of the index template.
    pub fn template(&self, product: Product, lifecycle: Lifecycle) -> (String, Value) {
        let name = self.name();
        let patterns = [self.pattern()];
        let settings = self.settings(product, lifecycle);
        let mappings = schema::mappings();
        if !product.has_composable_templates() {
            let mappings = if product.has_types() {
                json!({"_doc": mappings})
            } else {
                mappings
            };
            let body = json!({"index_patterns": patterns, "order": 200, "settings": settings, "mappings": mappings});
            return (format!("/_template/{name}"), body);
        }
        let mut body = json!({
            "index_patterns": patterns,
            "priority": 200,
            "_meta": {"owner": schema::OWNER, "version": schema::VERSION},
            "template": {"settings": settings, "mappings": mappings},
        });
        if self.rotation == Rotation::DataStream {
            body["data_stream"] = json!({});
        }
        (format!("/_index_template/{name}"), body)
    }

    fn settings(&self, product: Product, lifecycle: Lifecycle) -> Map<String, Value> {
        // A collection of OpenSearch Serverless manages its own storage and takes no such settings.
        if product == Product::Serverless {
            return Map::new();
        }
        let mut settings = schema::settings();
        let rollover = self.rotation == Rotation::Rollover;
        match lifecycle {
            Lifecycle::Ism(prefix) if rollover => {
                let owner = prefix.trim_start_matches("/_");
                settings.insert(
                    format!("index.{owner}.index_state_management.rollover_alias"),
                    self.base.clone().into(),
                );
            }
            Lifecycle::Ilm if self.policy(lifecycle).is_some() => {
                settings.insert("index.lifecycle.name".to_owned(), self.name().into());
                if rollover {
                    settings.insert("index.lifecycle.rollover_alias".to_owned(), self.base.clone().into());
                }
            }
            _ => {}
        }
        settings
    }

    const fn has_rollover(&self) -> bool {
        matches!(self.rotation, Rotation::Rollover | Rotation::DataStream)
    }

    /// Returns true if indices are to be rolled over or deleted automatically.
    pub const fn wants_policy(&self) -> bool {
        self.has_rollover() || self.keep_days.is_some()
    }

    /// Returns the path and the body of the lifecycle policy; none if it has nothing to do.
    pub fn policy(&self, lifecycle: Lifecycle) -> Option<(String, Value)> {
        if !self.wants_policy() {
            return None;
        }
        let (has_rollover, keep) = (self.has_rollover(), self.keep_days);
        match lifecycle {
            Lifecycle::Ism(prefix) => Some((
                format!("{prefix}/_ism/policies/{}", self.name()),
                self.ism(has_rollover, keep),
            )),
            Lifecycle::Ilm => Some((format!("/_ilm/policy/{}", self.name()), ilm(has_rollover, keep))),
            Lifecycle::Absent => None,
        }
    }

    /// Returns the body of the policy. It attaches itself to new indices by `ism_template`; a setting of one index
    /// would be lost at the rollover.
    fn ism(&self, has_rollover: bool, keep: Option<u32>) -> Value {
        let actions = if has_rollover {
            json!([{"rollover": {"min_size": "30gb", "min_index_age": "30d"}}])
        } else {
            json!([])
        };
        let end = |days: u32| json!([{"state_name": "delete", "conditions": {"min_index_age": format!("{days}d")}}]);
        let mut states = vec![json!({"name": "write", "actions": actions, "transitions": keep.map_or(json!([]), end)})];
        if keep.is_some() {
            states.push(json!({"name": "delete", "actions": [{"delete": {}}], "transitions": []}));
        }
        json!({"policy": {
            "description": "Owned by pixel: how old events are put away",
            "default_state": "write",
            "states": states,
            "ism_template": [{"index_patterns": [self.pattern()], "priority": 200}],
        }})
    }
}

fn ilm(has_rollover: bool, keep: Option<u32>) -> Value {
    let mut phases = Map::new();
    let actions = if has_rollover {
        json!({"rollover": {"max_size": "30gb", "max_age": "30d"}})
    } else {
        json!({})
    };
    phases.insert("hot".to_owned(), json!({"actions": actions}));
    if let Some(days) = keep {
        phases.insert(
            "delete".to_owned(),
            json!({"min_age": format!("{days}d"), "actions": {"delete": {}}}),
        );
    }
    json!({"policy": {"phases": phases}})
}

/// Returns true if `actual` has everything that `declared` has. Servers add members of their own, and write numbers and
/// booleans as text.
pub fn covers(actual: &Value, declared: &Value) -> bool {
    match (actual, declared) {
        (Value::Object(actual), Value::Object(declared)) => declared
            .iter()
            .all(|(name, value)| actual.get(name).is_some_and(|actual| covers(actual, value))),
        (Value::Array(actual), Value::Array(declared)) => {
            actual.len() == declared.len()
                && actual
                    .iter()
                    .zip(declared)
                    .all(|(actual, declared)| covers(actual, declared))
        }
        (actual, declared) => plain(actual) == plain(declared),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Flattens settings into dotted names beginning with `index.`, for any nesting by the server.
pub fn flatten_settings(settings: &Value) -> Value {
    let mut flat = Map::new();
    flatten(settings, "", &mut flat);
    let named = |name: String| {
        if name.starts_with("index.") {
            name
        } else {
            format!("index.{name}")
        }
    };
    Value::Object(flat.into_iter().map(|(name, value)| (named(name), value)).collect())
}

fn flatten(value: &Value, prefix: &str, flat: &mut Map<String, Value>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                flatten(value, &name, flat);
            }
        }
        other => {
            flat.insert(prefix.to_owned(), other.clone());
        }
    }
}

/// Returns a template with its settings in one form, so that two can be compared.
pub fn normalize_template(template: &Value) -> Value {
    let mut template = template.clone();
    for pointer in ["/settings", "/template/settings"] {
        if let Some(settings) = template.pointer_mut(pointer) {
            *settings = flatten_settings(settings);
        }
    }
    template
}

/// A field of an existing index that the declared mapping contradicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The field.
    pub field: String,
    /// Its type in the index.
    pub actual: String,
    /// Its declared type.
    pub declared: String,
}

/// The difference between an existing mapping and the declared one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The fields that the index cannot accept.
    pub conflicts: Vec<Conflict>,
    /// True if something is missing that can be added.
    pub incomplete: bool,
    /// The mapping that completes the index: the declared one, with the existing values of properties that cannot
    /// change.
    pub completed: Value,
}

/// Compares an index's mapping with the declared one. An existing field cannot be removed, and neither its type nor its
/// date format can be changed later.
pub fn compare(actual: &Value) -> Difference {
    let declared = schema::mappings();
    let mut difference = Difference::default();
    for (name, value) in declared.as_object().into_iter().flatten() {
        let same = actual.get(name).is_some_and(|actual| covers(actual, value));
        difference.incomplete |= name != "properties" && !same;
    }
    let mut completed = declared;
    compare_properties(actual, &mut completed, "", &mut difference);
    difference.completed = completed;
    difference
}

fn compare_properties(actual: &Value, declared: &mut Value, prefix: &str, difference: &mut Difference) {
    for (name, declared) in declared["properties"].as_object_mut().into_iter().flatten() {
        let field = format!("{prefix}{name}");
        let Some(actual) = actual.get("properties").and_then(|members| members.get(name)) else {
            difference.incomplete = true;
            continue;
        };
        let (found, wanted) = (schema::kind(actual), schema::kind(declared));
        if found != wanted || !takes_times(actual, declared) {
            let format = text(actual, "format").map(|format| format!(" of the format {format}"));
            difference.conflicts.push(Conflict {
                field,
                actual: format!("{found}{}", format.unwrap_or_default()),
                declared: wanted.to_owned(),
            });
        } else if declared.get("properties").is_some() {
            compare_properties(actual, declared, &format!("{field}."), difference);
        } else {
            let longest = declared.get("ignore_above").cloned();
            difference.incomplete |= longest.as_ref().map(plain) != actual.get("ignore_above").map(plain);
            *declared = actual.clone();
            if let Some(longest) = longest {
                declared["ignore_above"] = longest;
            }
        }
    }
}

fn text<'a>(field: &'a Value, member: &str) -> Option<&'a str> {
    field.get(member).and_then(Value::as_str)
}

/// Returns true if a date field accepts the times that are written into the declared one: milliseconds since 1970, or
/// ISO 8601.
fn takes_times(actual: &Value, declared: &Value) -> bool {
    if schema::kind(declared) != "date" {
        return true;
    }
    let wanted: &[&str] = match text(declared, "format") {
        Some(_) => &["epoch_millis"],
        None => &[
            "strict_date_optional_time",
            "date_optional_time",
            "dateOptionalTime",
            "strict_date_time",
            "date_time",
        ],
    };
    // Without a format, servers accept both.
    text(actual, "format").is_none_or(|format| format.split("||").any(|format| wanted.contains(&format)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_index_cannot_take_is_a_conflict() {
        let conflicting = [
            (
                json!({"client": {"properties": {"ip": {"type": "text"}}}}),
                "client.ip",
                "text",
            ),
            (json!({"client": {"type": "keyword"}}), "client", "keyword"),
            (json!({"client": {"enabled": false}}), "client", "object"),
            (json!({"client": {"type": "nested"}}), "client", "nested"),
            (json!({"params": {"type": "object"}}), "params", "object with fields"),
            (json!({"params": {"properties": {}}}), "params", "object with fields"),
            (json!({"date": {"type": "long"}}), "date", "long"),
            (
                json!({"date": {"type": "date", "format": "epoch_second"}}),
                "date",
                "date of the format epoch_second",
            ),
            (
                json!({"@timestamp": {"type": "date", "format": "epoch_millis"}}),
                "@timestamp",
                "date of the format epoch_millis",
            ),
        ];
        for (properties, field, actual) in conflicting {
            let found = compare(&json!({"properties": properties})).conflicts;
            let [conflict] = found.as_slice() else {
                panic!("{field}: {found:?}");
            };
            assert_eq!((conflict.field.as_str(), conflict.actual.as_str()), (field, actual));
        }
    }

    #[test]
    fn what_can_be_added_is_added_and_what_cannot_change_stays() {
        let mut whole = schema::mappings();
        assert_eq!(compare(&whole).completed, whole);
        assert!(!compare(&whole).incomplete);
        // As servers return it.
        whole["dynamic"] = "false".into();
        whole["properties"]["params"] = json!({"type": "object", "enabled": false});
        assert!(!compare(&whole).incomplete);

        let own = json!({"type": "keyword", "ignore_above": 9, "fields": {"more": {"type": "text"}}});
        let date = json!({"type": "date", "format": "epoch_millis||epoch_second"});
        let lacking = json!({"properties": {"labels": own, "date": date, "mine": {"type": "text"}}});
        let difference = compare(&lacking);
        assert!(difference.incomplete && difference.conflicts.is_empty());
        let completed = &difference.completed["properties"];
        assert_eq!(completed["date"], date);
        assert_eq!(
            (&completed["labels"]["fields"], &completed["labels"]["ignore_above"]),
            (&own["fields"], &json!(1024))
        );
        assert_eq!(completed["client"], schema::mappings()["properties"]["client"]);
    }
}
