//! Applies a plan: reads the existing state, reports the differences, writes only these, and checks again.

use std::fmt;

use serde_json::{Value, json};

use super::plan::{Difference, Lifecycle, Plan, compare, covers, normalize_template};
use super::product::Product;
use super::schema::{self, OWNER};
use super::server::{Reply, ServerError, product, reason, send_request};
use crate::client::http::Deliverer;
use crate::destination::rotation::Rotation;

/// The result of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// The object was as declared.
    Unchanged,
    /// The object did not exist.
    Created,
    /// The object existed and differed.
    Updated,
    /// Not available on this server, with an alternative.
    Unavailable(String),
}

/// A step and its result; without writing, the result that it would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The object of the step.
    pub subject: String,
    /// The result.
    pub done: StepResult,
}

impl Step {
    /// Returns true if something was, or would be, written.
    pub const fn writes(&self) -> bool {
        matches!(self.done, StepResult::Created | StepResult::Updated)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.done {
            StepResult::Unchanged => write!(formatter, "{:<11} {}", "unchanged", self.subject),
            StepResult::Created => write!(formatter, "{:<11} {}", "created", self.subject),
            StepResult::Updated => write!(formatter, "{:<11} {}", "updated", self.subject),
            StepResult::Unavailable(why) => write!(formatter, "{:<11} {}: {why}", "unavailable", self.subject),
        }
    }
}

/// The report of a setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupReport {
    /// The product and version of the server.
    pub product: Product,
    /// The steps in their order.
    pub steps: Vec<Step>,
}

/// Sets up the index, or reports what would be done. Everything is read before anything is written.
///
/// # Errors
///
/// [`ServerError`] with a remedy. Changes that were already written stay, and another run continues from there.
pub async fn run(deliverer: &Deliverer, plan: &Plan, write: bool) -> Result<SetupReport, ServerError> {
    let product = product(deliverer).await?;
    refuse_impossible(product, plan)?;
    check_health(deliverer, product).await?;
    let lifecycle = lifecycle(deliverer, product, plan).await?;
    let server = Server {
        deliverer,
        plan,
        product,
        lifecycle,
    };
    // Before the steps: a new index is attached by the server itself, in its own time.
    let earlier = server.earlier_indices().await?;
    let mut steps = server.steps(write).await?;
    if write && steps.iter().any(Step::writes) {
        let again = server.steps(false).await?;
        if let Some(step) = again.iter().find(|step| step.writes()) {
            return Err(ServerError::new(format!(
                "the {} is not as declared although it was written; has something changed it meanwhile?",
                step.subject
            )));
        }
    }
    steps.extend(server.attach(earlier, &steps, write).await?);
    Ok(SetupReport { product, steps })
}

/// Returns the declared state as requests that people can send themselves.
pub fn print(plan: &Plan, product: Product, lifecycle: Lifecycle) -> Value {
    let put = |(path, body): (String, Value)| json!({"method": "PUT", "path": path, "body": body});
    let policy = plan.policy(lifecycle).map(put);
    let template = put(plan.template(product, lifecycle));
    let write_target = write_target(plan, product).map(put);
    [policy, Some(template), write_target].into_iter().flatten().collect()
}

/// Returns the request that creates the index, alias or data stream; none if the first event creates it.
fn write_target(plan: &Plan, product: Product) -> Option<(String, Value)> {
    let base = &plan.base;
    match plan.rotation {
        Rotation::Daily | Rotation::Monthly => None,
        Rotation::None if product == Product::Serverless => {
            Some((format!("/{base}"), json!({"mappings": schema::mappings()})))
        }
        Rotation::None => Some((format!("/{base}"), json!({}))),
        Rotation::Rollover => Some((
            format!("/{base}-000001"),
            json!({"aliases": {base: {"is_write_index": true}}}),
        )),
        Rotation::DataStream => Some((format!("/_data_stream/{base}"), Value::Null)),
    }
}

fn refuse_impossible(product: Product, plan: &Plan) -> Result<(), ServerError> {
    let streams = plan.rotation == Rotation::DataStream;
    if streams && !product.has_composable_templates() {
        return Err(no_data_streams(product));
    }
    if product == Product::Serverless && matches!(plan.rotation, Rotation::Rollover | Rotation::DataStream) {
        return Err(ServerError::new(
            "OpenSearch Serverless rotates by itself (setting `index.data.retention`); choose `--rotation none`",
        ));
    }
    Ok(())
}

/// Returns the lifecycle plugin of this server, if the plan needs one.
///
/// # Errors
///
/// [`ServerError`] with a remedy.
pub async fn lifecycle(deliverer: &Deliverer, product: Product, plan: &Plan) -> Result<Lifecycle, ServerError> {
    let candidates: &[Lifecycle] = match product {
        _ if !plan.wants_policy() => &[],
        Product::Serverless => &[],
        Product::OpenSearch(..) => &[Lifecycle::Ism("/_plugins")],
        Product::Elasticsearch(..) => &[Lifecycle::Ilm, Lifecycle::Ism("/_opendistro")],
    };
    for candidate in candidates {
        let path = match candidate {
            Lifecycle::Ism(prefix) => format!("{prefix}/_ism/policies"),
            _ => "/_ilm/policy".to_owned(),
        };
        if send_request(deliverer, "GET", &path, None).await?.status == 200 {
            return Ok(*candidate);
        }
    }
    Ok(Lifecycle::Absent)
}

/// Checks the cluster's health, since a red cluster would accept a template and then hang on the index. Without
/// permission to ask, the setup continues. A cluster is red for a moment after the creation of any index, so the server
/// is asked to wait for a while.
async fn check_health(deliverer: &Deliverer, product: Product) -> Result<(), ServerError> {
    if product == Product::Serverless {
        return Ok(());
    }
    let Ok(health) = send_request(
        deliverer,
        "GET",
        "/_cluster/health?wait_for_status=yellow&timeout=5s",
        None,
    )
    .await
    else {
        return Ok(());
    };
    if health.body.get("status").and_then(Value::as_str) == Some("red") {
        return Err(ServerError::new(format!(
            "{}: the cluster is red: some primary shards are missing\n  bring its nodes back first (`GET /_cluster/allocation/explain` says why)",
            deliverer.target().base
        )));
    }
    Ok(())
}

struct Server<'a> {
    deliverer: &'a Deliverer,
    plan: &'a Plan,
    product: Product,
    lifecycle: Lifecycle,
}

impl Server<'_> {
    async fn steps(&self, write: bool) -> Result<Vec<Step>, ServerError> {
        // First the steps that can refuse the whole plan, then those that a server may refuse for other reasons.
        let template = self.current_template().await?;
        let indices = self.current_indices().await?;
        let write_target = self.write_target_exists().await?;
        let policy = self.current_policy().await?;
        let mut steps = Vec::new();
        for (index, difference) in &indices {
            steps.push(self.mapping(index, difference, write).await?);
        }
        steps.extend(self.policy(policy, write).await?);
        steps.push(self.template(template, write).await?);
        steps.extend(self.write_target(write_target, write).await?);
        Ok(steps)
    }

    async fn put(&self, path: &str, body: &Value) -> Result<(), ServerError> {
        let body = if body.is_null() { None } else { Some(body) };
        let reply = send_request(self.deliverer, "PUT", path, body).await?;
        self.check_accepted("PUT", path, &reply)
    }

    fn check_accepted(&self, method: &str, path: &str, reply: &Reply) -> Result<(), ServerError> {
        if reply.status < 300 {
            return Ok(());
        }
        let Reply { status, body } = reply;
        let reason = format!("`{method} {path}` was answered with status {status}: {}", reason(body));
        let target = self.deliverer.target();
        Err(ServerError::new(super::server::explain(
            &reason,
            &target.base,
            target.auth.name(),
        )))
    }

    /// Returns the response about the policy of our name, if the plan has one.
    async fn current_policy(&self) -> Result<Option<Reply>, ServerError> {
        let Some((path, _)) = self.plan.policy(self.lifecycle) else {
            return Ok(None);
        };
        let reply = send_request(self.deliverer, "GET", &path, None).await?;
        if reply.status != 404 {
            self.check_accepted("GET", &path, &reply)?;
        }
        Ok(Some(reply))
    }

    /// Creates or updates the lifecycle policy.
    async fn policy(&self, current: Option<Reply>, write: bool) -> Result<Option<Step>, ServerError> {
        let subject = self.policy_subject();
        let (Some((path, declared)), Some(reply)) = (self.plan.policy(self.lifecycle), current) else {
            let days = self.plan.keep_days.unwrap_or(90);
            let why = format!(
                "this server has no lifecycle management; run `pixel prune --older-than {days}d` daily instead"
            );
            return Ok(self.plan.wants_policy().then_some(Step {
                subject,
                done: StepResult::Unavailable(why),
            }));
        };
        let actual = match self.lifecycle {
            Lifecycle::Ilm => reply.body.get(self.plan.name()),
            _ => Some(&reply.body),
        };
        let done = match actual {
            _ if reply.status == 404 => StepResult::Created,
            Some(actual) if covers(actual, &declared) => StepResult::Unchanged,
            _ => StepResult::Updated,
        };
        if write && done != StepResult::Unchanged {
            self.put(&format!("{path}{}", sequence_parameters(&reply)), &declared)
                .await?;
        }
        Ok(Some(Step { subject, done }))
    }

    /// Returns the existing indices: those with and those without a lifecycle policy.
    async fn earlier_indices(&self) -> Result<(Vec<String>, Vec<String>), ServerError> {
        let pattern = self.plan.pattern();
        let path = match self.lifecycle {
            _ if self.plan.policy(self.lifecycle).is_none() => return Ok(Default::default()),
            Lifecycle::Absent => return Ok(Default::default()),
            Lifecycle::Ism(prefix) => format!("{prefix}/_ism/explain/{pattern}"),
            Lifecycle::Ilm => format!("/{pattern}/_settings?flat_settings=true"),
        };
        let reply = send_request(self.deliverer, "GET", &path, None).await?;
        if reply.status == 404 {
            return Ok(Default::default());
        }
        self.check_accepted("GET", &path, &reply)?;
        // Next to the indices, the response has the number of those with a policy.
        let indices = reply
            .body
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, index)| index.is_object());
        let has_policy = |index: &Value| {
            let members = index.get("settings").unwrap_or(index).as_object();
            let named = |name: &str| name.ends_with("policy_id") || name == "index.lifecycle.name";
            members
                .into_iter()
                .flatten()
                .any(|(name, value)| named(name) && value.is_string())
        };
        let (with, without): (Vec<_>, Vec<_>) = indices.partition(|(_, index)| has_policy(index));
        let names = |indices: Vec<(&String, &Value)>| indices.into_iter().map(|(name, _)| name.clone()).collect();
        Ok((names(with), names(without)))
    }

    /// Attaches older indices to the policy; the servers do this for new ones only. Index State Management also keeps
    /// applying the version of the policy from the time of the attachment, until it is told to change.
    async fn attach(
        &self,
        (with, without): (Vec<String>, Vec<String>),
        steps: &[Step],
        write: bool,
    ) -> Result<Option<Step>, ServerError> {
        let name = self.plan.name();
        let changed = steps
            .iter()
            .any(|step| step.subject == self.policy_subject() && step.done == StepResult::Updated);
        let mut requests: Vec<_> = without.iter().map(|index| self.attach_request(index)).collect();
        if let (Lifecycle::Ism(prefix), true) = (self.lifecycle, changed) {
            let change = |index: &String| {
                let path = format!("{prefix}/_ism/change_policy/{index}");
                ("POST", path, json!({"policy_id": name}))
            };
            requests.extend(with.iter().map(change));
        }
        if requests.is_empty() {
            return Ok(None);
        }
        let subject = format!("lifecycle of {} earlier indices", requests.len());
        for (method, path, body) in requests.iter().filter(|_| write) {
            let reply = send_request(self.deliverer, method, path, Some(body)).await?;
            self.check_accepted(method, path, &reply)?;
            let failed = reply.body.pointer("/failed_indices/0/reason").and_then(Value::as_str);
            // The server may have done it itself by now.
            if let Some(reason) = failed.filter(|reason| !reason.contains("already has a policy")) {
                return Err(ServerError::new(format!("`{method} {path}` failed: {reason}")));
            }
        }
        Ok(Some(Step {
            subject,
            done: StepResult::Updated,
        }))
    }

    /// Returns the request that attaches an index to the policy.
    fn attach_request(&self, index: &str) -> (&'static str, String, Value) {
        let name = self.plan.name();
        if let Lifecycle::Ism(prefix) = self.lifecycle {
            let path = format!("{prefix}/_ism/add/{index}");
            return ("POST", path, json!({"policy_id": name}));
        }
        let mut settings = json!({"index.lifecycle.name": name});
        if self.plan.rotation == Rotation::Rollover {
            settings["index.lifecycle.rollover_alias"] = self.plan.base.clone().into();
        }
        ("PUT", format!("/{index}/_settings"), settings)
    }

    fn policy_subject(&self) -> String {
        format!("lifecycle policy `{}`", self.plan.name())
    }

    /// Returns the template of our name, which must be ours.
    async fn current_template(&self) -> Result<Option<Value>, ServerError> {
        let (path, _) = self.plan.template(self.product, self.lifecycle);
        let reply = send_request(self.deliverer, "GET", &path, None).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        self.check_accepted("GET", &path, &reply)?;
        let composable = reply.body.pointer("/index_templates/0/index_template");
        let Some(found) = composable.or_else(|| reply.body.get(self.plan.name())) else {
            return Ok(None);
        };
        let owner = ["/_meta/owner", "/mappings/_meta/owner", "/mappings/_doc/_meta/owner"];
        let ours = owner
            .iter()
            .any(|pointer| found.pointer(pointer).and_then(Value::as_str) == Some(OWNER));
        if ours {
            return Ok(Some(found.clone()));
        }
        Err(ServerError::new(format!(
            "the index template `{}` is not ours\n  rename or delete it (`DELETE {path}`), or choose another index name",
            self.plan.name()
        )))
    }

    async fn template(&self, current: Option<Value>, write: bool) -> Result<Step, ServerError> {
        let (path, declared) = self.plan.template(self.product, self.lifecycle);
        let done = match current {
            None => StepResult::Created,
            Some(current) if covers(&normalize_template(&current), &normalize_template(&declared)) => {
                StepResult::Unchanged
            }
            Some(_) => StepResult::Updated,
        };
        if write && done != StepResult::Unchanged {
            self.put(&path, &declared).await?;
        }
        Ok(Step {
            subject: format!("index template `{}` for `{}`", self.plan.name(), self.plan.pattern()),
            done,
        })
    }

    /// Returns every index of the plan with its difference.
    async fn current_indices(&self) -> Result<Vec<(String, Difference)>, ServerError> {
        let path = format!(
            "/{}/_mapping?ignore_unavailable=true&allow_no_indices=true",
            self.plan.pattern()
        );
        let path = if self.product.has_types() {
            format!("{path}&include_type_name=true")
        } else {
            path
        };
        let reply = send_request(self.deliverer, "GET", &path, None).await?;
        if reply.status == 404 {
            return Ok(Vec::new());
        }
        self.check_accepted("GET", &path, &reply)?;
        let mut found = Vec::new();
        let mut problems = Vec::new();
        for (index, body) in reply.body.as_object().into_iter().flatten() {
            let mut mappings = &body["mappings"];
            if self.product.has_types() {
                // The type of an index can never change.
                let named = mappings
                    .as_object()
                    .and_then(|types| types.keys().find(|name| *name != "_doc"));
                problems.extend(
                    named.map(|name| format!("\n  `{index}`: its documents are of the type `{name}`, not `_doc`")),
                );
                mappings = &mappings["_doc"];
            }
            let difference = compare(mappings);
            problems.extend(difference.conflicts.iter().map(|conflict| {
                format!(
                    "\n  `{index}`: `{}` is {}, declared is {}",
                    conflict.field, conflict.actual, conflict.declared
                )
            }));
            found.push((index.clone(), difference));
        }
        if problems.is_empty() {
            return Ok(found);
        }
        Err(ServerError::new(format!(
            "existing indices cannot take the declared mapping, and nothing was touched:{}\n  write to a new index name, and reindex the old one into it if its events matter",
            problems.concat()
        )))
    }

    async fn mapping(&self, index: &str, difference: &Difference, write: bool) -> Result<Step, ServerError> {
        let done = if difference.incomplete {
            StepResult::Updated
        } else {
            StepResult::Unchanged
        };
        if write && difference.incomplete {
            let path = if self.product.has_types() {
                format!("/{index}/_mapping/_doc")
            } else {
                format!("/{index}/_mapping")
            };
            self.put(&path, &difference.completed).await?;
        }
        Ok(Step {
            subject: format!("mapping of index `{index}`"),
            done,
        })
    }

    /// Returns true if the index, alias or data stream for writing exists; none if the first event creates it.
    async fn write_target_exists(&self) -> Result<Option<bool>, ServerError> {
        if write_target(self.plan, self.product).is_none() {
            return Ok(None);
        }
        let there = match self.plan.rotation {
            Rotation::Rollover => self.alias_exists().await?,
            Rotation::DataStream => self.data_stream_exists().await?,
            _ => self.exists(&format!("/{}", self.plan.base)).await?,
        };
        Ok(Some(there))
    }

    /// Creates the index, alias or data stream that events are written to.
    async fn write_target(&self, there: Option<bool>, write: bool) -> Result<Option<Step>, ServerError> {
        let (Some((path, body)), Some(there)) = (write_target(self.plan, self.product), there) else {
            return Ok(None);
        };
        let base = &self.plan.base;
        let subject = match self.plan.rotation {
            Rotation::Rollover => format!("alias `{base}` and its first index"),
            Rotation::DataStream => format!("data stream `{base}`"),
            _ => format!("index `{base}`"),
        };
        if write && !there {
            self.put(&path, &body).await?;
        }
        let done = if there {
            StepResult::Unchanged
        } else {
            StepResult::Created
        };
        Ok(Some(Step { subject, done }))
    }

    async fn exists(&self, path: &str) -> Result<bool, ServerError> {
        let reply = send_request(self.deliverer, "GET", path, None).await?;
        if reply.status != 404 {
            self.check_accepted("GET", path, &reply)?;
        }
        Ok(reply.status == 200)
    }

    async fn alias_exists(&self) -> Result<bool, ServerError> {
        let base = &self.plan.base;
        let path = format!("/_alias/{base}");
        let reply = send_request(self.deliverer, "GET", &path, None).await?;
        if reply.status != 404 {
            self.check_accepted("GET", &path, &reply)?;
            let indices: Vec<_> = reply.body.as_object().into_iter().flatten().collect();
            let written = format!("/aliases/{base}/is_write_index");
            if indices.len() > 1
                && !indices
                    .iter()
                    .any(|(_, index)| index.pointer(&written) == Some(&true.into()))
            {
                return Err(ServerError::new(format!(
                    "the alias `{base}` has {} indices and none that is written to\n  set `is_write_index` on the newest (`POST /_aliases`)",
                    indices.len()
                )));
            }
            return Ok(true);
        }
        if self.exists(&format!("/{base}")).await? {
            return Err(ServerError::new(format!(
                "`{base}` is an index, so it cannot become the alias that a rollover needs\n  choose another name, or reindex it into `{base}-000001` and delete it"
            )));
        }
        Ok(false)
    }

    async fn data_stream_exists(&self) -> Result<bool, ServerError> {
        let base = &self.plan.base;
        let reply = send_request(self.deliverer, "GET", &format!("/_data_stream/{base}"), None).await?;
        // For the name of an index, OpenSearch lists no stream where Elasticsearch says that there is none.
        let listed = reply.body["data_streams"]
            .as_array()
            .is_some_and(|streams| !streams.is_empty());
        match reply.status {
            200 if listed => Ok(true),
            200 | 404 if self.exists(&format!("/{base}")).await? => Err(ServerError::new(format!(
                "`{base}` is an index or an alias, so it cannot become a data stream\n  choose another name, or reindex it under another name and delete it"
            ))),
            200 | 404 => Ok(false),
            _ => Err(no_data_streams(self.product)),
        }
    }
}

fn no_data_streams(product: Product) -> ServerError {
    ServerError::new(format!(
        "{product} has no data streams here; choose `--rotation rollover`"
    ))
}

/// Returns the query parameters that Index State Management requires to replace a policy.
fn sequence_parameters(reply: &Reply) -> String {
    let number = |name: &str| reply.body.get(name).and_then(Value::as_u64);
    match (number("_seq_no"), number("_primary_term")) {
        (Some(sequence), Some(term)) => format!("?if_seq_no={sequence}&if_primary_term={term}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::http_client;
    use crate::config::Timing;
    use crate::destination::Destination;

    /// A collection of OpenSearch Serverless. No test can send requests to one.
    const COLLECTION: &str = "https://abc123.eu-west-1.aoss.amazonaws.com/events";

    fn deliverer(url: &str) -> Deliverer {
        let Ok(Destination::OpenSearch(target)) = Destination::parse(url, None, None) else {
            panic!("{url} is an index");
        };
        let timing = Timing::default();
        let http = http_client(None, &timing).expect("a client");
        Deliverer::new(http, target, timing, None)
    }

    fn plan(rotation: Rotation, keep_days: Option<u32>) -> Plan {
        Plan::new(&deliverer(COLLECTION).target().index, Some(rotation), keep_days).expect("a plan")
    }

    #[tokio::test]
    async fn a_collection_is_known_by_its_host() {
        for url in [COLLECTION, "https://abc123.aoss.eu-west-1.on.aws/events"] {
            let deliverer = deliverer(url);
            assert_eq!(product(&deliverer).await, Ok(Product::Serverless), "{url}");
            // Its features are known without a request, too.
            let kept = plan(Rotation::Daily, Some(30));
            let found = lifecycle(&deliverer, Product::Serverless, &kept).await;
            assert_eq!(found, Ok(Lifecycle::Absent), "{url}");
        }
        assert_ne!(
            product(&deliverer("http://127.0.0.1:1/events")).await,
            Ok(Product::Serverless)
        );
    }

    #[test]
    fn a_collection_takes_no_settings_and_its_index_has_the_mapping() {
        let none = plan(Rotation::None, None);
        let (path, template) = none.template(Product::Serverless, Lifecycle::Absent);
        assert_eq!(path, "/_index_template/pixel-events");
        assert_eq!(
            template["template"],
            json!({"settings": {}, "mappings": schema::mappings()})
        );
        let (_, elsewhere) = none.template(Product::OpenSearch(3, 0), Lifecycle::Absent);
        assert_ne!(elsewhere["template"]["settings"], json!({}));

        let template = json!({"method": "PUT", "path": path, "body": template});
        let index = json!({"method": "PUT", "path": "/events", "body": {"mappings": schema::mappings()}});
        assert_eq!(
            print(&none, Product::Serverless, Lifecycle::Absent),
            json!([template, index])
        );
        for rotation in [Rotation::Daily, Rotation::Monthly] {
            let printed = print(&plan(rotation, Some(30)), Product::Serverless, Lifecycle::Absent);
            let paths: Vec<_> = printed.as_array().into_iter().flatten().map(|it| &it["path"]).collect();
            assert_eq!(paths, ["/_index_template/pixel-events"], "{rotation:?}");
        }
    }

    #[test]
    fn a_collection_is_not_asked_for_what_it_does_by_itself() {
        for (_, rotation) in Rotation::ALL {
            let refused = refuse_impossible(Product::Serverless, &plan(rotation, None));
            let possible = !matches!(rotation, Rotation::Rollover | Rotation::DataStream);
            assert_eq!(refused.is_ok(), possible, "{rotation:?}: {refused:?}");
            if let Err(error) = refused {
                let said = error.to_string();
                assert!(
                    said.contains("Serverless") && said.contains("--rotation none"),
                    "{said}"
                );
            }
            assert_eq!(
                refuse_impossible(Product::OpenSearch(3, 0), &plan(rotation, None)),
                Ok(())
            );
        }
    }
}
