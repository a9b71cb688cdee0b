//! The creation of files that only their owner may read, since they hold visitors' data.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The users who may read a file that is created. A file that exists keeps its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only its owner.
    Owner,
    /// Its owner and its group, for example a program that collects logs.
    Group,
}

impl Access {
    /// Returns the permission bits, before the process's umask removes some.
    const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
        }
    }
}

/// Opens a file for appending, and creates it if it does not exist.
///
/// # Errors
///
/// If it cannot be opened.
pub(crate) fn append_to(path: &Path, access: Access) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(access.mode())
        .open(path)
}

/// Writes an entire file that only its owner may read. An existing file is replaced, including its mode.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(Access::Owner.mode());
    options.open(path)?.write_all(contents)
}

/// Creates an empty file that only its owner may read, if there is none, for a program that would create it readable for
/// everybody. A file that exists is not opened: closing it would release the locks that this process holds on it.
pub(crate) fn create_private(path: &Path) {
    let mut options = OpenOptions::new();
    // The program that opens the file next reports any error.
    let _ = options
        .write(true)
        .create_new(true)
        .mode(Access::Owner.mode())
        .open(path);
}
