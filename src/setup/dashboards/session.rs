//! The import itself: finds the program, logs in, looks at what is there, sends what is not, and looks again.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use serde_json::Value;

use super::{Found, PREFIXES, Reply, Request};
use crate::aws::client::{SendError, Unauthenticated, authenticated, transport};
use crate::delivery::Auth;
use crate::setup::run::{Done, Step};
use crate::setup::server::{ServerError, explain};

/// Patience with one request; an import migrates and indexes every object.
const PATIENCE: Duration = Duration::from_mins(1);

/// What becomes of objects that are there and differ from ours: somebody has changed them, or they are of another version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Differing {
    /// They are named, and nothing is written.
    #[default]
    Refuse,
    /// They stay, and are named.
    Keep,
    /// They are replaced.
    Replace,
}

/// Where the dashboards are to be, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program's URL, without credentials and without a slash at its end.
    pub base: String,
    /// How requests prove who sends them.
    pub auth: Auth,
    /// The tenant of the security plugin of OpenSearch Dashboards.
    pub tenant: Option<String>,
    /// The space of Kibana.
    pub space: Option<String>,
    /// What becomes of objects that are there and differ.
    pub differing: Differing,
    /// Whether anything is written.
    pub write: bool,
}

/// Imports `objects`, or says what would be done.
///
/// # Errors
///
/// [`ServerError`] with what to do.
pub async fn import(
    http: &reqwest::Client,
    credentials: Option<&SharedCredentialsProvider>,
    options: &Options,
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
    let mut subject = format!("dashboards in {program}: {} objects", objects.len());
    let (absent, mut changed) = session.compare(objects).await?;
    if !changed.is_empty() && options.differing == Differing::Keep {
        subject = format!(
            "{subject}, {} of them kept as somebody changed them: {}",
            changed.len(),
            names(&changed)
        );
        changed.clear();
    }
    if !changed.is_empty() && options.differing == Differing::Refuse {
        let message = format!(
            "these are there and differ from what would be imported:\n  {}\n  nothing was written; `--overwrite` replaces them",
            names(&changed)
        );
        return Err(session.error(&message));
    }
    let done = match (absent.len(), changed.len()) {
        (0, 0) => {
            return Ok(Step {
                subject,
                done: Done::Unchanged,
            });
        }
        (absent, 0) if absent == objects.len() => Done::Created,
        _ => Done::Updated,
    };
    if options.write {
        let sent: Vec<_> = absent.into_iter().chain(changed.iter().copied()).collect();
        session.send_objects(&sent, !changed.is_empty()).await?;
    }
    Ok(Step { subject, done })
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
    options: &'a Options,
    /// With the prefix that the program was found under.
    base: String,
    /// What a login gave.
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
            match super::found(&self.send(&super::status()).await?) {
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

    /// A URL with a path is the program's; below a bare host it may be in several places.
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
                "it wants a login, and the credentials (`{auth}`) are not accepted\n  give them in the URL, as in `https://user:password@host`, or allow the IAM role in the domain's role mapping"
            )));
        };
        let reply = self.send(&super::login(user, password.expose())).await?;
        if reply.status != 200 || reply.cookies.is_empty() {
            let why = super::refusal(&reply);
            return Err(self.error(&format!("user and password are not accepted\n  {why}")));
        }
        self.cookie = Some(reply.cookies);
        match super::found(&self.send(&super::status()).await?) {
            Found::Program(program) => Ok(program),
            _ => Err(self.error("the login was accepted and is not honoured")),
        }
    }

    /// What is not there, and what is there and differs.
    async fn compare<'o>(&self, objects: &'o [Value]) -> Result<(Vec<&'o Value>, Vec<&'o Value>), ServerError> {
        let (mut absent, mut changed) = (Vec::new(), Vec::new());
        for object in objects {
            match self.stored(object).await? {
                None => absent.push(object),
                Some(theirs) if !super::same(object, &theirs) => changed.push(object),
                Some(_) => {}
            }
        }
        Ok((absent, changed))
    }

    async fn stored(&self, object: &Value) -> Result<Option<Value>, ServerError> {
        let reply = self.send(&super::get(self.space(), object)).await?;
        super::stored(&reply).map_err(|why| self.error(&format!("looking for {}: {why}", names(&[object]))))
    }

    async fn send_objects(&self, objects: &[&Value], overwrite: bool) -> Result<(), ServerError> {
        let reply = self.send(&super::import(self.space(), objects, overwrite)).await?;
        super::imported(&reply).map_err(|why| self.error(&why))?;
        let mut missing = Vec::new();
        for object in objects {
            let found = self.stored(object).await?;
            if !found.is_some_and(|theirs| super::same(object, &theirs)) {
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

    async fn send(&self, request: &Request) -> Result<Reply, ServerError> {
        let auth = self.options.auth.name();
        let failed = |error: SendError| ServerError::new(explain(&error.to_string(), &self.base, auth));
        self.exchange(request).await.map_err(failed)
    }

    async fn exchange(&self, request: &Request) -> Result<Reply, SendError> {
        let url = format!("{}{}", self.base, request.path);
        let headers = self.headers(&url, request).await?;
        let method = reqwest::Method::from_bytes(request.method.as_bytes())
            .map_err(|_| SendError::Impossible(format!("`{}` is no HTTP method", request.method)))?;
        let sent = self.http.request(method, &url).headers(headers).timeout(PATIENCE);
        let response = sent.body(request.body.clone()).send().await.map_err(transport)?;
        let (status, cookies) = (response.status().as_u16(), cookies(response.headers()));
        let body = response.bytes().await.map_err(transport)?.to_vec();
        Ok(Reply { status, cookies, body })
    }

    async fn headers(&self, url: &str, request: &Request) -> Result<HeaderMap, SendError> {
        // A login stands for all that would be said otherwise.
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
        let mut headers = authenticated(unauthenticated, auth, self.credentials).await?;
        // Either program wants its own and lets the other's be.
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

/// The cookies of an answer, as a browser sends them back.
fn cookies(headers: &HeaderMap) -> String {
    let set = headers.get_all(SET_COOKIE).iter();
    let pairs = set.filter_map(|value| value.to_str().ok()?.split(';').next());
    pairs.collect::<Vec<_>>().join("; ")
}
