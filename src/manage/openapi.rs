//! The description of the routes, in the form of `OpenAPI` 3.1.

use serde_json::{Value, json};

use super::CODE_BYTES;
use super::NOTE_BYTES;
use super::token::Scope;
use crate::code::CAMPAIGN_BYTES;
use crate::event::fields::FIELDS;
use crate::question::{Interval, MOST_EVENTS, MOST_VALUES, NO_UNIQUES, is_listed};

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

/// A text without control characters.
fn plain(most: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": most, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"})
}

fn period() -> Vec<Value> {
    let time = json!({"type": "string"});
    vec![
        parameter("from", "not before this: a day or an RFC 3339 time", &time),
        parameter("to", "before this: a day or an RFC 3339 time", &time),
        parameter(
            "since",
            "instead of `from`: `30m`, `24h`, `7d`, `2w` before the end, or `all`",
            &time,
        ),
        parameter(
            "class",
            "only visits of this class: the same as `filter=visit.class=…`",
            &time,
        ),
        json!({
            "name": "filter", "in": "query", "explode": true, "style": "form",
            "description": "`FIELD=VALUE` or `FIELD!=VALUE`; of one field any of the values, of several fields all",
            "schema": {"type": "array", "maxItems": 50, "items": {"type": "string"}},
        }),
    ]
}

fn limit(most: usize) -> Value {
    parameter(
        "limit",
        "how many at most",
        &json!({"type": "integer", "minimum": 1, "maximum": most}),
    )
}

fn after() -> Value {
    parameter(
        "after",
        "where to go on: `next` of the answer before",
        &json!({"type": "string"}),
    )
}

fn answer(description: &str, schema: &Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn problems(statuses: &[u16]) -> Value {
    let problem = |status: &u16| {
        let answer = json!({
            "description": "a problem, as in RFC 9457",
            "content": {"application/problem+json": {"schema": reference("Problem")}},
        });
        (status.to_string(), answer)
    };
    statuses.iter().map(problem).collect::<serde_json::Map<_, _>>().into()
}

fn operation(
    id: &str,
    summary: &str,
    scope: Option<Scope>,
    parameters: &[Value],
    good: (&str, Value),
    bad: &[u16],
) -> Value {
    let always: &[u16] = if scope.is_some() { &[401, 403, 429, 503] } else { &[400] };
    let mut responses = problems(&[bad, always].concat());
    responses[good.0] = good.1;
    let mut operation =
        json!({"operationId": id, "summary": summary, "parameters": parameters, "responses": responses});
    operation["security"] = match scope {
        Some(scope) => {
            operation["description"] = format!("Needs the scope `{}`.", scope.name()).into();
            json!([{"bearer": []}])
        }
        None => json!([]),
    };
    operation
}

fn body(schema: &Value) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": schema}}})
}

/// The document for a server below this URL.
pub fn document(base: &str) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "pixel",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Codes and statistics. Problems are `application/problem+json` and name the parameter.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": if base.is_empty() { "/" } else { base }}],
        "paths": paths(),
        "components": {"schemas": schemas(), "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    })
}

fn paths() -> Value {
    let code = json!({
        "name": "code", "in": "path", "required": true,
        "schema": {"type": "string", "minLength": 1, "maxLength": CODE_BYTES, "pattern": "^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$"},
    });
    let image = answer("a new code", &reference("Image"));
    let write = Some(Scope::CodesWrite);
    let mut gen_get = operation("genImage", "Make a code", write, &[], ("200", image.clone()), &[400]);
    gen_get["description"] = "Makes a code of 16 characters; the same as `POST`.".into();
    let gen_post = operation("postGenImage", "Make a code", write, &[], ("200", image), &[400]);
    let mut create = operation(
        "createCode",
        "Make a code",
        write,
        &[],
        ("201", answer("the code", &reference("Code"))),
        &[400, 409, 413],
    );
    create["requestBody"] = body(&reference("NewCode"));
    let mut annotate = operation(
        "annotateCode",
        "Change a code's campaign or note",
        write,
        &[],
        ("200", answer("the code", &reference("Code"))),
        &[400, 404, 413],
    );
    annotate["requestBody"] = body(&reference("Annotation"));
    let read = Some(Scope::StatsRead);
    json!({
        "/v1/api/status": {
            "get": operation("status", "Whether it runs", None, &[], ("200", answer("it runs", &reference("Status"))), &[]),
        },
        "/v1/api/openapi.json": {
            "get": operation("openapi", "This document", None, &[], ("200", answer("this document", &json!({"type": "object"}))), &[]),
        },
        "/v1/api/gen-image": {"get": gen_get, "post": gen_post},
        "/v1/api/info/{code}": {
            "parameters": [code],
            "get": operation("info", "What became of a code", Some(Scope::EventsRead), &[limit(MOST_EVENTS), after()],
                ("200", answer("its opens, the oldest first", &reference("Info"))), &[400, 404]),
        },
        "/v1/api/stats": {
            "get": operation("stats", "Totals, time series and most frequent values", read, &questions(),
                ("200", answer("numbers", &reference("Stats"))), &[400]),
        },
        "/v1/api/events": {
            "get": operation("events", "Events, the latest first; with `Accept: text/event-stream` those that arrive, where one process serves", Some(Scope::EventsRead),
                &[period(), vec![limit(MOST_EVENTS), after()]].concat(),
                ("200", answer("events", &reference("Events"))), &[400]),
        },
        "/v1/api/codes": {
            "get": operation("listCodes", "The codes, the latest first", read, &[limit(MOST_EVENTS), after()],
                ("200", answer("codes", &reference("Codes"))), &[400]),
            "post": create,
        },
        "/v1/api/codes/{code}": {
            "parameters": [code],
            "get": operation("code", "A code", read, &[], ("200", answer("the code", &reference("Code"))), &[400, 404]),
            "patch": annotate,
            "delete": operation("revokeCode", "Mark a code as no longer wanted", write, &[],
                ("200", answer("the code", &reference("Code"))), &[400, 404]),
        },
    })
}

fn questions() -> Vec<Value> {
    let fields: Vec<_> = FIELDS
        .iter()
        .filter(|field| is_listed(field.kind))
        .map(|field| field.name)
        .collect();
    let unique = [&fields[..], &[NO_UNIQUES]].concat();
    let intervals = Interval::ALL.map(|(name, _)| name);
    let mut parameters = period();
    parameters.extend([
        parameter(
            "unique",
            "the field whose different values are uniques, or `none` for an answer without them, which is quicker; else `visitor.id`",
            &json!({"type": "string", "enum": unique}),
        ),
        parameter(
            "compare",
            "whether the period before is counted, too",
            &json!({"type": "boolean"}),
        ),
        parameter(
            "interval",
            "the width of a point of the time series",
            &json!({"type": "string", "enum": intervals}),
        ),
        parameter("zone", "by whose clock; else `UTC`", &json!({"type": "string"})),
        json!({
            "name": "by", "in": "query", "explode": true, "style": "form",
            "description": "fields whose most frequent values are listed",
            "schema": {"type": "array", "maxItems": 10, "items": {"type": "string", "enum": fields}},
        }),
        limit(MOST_VALUES),
    ]);
    parameters
}

fn schemas() -> Value {
    let time = json!({"type": "string", "format": "date-time"});
    let maybe = json!({"type": ["string", "null"]});
    let count = json!({"type": "integer", "minimum": 0});
    let text = json!({"type": "string"});
    let totals = json!({
        "type": "object", "required": ["events", "first", "last"],
        "properties": {"events": count, "uniques": count, "first": maybe, "last": maybe},
    });
    let group = json!({
        "type": "object", "required": ["value", "events"],
        "properties": {"value": text, "events": count, "uniques": count},
    });
    let point = json!({
        "type": "object", "required": ["start", "events"],
        "properties": {"start": time, "events": count, "uniques": count},
    });
    let nullable = |most: usize| {
        let mut schema = plain(most);
        schema["type"] = json!(["string", "null"]);
        schema
    };
    json!({
        "Problem": {
            "type": "object", "required": ["type", "title", "status", "detail"],
            "properties": {"type": text, "title": text, "status": count, "detail": text, "parameter": text},
        },
        "Status": {
            "type": "object", "required": ["data", "status"], "additionalProperties": false,
            "properties": {"data": text, "status": {"const": "success"}},
        },
        "Image": {
            "type": "object", "required": ["image_url", "unique_code"], "additionalProperties": false,
            "properties": {"image_url": text, "unique_code": {"type": "string", "minLength": 16, "maxLength": 16}},
        },
        "Info": {
            "type": "object", "required": ["uri", "total_opens", "created_at", "timeseries_data"], "additionalProperties": false,
            "properties": {
                "uri": text, "total_opens": count, "created_at": maybe, "next": text,
                "timeseries_data": {"type": "array", "items": {
                    "type": "object", "required": ["uri", "time_stamp", "ip_address"],
                    "properties": {"uri": text, "time_stamp": time, "ip_address": text},
                }},
            },
        },
        "Code": {
            "type": "object", "required": ["code", "created_at", "image_url"], "additionalProperties": false,
            "properties": {
                "code": text, "created_at": time, "image_url": text, "campaign": text, "note": text, "revoked_at": time,
            },
        },
        "Codes": {
            "type": "object", "required": ["codes", "next"], "additionalProperties": false,
            "properties": {"codes": {"type": "array", "items": reference("Code")}, "next": maybe},
        },
        "NewCode": {
            "type": "object", "additionalProperties": false,
            "properties": {
                "code": {"type": "string"}, "campaign": nullable(CAMPAIGN_BYTES), "recipient": nullable(1024),
                "sent": {"type": ["string", "null"]}, "expires": {"type": ["string", "null"]}, "note": nullable(NOTE_BYTES),
            },
        },
        "Annotation": {
            "type": "object", "additionalProperties": false,
            "properties": {"campaign": nullable(CAMPAIGN_BYTES), "note": nullable(NOTE_BYTES)},
        },
        "Stats": {
            "type": "object", "required": ["from", "to", "unique", "totals", "classes", "by"], "additionalProperties": false,
            "properties": {
                "from": maybe, "to": maybe, "unique": text, "totals": totals, "previous": totals, "interval": text, "zone": text,
                "classes": {"type": "array", "items": group},
                "series": {"type": "array", "items": point},
                "by": {"type": "array", "items": {
                    "type": "object", "required": ["field", "values"],
                    "properties": {"field": text, "values": {"type": "array", "items": group}},
                }},
            },
        },
        "Events": {
            "type": "object", "required": ["events", "next"], "additionalProperties": false,
            "properties": {"events": {"type": "array", "items": {"type": "object"}}, "next": maybe},
        },
    })
}
