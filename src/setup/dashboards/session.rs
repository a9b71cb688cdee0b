//! The import itself: finds the program, logs in, reads the existing objects, sends the missing ones, and checks again.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use serde_json::Value;

use super::fields::WantedFields;
use super::{DashboardsRequest, DashboardsResponse, Found, PREFIXES};
use crate::client::http::{SendError, Unauthenticated, authenticate, transport};
use crate::destination::Auth;
use crate::setup::run::{Step, StepResult};
use crate::setup::server::{ServerError, explain};

/// The time-out of one request; an import migrates and indexes every object.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// The treatment of existing objects that differ from ours: somebody has changed them, or they are of another version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Fail with their names, and write nothing.
    #[default]
    Refuse,
    /// Keep them, and report their names.
    Keep,
    /// Replace them.
    Replace,
}

/// The target and the options of an import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The program's URL, without credentials and without a slash at its end.
    pub base: String,
    /// The authentication of requests.
    pub auth: Auth,
    /// True if credentials exist for this host that must not be sent over plain HTTP.
    pub withheld: bool,
    /// The tenant of the security plugin of OpenSearch Dashboards.
    pub tenant: Option<String>,
    /// The space of Kibana.
    pub space: Option<String>,
    /// The treatment of existing objects that differ.
    pub differing: OnConflict,
    /// True to write; false to report only.
    pub write: bool,
}

/// Imports `objects`, or reports what would be done.
///
/// # Errors
///
/// [`ServerError`] with a remedy.
pub async fn import(
    http: &reqwest::Client,
    credentials: Option<&SharedCredentialsProvider>,
    options: &ImportOptions,
    objects: &[Value],
) -> Result<Step, ServerError> {
    let mut session = Session {
        http,
        credentials,
        options,
        base: options.base.clone(),
        cookie: None,
    };
    let program = session.open().await?;
    session.check_place().await?;
    let fields = session.wanted_fields(objects).await?;
    let objects: &[Value] = &fill_in(objects, &fields);
    let mut subject = format!(
        "dashboards in {program}: {} objects, {}",
        objects.len(),
        describe(&fields)
    );
    let Compared {
        absent,
        mut changed,
        outdated,
    } = session.compare(objects, &fields).await?;
    if !changed.is_empty() && options.differing == OnConflict::Keep {
        subject = format!(
            "{subject}, {} of them kept as somebody changed them: {}",
            changed.len(),
            names(&changed)
        );
        changed.clear();
    }
    if !changed.is_empty() && options.differing == OnConflict::Refuse {
        let message = format!(
            "these are there and differ from what would be imported:\n  {}\n  nothing was written; `--overwrite` replaces them",
            names(&changed)
        );
        return Err(session.error(&message));
    }
    if outdated.is_some() {
        subject = format!("{subject}, which were not in it");
    }
    let done = match (absent.len(), changed.len() + usize::from(outdated.is_some())) {
        (0, 0) => {
            return Ok(Step {
                subject,
                done: StepResult::Unchanged,
            });
        }
        (absent, 0) if absent == objects.len() => StepResult::Created,
        _ => StepResult::Updated,
    };
    if options.write {
        let sent: Vec<_> = absent.into_iter().chain(changed.iter().copied()).collect();
        if !sent.is_empty() {
            session.send_objects(&sent, !changed.is_empty(), &fields).await?;
        }
        if let Some(index_pattern) = outdated {
            session.write_fields(&index_pattern, &fields).await?;
        }
    }
    Ok(Step { subject, done })
}

/// The objects by their difference from the stored ones.
struct Compared<'o> {
    absent: Vec<&'o Value>,
    /// The objects that exist and that a person has changed.
    changed: Vec<&'o Value>,
    /// A stored index pattern whose list of fields is not the wanted one.
    outdated: Option<Value>,
}

fn is_index_pattern(object: &Value) -> bool {
    object["type"] == "index-pattern"
}

fn fill_in(objects: &[Value], fields: &WantedFields) -> Vec<Value> {
    let mut objects = objects.to_vec();
    for object in objects.iter_mut().filter(|object| is_index_pattern(object)) {
        object["attributes"]["fields"] = fields.text(None).into();
    }
    objects
}

fn describe(fields: &WantedFields) -> String {
    let number = fields.len();
    match (fields.from_program, fields.absent.as_slice()) {
        (false, _) => format!("{number} fields in the index pattern, as shipped: the program lists none of an index"),
        (true, []) => format!("{number} fields in the index pattern"),
        (true, absent) => format!(
            "{number} fields in the index pattern, of which the indices lack {}",
            absent.join(", ")
        ),
    }
}

fn names(objects: &[&Value]) -> String {
    let titles = objects.iter().map(|object| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} `{}`", text(&object["type"]), text(&object["id"]))
    });
    titles.collect::<Vec<_>>().join(", ")
}

struct Session<'a> {
    http: &'a reqwest::Client,
    credentials: Option<&'a SharedCredentialsProvider>,
    options: &'a ImportOptions,
    /// The address, with the prefix at which the program was found.
    base: String,
    /// The cookie of a login.
    cookie: Option<String>,
}

impl Session<'_> {
    fn error(&self, message: &str) -> ServerError {
        ServerError::new(format!("{}: {message}", self.base))
    }

    fn space(&self) -> Option<&str> {
        self.options.space.as_deref()
    }

    /// Finds the program and logs in.
    async fn open(&mut self) -> Result<String, ServerError> {
        let mut answers = Vec::new();
        for prefix in self.prefixes() {
            self.base = format!("{}{prefix}", self.options.base);
            match super::parse_status(&self.send(&super::status()).await?) {
                Found::Program(program) => return Ok(program),
                Found::Login => return self.log_in().await,
                Found::NotReady(why) => return Err(self.error(&format!("it is not ready yet, try again soon: {why}"))),
                Found::Nothing(why) => answers.push(format!("\n  {}/api/status: {why}", self.base)),
            }
        }
        Err(ServerError::new(format!(
            "`{}` is neither OpenSearch Dashboards nor Kibana; is the URL right?{}",
            self.options.base,
            answers.concat()
        )))
    }

    /// Returns the prefixes to try. A URL with a path is the program's; on a bare host it may be at several paths.
    fn prefixes(&self) -> Vec<&'static str> {
        let path = reqwest::Url::parse(&self.options.base).map(|url| url.path().len());
        if path.is_ok_and(|length| length > 1) {
            vec![""]
        } else {
            PREFIXES.to_vec()
        }
    }

    async fn log_in(&mut self) -> Result<String, ServerError> {
        let Auth::Basic { user, password } = &self.options.auth else {
            let auth = self.options.auth.name();
            return Err(self.error(&format!(
                "it wants a login, and the credentials (`{auth}`) are not accepted{}\n  give them in the URL, as in `https://user:password@host`, or allow the IAM role in the domain's role mapping",
                if self.options.withheld {
                    "; those of the destination are not sent over plain http unless you say `--plain-http-credentials`"
                } else {
                    ""
                }
            )));
        };
        let reply = self.send(&super::login(user, password.expose())).await?;
        if reply.status != 200 || reply.cookies.is_empty() {
            let why = super::refusal(&reply);
            return Err(self.error(&format!("user and password are not accepted\n  {why}")));
        }
        self.cookie = Some(reply.cookies);
        match super::parse_status(&self.send(&super::status()).await?) {
            Found::Program(program) => Ok(program),
            _ => Err(self.error("the login was accepted and is not honoured")),
        }
    }

    /// Checks that the tenant and the space exist: the programs silently use another tenant, and store into any space.
    async fn check_place(&self) -> Result<(), ServerError> {
        if let Some(tenant) = &self.options.tenant {
            let reply = self.send(&super::list_tenants()).await?;
            let tenants = super::parse_tenants(&reply);
            let tenants = tenants.map_err(|why| self.error(&format!("cannot list the tenants: {why}")))?;
            super::check_choice("tenant", tenant, &tenants).map_err(|why| self.error(&why))?;
        }
        if let Some(space) = &self.options.space {
            let reply = self.send(&super::list_spaces()).await?;
            let spaces = super::parse_spaces(&reply);
            let spaces = spaces.map_err(|why| self.error(&format!("cannot list the spaces: {why}")))?;
            super::check_choice("space", space, &spaces).map_err(|why| self.error(&why))?;
        }
        Ok(())
    }

    /// Returns the list of fields that the index pattern should have.
    async fn wanted_fields(&self, objects: &[Value]) -> Result<WantedFields, ServerError> {
        let index_pattern = objects.iter().find(|object| is_index_pattern(object));
        let title = index_pattern.and_then(|object| object["attributes"]["title"].as_str());
        let Some(pattern) = title else {
            return Ok(WantedFields::new(None));
        };
        let reply = self.send(&super::list_fields(self.space(), pattern)).await?;
        Ok(WantedFields::new(super::parse_fields(&reply)))
    }

    /// Compares the objects with the existing ones.
    async fn compare<'o>(&self, objects: &'o [Value], fields: &WantedFields) -> Result<Compared<'o>, ServerError> {
        let mut compared = Compared {
            absent: Vec::new(),
            changed: Vec::new(),
            outdated: None,
        };
        for object in objects {
            match self.fetch_object(object).await? {
                None => compared.absent.push(object),
                Some(theirs) if !super::is_same_object(object, &theirs) => compared.changed.push(object),
                Some(theirs) if is_index_pattern(object) && !fields.are_in(&theirs) => compared.outdated = Some(theirs),
                Some(_) => {}
            }
        }
        Ok(compared)
    }

    /// Replaces the list of fields of an existing index pattern, and keeps the rest of it.
    async fn write_fields(&self, index_pattern: &Value, fields: &WantedFields) -> Result<(), ServerError> {
        let object = super::with_fields(index_pattern, &fields.text(Some(index_pattern)));
        let reply = self.send(&super::import(self.space(), &[&object], true)).await?;
        super::imported(&reply)
            .map_err(|why| self.error(&format!("cannot write the fields of the index pattern: {why}")))?;
        match self.fetch_object(index_pattern).await? {
            Some(stored) if fields.are_in(&stored) => Ok(()),
            _ => Err(self.error("it says that the fields of the index pattern were written, and they are not there")),
        }
    }

    async fn fetch_object(&self, object: &Value) -> Result<Option<Value>, ServerError> {
        let reply = self.send(&super::get(self.space(), object)).await?;
        super::parse_object(&reply).map_err(|why| self.error(&format!("looking for {}: {why}", names(&[object]))))
    }

    async fn send_objects(
        &self,
        objects: &[&Value],
        overwrite: bool,
        fields: &WantedFields,
    ) -> Result<(), ServerError> {
        let reply = self.send(&super::import(self.space(), objects, overwrite)).await?;
        super::imported(&reply).map_err(|why| self.error(&why))?;
        let mut missing = Vec::new();
        for object in objects {
            let found = self.fetch_object(object).await?;
            let is_whole = |theirs: &Value| {
                super::is_same_object(object, theirs) && (!is_index_pattern(object) || fields.are_in(theirs))
            };
            if !found.is_some_and(|theirs| is_whole(&theirs)) {
                missing.push(*object);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.error(&format!(
            "it says that all was imported, and these cannot be found again as they were sent: {}",
            names(&missing)
        )))
    }

    async fn send(&self, request: &DashboardsRequest) -> Result<DashboardsResponse, ServerError> {
        let auth = self.options.auth.name();
        let failed = |error: SendError| ServerError::new(explain(&error.to_string(), &self.base, auth));
        self.exchange(request).await.map_err(failed)
    }

    async fn exchange(&self, request: &DashboardsRequest) -> Result<DashboardsResponse, SendError> {
        let url = format!("{}{}", self.base, request.path);
        let headers = self.headers(&url, request).await?;
        let method = reqwest::Method::from_bytes(request.method.as_bytes())
            .map_err(|_| SendError::Impossible(format!("`{}` is not an HTTP method", request.method)))?;
        let sent = self
            .http
            .request(method, &url)
            .headers(headers)
            .timeout(REQUEST_TIMEOUT);
        let response = sent.body(request.body.clone()).send().await.map_err(transport)?;
        let (status, cookies) = (response.status().as_u16(), cookies(response.headers()));
        let body = response.bytes().await.map_err(transport)?.to_vec();
        Ok(DashboardsResponse { status, cookies, body })
    }

    async fn headers(&self, url: &str, request: &DashboardsRequest) -> Result<HeaderMap, SendError> {
        // A login replaces the other credentials.
        let auth = if self.cookie.is_some() {
            &Auth::None
        } else {
            &self.options.auth
        };
        let unauthenticated = Unauthenticated {
            method: request.method,
            url,
            content_type: &request.content_type,
            target: None,
            body: &request.body,
        };
        let mut headers = authenticate(unauthenticated, auth, self.credentials).await?;
        // Each program requires its own header and ignores the other's.
        let own = [("osd-xsrf", Some("true")), ("kbn-xsrf", Some("true"))];
        let chosen = [
            ("securitytenant", self.options.tenant.as_deref()),
            ("cookie", self.cookie.as_deref()),
        ];
        for (name, value) in own.into_iter().chain(chosen) {
            let Some(value) = value else { continue };
            let value = HeaderValue::from_str(value)
                .map_err(|_| SendError::Impossible(format!("`{name}` cannot hold what was given")))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(headers)
    }
}

/// Returns the cookies of a response, as a browser sends them back.
fn cookies(headers: &HeaderMap) -> String {
    let set = headers.get_all(SET_COOKIE).iter();
    let pairs = set.filter_map(|value| value.to_str().ok()?.split(';').next());
    pairs.collect::<Vec<_>>().join("; ")
}
