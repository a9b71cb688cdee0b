//! The mapping and the settings of the index, made from [`FIELDS`].

use serde_json::{Map, Value, json};

use crate::hit::event::fields::{FIELDS, Field, Kind};

/// The version of the mapping, increased with every change of the fields. It is stored in the mapping, so that an old
/// template is recognised.
pub const VERSION: u64 = 2;

/// The mark of our templates and policies.
pub const OWNER: &str = "pixel";

/// Returns the mapping. `dynamic: false` keeps names that a visitor chooses out of the index: they are stored, but are
/// never fields.
pub fn mappings() -> Value {
    let mut properties = Map::new();
    for field in FIELDS {
        insert(&mut properties, field.name, &field);
    }
    json!({"dynamic": false, "_meta": {"owner": OWNER, "version": VERSION}, "properties": properties})
}

fn insert(properties: &mut Map<String, Value>, name: &str, field: &Field) {
    let Some((object, rest)) = name.split_once('.') else {
        properties.insert(name.to_owned(), mapping(field.kind));
        return;
    };
    let entry = properties.entry(object).or_insert_with(|| json!({"properties": {}}));
    if let Some(inner) = entry.pointer_mut("/properties").and_then(Value::as_object_mut) {
        insert(inner, rest, field);
    }
}

fn mapping(kind: Kind) -> Value {
    match kind {
        Kind::Date => json!({"type": "date"}),
        Kind::EpochMillis => json!({"type": "date", "format": "epoch_millis"}),
        Kind::Keyword(most) => json!({"type": "keyword", "ignore_above": most}),
        Kind::Ip => json!({"type": "ip"}),
        Kind::Long => json!({"type": "long"}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Raw => json!({"type": "object", "enabled": false}),
    }
}

/// Returns the settings. One shard holds tens of millions of events; replicas follow the number of nodes. Measured with
/// `benches/index_size.rs`: the codec saves 186 of 491 bytes per event, index sorting at most 18 for a dearer write,
/// leaving the raw request out of the source nothing (OpenSearch keeps a copy for its recovery), so there is only the
/// codec.
pub fn settings() -> Map<String, Value> {
    let settings = json!({
        "index.codec": "best_compression",
        "index.number_of_shards": "1",
        "index.auto_expand_replicas": "0-1",
    });
    match settings {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}

/// The type name of an object whose members are fields.
const OPEN: &str = "object with fields";

/// Returns the type of a mapped field. The members of an object may be indexed or only stored.
pub fn kind(field: &Value) -> &str {
    let kind = field.get("type").and_then(Value::as_str).unwrap_or("object");
    let closed = field
        .get("enabled")
        .is_some_and(|enabled| *enabled == false || enabled == "false");
    if kind == "object" && !closed { OPEN } else { kind }
}

/// Returns the fields of a mapping by name and type, including the members of objects.
pub fn field_types(mappings: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(mappings, "", &mut found);
    found
}

fn collect(mapping: &Value, prefix: &str, found: &mut Vec<(String, String)>) {
    for (name, field) in mapping["properties"].as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        if kind(field) == OPEN {
            collect(field, &format!("{name}."), found);
        } else {
            found.push((name, kind(field).to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_holds_every_field_once() {
        let mut declared: Vec<_> = FIELDS
            .iter()
            .map(|field| (field.name.to_owned(), field.kind.name().to_owned()))
            .collect();
        let mut mapped = field_types(&mappings());
        declared.sort();
        mapped.sort();
        assert_eq!(mapped, declared);
        declared.dedup();
        assert_eq!(declared.len(), FIELDS.len());
    }
}
