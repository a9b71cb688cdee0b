//! The form in which CloudFormation asks for a custom resource, and the answer that it waits for. No I/O.

use serde::Deserialize;
use serde_json::{Value, json};

/// A request of CloudFormation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResourceRequest {
    /// `Create`, `Update` or `Delete`.
    pub request_type: String,
    /// Where the answer is to be put. Signed, so it must not be logged.
    #[serde(rename = "ResponseURL")]
    pub response_url: String,
    /// The stack.
    pub stack_id: String,
    /// Which of its requests this is.
    pub request_id: String,
    /// The resource's name in the template.
    pub logical_resource_id: String,
    /// The name that the first answer gave it; none at `Create`.
    #[serde(default)]
    pub physical_resource_id: Option<String>,
}

impl ResourceRequest {
    /// Reads a payload; none when it is no request of CloudFormation.
    pub fn read(payload: &str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }

    /// Whether the resource is to go. Events stay: they are what the stack was for.
    pub fn is_delete(&self) -> bool {
        self.request_type == "Delete"
    }

    /// The body of the answer. The reason is cut so that the whole stays below the 4096 bytes that CloudFormation reads.
    pub fn answer(&self, result: &Result<Value, String>) -> Value {
        // A changed physical id would make CloudFormation delete the old resource.
        let fixed = format!("pixel-setup-{}", self.logical_resource_id);
        let id = self.physical_resource_id.as_ref().unwrap_or(&fixed);
        let reason = result
            .as_ref()
            .err()
            .map(|reason| &reason[..reason.floor_char_boundary(1500)]);
        json!({
            "Status": if result.is_ok() { "SUCCESS" } else { "FAILED" },
            "Reason": reason.unwrap_or("as declared"),
            "PhysicalResourceId": id,
            "StackId": self.stack_id,
            "RequestId": self.request_id,
            "LogicalResourceId": self.logical_resource_id,
            "Data": result.as_ref().unwrap_or(&Value::Null),
        })
    }
}
