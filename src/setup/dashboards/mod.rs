//! The import of the dashboards through the saved objects API of OpenSearch Dashboards and Kibana: the requests, and
//! the parsing of their responses. No I/O; that is in [`session`].
//!
//! Sources for the API: `src/core/server/saved_objects/routes` and `…/import` in either program's source, the security
//! plugin's `server/auth` and `server/multitenancy` for login and tenants.

pub mod fields;
pub mod session;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::plan::covers;
use crate::destination::opensearch::Target;
use crate::destination::{Auth, Destination, Secret};
use session::OnConflict;

/// The paths of the programs on a server: alone, on OpenSearch Service, on its older domains.
pub const PREFIXES: [&str; 3] = ["", "/_dashboards", "/_plugin/kibana"];

/// The file of saved objects. In the function it takes half the space of code that would make them.
const OBJECTS: &str = include_str!("../../../kibana/pixel.ndjson");

/// The index pattern in the file.
const PATTERN: &str = "events*";

/// Returns the saved objects for the indices of a destination. `base` is the beginning of their names, without
/// characters that JSON escapes.
///
/// # Errors
///
/// When the file is invalid, which a test excludes.
pub fn objects(base: &str) -> Result<Vec<Value>, String> {
    let file = OBJECTS.replace(PATTERN, &format!("{base}*"));
    let objects: Result<_, _> = file.lines().map(serde_json::from_str).collect();
    objects.map_err(|error| format!("kibana/pixel.ndjson: {error}"))
}

/// The examples of addresses in error messages.
pub const EXAMPLES: &str = "`https://host:5601` or `https://host/_dashboards`";

/// The address and the credentials of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address, without credentials and without a slash at its end.
    pub base: String,
    /// The authentication of requests.
    pub auth: Auth,
    /// True if the destination's credentials are for this host but are not sent, because the connection is not
    /// encrypted.
    pub withheld: bool,
}

/// Returns the program's address and its credentials: those of the URL, else those of the destination on the same host,
/// if the connection is encrypted, does not leave this machine, or `plain_http` allows any. None when the URL is not an
/// address.
pub fn place(url: &str, target: &Target, plain_http: bool) -> Option<Place> {
    let region = match &target.auth {
        Auth::SigV4 { region, .. } => Some(region.as_str()),
        _ => None,
    };
    // Parsed as a destination, whose last part is an index.
    let address = url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let Ok(Destination::OpenSearch(found)) = Destination::parse(&format!("{address}/index"), None, region) else {
        return None;
    };
    let host = |url: &str| reqwest::Url::parse(url).ok()?.host_str().map(ToOwned::to_owned);
    let is_same_host = host(&found.base) == host(&target.base);
    let names_nobody = found.auth == Auth::None && target.auth != Auth::None && is_same_host;
    let is_private = plain_http || found.base.starts_with("https:") || is_loopback(&found.base);
    let withheld = names_nobody && !is_private;
    let auth = if names_nobody && is_private {
        target.auth.clone()
    } else {
        found.auth
    };
    // A browser's address goes on with `/app/…`.
    let base = found
        .base
        .split("/app/")
        .next()
        .unwrap_or_default()
        .trim_end_matches("/app");
    Some(Place {
        base: base.to_owned(),
        auth,
        withheld,
    })
}

fn is_loopback(url: &str) -> bool {
    let url = reqwest::Url::parse(url).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An import as the properties of a custom resource ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportProperties {
    /// The program's URL, as [`place`] takes it.
    pub url: String,
    /// The credentials, if neither the URL nor the destination has them.
    pub auth: Option<Auth>,
    /// The tenant; none for the user's own.
    pub tenant: Option<String>,
    /// The space of Kibana; none for its default.
    pub space: Option<String>,
    /// The treatment of objects that a person has changed.
    pub differing: OnConflict,
}

impl ImportProperties {
    /// Reads the properties `DashboardsUrl` (empty for no import), `DashboardsTenant`, `DashboardsSpace`,
    /// `DashboardsUser` with `DashboardsPassword`, and `DashboardsOverwrite` (`yes` or `no`). The update of a stack
    /// must not fail because somebody has changed a panel, so objects that differ are kept.
    ///
    /// # Errors
    ///
    /// When a property has a value that is not allowed.
    pub fn from_properties(properties: &Value) -> Result<Option<Self>, String> {
        let text = |name: &str| match &properties[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            _ => Err(format!("the property `{name}` must be a text")),
        };
        let differing = match text("DashboardsOverwrite")?.as_deref() {
            None | Some("no") => OnConflict::Keep,
            Some("yes") => OnConflict::Replace,
            Some(_) => return Err("the property `DashboardsOverwrite` must be `yes` or `no`".to_owned()),
        };
        let (tenant, space) = (text("DashboardsTenant")?, text("DashboardsSpace")?);
        let auth = match (text("DashboardsUser")?, text("DashboardsPassword")?) {
            (None, None) => None,
            (Some(user), Some(password)) => Some(Auth::Basic {
                user,
                password: Secret::new(password),
            }),
            _ => return Err("the properties `DashboardsUser` and `DashboardsPassword` go together".to_owned()),
        };
        Ok(text("DashboardsUrl")?.map(|url| Self {
            url,
            auth,
            tenant,
            space,
            differing,
        }))
    }
}

/// A request without the headers that depend on its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DashboardsRequest {
    /// The method.
    pub method: &'static str,
    /// Path and query after the program's address.
    pub path: String,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A response of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DashboardsResponse {
    /// The HTTP status.
    pub status: u16,
    /// The cookies that are set, as a browser would send them back.
    pub cookies: String,
    /// The body.
    pub body: Vec<u8>,
}

impl DashboardsResponse {
    fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Returns true if the response is an HTML page; for a request to the program, that is always a login page.
    fn is_page(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }

    /// Returns the reason in the program's words.
    fn reason(&self) -> String {
        let said = self.json().and_then(|body| {
            let part = |name: &str| body.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
            part("message").or_else(|| part("error"))
        });
        said.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&self.body);
            let line = text.chars().take(200).map(|it| if it.is_control() { ' ' } else { it });
            line.collect()
        })
    }
}

/// Returns the request for the program's version.
pub fn status() -> DashboardsRequest {
    plain("GET", "/api/status".to_owned())
}

/// Returns the request for a saved object.
pub fn get(space: Option<&str>, object: &Value) -> DashboardsRequest {
    let part = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    plain(
        "GET",
        format!(
            "{}/api/saved_objects/{}/{}",
            space_prefix(space),
            part("type"),
            part("id")
        ),
    )
}

/// Returns the request to log in, for programs that do not take credentials with each request.
pub fn login(user: &str, password: &str) -> DashboardsRequest {
    DashboardsRequest {
        body: json!({"username": user, "password": password}).to_string().into_bytes(),
        ..plain("POST", "/auth/login".to_owned())
    }
}

/// Returns the request to import objects: a form with one file.
pub fn import(space: Option<&str>, objects: &[&Value], overwrite: bool) -> DashboardsRequest {
    let lines: Vec<_> = objects.iter().map(ToString::to_string).collect();
    let file = lines.join("\n");
    let mut boundary = "pixel-dashboards".to_owned();
    while file.contains(&boundary) {
        boundary.push('-');
    }
    let body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"pixel.ndjson\"\r\nContent-Type: application/ndjson\r\n\r\n{file}\r\n--{boundary}--\r\n"
    );
    let query = if overwrite { "?overwrite=true" } else { "" };
    DashboardsRequest {
        method: "POST",
        path: format!("{}/api/saved_objects/_import{query}", space_prefix(space)),
        content_type: format!("multipart/form-data; boundary={boundary}"),
        body: body.into_bytes(),
    }
}

/// Returns the request for the fields of the indices that match a pattern.
pub fn list_fields(space: Option<&str>, pattern: &str) -> DashboardsRequest {
    let meta = fields::META_FIELDS.map(|name| format!("&meta_fields={name}")).concat();
    let pattern = utf8_percent_encode(pattern, NON_ALPHANUMERIC);
    let path = format!("/api/index_patterns/_fields_for_wildcard?pattern={pattern}{meta}");
    plain("GET", format!("{}{path}", space_prefix(space)))
}

/// Parses the response to [`list_fields`]: none if no index matches the pattern, the program has no such address (newer
/// Kibana, which needs no list), or the user lacks the permission.
pub fn parse_fields(reply: &DashboardsResponse) -> Option<Vec<Value>> {
    let body = reply.json().filter(|_| reply.status == 200)?;
    body["fields"].as_array().cloned()
}

/// Returns a stored index pattern with another list of fields and no other change, ready to be imported.
pub fn with_fields(stored: &Value, fields: &str) -> Value {
    let mut object = json!({"references": []});
    let members = [
        "type",
        "id",
        "attributes",
        "references",
        "migrationVersion",
        "coreMigrationVersion",
        "typeMigrationVersion",
    ];
    for member in members {
        if let Some(value) = stored.get(member) {
            object[member] = value.clone();
        }
    }
    object["attributes"]["fields"] = fields.into();
    object
}

/// Returns the request for the user's tenants.
pub fn list_tenants() -> DashboardsRequest {
    plain("GET", "/api/v1/configuration/account".to_owned())
}

/// Parses the response to [`list_tenants`]: the values of `--tenant`. Without the security plugin there are no tenants.
///
/// # Errors
///
/// A message with the response.
pub fn parse_tenants(reply: &DashboardsResponse) -> Result<Vec<String>, String> {
    match (reply.status, reply.json()) {
        (200, Some(body)) if body["data"]["tenants"].is_object() => {
            let own = body["data"]["user_name"].as_str().unwrap_or_default();
            let tenants = body["data"]["tenants"].as_object().into_iter().flatten();
            let name = |name: &String| match name.as_str() {
                "global_tenant" => "global".to_owned(),
                name if name == own => "private".to_owned(),
                name => name.to_owned(),
            };
            Ok(tenants.map(|(tenant, _)| name(tenant)).collect())
        }
        (404, Some(_)) => Ok(vec!["global".to_owned()]),
        _ => Err(refusal(reply)),
    }
}

/// Returns the request for the spaces that the user sees.
pub fn list_spaces() -> DashboardsRequest {
    plain("GET", "/api/spaces/space".to_owned())
}

/// Parses the response to [`list_spaces`]: the values of `--space`.
///
/// # Errors
///
/// A message with the response.
pub fn parse_spaces(reply: &DashboardsResponse) -> Result<Vec<String>, String> {
    match (reply.status, reply.json()) {
        (200, Some(Value::Array(spaces))) => {
            let ids = spaces.iter().filter_map(|space| space["id"].as_str());
            Ok(ids.map(ToOwned::to_owned).collect())
        }
        (404, Some(_)) => Ok(Vec::new()),
        _ => Err(refusal(reply)),
    }
}

/// Checks that a chosen tenant or space exists.
///
/// # Errors
///
/// A message that lists the existing ones.
pub fn check_choice(option: &str, chosen: &str, existing: &[String]) -> Result<(), String> {
    if existing.iter().any(|name| name == chosen) {
        return Ok(());
    }
    let names: Vec<_> = existing.iter().map(|name| format!("`{name}`")).collect();
    Err(match names.as_slice() {
        [] => format!("cannot find the {option} `{chosen}`: this program has none; leave `--{option}` out"),
        names => format!("cannot find the {option} `{chosen}`; try one of {}", names.join(", ")),
    })
}

fn plain(method: &'static str, path: String) -> DashboardsRequest {
    DashboardsRequest {
        method,
        path,
        content_type: crate::client::sign::CONTENT_TYPE.to_owned(),
        body: Vec::new(),
    }
}

fn space_prefix(space: Option<&str>) -> String {
    space.map(|space| format!("/s/{space}")).unwrap_or_default()
}

/// The result of the search for a program at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The program, by name and version.
    Program(String),
    /// A program that requires a login.
    Login,
    /// A program that reports that it is not ready yet.
    NotReady(String),
    /// Something else, or no response, with the reason.
    Nothing(String),
}

/// Parses the response to [`status`].
pub fn parse_status(reply: &DashboardsResponse) -> Found {
    let body = reply.json().unwrap_or_default();
    let version = body.pointer("/version/number").and_then(Value::as_str);
    match (reply.status, version) {
        (200 | 503, Some(version)) => Found::Program(format!("{} {version}", name(version))),
        // Without credentials, Kibana only shows that it exists.
        (200, None) if reply.is_page() || body.pointer("/status/overall/level").is_some() => Found::Login,
        (301..=308 | 401 | 403, _) => Found::Login,
        (503, _) => Found::NotReady(reply.reason()),
        (status, _) => Found::Nothing(format!("status {status}: {}", reply.reason())),
    }
}

/// Returns the program's name by its version: OpenSearch Dashboards began again with 1 when Kibana had reached 7.
fn name(version: &str) -> &'static str {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 6) {
        "Kibana"
    } else {
        "OpenSearch Dashboards"
    }
}

/// Parses the response to [`get`]: the object, or none if it does not exist.
///
/// # Errors
///
/// A message with the response.
pub fn parse_object(reply: &DashboardsResponse) -> Result<Option<Value>, String> {
    match (reply.status, reply.json()) {
        (200, Some(object)) if object.get("attributes").is_some() => Ok(Some(object)),
        (404, Some(_)) => Ok(None),
        _ => Err(refusal(reply)),
    }
}

/// Parses the response to [`import`]. A status of 200 does not mean that anything was imported.
///
/// # Errors
///
/// A message with the objects that were not imported, the reasons and a remedy.
pub fn imported(reply: &DashboardsResponse) -> Result<(), String> {
    let Some(body) = reply.json().filter(|_| reply.status == 200) else {
        return Err(refusal(reply));
    };
    if body["success"] == true {
        return Ok(());
    }
    let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    if errors.is_empty() {
        return Err(format!("the import failed without saying why: {}", reply.reason()));
    }
    let mut lines: Vec<_> = errors.iter().take(10).map(failure).collect();
    if errors.len() > lines.len() {
        lines.push(format!("  and {} more", errors.len() - lines.len()));
    }
    Err(format!("not everything was imported:\n{}", lines.join("\n")))
}

/// Returns the reason why one object was not imported.
fn failure(error: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, id, why) = (text(&error["type"]), text(&error["id"]), &error["error"]);
    let reason = match text(&why["type"]).as_str() {
        "conflict" | "ambiguous_conflict" => "another object has this id; `--overwrite` replaces it".to_owned(),
        "missing_references" => format!("it refers to what is not there: {}", why["references"]),
        "unsupported_type" => "this program knows no such objects".to_owned(),
        other => format!("{other}: {}", text(&why["message"])),
    };
    format!("  {kind} `{id}`: {reason}")
}

/// Returns the reason why a request was refused, and a remedy.
pub fn refusal(reply: &DashboardsResponse) -> String {
    let reason = reply.reason();
    match reply.status {
        200..=299 if reply.is_page() => "a page for people was answered: this is not logged in".to_owned(),
        301..=308 => "the answer leads elsewhere, most often to a login: this is not logged in".to_owned(),
        401 => format!("the credentials are not accepted: {reason}"),
        403 => format!("the credentials may not do this (or not in this tenant or space): {reason}"),
        404 => format!("there is no such thing; is the URL's path, or the space, right? {reason}"),
        413 => format!("the program, or a proxy before it, takes no file of this size: {reason}"),
        422 => format!(
            "the program is too old for these objects, it must be OpenSearch Dashboards 1 or Kibana 7.10 at least: {reason}"
        ),
        status => format!("status {status}: {reason}"),
    }
}

/// Returns true if a stored object is still the imported one. Newer programs add members to stored objects and rename a
/// few, so only members that a person would change are compared. The fields of an index pattern are not among them:
/// [`fields::WantedFields::are_in`] compares them.
pub fn is_same_object(ours: &Value, theirs: &Value) -> bool {
    let (mine, other) = (&ours["attributes"], &theirs["attributes"]);
    let equal = |names: &[&str]| names.iter().all(|name| mine[*name] == other[*name]);
    match ours["type"].as_str().unwrap_or_default() {
        "index-pattern" => equal(&["title", "timeFieldName"]),
        "dashboard" => {
            equal(&["title", "description", "timeFrom", "timeTo"])
                && panel_places(mine) == panel_places(other)
                && reference_names(ours) == reference_names(theirs)
        }
        "search" => equal(&["title", "description", "columns", "sort"]) && queries(mine) == queries(other),
        _ => {
            equal(&["title", "description"])
                && queries(mine) == queries(other)
                && covers(&visualization(other), &visualization(mine))
                && covers(
                    &parse_json_text(&other["uiStateJSON"]),
                    &parse_json_text(&mine["uiStateJSON"]),
                )
        }
    }
}

fn parse_json_text(text: &Value) -> Value {
    text.as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn queries(attributes: &Value) -> Value {
    parse_json_text(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"].take()
}

fn visualization(attributes: &Value) -> Value {
    let mut state = parse_json_text(&attributes["visState"]);
    // Kibana 8 has another name for it in pie charts.
    if let Some(params) = state["params"].as_object_mut() {
        params.remove("addLegend");
    }
    state
}

fn panel_places(attributes: &Value) -> Vec<Value> {
    let panels = parse_json_text(&attributes["panelsJSON"]);
    let panels = panels.as_array().map_or(&[][..], Vec::as_slice);
    panels.iter().map(|panel| panel["gridData"].clone()).collect()
}

fn reference_names(object: &Value) -> Vec<String> {
    let references = object["references"].as_array().map_or(&[][..], Vec::as_slice);
    let describe = |reference: &Value| format!("{} {}", reference["type"], reference["id"]);
    let mut names: Vec<_> = references.iter().map(describe).collect();
    names.sort_unstable();
    names
}
