//! The file of the privacy key, used when `PIXEL_PRIVACY_KEY` is not set.
//!
//! It is next to a store or, for a remote destination, in the user's state folder. It is made once and never overwritten:
//! with another key nobody could find again what is stored about a person.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::WrongArguments;
use crate::config::{Config, Variables};
use crate::destination::Destination;
use crate::hit::privacy::Key;
use crate::terminal::print_message;

/// The mode of the key's file: only its owner may read and write.
const FILE_MODE: u32 = 0o600;
/// The mode of the state folder.
const FOLDER_MODE: u32 = 0o700;
/// The size limit of a key's file; a longer file is not a key.
const MAX_FILE_BYTES: u64 = 4096;

/// Returns the path of the key's file for a destination; none for a remote one without a state folder.
pub(super) fn path_for(destination: &Destination, variables: &Variables) -> Option<PathBuf> {
    match destination {
        Destination::Sqlite(store) => Some(path_beside(store)),
        remote => Some(state_folder(variables)?.join(file_name(&remote.to_string()))),
    }
}

/// Returns `pixel.key` for `pixel.db`.
fn path_beside(store: &Path) -> PathBuf {
    if store.extension() == Some(OsStr::new("key")) {
        return store.with_added_extension("key");
    }
    store.with_extension("key")
}

/// Returns our folder in the folder for the state of this user's programs (XDG Base Directory Specification).
fn state_folder(variables: &Variables) -> Option<PathBuf> {
    let absolute = |name: &str| variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("pixel"))
}

/// Returns a file name for a destination's URL, without its credentials.
fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = match rest.split_once('/') {
        Some((host, path)) => format!("{}/{path}", host.rsplit('@').next().unwrap_or_default()),
        None => rest.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    let name: String = rest
        .chars()
        .map(|letter| if plain(letter) { letter } else { '_' })
        .collect();
    // A file name has at most 255 bytes.
    let name: String = name.trim_start_matches('.').chars().take(200).collect();
    format!("{name}.key")
}

/// Reads the key's file; none if it does not exist.
///
/// # Errors
///
/// If it cannot be read, or holds no key.
pub(super) fn read_file(path: &Path) -> anyhow::Result<Option<String>> {
    let cannot = |reason: &str| {
        anyhow::Error::from(WrongArguments(format!(
            "cannot use the privacy key `{}`: {reason}; restore it from a backup, or set `PIXEL_PRIVACY_KEY`. With a new key, \
             nobody can find by address what is stored so far",
            path.display()
        )))
    };
    let bytes = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(&error.to_string())),
        Ok(metadata) if !metadata.is_file() => return Err(cannot("it is not a file")),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => return Err(cannot("it is too long")),
        Ok(_) => fs::read(path).map_err(|error| cannot(&error.to_string()))?,
    };
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| cannot("it is not text"))?
        .trim();
    if text.contains(char::is_control) {
        return Err(cannot("it has more than one line"));
    }
    let length = text.chars().count();
    if length < Key::MIN_CHARACTERS {
        return Err(cannot(&format!(
            "it has {length} characters, and a key has at least {}",
            Key::MIN_CHARACTERS
        )));
    }
    Ok(Some(text.to_owned()))
}

/// Creates the key's file with this text, unless it exists. Returns true if it was created.
fn create_file(path: &Path, text: &str) -> io::Result<bool> {
    let created = |result: io::Result<()>| match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    };
    let write = |path: &Path| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()
    };
    // Nobody can read half a key: the file gets its name when it is complete.
    let unfinished = path.with_added_extension(format!("{}.new", uuid::Uuid::now_v7()));
    write(&unfinished)?;
    let linked = created(fs::hard_link(&unfinished, path));
    fs::remove_file(&unfinished)?;
    // Not every file system has hard links.
    let made = linked.or_else(|_| created(write(path)))?;
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        // The name should survive a crash; not every file system can ensure that.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(made)
}

/// Creates the state folder; a store's folder is up to its owner.
fn create_folder(destination: &Destination, path: &Path) -> io::Result<()> {
    match (destination, path.parent()) {
        (Destination::Sqlite(_), _) | (_, None) => Ok(()),
        (_, Some(folder)) => fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder),
    }
}

/// Uses the key's file if `PIXEL_PRIVACY_KEY` is not set and the file exists.
///
/// # Errors
///
/// If the file cannot be read, or holds no key.
pub(super) fn apply_file(config: &mut Config, variables: &Variables) -> anyhow::Result<()> {
    let path = config
        .destination
        .as_ref()
        .and_then(|destination| path_for(destination, variables));
    let Some(path) = path else { return Ok(()) };
    if config.has_key {
        // The variable has precedence, and an unused file with an error stops nothing.
        if let Ok(Some(text)) = read_file(&path)
            && Key::from_secret(&text) != config.policy.key
        {
            print_message(&format!(
                "note    `PIXEL_PRIVACY_KEY` is used, not the other key in `{}`",
                path.display()
            ));
        }
        return Ok(());
    }
    if let Some(text) = read_file(&path)? {
        config.policy.key = Key::from_secret(&text);
        config.has_key = true;
    }
    Ok(())
}

/// Creates the key's file if there is no key yet, prints its path, and uses it.
///
/// # Errors
///
/// If there is no place for it, or it cannot be written.
pub(super) fn create_if_missing(config: &mut Config, variables: &Variables) -> anyhow::Result<()> {
    if config.has_key {
        return Ok(());
    }
    let destination = config.destination.clone().context("no destination")?;
    let path = path_for(&destination, variables).ok_or_else(|| {
        WrongArguments(
            "cannot keep a privacy key: neither `XDG_STATE_HOME` nor `HOME` is set; set `PIXEL_PRIVACY_KEY` (`openssl rand -hex 32`), \
             or use `--ephemeral-key` for a key that ends with this process"
                .to_owned(),
        )
    })?;
    let text = URL_SAFE_NO_PAD.encode(super::random::<32>()?);
    let made = create_folder(&destination, &path).and_then(|()| create_file(&path, &text));
    let made = made.with_context(|| {
        format!(
            "cannot make the privacy key `{}`; set `PIXEL_PRIVACY_KEY`, or use `--ephemeral-key`",
            path.display()
        )
    })?;
    apply_file(config, variables)?;
    if made {
        let place = path.display();
        let advice = match destination {
            Destination::Sqlite(_) => "keep it as long as the store, and not in the same backup",
            _ => "all servers and the function that write there need this same key, in `PIXEL_PRIVACY_KEY`",
        };
        print_message(&format!("key     made the privacy key `{place}`: {advice}"));
    }
    Ok(())
}

/// Copies a store's key to the path for a new destination, unless that exists. Returns the path, and true if it holds the
/// same key now; none if the old store has no key file, or there is no place for the new one.
///
/// # Errors
///
/// If a file cannot be read or written.
pub(super) fn copy_to(
    from: &Destination,
    to: &Destination,
    variables: &Variables,
) -> anyhow::Result<Option<(PathBuf, bool)>> {
    let (Some(old), Some(new)) = (path_for(from, variables), path_for(to, variables)) else {
        return Ok(None);
    };
    let Some(text) = read_file(&old)? else { return Ok(None) };
    let copied = create_folder(to, &new).and_then(|()| create_file(&new, &text));
    copied.with_context(|| format!("cannot write the privacy key `{}`", new.display()))?;
    let same = read_file(&new)?.as_deref() == Some(text.as_str());
    Ok(Some((new, same)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stands_beside_a_store_or_in_the_state_folder() {
        let variables = Variables::from([("HOME".to_owned(), "/home/ann".to_owned())]);
        let place = |url: &str, variables: &Variables| {
            let destination = Destination::parse(url, None, Some("eu-west-1")).expect("a destination");
            path_for(&destination, variables).map(|path| path.display().to_string())
        };
        for (url, expected) in [
            ("sqlite:pixel.db", "pixel.key"),
            ("sqlite:/var/lib/pixel/events", "/var/lib/pixel/events.key"),
            ("sqlite:own.key", "own.key.key"),
            (
                "https://ann:secret@search.example:9200/events-%Y",
                "/home/ann/.local/state/pixel/search.example_9200_events-_Y.key",
            ),
        ] {
            assert_eq!(place(url, &variables).as_deref(), Some(expected), "{url}");
        }
        let state = Variables::from([
            ("HOME".to_owned(), "/home/ann".to_owned()),
            ("XDG_STATE_HOME".to_owned(), "/state".to_owned()),
        ]);
        let found = place("http://127.0.0.1:9200/events", &state);
        assert_eq!(found.as_deref(), Some("/state/pixel/127.0.0.1_9200_events.key"));
        assert_eq!(place("http://127.0.0.1:9200/events", &Variables::new()), None);
    }
}
