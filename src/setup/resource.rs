//! CloudFormation's requests for a custom resource, and the responses to them. No I/O.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// A request of CloudFormation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResourceRequest {
    /// `Create`, `Update` or `Delete`.
    pub request_type: String,
    /// The URL for the response. It is signed, so it must not be logged.
    #[serde(rename = "ResponseURL")]
    pub response_url: String,
    /// The stack.
    pub stack_id: String,
    /// The id of the request.
    pub request_id: String,
    /// The resource's name in the template.
    pub logical_resource_id: String,
    /// The name that the first answer gave it; none at `Create`.
    #[serde(default)]
    pub physical_resource_id: Option<String>,
}

/// A request with a response URL, but with a member that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRequest {
    /// The members that could be read, for the response; others are empty.
    pub request: ResourceRequest,
    /// The member and its error.
    pub reason: String,
}

impl ResourceRequest {
    /// Parses a payload; none if it has no response URL and so is not a request of CloudFormation.
    pub fn read(payload: &str) -> Option<Result<Self, UnreadableRequest>> {
        let error = match serde_json::from_str(payload) {
            Ok(request) => return Some(Ok(request)),
            Err(error) => error,
        };
        // A wrong member must not prevent the others from being read: CloudFormation would wait for an hour.
        let members: HashMap<String, &RawValue> = serde_json::from_str(payload).ok()?;
        let text = |name: &str| serde_json::from_str::<String>(members.get(name)?.get()).ok();
        let request = Self {
            response_url: text("ResponseURL")?,
            request_type: text("RequestType").unwrap_or_default(),
            stack_id: text("StackId").unwrap_or_default(),
            request_id: text("RequestId").unwrap_or_default(),
            logical_resource_id: text("LogicalResourceId").unwrap_or_default(),
            physical_resource_id: text("PhysicalResourceId"),
        };
        let reason = format!("cannot read the request: {error}; nothing was done");
        Some(Err(UnreadableRequest { request, reason }))
    }

    /// Returns true if the resource is to be deleted. The events are always kept.
    pub fn is_delete(&self) -> bool {
        self.request_type == "Delete"
    }

    /// Builds the body of the response. Its texts are truncated so that the whole stays below the 4096 bytes that
    /// CloudFormation reads.
    pub fn answer(&self, result: &Result<Value, String>) -> Value {
        // A changed physical id would make CloudFormation delete the old resource.
        let fixed = format!("pixel-setup-{}", self.logical_resource_id);
        let id = self.physical_resource_id.as_ref().unwrap_or(&fixed);
        let reason = result.as_ref().err().map(|reason| short(reason));
        let data = result.as_ref().ok().and_then(Value::as_object).map(|data| {
            let member = |(name, value): (&String, &Value)| {
                let value = value.as_str().map_or_else(|| value.clone(), |text| short(text).into());
                (name.clone(), value)
            };
            data.iter().map(member).collect::<Map<_, _>>()
        });
        json!({
            "Status": if result.is_ok() { "SUCCESS" } else { "FAILED" },
            "Reason": reason.unwrap_or("as declared"),
            "PhysicalResourceId": id,
            "StackId": self.stack_id,
            "RequestId": self.request_id,
            "LogicalResourceId": self.logical_resource_id,
            "Data": data,
        })
    }
}

/// The longest text in a response, which has up to three long texts and its ids.
const MAX_TEXT_BYTES: usize = 700;

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_never_too_long_for_cloudformation() {
        let request = ResourceRequest {
            request_type: "Update".to_owned(),
            response_url: "https://bucket.example/key?signature=1".to_owned(),
            stack_id: "s".repeat(256),
            request_id: "r".repeat(36),
            logical_resource_id: "l".repeat(255),
            physical_resource_id: Some("p".repeat(255)),
        };
        let long = "unchanged mapping of index `events-2026.01.01`; \u{fc}\"".repeat(1000);
        let destination = "https://user@host.example/events";
        for result in [
            Err(long.clone()),
            Ok(json!({"Product": "OpenSearch 2.19", "Destination": destination, "Steps": long, "Dashboards": long})),
        ] {
            let answer = request.answer(&result);
            assert!(answer.to_string().len() < 4096, "{answer}");
            let word = if result.is_ok() { "SUCCESS" } else { "FAILED" };
            assert_eq!(
                (&answer["Status"], &answer["PhysicalResourceId"]),
                (&json!(word), &json!("p".repeat(255)))
            );
        }
    }
}
