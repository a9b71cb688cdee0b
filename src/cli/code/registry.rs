//! A destination's list of codes, changed in the same way as by the HTTP API.

use anyhow::{Context, bail};
use chrono::Utc;
use serde_json::Value;

use crate::api::{ApiRequest, ApiResponse, Failures, Manager};
use crate::cli::{DestinationArgument, WrongArguments, configuration, connect};
use crate::client::http::{Deliverer, secure_random};
use crate::config::Config;
use crate::destination::Destination;
use crate::server::file_store::FileStore;
use crate::setup::server::explain;
use crate::sqlite::{Readers, Store as SqliteStore};

/// A destination's list of codes.
pub(super) struct Registry {
    manager: Manager,
    store: Store,
}

enum Store {
    File(FileStore),
    Index(Box<Deliverer>),
}

impl Registry {
    /// Opens the list. With `create`, makes a file that does not exist.
    pub(super) async fn open(destination: &DestinationArgument, create: bool) -> anyhow::Result<Self> {
        let config = configuration(destination)?;
        let store = match config.destination.as_ref().context("no destination")? {
            Destination::Sqlite(path) => {
                if create && !path.exists() {
                    SqliteStore::open(path)?.close();
                }
                anyhow::ensure!(path.exists(), "there is no file `{}`", path.display());
                Store::File(FileStore::new(&Readers::new(path.clone())))
            }
            Destination::Message(outlet) => {
                bail!("{outlet} has no list of codes; name the index that its events come to")
            }
            Destination::OpenSearch(target) => Store::Index(Box::new(connect::open_deliverer(&config, target).await?)),
        };
        Ok(Self {
            manager: manager(config),
            store,
        })
    }

    /// Puts a new code into the list and returns its text.
    pub(super) async fn add(&self, body: &Value) -> anyhow::Result<String> {
        let made = self.call("POST", "codes", body).await?;
        let code = made["code"].as_str().context("the list gave no code")?;
        Ok(code.to_owned())
    }

    /// Revokes a code of the list.
    pub(super) async fn revoke(&self, code: &str) -> anyhow::Result<Value> {
        self.call("DELETE", &format!("codes/{code}"), &Value::Null).await
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let asked = ApiRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.to_string().into_bytes(),
            authorized: true,
            ..ApiRequest::default()
        };
        let now = Utc::now();
        let (reply, reason) = match &self.store {
            Store::File(file) => self.manager.answer(&asked, file, now).await,
            Store::Index(deliverer) => self.manager.answer(&asked, deliverer.as_ref(), now).await,
        };
        self.read(&reply, reason)
    }

    fn read(&self, reply: &ApiResponse, reason: Option<String>) -> anyhow::Result<Value> {
        let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        match reply.status {
            200..300 => return Ok(body),
            404 => bail!("this code is not in the list; `pixel code list` shows those that are"),
            400 => {
                let detail = body["detail"].as_str().unwrap_or_default();
                return Err(WrongArguments(detail.replacen('`', "`--", 1)).into());
            }
            _ => {}
        }
        let reason = reason.or_else(|| body["detail"].as_str().map(ToOwned::to_owned));
        let reason = reason.unwrap_or_default();
        match &self.store {
            Store::Index(deliverer) if reply.status == 503 => {
                let target = deliverer.target();
                bail!("{}", explain(&reason, &target.base, target.auth.name()))
            }
            Store::File(_) | Store::Index(_) => bail!("{reason}"),
        }
    }
}

/// Returns the keys and rules for making codes.
fn manager(config: Config) -> Manager {
    Manager {
        keys: config.code_keys,
        tokens: config.tokens,
        random: secure_random,
        failures: Failures::default(),
    }
}
