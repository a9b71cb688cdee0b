//! Checks the shape of a document from elsewhere: each field that it has must be of its declared type, or a later list of
//! events cannot show it.

use serde_json::Value;

use super::fields::{FIELDS, Field, Kind};

/// Checks the fields of a document against [`FIELDS`].
///
/// # Errors
///
/// A description of the first field of another type.
pub fn check_shape(document: &Value) -> Result<(), String> {
    FIELDS.iter().try_for_each(|field| check_field(document, field))
}

fn check_field(document: &Value, field: &Field) -> Result<(), String> {
    let mut value = document;
    for (end, _) in field.name.match_indices('.').chain([(field.name.len(), "")]) {
        let Value::Object(members) = value else {
            let name = &field.name[..field.name[..end].rfind('.').unwrap_or_default()];
            return Err(describe(name, value, "an object"));
        };
        let begin = field.name[..end].rfind('.').map_or(0, |dot| dot + 1);
        match members.get(&field.name[begin..end]) {
            None | Some(Value::Null) => return Ok(()),
            Some(member) => value = member,
        }
    }
    let (holds, wanted): (fn(&Value) -> bool, _) = match field.kind {
        Kind::Keyword(_) | Kind::Ip => (is_text, "text"),
        Kind::Date => (Value::is_string, "text"),
        Kind::EpochMillis | Kind::Long => (|value| value.is_i64() || value.is_u64(), "a whole number"),
        Kind::Boolean => (Value::is_boolean, "true or false"),
        // A body may have any type.
        Kind::Raw if field.name == "body-json" => return Ok(()),
        Kind::Raw => (Value::is_object, "an object"),
    };
    if holds(value) {
        Ok(())
    } else {
        Err(describe(field.name, value, wanted))
    }
}

/// Returns true for a text or a list of texts.
fn is_text(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().all(Value::is_string),
        value => value.is_string(),
    }
}

fn describe(name: &str, value: &Value, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list of other things",
        Value::Object(_) => "an object",
    };
    format!("`{name}` is {found} where an event has {wanted}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_of_another_type_is_named() {
        for (document, says) in [
            (
                json!({"visit": {"reasons": 5}}),
                "`visit.reasons` is a number where an event has text",
            ),
            (
                json!({"visit": {"reasons": ["a", 5]}}),
                "`visit.reasons` is a list of other things",
            ),
            (json!({"visit": 5}), "`visit` is a number where an event has an object"),
            (
                json!({"date": "today"}),
                "`date` is text where an event has a whole number",
            ),
            (json!({"privacy": {"gpc": 1}}), "`privacy.gpc` is a number"),
            (
                json!({"params": []}),
                "`params` is a list of other things where an event has an object",
            ),
            (
                json!({"campaign": {"click_id": "a"}}),
                "`campaign.click_id` is text where an event has an object",
            ),
            (
                json!({"client": {"geo": {"country_iso_code": {}}}}),
                "`client.geo.country_iso_code` is an object",
            ),
        ] {
            let checked = check_shape(&document);
            assert!(
                checked.as_ref().is_err_and(|reason| reason.contains(says)),
                "{document}: {checked:?}"
            );
        }
        let good = json!({
            "@timestamp": "2026-03-01T09:30:00.123Z", "date": 1_772_357_400_123_i64, "visit": {"reasons": ["a"], "class": null},
            "labels": [], "client": {"ip": "203.0.113.0"}, "body-json": [1], "params": {}, "foreign": {"a": 1},
        });
        assert_eq!(check_shape(&good), Ok(()));
    }
}
