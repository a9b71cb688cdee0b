//! Files that the program creates: only their owner may read what visitors said.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Who may read a file that is created. A file that exists keeps its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its owner.
    Owner,
    /// Its owner and its group, such as a program that collects logs.
    Group,
}

impl Access {
    /// The permission bits, before the process's umask takes some away.
    const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
        }
    }
}

/// Opens a file to append to it, and creates it where it does not exist.
///
/// # Errors
///
/// When it cannot be opened.
pub(crate) fn append_to(path: &Path, access: Access) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(access.mode())
        .open(path)
}

/// Writes a whole file of its owner. One that exists is replaced, its mode included.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(Access::Owner.mode());
    options.open(path)?.write_all(contents)
}

/// Creates an empty file of its owner where there is none, for a program that would create it readable for all. A file that
/// exists is not opened: closing it would release the locks that this process holds on it.
pub(crate) fn create_private(path: &Path) {
    let mut options = OpenOptions::new();
    // Whoever opens the file next says what is wrong with it.
    let _ = options
        .write(true)
        .create_new(true)
        .mode(Access::Owner.mode())
        .open(path);
}
