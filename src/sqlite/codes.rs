//! Codes and tokens of the file's owner, beside the events.

use rusqlite::{OptionalExtension, Row, params};

use super::{Reader, StoreError};
use crate::config::token::{KeptToken, Scope, TokenKind};
use crate::query::store::{AddResult, Changed, CodeChange, ListedCode};
use crate::query::{Cursor, Timestamp};

fn listed(row: &Row<'_>) -> rusqlite::Result<ListedCode> {
    Ok(ListedCode {
        code: row.get(0)?,
        created_at: Timestamp::from_millis(row.get(1)?),
        campaign: row.get(2)?,
        note: row.get(3)?,
        revoked_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_millis),
        recipient: row.get(5)?,
    })
}

fn scopes(text: &str) -> Vec<Scope> {
    text.split(' ').filter_map(Scope::parse).collect()
}

impl Reader {
    fn result<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| StoreError::new(&self.path, error))
    }

    /// Returns a code of the list.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn code(&self, code: &str) -> Result<Option<ListedCode>, StoreError> {
        let sql = "SELECT code, created, campaign, note, revoked, recipient FROM codes WHERE code = ?1";
        self.result(self.connection.query_row(sql, [code], listed).optional())
    }

    /// Codes of the list, the latest first, after a place.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn codes(&self, after: Option<&Cursor>, limit: usize) -> Result<Vec<ListedCode>, StoreError> {
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
    pub fn changed(
        &self,
        change: CodeChange,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<Changed>, StoreError> {
        let sql = match change {
            CodeChange::Listed => {
                "SELECT created, code, campaign FROM codes WHERE (created, code) > (?1, ?2) ORDER BY created, code LIMIT ?3"
            }
            CodeChange::Revoked => {
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
    pub fn add_code(&self, code: &ListedCode) -> Result<AddResult, StoreError> {
        let sql = "INSERT OR IGNORE INTO codes (code, created, campaign, note, recipient) VALUES (?1, ?2, ?3, ?4, ?5)";
        let created = code.created_at.0.timestamp_millis();
        let values = params![code.code, created, code.campaign, code.note, code.recipient];
        let added = self.connection.execute(sql, values);
        Ok(if self.result(added)? == 1 {
            AddResult::Done
        } else {
            AddResult::Exists
        })
    }

    /// Changes a code of the list.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn replace_code(&self, code: &ListedCode) -> Result<(), StoreError> {
        let sql = "UPDATE codes SET campaign = ?2, note = ?3, revoked = ?4 WHERE code = ?1";
        let revoked = code.revoked_at.map(|time| time.0.timestamp_millis());
        let changed = self
            .connection
            .execute(sql, params![code.code, code.campaign, code.note, revoked]);
        self.result(changed).map(drop)
    }

    /// Returns the token of a hash, even if it has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn token(&self, hash: &[u8; 32]) -> Result<Option<KeptToken>, StoreError> {
        let sql = format!("SELECT {TOKEN_COLUMNS} FROM tokens WHERE hash = ?1");
        self.result(self.connection.query_row(&sql, [hash], kept_token).optional())
    }

    /// Returns all tokens, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn tokens(&self) -> Result<Vec<KeptToken>, StoreError> {
        let sql = format!("SELECT {TOKEN_COLUMNS} FROM tokens ORDER BY created, id");
        let read = || self.connection.prepare(&sql)?.query_map([], kept_token)?.collect();
        self.result(read())
    }

    /// Keeps a token, and deletes those that had expired when it was made: whether it is new.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn add_token(&self, token: &KeptToken) -> Result<bool, StoreError> {
        let created = token.created.timestamp_millis();
        let expired = self
            .connection
            .execute("DELETE FROM tokens WHERE expires <= ?1", [created]);
        self.result(expired)?;
        let sql = format!("INSERT OR IGNORE INTO tokens ({TOKEN_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.name()).collect();
        let values = params![
            token.id,
            token.name,
            token.hash,
            scopes.join(" "),
            created,
            token.kind.name(),
            token.expires.map(|expires| expires.timestamp_millis()),
            token.parent,
        ];
        Ok(self.result(self.connection.execute(&sql, values))? == 1)
    }

    /// Deletes the token of a hash: whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn delete_token(&self, hash: &[u8; 32]) -> Result<bool, StoreError> {
        let deleted = self.connection.execute("DELETE FROM tokens WHERE hash = ?1", [hash]);
        Ok(self.result(deleted)? == 1)
    }
}

const TOKEN_COLUMNS: &str = "id, name, hash, scopes, created, kind, expires, parent";

fn kept_token(row: &Row<'_>) -> rusqlite::Result<KeptToken> {
    Ok(KeptToken {
        id: row.get(0)?,
        name: row.get(1)?,
        hash: row.get(2)?,
        scopes: scopes(&row.get::<_, String>(3)?),
        created: Timestamp::from_millis(row.get(4)?).0,
        // One of a later version is good for nothing here.
        kind: TokenKind::parse(&row.get::<_, String>(5)?).unwrap_or(TokenKind::Login),
        expires: row.get::<_, Option<i64>>(6)?.map(|time| Timestamp::from_millis(time).0),
        parent: row.get(7)?,
    })
}
