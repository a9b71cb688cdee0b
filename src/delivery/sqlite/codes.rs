//! Codes and tokens of the file's owner, beside the events.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, params};

use super::{Reader, StoreError};
use crate::manage::token::Scope;
use crate::manage::{Change, Changed, Listed, Put};
use crate::question::{Cursor, Moment};

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptToken {
    /// Tells it apart; no secret.
    pub id: String,
    /// The owner's word for it.
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: DateTime<Utc>,
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    Ok(Listed {
        code: row.get(0)?,
        created_at: Moment::of_millis(row.get(1)?),
        campaign: row.get(2)?,
        note: row.get(3)?,
        revoked_at: row.get::<_, Option<i64>>(4)?.map(Moment::of_millis),
        recipient: row.get(5)?,
    })
}

fn scopes(text: &str) -> Vec<Scope> {
    text.split(' ').filter_map(Scope::of).collect()
}

impl Reader {
    fn result<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| StoreError::new(&self.path, error))
    }

    /// A code of the list.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn code(&self, code: &str) -> Result<Option<Listed>, StoreError> {
        let sql = "SELECT code, created, campaign, note, revoked, recipient FROM codes WHERE code = ?1";
        self.result(self.connection.query_row(sql, [code], listed).optional())
    }

    /// Codes of the list, the latest first, after a place.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn codes(&self, after: Option<&Cursor>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let sql = "SELECT code, created, campaign, note, revoked, recipient FROM codes
            WHERE ?1 IS NULL OR (created, code) < (?1, ?2) ORDER BY created DESC, code DESC LIMIT ?3";
        let (time, code) = after.map(|cursor| (cursor.time, cursor.id.as_str())).unzip();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(params![time, code, limit], listed)?.collect()
        };
        self.result(read())
    }

    /// Codes after a place with which this was done, in the order of its times.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn changed(&self, change: Change, after: Option<&Cursor>, limit: usize) -> Result<Vec<Changed>, StoreError> {
        let sql = match change {
            Change::Listed => {
                "SELECT created, code, campaign FROM codes WHERE (created, code) > (?1, ?2) ORDER BY created, code LIMIT ?3"
            }
            Change::Revoked => {
                "SELECT revoked, code, campaign FROM codes WHERE revoked IS NOT NULL AND (revoked, code) > (?1, ?2)
                ORDER BY revoked, code LIMIT ?3"
            }
        };
        let (time, code) = after.map_or((i64::MIN, ""), |cursor| (cursor.time, cursor.id.as_str()));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let changed = |row: &Row<'_>| {
            Ok(Changed {
                place: Cursor {
                    time: row.get(0)?,
                    id: row.get(1)?,
                },
                campaign: row.get(2)?,
            })
        };
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(params![time, code, limit], changed)?.collect()
        };
        self.result(read())
    }

    /// Adds a code to the list.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn add_code(&self, code: &Listed) -> Result<Put, StoreError> {
        let sql = "INSERT OR IGNORE INTO codes (code, created, campaign, note, recipient) VALUES (?1, ?2, ?3, ?4, ?5)";
        let created = code.created_at.0.timestamp_millis();
        let values = params![code.code, created, code.campaign, code.note, code.recipient];
        let added = self.connection.execute(sql, values);
        Ok(if self.result(added)? == 1 {
            Put::Done
        } else {
            Put::Exists
        })
    }

    /// Changes a code of the list.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn replace_code(&self, code: &Listed) -> Result<(), StoreError> {
        let sql = "UPDATE codes SET campaign = ?2, note = ?3, revoked = ?4 WHERE code = ?1";
        let revoked = code.revoked_at.map(|time| time.0.timestamp_millis());
        let changed = self
            .connection
            .execute(sql, params![code.code, code.campaign, code.note, revoked]);
        self.result(changed).map(drop)
    }

    /// What the token of a hash is good for.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn token(&self, hash: &[u8; 32]) -> Result<Option<Vec<Scope>>, StoreError> {
        let sql = "SELECT scopes FROM tokens WHERE hash = ?1";
        let found = self.connection.query_row(sql, [hash], |row| row.get::<_, String>(0));
        Ok(self.result(found.optional())?.map(|text| scopes(&text)))
    }

    /// All tokens, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn tokens(&self) -> Result<Vec<KeptToken>, StoreError> {
        let kept = |row: &Row<'_>| {
            Ok(KeptToken {
                id: row.get(0)?,
                name: row.get(1)?,
                scopes: scopes(&row.get::<_, String>(2)?),
                created: Moment::of_millis(row.get(3)?).0,
            })
        };
        let read = || {
            let sql = "SELECT id, name, scopes, created FROM tokens ORDER BY created, id";
            self.connection.prepare(sql)?.query_map([], kept)?.collect()
        };
        self.result(read())
    }

    /// Keeps the hash of a token.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn add_token(&self, token: &KeptToken, hash: &[u8; 32]) -> Result<(), StoreError> {
        let sql = "INSERT INTO tokens (id, name, hash, scopes, created) VALUES (?1, ?2, ?3, ?4, ?5)";
        let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.name()).collect();
        let values = params![
            token.id,
            token.name,
            hash,
            scopes.join(" "),
            token.created.timestamp_millis()
        ];
        self.result(self.connection.execute(sql, values)).map(drop)
    }

    /// Forgets a token; whether there was one of this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn revoke_token(&self, id: &str) -> Result<bool, StoreError> {
        let deleted = self.connection.execute("DELETE FROM tokens WHERE id = ?1", [id]);
        Ok(self.result(deleted)? == 1)
    }
}
