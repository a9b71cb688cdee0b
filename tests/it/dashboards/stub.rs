//! OpenSearch Dashboards and Kibana as an importer meets them, on loopback. Neither can be had as a package, so this answers
//! as their source does:
//!
//! - saved objects API, its checks, statuses and bodies: `src/core/server/saved_objects/routes/{get,import,utils}.ts` and
//!   `…/import/*.ts` of OpenSearch Dashboards 2 and Kibana 7.10; in Kibana 8 `packages/core/saved-objects`;
//! - versions too new (422): `…/migrations/core/document_migrator.ts`; strict mappings: reports domainaware/parsedmarc#616;
//! - what Kibana 8 makes of what it stores: `src/plugins/dashboard/common/saved_dashboard_references.ts`,
//!   `src/plugins/visualizations/server/migrations`;
//! - login, cookie and tenants: `server/auth` and `server/multitenancy/tenant_resolver.ts` of the security plugin;
//! - a page where nobody is logged in, and the paths on AWS: OpenSearch-Dashboards#1723.
//!
//! What it does not do: anything but saved objects, status and login; `createNewCopies`; data sources.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    OpenSearchDashboards2,
    Kibana7,
    Kibana8,
    /// Before the versions of the file.
    Kibana76,
}

/// Whom it lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// `Authorization: Basic`; others get 401.
    Basic,
    /// Only a login's cookie; others get the login's page.
    Cookie,
    /// Only signed requests; others get 403.
    Signed,
    /// Nobody: a page, with status 200.
    Page,
}

pub const USER: (&str, &str) = ("admin", "se:cret ü");
const COOKIE: &str = "security_authentication=Fe26.2**abc";

/// What goes wrong with an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It says that it was a success, and stores nothing.
    Forgets,
    /// 500 without JSON.
    Crash,
    /// 413, as a proxy answers.
    TooLarge,
    /// 503 at the status already.
    NotReady,
    /// Somebody else makes an object between looking and importing.
    Race,
    /// It knows no objects of this type.
    Lacks(&'static str),
    /// No index has the pattern's name.
    NoIndex,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Came {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// Objects by tenant or space, type and id.
pub type Objects = BTreeMap<(String, String, String), Value>;

#[derive(Clone)]
pub struct Stub {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    program: Program,
    door: Door,
    prefix: &'static str,
    fault: Fault,
    objects: Objects,
    came: Vec<Came>,
}

impl Stub {
    pub fn start(program: Program, door: Door, prefix: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            program,
            door,
            prefix,
            fault: Fault::None,
            objects: Objects::new(),
            came: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &shared);
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn fault(&self, fault: Fault) {
        self.with(|state| state.fault = fault);
    }

    pub fn change(&self, change: impl FnOnce(&mut Objects)) {
        self.with(|state| change(&mut state.objects));
    }

    pub fn objects(&self) -> Objects {
        self.with(|state| state.objects.clone())
    }

    /// The requests since the last time.
    pub fn came(&self) -> Vec<Came> {
        self.with(|state| std::mem::take(&mut state.came))
    }
}

struct Answer {
    status: u16,
    headers: String,
    body: String,
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer {
        status,
        headers: "Content-Type: application/json; charset=utf-8\r\n".to_owned(),
        body: body.to_string(),
    }
}

fn error(status: u16, name: &str, message: &str) -> Answer {
    answer(
        status,
        &json!({"statusCode": status, "error": name, "message": message}),
    )
}

fn page() -> Answer {
    Answer {
        status: 200,
        headers: "Content-Type: text/html; charset=utf-8\r\n".to_owned(),
        body: "<!DOCTYPE html><html lang=\"en\"><head><title>Log in</title></head></html>".to_owned(),
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let Some(came) = read(&mut stream)? else { return Ok(()) };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.came.push(came.clone());
    let Answer { status, headers, body } = state.answer(&came);
    drop(state);
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

fn read(stream: &mut TcpStream) -> std::io::Result<Option<Came>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        if let Some(came) = end.and_then(|end| whole(&bytes, end)) {
            return Ok(Some(came));
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn whole(bytes: &[u8], end: usize) -> Option<Came> {
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| {
        line.split_once(": ")
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
    };
    let headers: BTreeMap<_, _> = lines.filter_map(header).collect();
    let length = headers
        .get("content-length")
        .map_or(Ok(0), |length| length.parse::<usize>())
        .ok()?;
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    Some(Came {
        method,
        path,
        headers,
        body,
    })
}

impl State {
    fn answer(&mut self, came: &Came) -> Answer {
        let Some(path) = came.path.strip_prefix(self.prefix) else {
            return self.elsewhere();
        };
        let header = |name: &str| came.headers.get(name).map(String::as_str);
        let own = if self.program == Program::OpenSearchDashboards2 {
            "osd-xsrf"
        } else {
            "kbn-xsrf"
        };
        if came.method != "GET" && header(own).is_none() {
            return error(400, "Bad Request", &format!("Request must contain a {own} header."));
        }
        if path == "/auth/login" && self.door == Door::Cookie {
            return log_in(&came.body);
        }
        if let Some(refused) = self.refuse(came) {
            return refused;
        }
        if self.fault == Fault::NotReady {
            let mut answer = error(
                503,
                "Service Unavailable",
                "OpenSearch Dashboards server is not ready yet",
            );
            answer
                .body
                .replace_range(.., "OpenSearch Dashboards server is not ready yet");
            return answer;
        }
        let tenant = header("securitytenant").unwrap_or_default().to_owned();
        let (place, path) = match path.strip_prefix("/s/").and_then(|rest| rest.split_once('/')) {
            Some((space, rest)) if self.program != Program::OpenSearchDashboards2 => {
                (space.to_owned(), format!("/{rest}"))
            }
            _ => (tenant, path.to_owned()),
        };
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        match (came.method.as_str(), path.split('/').collect::<Vec<_>>().as_slice()) {
            ("GET", ["", "api", "status"]) => self.status(),
            ("GET", ["", "api", "saved_objects", kind, id]) => self.get(&place, kind, id),
            ("POST", ["", "api", "saved_objects", "_import"]) => self.import(&place, query, came),
            ("GET", ["", "api", "index_patterns", "_fields_for_wildcard"]) => self.fields(query),
            ("GET", ["", "api", "v1", "configuration", "account"]) if self.has_tenants() => answer(
                200,
                &json!({"data": {
                    "user_name": USER.0,
                    "tenants": {"global_tenant": true, "admin_tenant": true, USER.0: true},
                }}),
            ),
            ("GET", ["", "api", "spaces", "space"]) if self.program != Program::OpenSearchDashboards2 => answer(
                200,
                &json!([{"id": "default", "name": "Default"}, {"id": "marketing", "name": "Marketing"}]),
            ),
            _ => error(404, "Not Found", "Not Found"),
        }
    }

    /// What is there beside the program: the index's server, or nothing.
    fn elsewhere(&self) -> Answer {
        let message = "no handler found for uri [/api/status] and method [GET]";
        match self.prefix {
            "/_dashboards" => answer(400, &json!({ "error": message })),
            _ => answer(
                404,
                &json!({"error": {"type": "index_not_found_exception", "reason": "no such index [api]"}, "status": 404}),
            ),
        }
    }

    fn refuse(&self, came: &Came) -> Option<Answer> {
        let authorization = came
            .headers
            .get("authorization")
            .map(String::as_str)
            .unwrap_or_default();
        match self.door {
            Door::Open => None,
            Door::Basic => {
                let expected = format!("Basic {}", STANDARD.encode(format!("{}:{}", USER.0, USER.1)));
                (authorization != expected).then(|| error(401, "Unauthorized", "Authentication Exception"))
            }
            Door::Cookie => (came.headers.get("cookie").map(String::as_str) != Some(COOKIE)).then(page),
            Door::Signed => (!signed(came, authorization)).then(|| {
                answer(
                    403,
                    &json!({"Message": "User: anonymous is not authorized to perform: es:ESHttpGet"}),
                )
            }),
            Door::Page => Some(page()),
        }
    }

    fn status(&self) -> Answer {
        let number = match self.program {
            Program::OpenSearchDashboards2 => "2.19.4",
            Program::Kibana7 => "7.17.29",
            Program::Kibana8 => "8.19.7",
            Program::Kibana76 => "7.6.2",
        };
        answer(
            200,
            &json!({"name": "node", "version": {"number": number, "build_number": 1}, "status": {"overall": {"level": "available"}}}),
        )
    }

    fn get(&self, place: &str, kind: &str, id: &str) -> Answer {
        let key = (place.to_owned(), kind.to_owned(), id.to_owned());
        match self.objects.get(&key) {
            Some(object) => answer(200, object),
            None => error(404, "Not Found", &format!("Saved object [{kind}/{id}] not found")),
        }
    }

    /// The security plugin has them.
    fn has_tenants(&self) -> bool {
        self.program == Program::OpenSearchDashboards2 && self.door != Door::Open
    }

    /// The fields of the indices, as `src/plugins/data/server/index_patterns/routes.ts` answers them.
    fn fields(&self, query: &str) -> Answer {
        let pattern = query.split('&').find_map(|part| part.strip_prefix("pattern="));
        let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else {
            return error(
                400,
                "Bad Request",
                "[request query.pattern]: expected value of type [string] but got [undefined]",
            );
        };
        if self.fault == Fault::NoIndex {
            return error(404, "Not Found", &format!("No indices match pattern \"{pattern}\""));
        }
        let wanted: Vec<_> = query
            .split('&')
            .filter_map(|part| part.strip_prefix("meta_fields="))
            .collect();
        answer(200, &json!({"fields": program_fields(&wanted)}))
    }

    fn import(&mut self, place: &str, query: &str, came: &Came) -> Answer {
        match self.fault {
            Fault::Crash => return error(500, "Internal Server Error", "An internal server error occurred."),
            Fault::TooLarge => {
                return Answer {
                    body: "<html><head><title>413</title></head></html>".to_owned(),
                    ..error(413, "", "")
                };
            }
            _ => {}
        }
        let overwrite = match query {
            "" => false,
            "overwrite=true" => true,
            other => {
                return error(
                    400,
                    "Bad Request",
                    &format!("[request query.{other}]: definition for this key is missing"),
                );
            }
        };
        let objects = match file(came).and_then(|file| read_objects(&file)) {
            Ok(objects) => objects,
            Err(refused) => return refused,
        };
        if let Some(refused) = self.too_new(&objects) {
            return refused;
        }
        if self.fault == Fault::Race {
            let key = |object: &Value| (place.to_owned(), text(&object["type"]), text(&object["id"]));
            self.objects
                .insert(key(&objects[3]), json!({"attributes": {"title": "Somebody else's"}}));
        }
        self.store(place, overwrite, &objects)
    }

    fn too_new(&self, objects: &[Value]) -> Option<Answer> {
        if self.program != Program::Kibana76 {
            return None;
        }
        let newer = objects
            .iter()
            .find(|object| object["migrationVersion"]["visualization"] == "7.10.0")?;
        let message = format!(
            "Document \"{}\" has property \"visualization\" which belongs to a more recent version of Kibana [7.10.0]. The last known version is [7.4.2]",
            text(&newer["id"])
        );
        Some(error(422, "Unprocessable Entity", &message))
    }

    /// Nothing is written when anything is in the way that could be resolved. Objects of an unknown type are left out, and
    /// the others are written all the same.
    fn store(&mut self, place: &str, overwrite: bool, objects: &[Value]) -> Answer {
        let key = |object: &Value| (place.to_owned(), text(&object["type"]), text(&object["id"]));
        let known = |object: &&Value| !matches!(self.fault, Fault::Lacks(kind) if object["type"] == kind);
        let (objects, unknown): (Vec<_>, Vec<_>) = objects.iter().partition(known);
        let unsupported = unknown.iter().map(|object| {
            json!({"id": object["id"], "type": object["type"], "title": object["attributes"]["title"], "meta": {},
                "error": {"type": "unsupported_type"}})
        });
        let unsupported: Vec<_> = unsupported.collect();
        let mut errors = Vec::new();
        for object in &objects {
            let meta =
                json!({"id": object["id"], "type": object["type"], "title": object["attributes"]["title"], "meta": {}});
            let mut fail = |why: Value| {
                let mut error = meta.clone();
                error["error"] = why;
                errors.push(error);
            };
            if !overwrite && self.objects.contains_key(&key(object)) {
                fail(json!({"type": "conflict"}));
            }
            let absent = |reference: &&Value| {
                let checked = reference["type"] == "index-pattern" || reference["type"] == "search";
                let here = objects
                    .iter()
                    .any(|other| other["type"] == reference["type"] && other["id"] == reference["id"]);
                checked && !here && !self.objects.contains_key(&key(reference))
            };
            let absent: Vec<_> = object["references"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(absent)
                .collect();
            if !absent.is_empty() {
                fail(json!({"type": "missing_references", "references": absent}));
            }
        }
        if errors.is_empty() && self.fault != Fault::Forgets {
            for object in &objects {
                let stored = stored(self.program, object);
                self.objects.insert(key(object), stored);
            }
        }
        errors.extend(unsupported);
        let all = objects.len() + unknown.len();
        let mut body = json!({"success": errors.is_empty(), "successCount": all.saturating_sub(errors.len())});
        if !errors.is_empty() {
            body["errors"] = errors.into();
        }
        answer(200, &body)
    }
}

/// What the program says of the fields of an index with our mapping: sorted, without what it stores beside.
pub fn program_fields(meta: &[&str]) -> Vec<Value> {
    use pixel::hit::event::fields::{FIELDS, Kind};
    let of_mapping = FIELDS.iter().filter_map(|field| {
        let kind = match field.kind {
            Kind::Raw => return None,
            Kind::Keyword(_) => "string",
            Kind::Long => "number",
            other => other.name(),
        };
        Some(json!({"name": field.name, "type": kind, "esTypes": [field.kind.name()],
            "searchable": true, "aggregatable": true, "readFromDocValues": true}))
    });
    let of_documents = meta.iter().map(|name| {
        let (kind, searchable) = match *name {
            "_score" => ("number", false),
            "_source" => ("_source", false),
            "_type" => ("string", false),
            _ => ("string", true),
        };
        json!({"name": name, "type": kind, "searchable": searchable, "aggregatable": searchable, "readFromDocValues": false})
    });
    let mut fields: Vec<_> = of_mapping.chain(of_documents).collect();
    fields.sort_by_key(|field| field["name"].to_string());
    fields
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn log_in(body: &[u8]) -> Answer {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if body != json!({"username": USER.0, "password": USER.1}) {
        return error(401, "Unauthorized", "Authentication failed");
    }
    let reply = answer(200, &json!({"username": USER.0, "tenants": {"global_tenant": true}}));
    Answer {
        headers: format!("{}Set-Cookie: {COOKIE}; Secure; HttpOnly; Path=/\r\n", reply.headers),
        ..reply
    }
}

/// Whether the signature is one of these bytes, this host and this media type.
fn signed(came: &Came, authorization: &str) -> bool {
    use pixel::client::sign::{Unsigned, headers_of};
    let date = came
        .headers
        .get("x-amz-date")
        .and_then(|date| chrono::NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").ok());
    let (Some(date), Some(host)) = (date, came.headers.get("host")) else {
        return false;
    };
    let unsigned = Unsigned {
        method: &came.method,
        url: &format!("http://{host}{}", came.path),
        host,
        body: &came.body,
    };
    let credentials = aws_credential_types::Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    let media = came.headers.get("content-type").map(String::as_str).unwrap_or_default();
    let expected = headers_of(
        unsigned,
        &[("content-type", media)],
        &credentials,
        "es",
        "eu-west-1",
        date.and_utc().into(),
    )
    .expect("it can be signed");
    expected
        .iter()
        .any(|(name, value)| *name == "authorization" && value == authorization)
}

/// The file of a form.
fn file(came: &Came) -> Result<String, Answer> {
    let media = came.headers.get("content-type").map(String::as_str).unwrap_or_default();
    let Some(boundary) = media.strip_prefix("multipart/form-data; boundary=") else {
        return Err(error(415, "Unsupported Media Type", "Unsupported Media Type"));
    };
    let body = String::from_utf8_lossy(&came.body).into_owned();
    let parts: Vec<_> = body.split(&format!("--{boundary}")).collect();
    let [before, part, end] = parts.as_slice() else {
        return Err(error(400, "Bad Request", "Invalid multipart payload format"));
    };
    let framed = part
        .strip_prefix("\r\n")
        .and_then(|part| part.strip_suffix("\r\n"))
        .and_then(|part| part.split_once("\r\n\r\n"));
    let (Some((head, file)), "", "--\r\n") = (framed, *before, *end) else {
        return Err(error(400, "Bad Request", "Invalid multipart payload format"));
    };
    if !head.contains("form-data; name=\"file\"") {
        return Err(error(
            400,
            "Bad Request",
            "[request body.file]: expected value of type [Stream] but got [undefined]",
        ));
    }
    if !head.contains(".ndjson\"") {
        return Err(error(400, "Bad Request", "Invalid file extension"));
    }
    Ok(file.to_owned())
}

fn read_objects(file: &str) -> Result<Vec<Value>, Answer> {
    let mut objects: Vec<Value> = Vec::new();
    for line in file.lines().filter(|line| !line.is_empty()) {
        let object: Value = serde_json::from_str(line)
            .map_err(|_| error(400, "Bad Request", "Unexpected token in JSON at position 0"))?;
        let same = |other: &Value| other["type"] == object["type"] && other["id"] == object["id"];
        if objects.iter().any(same) {
            return Err(error(400, "Bad Request", "Non-unique import objects detected"));
        }
        objects.push(object);
    }
    Ok(objects)
}

/// An object as it is stored, after what newer versions do to it.
fn stored(program: Program, object: &Value) -> Value {
    let mut stored = object.clone();
    stored["updated_at"] = "2026-03-15T12:00:00.000Z".into();
    stored["version"] = "WzEsMV0=".into();
    if program != Program::Kibana8 {
        return stored;
    }
    stored["typeMigrationVersion"] = "10.3.0".into();
    if object["type"] == "dashboard" {
        for (number, reference) in stored["references"].as_array_mut().into_iter().flatten().enumerate() {
            reference["name"] = format!("{0}:panel_{0}", number + 1).into();
        }
    }
    if let Some(mut state) = super::inner(&stored, "/attributes/visState") {
        if state["type"] == "pie" {
            let params = state["params"].as_object_mut().expect("it has params");
            params.remove("addLegend");
            params.insert("legendDisplay".to_owned(), "show".into());
        }
        if state["type"] == "histogram" {
            state["params"]["palette"] = json!({"type": "palette", "name": "kibana_palette"});
        }
        stored["attributes"]["visState"] = state.to_string().into();
    }
    stored
}
