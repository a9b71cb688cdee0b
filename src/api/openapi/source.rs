//! The generator of the OpenAPI description, from the program's own limits, scopes and fields.

use serde_json::{Value, json};

use crate::api::{MAX_CODE_BYTES, MAX_NOTE_BYTES};
use crate::config::token::Scope;
use crate::hit::code::CAMPAIGN_BYTES;
use crate::hit::enrich::classify::Class;
use crate::hit::event::fields::{FIELDS, Field, Kind};
use crate::query::{Interval, MAX_EVENTS, MAX_VALUES, NO_UNIQUES, all_values, is_listed};

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

/// Returns the schema of a text without control characters.
fn plain(max_length: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": max_length, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"})
}

/// Returns the schema of a text that matches a pattern.
fn text_matching(pattern: &str) -> Value {
    json!({"type": "string", "pattern": format!("^(?:{pattern})$")})
}

/// Returns a pattern for any day but the 29th of February, because a pattern cannot check for leap years.
fn day(years: &str) -> String {
    format!(
        "(?:{years})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    )
}

const CLOCK: &str =
    "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])";

/// Returns a pattern for the times that a signed code can hold.
fn signed_time() -> String {
    format!("{}{CLOCK}", day("19[89][0-9]|20[0-9]{2}"))
}

/// Returns a pattern for the values of a kind in a filter. It covers only a part of the forms of addresses.
const fn value(kind: Kind) -> &'static str {
    match kind {
        Kind::Long => "-?[1-9][0-9]{0,17}",
        Kind::Boolean => "true|false",
        Kind::Ip => "(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:\\.(?!$)|$)){4}|(?:[0-9a-f]{1,4}(?::(?!$)|$)){8}",
        Kind::Keyword(_) | Kind::Date | Kind::EpochMillis | Kind::Raw => "[^\\u0000-\\u001f\\u007f-\\u009f]{0,256}",
    }
}

/// Returns a pattern for `FIELD=VALUE` with any field that can be listed.
fn filters() -> String {
    let fields = FIELDS.iter().filter(|field| is_listed(field.kind));
    let form = |field: &Field| {
        let values = all_values(field).map_or_else(|| value(field.kind).to_owned(), |all| all.join("|"));
        format!("{}!?=(?:{values})", field.name.replace('.', "\\."))
    };
    fields.map(form).collect::<Vec<_>>().join("|")
}

fn period() -> Vec<Value> {
    let day = day("19[89][0-9]|[2-9][0-9]{3}");
    let time = text_matching(&format!("{day}(?:{CLOCK})?"));
    vec![
        parameter("from", "not before this: a day or an RFC 3339 time", &time),
        parameter("to", "before this, and after `from`: a day or an RFC 3339 time", &time),
        parameter(
            "since",
            "instead of `from`: `30m`, `24h`, `7d`, `2w`, `3mo`, `1y` before the end (a number alone is days), or `all`",
            &text_matching(
                "[1-9][0-9]{0,5}m|[1-9][0-9]{0,4}h|[1-9][0-9]{0,3}d?|[1-9][0-9]{0,2}w|[1-9][0-9]?mo|[1-9]y|all",
            ),
        ),
        parameter(
            "class",
            "only visits of this class: the same as `filter=visit.class=…`",
            &json!({"enum": Class::ALL.map(Class::name)}),
        ),
        json!({
            "name": "filter", "in": "query", "explode": true, "style": "form",
            "description": "`FIELD=VALUE` or `FIELD!=VALUE`; of one field any of the values, of several fields all",
            "schema": {"type": "array", "maxItems": 50, "items": text_matching(&filters())},
        }),
    ]
}

fn limit(max: usize) -> Value {
    parameter(
        "limit",
        "how many at most",
        &json!({"type": "integer", "minimum": 1, "maximum": max}),
    )
}

fn after() -> Value {
    parameter(
        "after",
        "where to go on: `next` of the answer before",
        &text_matching(
            "(?:0|[1-9][0-9]{0,12})~(?:[A-Za-z0-9._~-]|%(?:2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-D]|C[3-9A-F]%[89AB][0-9A-F])){1,170}",
        ),
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

/// Returns the document without a server's URL.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "pixel",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Codes and statistics. Problems are `application/problem+json` and name the parameter.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "paths": paths(),
        "components": {"schemas": schemas(), "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    })
}

fn paths() -> Value {
    let code = json!({
        "name": "code", "in": "path", "required": true,
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_CODE_BYTES, "pattern": "^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$"},
    });
    let image = answer("a new code", &reference("Image"));
    let write = Some(Scope::CodesWrite);
    let mut gen_get = operation("genImage", "Make a code", write, &[], ("200", image.clone()), &[400]);
    gen_get["description"] =
        "Makes a code of 16 characters; the same as `POST`. From the first code of the list on, hits of unsigned codes have the `pixel.signature` `listed` or `unknown`."
            .into();
    let gen_post = operation("postGenImage", "Make a code", write, &[], ("200", image), &[400]);
    let mut create = operation(
        "createCode",
        "Make a code",
        write,
        &[],
        ("201", answer("the code", &reference("Code"))),
        &[400, 408, 409, 413],
    );
    create["requestBody"] = body(&reference("NewCode"));
    let mut annotate = operation(
        "annotateCode",
        "Change a code's campaign or note",
        write,
        &[],
        ("200", answer("the code", &reference("Code"))),
        &[400, 404, 408, 413],
    );
    annotate["requestBody"] = body(&reference("Annotation"));
    let mut revoke = operation(
        "revokeCode",
        "Revoke a code; its hits are stored all the same",
        write,
        &[],
        (
            "200",
            answer("the code, which stays in the list", &reference("Revoked")),
        ),
        &[400, 404],
    );
    let stays = "The code stays in the list, with `revoked_at`; its hits get the image and are marked as `revoked`.";
    revoke["description"] = format!("{} {stays}", revoke["description"].as_str().unwrap_or_default()).into();
    let read = Some(Scope::StatsRead);
    json!({
        "/v1/api/session": session(),
        "/v1/api/status": {
            "get": operation("status", "Whether it runs", None, &[], ("200", answer("it runs", &reference("Status"))), &[]),
        },
        "/v1/api/openapi.json": {
            "get": operation("openapi", "This document", None, &[], ("200", answer("this document", &json!({"type": "object"}))), &[]),
        },
        "/v1/api/gen-image": {"get": gen_get, "post": gen_post},
        "/v1/api/info/{code}": {
            "parameters": [code],
            "get": operation("info", "What became of a code", Some(Scope::EventsRead), &[limit(MAX_EVENTS), after()],
                ("200", answer("its opens, the oldest first", &reference("Info"))), &[400, 404]),
        },
        "/v1/api/stats": {
            "get": operation("stats", "Totals, time series and most frequent values", read, &questions(),
                ("200", answer("numbers", &reference("Stats"))), &[400]),
        },
        "/v1/api/events": {
            "get": operation("events", "Events, the latest first; with `Accept: text/event-stream` those that arrive, after `Last-Event-ID` where that is sent; not in the function", Some(Scope::EventsRead),
                &[period(), vec![limit(MAX_EVENTS), after()]].concat(),
                ("200", answer("events", &reference("Events"))), &[400]),
        },
        "/v1/api/codes": {
            "get": operation("listCodes", "The codes, the latest first", read, &[limit(MAX_EVENTS), after()],
                ("200", answer("codes", &reference("Codes"))), &[400]),
            "post": create,
        },
        "/v1/api/codes/{code}": {
            "parameters": [code],
            "get": operation("code", "A code", read, &[], ("200", answer("the code", &reference("Code"))), &[400, 404]),
            "patch": annotate,
            "delete": revoke,
        },
    })
}

/// Returns the operations of a browser's session.
fn session() -> Value {
    let cookie = |description: &str| {
        json!({
            "description": description,
            "headers": {"Set-Cookie": {"required": true, "schema": {"type": "string"}}},
        })
    };
    let mut sign_in = operation(
        "signIn",
        "Begin a browser's session",
        None,
        &[],
        ("204", cookie("the cookie of a session of 30 days")),
        &[401, 403, 404, 429, 503],
    );
    sign_in["description"] =
        "Exchanges a token, or the secret of a link of `pixel login`, which works once, for a cookie, which stands for the bearer token in all other requests; what changes anything needs the same origin. Not in the function."
            .into();
    sign_in["security"] = json!([{"bearer": []}]);
    let sign_out = operation(
        "signOut",
        "End a browser's session",
        None,
        &[],
        ("204", cookie("the cookie is taken back")),
        &[403, 404, 503],
    );
    json!({"post": sign_in, "delete": sign_out})
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
        parameter(
            "zone",
            "by whose clock, a name of the tz database or an offset; else `UTC`; only with `interval`",
            &text_matching("[+-](?:0[0-9]|1[0-7]):[0-5][0-9]|[A-Z][A-Za-z0-9/_+-]{0,63}"),
        ),
        json!({
            "name": "by", "in": "query", "explode": true, "style": "form",
            "description": "fields whose most frequent values are listed",
            "schema": {"type": "array", "maxItems": 10, "items": {"type": "string", "enum": fields}},
        }),
        limit(MAX_VALUES),
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
    let mut own = text_matching("[A-Za-z0-9~-][A-Za-z0-9._~-]*");
    own["maxLength"] = MAX_CODE_BYTES.into();
    let mut moment = text_matching(&signed_time());
    moment["type"] = json!(["string", "null"]);
    let nullable = |max_length: usize| {
        let mut schema = plain(max_length);
        schema["type"] = json!(["string", "null"]);
        schema
    };
    json!({
        "Problem": {
            "type": "object", "required": ["type", "title", "status", "detail"],
            "properties": {"type": text, "title": text, "status": count, "detail": text, "parameter": text},
        },
        "Status": status_schema(),
        "Image": {
            "type": "object", "required": ["image_url", "unique_code"], "additionalProperties": false,
            "properties": {"image_url": text, "unique_code": {"type": "string", "minLength": 16, "maxLength": 16}},
        },
        "Info": {
            "type": "object", "required": ["uri", "total_opens", "created_at", "timeseries_data"], "additionalProperties": false,
            "properties": {
                "uri": text, "total_opens": count, "created_at": maybe, "next": text, "revoked_at": time,
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
                "recipient": {"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "the one person for whom it is, as a keyed hash"},
                "opted_out": {"type": "boolean", "description": "whether its recipient has opted out; in the answer about one code"},
                "opted_out_at": time,
            },
        },
        "Revoked": {"allOf": [reference("Code"), {"type": "object", "required": ["revoked_at"]}]},
        "Codes": {
            "type": "object", "required": ["codes", "next", "signing"], "additionalProperties": false,
            "properties": {
                "codes": {"type": "array", "items": reference("Code")}, "next": maybe,
                "signing": {"type": "boolean", "description": "whether new codes are signed, so that they can name a recipient"},
            },
        },
        "NewCode": {"oneOf": [reference("OwnCode"), reference("SignedCode")]},
        "OwnCode": {
            "type": "object", "required": ["code"], "additionalProperties": false, "description": "a word of the owner's; with a recipient, who needs keys, it stands for one person, who can opt out",
            "properties": {
                "code": own, "campaign": nullable(CAMPAIGN_BYTES), "recipient": nullable(1024), "note": nullable(MAX_NOTE_BYTES),
            },
        },
        "SignedCode": {
            "type": "object", "additionalProperties": false,
            "description": "a signed code where there are keys, else a random one, which has no recipient and no times",
            "properties": {
                "campaign": nullable(CAMPAIGN_BYTES), "recipient": nullable(1024), "sent": moment, "expires": moment,
                "note": nullable(MAX_NOTE_BYTES),
            },
        },
        "Annotation": {
            "type": "object", "additionalProperties": false,
            "properties": {"campaign": nullable(CAMPAIGN_BYTES), "note": nullable(MAX_NOTE_BYTES)},
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

fn status_schema() -> Value {
    let text = json!({"type": "string"});
    json!({
        "type": "object", "required": ["data", "status", "public_url", "sessions"], "additionalProperties": false,
        "properties": {
            "data": text, "status": {"const": "success"},
            "public_url": {"type": "string", "description": "the URL below which visitors reach the pixel"},
            "sessions": {"type": "boolean", "description": "whether a browser can sign in by `POST /v1/api/session`"},
            "warnings": {"type": "array", "minItems": 1, "items": {
                "type": "object", "required": ["code", "message"], "additionalProperties": false,
                "properties": {"code": text, "message": text},
            }},
        },
    })
}
