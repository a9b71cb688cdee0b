//! The list of fields in an index pattern. OpenSearch Dashboards 3.7 and later draw no panel over a field that is not in the
//! list, and no longer fill an empty one; earlier ones fill it when they first need it. No I/O.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::hit::event::fields::{FIELDS, Kind};

/// The fields that every document has, which the programs add to those of a mapping.
pub const META_FIELDS: [&str; 5] = ["_source", "_id", "_type", "_index", "_score"];

/// Returns the list for indices with our mapping, in the form in which the programs store it.
pub fn mapped_fields() -> Vec<Value> {
    let mut fields: Vec<_> = FIELDS
        .iter()
        .filter_map(|field| make_entry(field.name, field.kind))
        .collect();
    fields.extend(META_FIELDS.map(meta));
    fields.sort_by_key(name);
    fields
}

/// Returns the entry of a field; none for an object that is not searchable.
fn make_entry(name: &str, kind: Kind) -> Option<Value> {
    let program_type = match kind {
        Kind::Date | Kind::EpochMillis => "date",
        Kind::Keyword(_) => "string",
        Kind::Ip => "ip",
        Kind::Long => "number",
        Kind::Boolean => "boolean",
        Kind::Raw => return None,
    };
    Some(json!({
        "name": name, "type": program_type, "esTypes": [kind.name()], "count": 0, "scripted": false,
        "searchable": true, "aggregatable": true, "readFromDocValues": true,
    }))
}

fn meta(name: &str) -> Value {
    let (program_type, searchable) = match name {
        "_source" => ("_source", false),
        "_score" => ("number", false),
        // Current servers have no types.
        "_type" => ("string", false),
        _ => ("string", true),
    };
    let mut field = json!({
        "name": name, "type": program_type, "count": 0, "scripted": false,
        "searchable": searchable, "aggregatable": name == "_index", "readFromDocValues": false,
    });
    if searchable || name == "_source" {
        field["esTypes"] = json!([name]);
    }
    field
}

/// Returns the field's name.
pub fn name(field: &Value) -> String {
    field["name"].as_str().unwrap_or_default().to_owned()
}

/// A list that an index pattern should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedFields {
    fields: Vec<Value>,
    /// True if the program was asked and knows the fields of its indices.
    pub from_program: bool,
    /// The names of our fields that its indices do not have.
    pub absent: Vec<String>,
}

impl WantedFields {
    /// Builds the list from the program's response about its indices, `program_fields`, if there is one. Our fields
    /// that are not in the indices are added: a panel over a field without values is empty, over an unknown one it is
    /// an error.
    pub fn new(program_fields: Option<Vec<Value>>) -> Self {
        let ours = mapped_fields();
        let Some(mut fields) = program_fields.filter(|fields| !fields.is_empty()) else {
            return Self {
                fields: ours,
                from_program: false,
                absent: Vec::new(),
            };
        };
        for field in &mut fields {
            for (member, default) in [("count", json!(0)), ("scripted", json!(false))] {
                if let Some(field) = field.as_object_mut() {
                    field.entry(member).or_insert(default);
                }
            }
        }
        let known: Vec<_> = fields.iter().map(name).collect();
        let missing: Vec<_> = ours.into_iter().filter(|field| !known.contains(&name(field))).collect();
        let absent = missing.iter().map(name).filter(|name| !name.starts_with('_')).collect();
        fields.extend(missing);
        fields.sort_by_key(name);
        Self {
            fields,
            from_program: true,
            absent,
        }
    }

    /// Returns the number of fields.
    pub const fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns true if there is no field.
    pub const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Returns true if a stored index pattern has all these fields, with the same types and abilities. Additions by a
    /// person or the program (how often a field was used, scripted fields, more fields) do not matter.
    pub fn are_in(&self, index_pattern: &Value) -> bool {
        let stored = stored_fields(index_pattern);
        let same = |field: &&Value| {
            let members: &[&str] = match (self.from_program, name(field).starts_with('_')) {
                // Servers differ in the properties of these fields.
                (false, true) => &["name"],
                _ => &["type", "searchable", "aggregatable"],
            };
            let found = stored.get(&name(field));
            found.is_some_and(|found| members.iter().all(|member| found[*member] == field[*member]))
        };
        self.fields
            .iter()
            .filter(|field| !field["name"].is_null())
            .all(|field| same(&field))
    }

    /// Returns the text of the attribute `fields`. It keeps from the existing list: the use counts, labels and scripted
    /// fields.
    pub fn text(&self, index_pattern: Option<&Value>) -> String {
        let stored = index_pattern.map(stored_fields).unwrap_or_default();
        let mut fields = self.fields.clone();
        for field in &mut fields {
            let Some(before) = stored.get(&name(field)) else {
                continue;
            };
            for member in ["count", "customLabel"] {
                if let Some(kept) = before.get(member) {
                    field[member] = kept.clone();
                }
            }
        }
        fields.extend(stored.into_values().filter(|field| field["scripted"] == true));
        Value::Array(fields).to_string()
    }
}

fn stored_fields(index_pattern: &Value) -> BTreeMap<String, Value> {
    let text = index_pattern["attributes"]["fields"].as_str().unwrap_or_default();
    let fields: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    fields.into_iter().map(|field| (name(&field), field)).collect()
}
