//! What the stage remembers of those who are not to be counted; the page is [`crate::opt_out`]'s.
//!
//! A cookie is sent by the browser with every image from then on. `/opt-out/{code}` is for the recipient of a mail: the code is
//! remembered by the stage, because mail programs keep no cookies. A store's file keeps the codes, or an index beside that of
//! the events; a queue or a stream keeps none.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use rusqlite::Connection;

use super::gateway::Arrived;
use crate::aws::client::Deliverer;
use crate::manage::{Reply, index};
use crate::opt_out::{self, Whom, Wish};
use crate::privacy::{OPT_OUT_COOKIE, SignalPolicy, says_opt_out};
use crate::terminal::talk;

/// The codes whose recipients have opted out.
#[derive(Debug)]
pub struct OptOuts {
    codes: RwLock<BTreeSet<String>>,
    /// The store's file that remembers them; none where there is none.
    file: Option<Mutex<Connection>>,
}

/// So many codes are remembered: anybody can send the form.
const MOST: usize = 1_000_000;

impl OptOuts {
    /// Those of the configuration, remembered nowhere.
    pub const fn of(codes: BTreeSet<String>) -> Self {
        Self {
            codes: RwLock::new(codes),
            file: None,
        }
    }

    /// Those of the configuration and of a store's file, which must be open already.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn open(mut codes: BTreeSet<String>, path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection
            .execute_batch("CREATE TABLE IF NOT EXISTS opt_outs (code TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;")?;
        {
            let mut statement = connection.prepare("SELECT code FROM opt_outs")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            for code in rows {
                codes.insert(code?);
            }
        }
        Ok(Self {
            codes: RwLock::new(codes),
            file: Some(Mutex::new(connection)),
        })
    }

    /// The codes, to decide by.
    pub fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeSet<String>> {
        self.codes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds codes that an index has remembered. None is taken away: when in doubt, nobody is counted who has opted out.
    pub fn add(&self, codes: BTreeSet<String>) {
        self.codes.write().unwrap_or_else(PoisonError::into_inner).extend(codes);
    }

    /// Remembers a code, or forgets it.
    async fn set(&self, code: &str, out: bool, index: Option<&Deliverer>) -> Reply {
        if out && self.read().len() >= MOST {
            return opt_out::no_place();
        }
        let kept = match (&self.file, index) {
            (Some(file), _) => keep(file, code, out).map_err(|error| error.to_string()),
            (None, Some(index)) => index::opt_out(index, code, out)
                .await
                .map_err(|error| error.to_string()),
            (None, None) => return opt_out::no_place(),
        };
        if let Err(error) = kept {
            talk(&format!("could not remember an opt-out: {error}"));
            return opt_out::away();
        }
        let mut codes = self.codes.write().unwrap_or_else(PoisonError::into_inner);
        if out {
            codes.insert(code.to_owned());
        } else {
            codes.remove(code);
        }
        opt_out::back()
    }
}

fn keep(file: &Mutex<Connection>, code: &str, out: bool) -> rusqlite::Result<()> {
    let sql = if out {
        "INSERT OR IGNORE INTO opt_outs (code) VALUES (?1)"
    } else {
        "DELETE FROM opt_outs WHERE code = ?1"
    };
    let connection = file.lock().unwrap_or_else(PoisonError::into_inner);
    connection.execute(sql, [code]).map(|_| ())
}

/// Answers the paths of this module: `/opt-out`, `/opt-out/{code}` and `/.well-known/gpc.json`.
/// `index` is where events go, when that is an index.
pub async fn answer(
    arrived: &Arrived,
    opt_outs: &OptOuts,
    signal: SignalPolicy,
    index: Option<&Deliverer>,
) -> Option<Reply> {
    if arrived.path == "/.well-known/gpc.json" {
        return Some(gpc(signal));
    }
    let code = match arrived.path.strip_prefix("/opt-out")? {
        "" | "/" => None,
        rest => Some(decoded(rest.strip_prefix('/')?)),
    };
    let reply = match (Wish::of(&arrived.method, &arrived.decoded_query()), code) {
        (None, _) => opt_out::wrong_method(),
        (Some(Wish::See), None) => {
            let secure = is_secure(arrived);
            opt_out::page(Whom::Browser { secure }, says_opt_out(&arrived.headers))
        }
        (Some(wish), None) => set_cookie(arrived, wish == Wish::Out),
        (Some(_), Some(code)) if !opt_out::is_possible(&code) => opt_out::unknown(),
        (Some(Wish::See), Some(code)) => opt_out::page(Whom::Recipient, opt_outs.read().contains(&code)),
        (Some(wish), Some(code)) => opt_outs.set(&code, wish == Wish::Out, index).await,
    };
    Some(opt_out::as_asked(&arrived.method, reply))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// When what is said of the signal last changed; `infra/pixel.yaml` says the same.
const GPC_UPDATED: &str = "2026-03-01";

/// Global Privacy Control, "GPC Support Resource": whether the signal has an effect.
fn gpc(signal: SignalPolicy) -> Reply {
    let heeded = signal != SignalPolicy::Record;
    Reply {
        status: 200,
        headers: vec![("content-type", "application/json".to_owned())],
        body: format!("{{\"gpc\": {heeded}, \"lastUpdate\": \"{GPC_UPDATED}\"}}\n"),
    }
}

fn is_secure(arrived: &Arrived) -> bool {
    arrived.header("x-forwarded-proto") == Some("https")
}

/// Sets the cookie for a year, or takes it back. Other sites' pages send it with the image only over TLS and when it may go
/// to other sites.
fn set_cookie(arrived: &Arrived, out: bool) -> Reply {
    let reach = if is_secure(arrived) {
        "SameSite=None; Secure"
    } else {
        "SameSite=Lax"
    };
    let age = if out { 365 * 24 * 3600 } else { 0 };
    let cookie = format!("{OPT_OUT_COOKIE}=1; Path=/; Max-Age={age}; HttpOnly; {reach}");
    let mut reply = opt_out::back();
    reply.headers.push(("set-cookie", cookie));
    reply
}
