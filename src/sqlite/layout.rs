//! The layout of the file, and how an older one becomes it.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// The layout's number, which the file holds as `user_version`.
pub(super) const LAYOUT: i64 = 5;

/// The layout 1: the events.
const EVENTS: &str = "
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        time INTEGER NOT NULL,
        document TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_time ON events (time);";

/// The layout 2: frequently queried fields have their own columns, queries use segments, and codes and tokens are
/// stored.
///
/// Each index costs every hit: the ids' keeps hits from being stored twice, the times' is for pages and for deleting, the
/// codes' is for what became of one code. All other questions go to segments.
const COLUMNS: &str = "
    ALTER TABLE events ADD COLUMN code TEXT;
    ALTER TABLE events ADD COLUMN action TEXT;
    ALTER TABLE events ADD COLUMN class TEXT;
    ALTER TABLE events ADD COLUMN visitor TEXT;
    UPDATE events SET
        code = json_extract(document, '$.pixel.code'),
        action = json_extract(document, '$.event.action'),
        class = json_extract(document, '$.visit.class'),
        visitor = json_extract(document, '$.visitor.id');
    CREATE INDEX events_code ON events (code, time) WHERE code IS NOT NULL;
    CREATE TABLE segments (
        number INTEGER PRIMARY KEY,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        start INTEGER NOT NULL,
        end INTEGER NOT NULL,
        events INTEGER NOT NULL,
        times BLOB NOT NULL,
        numbers BLOB NOT NULL
    ) STRICT;
    CREATE TABLE columns (
        field TEXT NOT NULL,
        segment INTEGER NOT NULL,
        codes BLOB NOT NULL,
        texts BLOB NOT NULL,
        UNIQUE (field, segment)
    ) STRICT;
    CREATE TABLE codes (
        code TEXT PRIMARY KEY,
        created INTEGER NOT NULL,
        campaign TEXT,
        note TEXT,
        revoked INTEGER
    ) STRICT;
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        hash BLOB NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        created INTEGER NOT NULL
    ) STRICT;";

/// The layout 3: the number of changes and deletions, by which copies in memory are invalidated; and an index of
/// revocations by time.
const CHANGES: &str = "
    CREATE TABLE changes (count INTEGER NOT NULL) STRICT;
    INSERT INTO changes VALUES (0);
    CREATE INDEX codes_revoked ON codes (revoked, code) WHERE revoked IS NOT NULL;";

/// The layout 4: an index for new codes; without it every look for codes of other processes would scan the whole list.
const LISTED: &str = "CREATE INDEX codes_created ON codes (created, code);";

/// The layout 5: tokens that expire, such as sessions.
const SESSIONS: &str = "
    ALTER TABLE tokens ADD COLUMN kind TEXT NOT NULL DEFAULT 'token';
    ALTER TABLE tokens ADD COLUMN expires INTEGER;
    ALTER TABLE tokens ADD COLUMN parent BLOB;";

/// Returns the number of times that events were changed or deleted.
pub(super) fn changes(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("SELECT count FROM changes")?;
    statement.query_row([], |row| row.get(0))
}

/// Notes that events are changed or deleted.
pub(super) fn count_change(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("UPDATE changes SET count = count + 1")?;
    statement.execute([]).map(drop)
}

/// Brings the file to the present layout: all or nothing.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), String> {
    if version(connection)? == LAYOUT {
        return Ok(());
    }
    let text = |error: rusqlite::Error| error.to_string();
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(text)?;
    // Another process may have been quicker.
    migrate_within(&transaction)?;
    transaction.commit().map_err(text)
}

/// Migrates the file as a part of a transaction.
pub(super) fn migrate_within(transaction: &Transaction<'_>) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    let found = version(transaction)?;
    let tables: i64 = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(text)?;
    let missing: &[&str] = match (found, tables) {
        (LAYOUT, _) => return Ok(()),
        (0, 0) => &[EVENTS, COLUMNS, CHANGES, LISTED, SESSIONS],
        (1, _) => &[COLUMNS, CHANGES, LISTED, SESSIONS],
        (2, _) => &[CHANGES, LISTED, SESSIONS],
        (3, _) => &[LISTED, SESSIONS],
        (4, _) => &[SESSIONS],
        _ => {
            return Err(format!(
                "it has layout {found}, and this version has layout {LAYOUT}; use the version that wrote it"
            ));
        }
    };
    missing
        .iter()
        .try_for_each(|step| transaction.execute_batch(step))
        .map_err(text)?;
    transaction.pragma_update(None, "user_version", LAYOUT).map_err(text)
}

fn version(connection: &Connection) -> Result<i64, String> {
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0));
    version.map_err(|error: rusqlite::Error| error.to_string())
}
