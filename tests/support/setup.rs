//! What the tests need from the machine: programs on `PATH` and a folder to keep things in between
//! runs.
//!
//! A missing program is installed with `apt-get` as root without a terminal (a fresh machine, CI), or
//! with `PIXEL_TEST_INSTALL=1`; on a terminal the packages are listed and the person is asked. Elsewhere
//! the test stops with one line that says what to install. Nothing here is removed again, and nothing
//! is built or started.

use std::{
    env,
    fs::{self, File, Permissions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

/// Debian's packages for a program, the preferred one first. A program that is not listed is its
/// own package.
const PACKAGES: &[(&str, &[&str])] = &[
    (
        "java",
        &[
            "openjdk-17-jdk-headless",
            "openjdk-21-jdk-headless",
            "default-jdk-headless",
        ],
    ),
    ("mvn", &["maven"]),
    ("chromium", &["chromium"]),
    ("faketime", &["faketime"]),
    ("flock", &["util-linux"]),
    ("prlimit", &["util-linux"]),
    ("setsid", &["util-linux"]),
    ("python3", &["python3-venv"]),
];

/// The package lists are fetched anew when the last time was longer ago than this.
const LISTS_AGE: Duration = Duration::from_hours(1);

/// Makes sure that these programs can be run, or stops the test with one line.
pub fn require(tools: &[&str]) {
    if let Err(why) = ensure(tools) {
        panic!("{why}");
    }
}

/// Like [`require`], for callers that can do without.
pub fn ensure(tools: &[&str]) -> Result<(), String> {
    if tools.iter().all(|tool| on_path(tool).is_some()) {
        return Ok(());
    }
    let _one_at_a_time = lock(&cache_dir().join("install.lock"));
    tools
        .iter()
        .filter(|tool| on_path(tool).is_none())
        .try_for_each(|tool| install(tool))
}

/// Installs a program's package although the program is there, because a part of it is missing.
pub fn complete(tool: &str) -> Result<(), String> {
    let _one_at_a_time = lock(&cache_dir().join("install.lock"));
    install(tool)
}

/// The program's path, if `PATH` has it.
pub fn on_path(tool: &str) -> Option<PathBuf> {
    let runs = |file: &PathBuf| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(tool))
        .find(runs)
}

/// Where downloads and unpacked servers stay: outside the source tree and outside `target/`.
///
/// `TEST_CACHE_DIR` names another folder. For root it is one that other users can enter, because
/// the servers run as another user then.
pub fn cache_dir() -> PathBuf {
    let folder = env::var_os("TEST_CACHE_DIR").map_or_else(default_cache, PathBuf::from);
    let folder = std::path::absolute(folder).expect("the cache folder's name is not empty");
    if !folder.is_dir() {
        fs::create_dir_all(&folder)
            .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o755)))
            .unwrap_or_else(|error| panic!("cannot make the cache folder {}: {error}", folder.display()));
    }
    folder
}

fn default_cache() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/cache/pixel-tests");
    }
    env::var_os("XDG_CACHE_HOME")
        .filter(|folder| Path::new(folder).is_absolute())
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cache")))
        .expect("a home folder, or TEST_CACHE_DIR")
        .join("pixel-tests")
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Waits for the exclusive lock on this file; it is held until the returned file is dropped or the
/// process ends.
pub fn lock(path: &Path) -> File {
    let file = open_lock(path);
    file.lock()
        .unwrap_or_else(|error| panic!("cannot lock {}: {error}", path.display()));
    file
}

/// Opens a lock file without locking it.
pub fn open_lock(path: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

fn install(tool: &str) -> Result<(), String> {
    let packages = PACKAGES
        .iter()
        .find(|(name, _)| *name == tool)
        .map_or(vec![tool], |(_, packages)| packages.to_vec());
    let failed = |why: String| format!("`{tool}` is missing: install {} ({why})", packages[0]);
    may_install().map_err(&failed)?;
    let apt_get = apt_get().map_err(&failed)?;
    update(&apt_get).map_err(&failed)?;
    let mut why = String::new();
    for package in &packages {
        match run(&apt_get, &["install", "-y", "--no-install-recommends", package]) {
            Ok(()) if on_path(tool).is_some() => return Ok(()),
            Ok(()) => why = format!("the package {package} did not bring it"),
            Err(error) => why = error,
        }
    }
    Err(failed(why))
}

/// Decides once in a run whether packages may be installed.
fn may_install() -> Result<(), String> {
    static DECISION: OnceLock<Result<(), String>> = OnceLock::new();
    let decide = || match env::var("PIXEL_TEST_INSTALL").as_deref() {
        Ok("1") => Ok(()),
        Ok(_) => Err("`PIXEL_TEST_INSTALL` is not 1".to_owned()),
        Err(_) => match File::options().read(true).write(true).open("/dev/tty") {
            Ok(terminal) => ask(&terminal),
            Err(_) if is_root() => Ok(()),
            Err(_) => Err("set `PIXEL_TEST_INSTALL=1` to have it installed".to_owned()),
        },
    };
    DECISION.get_or_init(decide).clone()
}

/// Lists the missing packages on the terminal, and asks.
fn ask(mut terminal: &File) -> Result<(), String> {
    let missing = PACKAGES.iter().filter(|(tool, _)| on_path(tool).is_none());
    let names: Vec<_> = missing.map(|(_, packages)| packages[0]).collect();
    let failed = |error: io::Error| error.to_string();
    writeln!(
        terminal,
        "\nThe tests need packages that are not installed: {}",
        names.join(", ")
    )
    .map_err(failed)?;
    write!(terminal, "Install them with apt-get? [y/N] ").map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(terminal).read_line(&mut answer).map_err(failed)?;
    if answer.trim().eq_ignore_ascii_case("y") {
        Ok(())
    } else {
        Err("the answer was no".to_owned())
    }
}

/// The command line that stands before `install` or `update`.
fn apt_get() -> Result<Vec<&'static str>, String> {
    if on_path("apt-get").is_none() {
        return Err("there is no apt-get to do it with".into());
    }
    let mut words = vec![
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-o",
        "DPkg::Lock::Timeout=300",
    ];
    if !is_root() {
        let sudo = on_path("sudo").is_some() && run(&["sudo", "-n"], &["true"]).is_ok();
        if !sudo {
            return Err("apt-get needs root, or sudo without a password".into());
        }
        words.splice(0..0, ["sudo", "-n"]);
    }
    Ok(words)
}

fn update(apt_get: &[&str]) -> Result<(), String> {
    let stamp = cache_dir().join("apt-get-updated");
    let fresh = fs::metadata(&stamp)
        .and_then(|meta| meta.modified())
        .is_ok_and(|time| time.elapsed().is_ok_and(|age| age < LISTS_AGE));
    if fresh {
        return Ok(());
    }
    run(apt_get, &["update"])?;
    fs::write(&stamp, "").map_err(|error| error.to_string())
}

/// Runs a command without input; an error is the last line that it printed.
pub fn run(command: &[&str], arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stderr);
    let last = printed.lines().rfind(|line| !line.trim().is_empty());
    Err(last.unwrap_or("it failed without a word").trim().to_owned())
}
