//! Real OpenSearch and Elasticsearch servers for the tests, and a server of queues.
//!
//! [`start`] fetches a server once, through Maven and `tests/servers/pom.xml`, starts it on a free
//! port of the loopback address, and shares it: all test processes that ask for the same server
//! while it runs get the same one. It stops by itself shortly after the last of those processes has
//! ended, however that ended. Tests therefore use index names of their own. Every start has an
//! empty data folder of its own, removed afterwards.
//!
//! It needs Linux, a Java for the server, Maven for the first fetch, and a few common programs. It
//! does not reset a server between tests, runs one node only, and is not a way to run a server for
//! anything but tests: the passwords below are known to everyone.

#![allow(
    dead_code,
    reason = "which servers and helpers are in use is up to the tests that are compiled in"
)]

use std::{
    env,
    ffi::OsString,
    fs,
    fs::File,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    ops::RangeInclusive,
    os::unix::{fs::lchown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::setup;

const POM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/pom.xml");
const PASSWORD: &str = "Only-4-Loopback-Tests";
const WRITER: &str = "pixel-writer";

/// Marks a folder with a server that is ready to start.
const COMPLETE: &str = "complete";

/// The longest that a server may take to become ready.
const START_LIMIT: Duration = Duration::from_mins(2);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The longest that one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Becomes the server, and leaves a supervisor behind that ends it.
///
/// Arguments: the lock file that every user of the server holds a shared lock on, the folder of
/// this start, and the server's command line.
const LAUNCH: &str = r#"
setsid sh -c "$SUPERVISE" supervise "$1" "$2" $$ &
unset SUPERVISE
shift 2
exec "$@"
"#;

/// Waits until nobody has held the users' lock for two seconds, then ends the server and removes
/// its folder, with the lock held, so that who comes next waits. The server's number may be another
/// process's by then: only a process whose command line has the folder in it is the server, and it
/// takes several looks to be sure, see [`alive`]. Killing does no harm, because nobody needs its
/// data.
const SUPERVISE: &str = r#"
exec 9<"$1"
until flock -x 9 && flock -u 9 && sleep 2 && flock -n -x 9; do :; done
kills=0 misses=0
while [ $kills -lt 50 ] && [ $misses -lt 5 ]; do
    if grep -qsF -- "$2" "/proc/$3/cmdline"; then
        kill -s KILL -- "-$3"
        kills=$((kills + 1)) misses=0
    else
        misses=$((misses + 1))
    fi
    sleep 0.1
done
rm -rf -- "$2"
"#;

/// A server to test against; `tests/servers/pom.xml` has the exact versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    OpenSearch2,
    OpenSearch3,
    /// With the security plugin: TLS with a private authority, basic authentication, and a writer.
    OpenSearch2Secured,
    Elasticsearch6,
    Elasticsearch7,
    Elasticsearch8,
    /// With security: basic authentication over plain HTTP.
    Elasticsearch8Secured,
    /// Queues in the protocol of SQS, as strict with messages as SQS is.
    ElasticMq,
}

/// How many kinds of [`Server`] there are.
const KINDS: usize = Server::ALL.len() + 1;

impl Server {
    /// The indices.
    pub const ALL: [Self; 7] = [
        Self::OpenSearch2,
        Self::OpenSearch3,
        Self::OpenSearch2Secured,
        Self::Elasticsearch6,
        Self::Elasticsearch7,
        Self::Elasticsearch8,
        Self::Elasticsearch8Secured,
    ];

    /// The profile in the `pom.xml`.
    fn profile(self) -> &'static str {
        match self {
            Self::OpenSearch2 | Self::OpenSearch2Secured => "opensearch2",
            Self::OpenSearch3 => "opensearch3",
            Self::Elasticsearch6 => "elasticsearch6",
            Self::Elasticsearch7 => "elasticsearch7",
            Self::Elasticsearch8 | Self::Elasticsearch8Secured => "elasticsearch8",
            Self::ElasticMq => "elasticmq1",
        }
    }

    fn program(self) -> &'static str {
        self.profile().trim_end_matches(|c: char| c.is_numeric())
    }

    fn secured(self) -> bool {
        matches!(self, Self::OpenSearch2Secured | Self::Elasticsearch8Secured)
    }

    /// The versions of Java that it runs on. The older servers need the security manager, which
    /// Java 24 dropped.
    fn java(self) -> RangeInclusive<u32> {
        match self {
            Self::OpenSearch3 => 21..=u32::MAX,
            Self::OpenSearch2 | Self::OpenSearch2Secured => 11..=23,
            Self::Elasticsearch6 | Self::Elasticsearch7 => 11..=17,
            Self::Elasticsearch8 | Self::Elasticsearch8Secured => 17..=23,
            Self::ElasticMq => 11..=u32::MAX,
        }
    }

    /// What its folders are called. The version is part of it, so that a change in the `pom.xml` is
    /// a new server.
    fn name(self) -> String {
        let pom = fs::read_to_string(POM).expect("the pom.xml can be read");
        let version = pom
            .split_once(&format!("<id>{}</id>", self.profile()))
            .and_then(|(_, profile)| profile.split_once("<server.version>"))
            .and_then(|(_, version)| version.split_once("</"))
            .map(|(version, _)| version)
            .expect("the pom.xml has the profile with its version");
        let suffix = if self.secured() { "-secured" } else { "" };
        format!("{}-{version}{suffix}", self.program())
    }
}

/// A server that is up.
#[derive(Clone, Debug)]
pub struct Running {
    pub server: Server,
    /// Scheme, address and port, without a slash at the end.
    pub url: String,
    /// The authority that signed its certificate.
    pub ca_file: Option<PathBuf>,
    /// Name and password of one who may do everything.
    pub admin: Option<(String, String)>,
    /// Name and password of one who may only write to `events*`.
    pub writer: Option<(String, String)>,
    /// Its process.
    pub pid: u32,
    /// The folder of this start; what the server prints is in `server.log`.
    folder: PathBuf,
}

/// Starts the server, or joins the one that is running already. It runs at least as long as this
/// process.
pub fn start(server: Server) -> Running {
    static JOINED: [OnceLock<(File, Running)>; KINDS] = [const { OnceLock::new() }; KINDS];
    let (_users, running) = JOINED[server as usize].get_or_init(|| join(server));
    running.clone()
}

/// Says in one line why this machine cannot run the server, if it cannot.
pub fn runnable(server: Server) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err(format!(
            "{server:?} needs Linux: it is looked after by way of /proc and flock"
        ));
    }
    let mut tools = vec!["java", "bash", "curl", "flock", "setsid", "grep"];
    if !shelf(server).join(COMPLETE).exists() {
        tools.push("mvn");
    }
    setup::ensure(&tools)?;
    java_home(server).map(drop)
}

/// Shows that a server starts, keeps a document once and only once, and forgets it again.
pub fn selfcheck(server: Server) {
    let running = start(server);
    let index = format!("probe-{}", std::process::id());
    let document = format!("/{index}/_doc/1?op_type=create");
    let step = |method, path: &str, body, expected| {
        let (status, answer) = request(&running, method, path, body);
        assert_eq!(status, expected, "{server:?}: {method} {path}: {answer}");
    };
    step("PUT", &document, Some(r#"{"seen":true}"#), 201);
    step("PUT", &document, Some(r#"{"seen":true}"#), 409);
    step("DELETE", &format!("/{index}"), None, 200);
}

/// Sends one request as the administrator: the status and the body of the answer.
pub fn request(running: &Running, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
    request_as(running, running.admin.as_ref(), method, path, body)
}

/// Sends one request as somebody, or as nobody.
pub fn request_as(
    running: &Running,
    user: Option<&(String, String)>,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> (u16, String) {
    send(running, user, method, path, body).unwrap_or_else(|error| panic!("{method} {}{path}: {error}", running.url))
}

/// How a server's Java compiles what it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiles {
    /// For a quick start, as tests want it; what runs for long takes twice the time.
    Quickly,
    /// As the server comes, so as people run it: for what is measured.
    AsItComes,
}

/// A server that nobody shares, so that it can be killed and started again with what it holds. Dropping it ends it.
pub struct Own {
    pub running: Running,
    compiles: Compiles,
    home: PathBuf,
    place: PathBuf,
    port: u16,
    /// Shared lock that keeps its supervisor off.
    _users: File,
}

impl Own {
    pub fn start(server: Server) -> Self {
        Self::start_as(server, Compiles::Quickly)
    }

    pub fn start_as(server: Server, compiles: Compiles) -> Self {
        if let Err(why) = runnable(server) {
            panic!("{why}");
        }
        let home = installed(server);
        let all = setup::cache_dir().join("run").join("own");
        let since = since_epoch();
        let place = all.join(format!("{}-{}-{}", server.name(), std::process::id(), since.as_nanos()));
        fs::create_dir_all(&place)
            .and_then(|()| give(&place))
            .expect("the server's folder can be made");
        let users = setup::open_lock(&place.join("users.lock"));
        users.lock_shared().expect("the users' lock can be shared");
        sweep_abandoned(&all);
        let folder = start_folder(&place, since);
        let port = free_port(since);
        let pid = spawn(server, compiles, &place, &home, &folder, port).expect("the server can be spawned");
        let own = Self {
            running: running(server, &home, pid, port, folder),
            compiles,
            home,
            place,
            port,
            _users: users,
        };
        own.await_ready();
        own
    }

    fn await_ready(&self) {
        if let Err(why) = await_health(&self.running) {
            let log = last_lines(&self.running.folder.join("server.log"), 30);
            panic!("{:?} {why}; its log ends:\n{log}", self.running.server);
        }
        make_ready(self.running.server, &self.place, &self.running);
    }

    /// Ends it at once, as a power cut does, but for what the system has in its caches.
    pub fn kill(&self) {
        end(&self.running);
        assert!(!alive(&self.running), "it is gone");
    }

    pub fn is_alive(&self) -> bool {
        alive(&self.running)
    }

    /// Starts it again, at the same address and with the data it had.
    pub fn start_again(&mut self) {
        let Running { server, folder, .. } = &self.running;
        let pid = spawn(*server, self.compiles, &self.place, &self.home, folder, self.port);
        self.running.pid = pid.expect("the server can be spawned");
        self.await_ready();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        end(&self.running);
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// Removes the folders of own servers whose tests were killed; their supervisors have ended them.
fn sweep_abandoned(all: &Path) {
    for place in fs::read_dir(all)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
    {
        let abandoned = File::open(place.join("users.lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        let empty = fs::read_dir(&place).is_ok_and(|entries| !entries.flatten().any(|entry| entry.path().is_dir()));
        if abandoned && empty {
            let _ = fs::remove_dir_all(place);
        }
    }
}

// Sharing one server between processes.

/// The folder of all starts of one server: the locks, the state, and a folder for each start.
fn place(server: Server) -> PathBuf {
    let place = setup::cache_dir().join("run").join(server.name());
    fs::create_dir_all(&place)
        .and_then(|()| give(&place))
        .expect("the server's folder can be made");
    place
}

/// The order matters: who holds the users' lock keeps the supervisor off, so what is found running
/// stays running.
fn join(server: Server) -> (File, Running) {
    if let Err(why) = runnable(server) {
        panic!("{why}");
    }
    let home = installed(server);
    let place = place(server);
    let users = setup::open_lock(&place.join("users.lock"));
    users.lock_shared().expect("the users' lock can be shared");
    let _one_starts = setup::lock(&place.join("start.lock"));
    let running = found(server, &place, &home).unwrap_or_else(|| launch(server, &place, &home));
    (users, running)
}

/// The server that the state tells of, if it is alive and well.
fn found(server: Server, place: &Path, home: &Path) -> Option<Running> {
    let state: Value = serde_json::from_slice(&fs::read(place.join("state.json")).ok()?).ok()?;
    let pid = u32::try_from(state["pid"].as_u64()?).ok()?;
    let port = u16::try_from(state["port"].as_u64()?).ok()?;
    let folder = place.join(state["start"].as_str()?);
    let running = running(server, home, pid, port, folder);
    if !alive(&running) {
        return None;
    }
    // Others may be using it: while an index of theirs is being made, a busy server says for a moment that it is not well.
    let up = await_health(&running).is_ok();
    if up && state["ready"] != true {
        // Its starter did not live to see it.
        make_ready(server, place, &running);
    }
    if !up {
        end(&running);
    }
    up.then_some(running)
}

fn running(server: Server, home: &Path, pid: u32, port: u16, folder: PathBuf) -> Running {
    let user = |name: &str| Some((name.to_owned(), PASSWORD.to_owned()));
    let (scheme, ca_file, admin, writer) = match server {
        Server::OpenSearch2Secured => (
            "https",
            Some(home.join("config/root-ca.pem")),
            user("admin"),
            user(WRITER),
        ),
        Server::Elasticsearch8Secured => ("http", None, user("elastic"), None),
        _ => ("http", None, None, None),
    };
    Running {
        server,
        url: format!("{scheme}://127.0.0.1:{port}"),
        ca_file,
        admin,
        writer,
        pid,
        folder,
    }
}

fn write_state(place: &Path, running: &Running, ready: bool) {
    let port = running.url.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let start = running.folder.file_name().and_then(|name| name.to_str());
    let state = json!({ "pid": running.pid, "port": port, "start": start, "ready": ready });
    let file = place.join("state.json");
    let unfinished = place.join("state.json.part");
    fs::write(&unfinished, state.to_string())
        .and_then(|()| fs::rename(&unfinished, &file))
        .expect("the server's state can be written");
}

/// Process numbers are used again: it is the server only if the folder of its start is on its command line. That line is empty
/// for a moment whenever a script becomes the next program, which takes longer on a busy machine, and for good once the process
/// has ended.
fn alive(running: &Running) -> bool {
    let folder = running.folder.as_os_str().as_encoded_bytes();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        match fs::read(format!("/proc/{}/cmdline", running.pid)) {
            Ok(line) if line.is_empty() && !has_ended(running.pid) => sleep(POLL_INTERVAL),
            Ok(line) => return line.windows(folder.len()).any(|part| part == folder),
            Err(_) => return false,
        }
    }
    false
}

/// Whether a process has ended that nobody has waited for.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may have any characters.
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    state.is_empty() || state.starts_with(['Z', 'X'])
}

/// Ends a server that is there but does not answer.
fn end(running: &Running) {
    let kill = format!("kill -s KILL -- -{}", running.pid);
    let deadline = Instant::now() + Duration::from_secs(5);
    while alive(running) && Instant::now() < deadline {
        let _ = Command::new("sh").args(["-c", &kill]).status();
        sleep(POLL_INTERVAL);
    }
}

// Starting one.

fn launch(server: Server, place: &Path, home: &Path) -> Running {
    let first = try_launch(server, place, home);
    // Its port may have been taken while it started.
    let second = first.or_else(|why| {
        // The harness keeps what the macros print.
        let _ = writeln!(io::stderr(), "{why}\nit is started again");
        try_launch(server, place, home)
    });
    second.unwrap_or_else(|why| panic!("{why}"))
}

fn try_launch(server: Server, place: &Path, home: &Path) -> Result<Running, String> {
    sweep(place);
    let since = since_epoch();
    let folder = start_folder(place, since);
    let port = free_port(since);
    let pid = spawn(server, Compiles::Quickly, place, home, &folder, port).expect("the server can be spawned");
    let running = running(server, home, pid, port, folder);
    write_state(place, &running, false);
    if let Err(why) = await_health(&running) {
        let log = last_lines(&running.folder.join("server.log"), 30);
        end(&running);
        return Err(format!("{server:?} {why}; its log ends:\n{log}"));
    }
    make_ready(server, place, &running);
    Ok(running)
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
}

fn start_folder(place: &Path, since: Duration) -> PathBuf {
    let folder = place.join(format!("start-{:020}", since.as_nanos()));
    for inner in ["data", "logs", "tmp"] {
        fs::create_dir_all(folder.join(inner)).expect("the start's folders can be made");
    }
    hand_over(&folder).expect("the start's folders can be handed over");
    folder
}

/// Removes what starts have left whose supervisor was killed too.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).expect("the server's folder can be listed");
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let _ = fs::remove_dir_all(path);
    }
}

/// Ports below the range that the system hands out to clients, so that none of those takes it in
/// between.
fn free_port(since: Duration) -> u16 {
    let first = u16::try_from(since.subsec_micros() % 10_000).expect("it is below 10 000");
    (0..10_000)
        .map(|step| 20_000 + (first + step) % 10_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("there is a free port")
}

fn spawn(server: Server, compiles: Compiles, place: &Path, home: &Path, folder: &Path, port: u16) -> io::Result<u32> {
    let log = File::create(folder.join("server.log"))?;
    let java = java_home(server).map_err(io::Error::other)?;
    let tmp = folder.join("tmp");
    let heap = "-Xms512m -Xmx512m -XX:-AlwaysPreTouch -Xlog:disable -Xlog:all=error:stderr";
    let options = match compiles {
        Compiles::Quickly => format!("{heap} -XX:TieredStopAtLevel=1"),
        Compiles::AsItComes => heap.to_owned(),
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", LAUNCH, "launch"])
        .args([&place.join("users.lock"), folder])
        .args(command_line(server, home, &java, folder, port))
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("SUPERVISE", SUPERVISE)
        .envs(["JAVA_HOME", "ES_JAVA_HOME", "OPENSEARCH_JAVA_HOME"].map(|name| (name, &java)))
        .envs(["ES_TMPDIR", "OPENSEARCH_TMPDIR"].map(|name| (name, &tmp)))
        .envs(["ES_JAVA_OPTS", "OPENSEARCH_JAVA_OPTS"].map(|name| (name, &options)))
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if let Some((uid, gid)) = other_user() {
        command.uid(uid).gid(gid);
    }
    // Not waited for: the supervisor ends it when this process is long gone.
    command.spawn().map(|child| child.id())
}

fn command_line(server: Server, home: &Path, java: &Path, folder: &Path, port: u16) -> Vec<OsString> {
    if server == Server::ElasticMq {
        let classes = home.join("lib/*");
        let program = [
            java.join("bin/java").into(),
            "-Xmx512m".into(),
            "-XX:TieredStopAtLevel=1".into(),
        ];
        let classes: [OsString; 2] = ["-cp".into(), classes.into()];
        let settings = queue_settings(folder, port).map(|setting| format!("-D{setting}").into());
        let main = ["org.elasticmq.server.Main".into()];
        return program.into_iter().chain(classes).chain(settings).chain(main).collect();
    }
    let program = home.join("bin").join(server.program()).into();
    let settings = settings(server, folder, port).map(|setting| format!("-E{setting}").into());
    std::iter::once(program).chain(settings).collect()
}

fn queue_settings(folder: &Path, port: u16) -> [String; 7] {
    [
        format!("node-address.port={port}"),
        format!("rest-sqs.bind-port={port}"),
        "node-address.host=127.0.0.1".to_owned(),
        "rest-sqs.bind-hostname=127.0.0.1".to_owned(),
        "rest-sqs.sqs-limits=strict".to_owned(),
        "rest-stats.enabled=false".to_owned(),
        // Not a setting of the server's: by this its process is known.
        format!("start={}", folder.display()),
    ]
}

fn settings(server: Server, folder: &Path, port: u16) -> impl Iterator<Item = String> {
    let security: &[&str] = match server {
        Server::Elasticsearch8 => &["xpack.security.enabled=false"],
        Server::Elasticsearch8Secured => &[
            "xpack.security.enabled=true",
            "xpack.security.http.ssl.enabled=false",
            "xpack.security.transport.ssl.enabled=false",
        ],
        _ => &[],
    };
    let common = &[
        "discovery.type=single-node",
        "network.host=127.0.0.1",
        "cluster.routing.allocation.disk.threshold_enabled=false",
    ];
    let own = [
        format!("http.port={port}"),
        format!("path.data={}", folder.join("data").display()),
        format!("path.logs={}", folder.join("logs").display()),
    ];
    let fixed = common.iter().chain(security);
    own.into_iter().chain(fixed.map(|&setting| setting.to_owned()))
}

fn healthy(running: &Running) -> bool {
    let path = match running.server {
        Server::ElasticMq => "/?Action=ListQueues",
        _ => "/_cluster/health?wait_for_status=yellow&timeout=1s",
    };
    send(running, running.admin.as_ref(), "GET", path, None).is_ok_and(|(status, _)| status == 200)
}

fn await_health(running: &Running) -> Result<(), &'static str> {
    let deadline = Instant::now() + START_LIMIT;
    while !healthy(running) {
        if !alive(running) {
            return Err("died");
        }
        if Instant::now() > deadline {
            return Err("did not become ready in time");
        }
        sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// What is left to do once the server answers.
fn make_ready(server: Server, place: &Path, running: &Running) {
    if server == Server::OpenSearch2Secured {
        let role = json!({
            "cluster_permissions": ["indices:data/write/bulk"],
            "index_permissions": [{
                "index_patterns": ["events*"],
                "allowed_actions": ["create_index", "write"],
            }],
        });
        let user = json!({ "password": PASSWORD, "opendistro_security_roles": ["pixel_writer"] });
        for (path, body) in [("roles/pixel_writer", role), ("internalusers/pixel-writer", user)] {
            let path = format!("/_plugins/_security/api/{path}");
            let (status, answer) = request(running, "PUT", &path, Some(&body.to_string()));
            assert!(matches!(status, 200 | 201), "PUT {path}: {status} {answer}");
        }
    }
    write_state(place, running, true);
}

fn last_lines(file: &Path, count: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

// Fetching and unpacking.

/// The folder that the server is unpacked in.
fn shelf(server: Server) -> PathBuf {
    setup::cache_dir().join("servers").join(server.name())
}

/// The server's unpacked folder, fetched now if it never was.
fn installed(server: Server) -> PathBuf {
    let shelf = shelf(server);
    fs::create_dir_all(shelf.with_file_name("")).expect("the servers' folder can be made");
    let _one_installs = setup::lock(&shelf.with_added_extension("lock"));
    let complete = shelf.join(COMPLETE);
    if !complete.exists() {
        let _ = fs::remove_dir_all(&shelf);
        install(server, &shelf).unwrap_or_else(|why| panic!("{server:?} is not to be had: {why}"));
        File::create(&complete).expect("the folder can be marked complete");
    }
    unpacked(&shelf).expect("a complete folder has the server in it")
}

fn unpacked(folder: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.find(|path| ["bin", "lib"].iter().any(|part| path.join(part).is_dir()))
}

fn install(server: Server, folder: &Path) -> Result<(), String> {
    let goal = match server {
        Server::ElasticMq => "copy-dependencies@libraries",
        _ => "unpack@server",
    };
    fetch(server, goal, folder)?;
    let home = unpacked(folder).ok_or("there is neither a folder bin nor a folder lib")?;
    match server {
        Server::OpenSearch2Secured => {
            fetch(server, "copy@plugin", folder)?;
            add_security(server, folder, &home)?;
        }
        Server::Elasticsearch8Secured => {
            keep_password(server, &home)?;
        }
        _ => {}
    }
    hand_over(&home).map_err(|error| error.to_string())
}

/// One at a time, because Maven's local repository is not made for more.
fn fetch(server: Server, goal: &str, folder: &Path) -> Result<(), String> {
    let _one_fetches = setup::lock(&setup::cache_dir().join("maven.lock"));
    let mut command = Command::new("mvn");
    command
        .args(["-B", "-q", "-f", POM, "-P", server.profile()])
        .arg(format!("-Dserver.directory={}", folder.display()))
        .arg(format!("dependency:{goal}"));
    run(&mut command, "")
}

/// The plugin with its demonstration certificates and roles.
fn add_security(server: Server, folder: &Path, home: &Path) -> Result<(), String> {
    let plugin = folder.join("opensearch-security.zip");
    let url = format!("file://{}", plugin.display());
    let mut install = tool(server, &home.join("bin/opensearch-plugin"))?;
    run(install.args(["install", "-b", "-s", &url]), "")?;
    let script = home.join("plugins/opensearch-security/tools/install_demo_configuration.sh");
    let mut configure = tool(server, Path::new("bash"))?;
    configure
        .arg(script)
        .args(["-y", "-i"])
        .env("OPENSEARCH_INITIAL_ADMIN_PASSWORD", PASSWORD);
    run(&mut configure, "")?;
    fs::remove_file(plugin).map_err(|error| error.to_string())
}

/// The password of the user `elastic`.
fn keep_password(server: Server, home: &Path) -> Result<(), String> {
    let keystore = home.join("bin/elasticsearch-keystore");
    run(tool(server, &keystore)?.arg("create"), "")?;
    run(
        tool(server, &keystore)?.args(["add", "-x", "bootstrap.password"]),
        PASSWORD,
    )
}

/// One of the server's own programs.
fn tool(server: Server, program: &Path) -> Result<Command, String> {
    let java = java_home(server)?;
    let mut command = Command::new(program);
    command.envs(["JAVA_HOME", "ES_JAVA_HOME", "OPENSEARCH_JAVA_HOME"].map(|name| (name, &java)));
    Ok(command)
}

fn run(command: &mut Command, input: &str) -> Result<(), String> {
    let output = output(command, input).map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&printed)))
}

fn output(command: &mut Command, input: &str) -> io::Result<std::process::Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("the input is a pipe");
    // Who does not read its input says why by other means.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output()
}

// Users and Java.

/// The servers refuse to run as root; this is who they run as then.
fn other_user() -> Option<(u32, u32)> {
    if !setup::is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the users can be read");
    let nobody = users.lines().find_map(|line| line.strip_prefix("nobody:"));
    let mut fields = nobody.expect("there is a user nobody").split(':').skip(1);
    let mut number = || fields.next()?.parse().ok();
    Some((number()?, number()?))
}

fn give(path: &Path) -> io::Result<()> {
    other_user().map_or(Ok(()), |(uid, gid)| lchown(path, Some(uid), Some(gid)))
}

/// Gives a folder with all that is in it to the user that the server runs as.
fn hand_over(path: &Path) -> io::Result<()> {
    give(path)?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path())?;
        }
    }
    Ok(())
}

/// The oldest Java on this machine that the server runs on.
fn java_home(server: Server) -> Result<PathBuf, String> {
    let wanted = server.java();
    java_homes()
        .into_iter()
        .filter_map(|home| Some((java_version(&home)?, home)))
        .filter(|(version, _)| wanted.contains(version))
        .min_by_key(|(version, _)| *version)
        .map(|(_, home)| home)
        .ok_or_else(|| {
            let most = match *wanted.end() {
                u32::MAX => "or newer".to_owned(),
                end => format!("to {end}"),
            };
            format!(
                "{server:?} needs Java {} {most}: none in JAVA_HOME, on PATH or in /usr/lib/jvm",
                wanted.start()
            )
        })
}

fn java_homes() -> Vec<PathBuf> {
    let named = env::var_os("JAVA_HOME").map(PathBuf::from);
    let on_path = setup::on_path("java")
        .and_then(|java| java.canonicalize().ok())
        .and_then(|java| Some(java.parent()?.parent()?.to_owned()));
    let known = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let known = known.map(|entry| entry.path());
    named.into_iter().chain(on_path).chain(known).collect()
}

/// The major version, from the file that every Java since 9 has.
fn java_version(home: &Path) -> Option<u32> {
    let release = fs::read_to_string(home.join("release")).ok()?;
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\""))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

// Talking to it.

fn send(
    running: &Running,
    user: Option<&(String, String)>,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> io::Result<(u16, String)> {
    if user.is_some() || running.ca_file.is_some() {
        curl(running, user, method, path, body)
    } else {
        plain(running, method, path, body)
    }
}

fn plain(running: &Running, method: &str, path: &str, body: Option<&str>) -> io::Result<(u16, String)> {
    let address = running.url.trim_start_matches("http://");
    let body = body.unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut body = answer[end + 4..].to_vec();
    if head.contains("\r\ntransfer-encoding: chunked") {
        body = unchunked(&body)?;
    }
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|part| part == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = &rest[line + 2..];
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

fn curl(
    running: &Running,
    user: Option<&(String, String)>,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> io::Result<(u16, String)> {
    let mut command = Command::new("curl");
    command
        .args(["-q", "-sS", "--noproxy", "*", "--globoff", "--path-as-is"])
        .args(["--max-time", &ANSWER_LIMIT.as_secs().to_string()])
        .args(["-w", "\n%{http_code}", "-H", "Content-Type: application/json"]);
    if let Some(ca_file) = &running.ca_file {
        command.arg("--cacert").arg(ca_file);
    }
    if let Some((name, password)) = user {
        command.args(["-u", &format!("{name}:{password}")]);
    }
    match method {
        "HEAD" => command.arg("--head"),
        _ => command.args(["-X", method]),
    };
    if body.is_some() {
        command.args(["--data-binary", "@-"]);
    }
    command.arg(format!("{}{path}", running.url));
    let output = output(&mut command, body.unwrap_or_default())?;
    if !output.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let (body, status) = printed.rsplit_once('\n').unwrap_or_default();
    let status = status.parse().map_err(io::Error::other)?;
    Ok((status, body.to_owned()))
}
