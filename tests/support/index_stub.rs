//! An index on loopback that behaves, and misbehaves, as told: for tests of what the function
//! makes of an index that is slow, down, cut off, in the way, or answering nonsense.
//!
//! It stores documents by index and id with the real server's status codes and bodies for the few
//! requests the project makes: `PUT|POST /{index}/_create/{id}`, `PUT|POST /{index}/_doc/{id}` with
//! `op_type`, `POST /{index}/_doc`, `GET|DELETE /{index}/_doc/{id}`, `GET|HEAD /`. Every request is
//! recorded. One that the real server would not take is answered 400 and noted as a violation.
//!
//! What it does not do: no TLS, no chunked request bodies (411 and a violation), no `_bulk`, no
//! mappings, no `filter_path` (accepted, but the answer is whole), no check of signatures. It reads
//! HTTP itself, because a library would not let it break the protocol.

#![allow(dead_code, reason = "a toolbox: not every test binary uses every tool")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);
const JSON: &str = "application/json; charset=UTF-8";
/// Query parameters that the real server knows for these requests.
const PARAMETERS: [&str; 9] = [
    "_source",
    "op_type",
    "filter_path",
    "refresh",
    "routing",
    "timeout",
    "wait_for_active_shards",
    "require_alias",
    "pretty",
];

/// What the stub does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Normal,
    /// Waits, then does the normal thing.
    Delay(Duration),
    /// Stores, waits, and closes without an answer.
    DelayThenDropStored(Duration),
    /// Stores nothing and answers with this status and body.
    Status(u16, String),
    /// Nobody listens on the port (which stays reserved), and open connections are closed. Only for
    /// [`IndexStub::behave`].
    Refuse,
    /// Resets new connections at once, and an open one with its next request.
    ResetOnAccept,
    /// Stores, and closes after the head and half of the body.
    CloseMidBody,
    /// Answers bytes that are not HTTP, and closes.
    Garbage,
    /// Stores nothing and answers a login page.
    Html200,
    /// Stores nothing and is silent until the client closes.
    NeverAnswer,
    /// Stores nothing, closes its own half of the connection without an answer, and goes on reading.
    HalfClose,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub method: String,
    pub path_and_query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection's number, the first being 1.
    pub connection: usize,
    pub at: Instant,
}

impl Recorded {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the recorded body is JSON")
    }

    fn path(&self) -> &str {
        let (path, _) = self.split();
        path
    }

    fn split(&self) -> (&str, &str) {
        let target = self.path_and_query.as_str();
        target.split_once('?').unwrap_or((target, ""))
    }
}

/// The stub; dropping it closes the port and all connections.
pub struct IndexStub {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    address: SocketAddr,
    /// Holds the port while nobody listens.
    _reservation: TcpSocket,
    listener: Mutex<Option<TcpListener>>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

struct State {
    default: Behaviour,
    script: VecDeque<Behaviour>,
    requests: Vec<Recorded>,
    documents: BTreeMap<(String, String), Stored>,
    writes: usize,
    violations: Vec<String>,
    connections: usize,
    /// A second handle on each open connection, to close it from outside.
    open: HashMap<usize, std::net::TcpStream>,
}

struct Stored {
    source: Value,
    version: u64,
    sequence: usize,
}

impl IndexStub {
    pub async fn start() -> Self {
        let reservation = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = reservation.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            address,
            _reservation: reservation,
            listener: Mutex::new(Some(listen(address))),
            state: Mutex::new(State::new()),
            changed: watch::Sender::default(),
        });
        let server = tokio::spawn(serve(shared.clone()));
        // The server is scheduled before anybody can be told of the address.
        tokio::task::yield_now().await;
        Self { shared, server }
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// What to do from now on, when no script is left. A request that is being answered is not
    /// affected.
    pub fn behave(&self, behaviour: Behaviour) {
        let mut listener = lock(&self.shared.listener);
        if behaviour == Behaviour::Refuse {
            *listener = None;
        } else if listener.is_none() {
            *listener = Some(listen(self.shared.address));
        }
        drop(listener);
        self.shared.change(|state| {
            if behaviour == Behaviour::Refuse {
                state.close_connections();
            }
            state.default = behaviour;
        });
    }

    /// What to do with the next requests, one each; then as `behave` says. A `ResetOnAccept` is
    /// used up by the connection or request that it resets.
    pub fn script(&self, behaviours: Vec<Behaviour>) {
        assert!(
            !behaviours.contains(&Behaviour::Refuse),
            "a refused connection is no request: use behave"
        );
        self.shared.change(|state| state.script = behaviours.into());
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// The documents by index and id.
    pub fn documents(&self) -> BTreeMap<(String, String), Value> {
        let state = self.shared.lock();
        let documents = state.documents.iter();
        documents
            .map(|(key, stored)| (key.clone(), stored.source.clone()))
            .collect()
    }

    /// The TCP connections accepted so far, the reset ones included.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// The connections open now.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// Requests that a real server would have refused, each with the reason.
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }

    /// Forgets requests, documents, violations and the count of connections; keeps the behaviour.
    pub fn clear(&self) {
        self.shared.change(|state| {
            state.requests.clear();
            state.documents.clear();
            state.violations.clear();
            state.connections = 0;
        });
    }

    /// Waits until the condition holds; panics after ten seconds.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        let waiting = async {
            while !condition(self) {
                changes.changed().await.expect("the sender is in self");
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(
            in_time,
            "the index never saw {what}; requests: {:#?}, violations: {:#?}",
            self.requests(),
            self.violations()
        );
    }
}

impl Drop for IndexStub {
    fn drop(&mut self) {
        self.server.abort();
        self.shared.change(State::close_connections);
        *lock(&self.shared.listener) = None;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere must not hide its message behind a poisoned lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two sockets share the port, and only the second one ever listens: so it can go and come back
/// without anybody else getting the port.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.set_reuseport(true).expect("the port can be shared");
    socket.set_reuseaddr(true).expect("the address can be reused");
    socket.bind(address).expect("the port can be bound");
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    bind(address).listen(1024).expect("the port can be listened on")
}

async fn serve(shared: Arc<Shared>) {
    let mut changes = shared.changed.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = next_connection(&shared) => {
                if let Some(connection) = Connection::admit(&shared, stream) {
                    connections.spawn(connection.run());
                }
            }
            // Perhaps there is another listener now.
            _ = changes.changed() => {}
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn next_connection(shared: &Shared) -> TcpStream {
    poll_fn(|context| {
        let listener = lock(&shared.listener);
        match listener.as_ref().map(|it| it.poll_accept(context)) {
            Some(Poll::Ready(Ok((stream, _)))) => Poll::Ready(stream),
            Some(Poll::Ready(Err(error))) => panic!("a connection can be accepted: {error}"),
            Some(Poll::Pending) | None => Poll::Pending,
        }
    })
    .await
}

/// One client's connection.
struct Connection {
    shared: Arc<Shared>,
    number: usize,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // First the second handle, or else the connection would stay open.
        self.shared.change(|state| state.open.remove(&self.number));
    }
}

/// Whether the connection stays open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    KeepOpen,
    Close,
}

impl Connection {
    /// Counts the connection, and resets it if that is what happens to the next one.
    fn admit(shared: &Arc<Shared>, stream: TcpStream) -> Option<Self> {
        stream.set_nodelay(true).ok()?;
        let reset = shared.change(|state| {
            state.connections += 1;
            let reset = *state.upcoming() == Behaviour::ResetOnAccept;
            reset.then(|| state.next_behaviour())
        });
        if reset.is_some() {
            // The drop that follows sends RST.
            stream.set_zero_linger().ok()?;
            return None;
        }
        let stream = stream.into_std().ok()?;
        let second = stream.try_clone().ok()?;
        let stream = TcpStream::from_std(stream).ok()?;
        let number = shared.change(|state| {
            let number = state.connections;
            // Whoever came in while the port was being closed is not to stay.
            if state.default == Behaviour::Refuse {
                return None;
            }
            state.open.insert(number, second);
            Some(number)
        })?;
        Some(Self {
            shared: shared.clone(),
            number,
            stream,
            buffer: Vec::new(),
        })
    }

    async fn run(mut self) {
        // An error here is the client's leaving, or ours by order.
        while let Ok(Some(request)) = self.read_request().await {
            match self.answer(request).await {
                Ok(Then::KeepOpen) => {}
                Ok(Then::Close) | Err(_) => return,
            }
        }
    }

    async fn answer(&mut self, request: Recorded) -> io::Result<Then> {
        let verdict = Operation::of(&request);
        let behaviour = self.shared.change(|state| state.record(&request, &verdict));
        let keep_open = match request.header("connection") {
            Some(value) if value.eq_ignore_ascii_case("close") => Then::Close,
            _ => Then::KeepOpen,
        };
        let head_only = request.method == "HEAD";
        match behaviour {
            Behaviour::Normal => self.send(&self.perform(verdict), head_only).await?,
            Behaviour::Delay(delay) => {
                tokio::time::sleep(delay).await;
                self.send(&self.perform(verdict), head_only).await?;
            }
            Behaviour::DelayThenDropStored(delay) => {
                self.perform(verdict);
                tokio::time::sleep(delay).await;
                return Ok(Then::Close);
            }
            Behaviour::Status(status, body) => {
                self.send(&Reply::text(status, body), head_only).await?;
            }
            Behaviour::Refuse => return Ok(Then::Close),
            Behaviour::ResetOnAccept => {
                self.stream.set_zero_linger()?;
                return Ok(Then::Close);
            }
            Behaviour::CloseMidBody => {
                let bytes = self.perform(verdict).cut_short();
                self.stream.write_all(&bytes).await?;
                return Ok(Then::Close);
            }
            Behaviour::Garbage => {
                let garbage = b"\x16\x03\x01\x00\xff this is not HTTP\r\n\r\n\xfe\xff";
                self.stream.write_all(garbage).await?;
                return Ok(Then::Close);
            }
            Behaviour::Html200 => self.send(&Reply::login_page(), head_only).await?,
            Behaviour::NeverAnswer => {
                self.wait_for_end().await?;
                return Ok(Then::Close);
            }
            Behaviour::HalfClose => {
                self.stream.shutdown().await?;
                self.wait_for_end().await?;
                return Ok(Then::Close);
            }
        }
        Ok(keep_open)
    }

    fn perform(&self, verdict: Result<Operation, String>) -> Reply {
        match verdict {
            Ok(operation) => self.shared.change(|state| state.perform(operation)),
            Err(reason) => Reply::error(400, "illegal_argument_exception", &reason, Map::new()),
        }
    }

    async fn send(&mut self, reply: &Reply, head_only: bool) -> io::Result<()> {
        let mut bytes = reply.head();
        if !head_only {
            bytes.extend_from_slice(reply.body.as_bytes());
        }
        self.stream.write_all(&bytes).await
    }

    async fn wait_for_end(&mut self) -> io::Result<()> {
        let mut ignored = [0; 1024];
        while self.stream.read(&mut ignored).await? > 0 {}
        Ok(())
    }

    /// The next request, or `None` if the client closed in between.
    async fn read_request(&mut self) -> io::Result<Option<Recorded>> {
        let head_length = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await? {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_length]).into_owned();
        self.buffer.drain(..head_length);
        let mut request = parse_head(&head, self.number);
        if request.header("transfer-encoding").is_some() {
            let reason = format!("{}: chunked body", request.path_and_query);
            self.shared.change(|state| state.violations.push(reason));
            self.send(&Reply::text(411, String::new()), false).await?;
            return Ok(None);
        }
        let length = request.header("content-length").unwrap_or("0");
        let length: usize = length.parse().map_err(io::Error::other)?;
        while self.buffer.len() < length {
            if !self.fill().await? {
                return Ok(None);
            }
        }
        request.body = self.buffer.drain(..length).collect();
        request.at = Instant::now();
        Ok(Some(request))
    }

    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A request without its body. What makes no sense comes out empty, and is a violation later.
fn parse_head(head: &str, connection: usize) -> Recorded {
    let mut lines = head.split("\r\n");
    let mut start = lines.next().unwrap_or_default().split(' ');
    let mut word = || start.next().unwrap_or_default().to_owned();
    let (method, path_and_query) = (word(), word());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Recorded {
        method,
        path_and_query,
        headers,
        body: Vec::new(),
        connection,
        at: Instant::now(),
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
enum Operation {
    Info,
    /// A search of what lies beside the events, of which the stub has nothing: revoked codes and opt-outs.
    Search,
    Write {
        index: String,
        id: Option<String>,
        source: Value,
        create: bool,
    },
    Read {
        index: String,
        id: String,
    },
    Delete {
        index: String,
        id: String,
    },
}

impl Operation {
    /// The operation, or why the real server would not take the request.
    fn of(request: &Recorded) -> Result<Self, String> {
        let complain = |reason: &str| format!("{} {}: {reason}", request.method, request.path_and_query);
        if request.method == "POST" && request.path().starts_with("/pixel-") && request.path().ends_with("/_search") {
            return Ok(Self::Search);
        }
        let parameters = parse_query(request.split().1).map_err(|it| complain(&it))?;
        let segments = request
            .path()
            .split('/')
            .skip(1)
            .map(percent_decode)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| complain("bad percent-encoding"))?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let method = request.method.as_str();
        if let ("GET" | "HEAD", [""]) = (method, segments.as_slice()) {
            return Ok(Self::Info);
        }
        let index = checked_index(segments[0]).map_err(|it| complain(&it))?;
        match (method, &segments[1..]) {
            ("PUT" | "POST", [kind @ ("_doc" | "_create"), id]) if !id.is_empty() => {
                Self::write(request, &parameters, index, Some(*id), *kind == "_create")
            }
            ("POST", ["_doc"]) => Self::write(request, &parameters, index, None, true),
            ("GET", ["_doc", id]) => Ok(Self::Read {
                index,
                id: (*id).to_owned(),
            }),
            ("DELETE", ["_doc", id]) => Ok(Self::Delete {
                index,
                id: (*id).to_owned(),
            }),
            _ => Err("no handler found".to_owned()),
        }
        .map_err(|it| complain(&it))
    }

    fn write(
        request: &Recorded,
        parameters: &[(String, String)],
        index: String,
        id: Option<&str>,
        create: bool,
    ) -> Result<Self, String> {
        let media_type = request.header("content-type").unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(format!("content-type {media_type:?} is not JSON"));
        }
        if id.is_some_and(|id| id.len() > 512) {
            return Err("the id is longer than 512 bytes".to_owned());
        }
        let source: Value =
            serde_json::from_slice(&request.body).map_err(|error| format!("the body is not JSON: {error}"))?;
        if !source.is_object() {
            return Err("the body is not a JSON object".to_owned());
        }
        let op_type = parameters.iter().find(|(name, _)| name == "op_type");
        let create = match op_type.map(|(_, value)| value.as_str()) {
            None => create,
            Some("create") => true,
            Some("index") if !create || id.is_none() => false,
            Some(other) => return Err(format!("op_type {other:?}")),
        };
        Ok(Self::Write {
            index,
            id: id.map(str::to_owned),
            source,
            create,
        })
    }
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (percent_decode(name), percent_decode(value)) {
            (Some(name), _) if !PARAMETERS.contains(&name.as_str()) => Err(format!("unrecognized parameter: [{name}]")),
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err("bad percent-encoding".to_owned()),
        }
    });
    pairs.collect()
}

fn checked_index(name: &str) -> Result<String, String> {
    let bad_character = |c: char| c.is_uppercase() || " \"*\\<|,>/?#:".contains(c);
    let bad_start = name.starts_with(['_', '-', '+', '.']);
    if name.is_empty() || name.len() > 255 || bad_start || name.contains(bad_character) {
        return Err(format!("Invalid index name [{name}]"));
    }
    Ok(name.to_owned())
}

fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(decoded).ok()
}

impl State {
    fn new() -> Self {
        Self {
            default: Behaviour::Normal,
            script: VecDeque::new(),
            requests: Vec::new(),
            documents: BTreeMap::new(),
            writes: 0,
            violations: Vec::new(),
            connections: 0,
            open: HashMap::new(),
        }
    }

    fn upcoming(&self) -> &Behaviour {
        self.script.front().unwrap_or(&self.default)
    }

    fn next_behaviour(&mut self) -> Behaviour {
        self.script.pop_front().unwrap_or_else(|| self.default.clone())
    }

    fn record(&mut self, request: &Recorded, verdict: &Result<Operation, String>) -> Behaviour {
        self.requests.push(request.clone());
        if let Err(reason) = verdict {
            self.violations.push(reason.clone());
        }
        self.next_behaviour()
    }

    fn close_connections(&mut self) {
        for connection in self.open.values() {
            // It may be gone already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn perform(&mut self, operation: Operation) -> Reply {
        match operation {
            Operation::Info => Reply::info(),
            Operation::Search => Reply::json(200, &json!({"hits": {"hits": []}})),
            Operation::Write {
                index,
                id,
                source,
                create,
            } => self.write(&index, id, source, create),
            Operation::Read { index, id } => self.read(&index, &id),
            Operation::Delete { index, id } => self.delete(&index, &id),
        }
    }

    fn write(&mut self, index: &str, id: Option<String>, source: Value, create: bool) -> Reply {
        let sequence = self.writes;
        let id = id.unwrap_or_else(|| format!("made-by-the-stub-{sequence:03}"));
        let key = (index.to_owned(), id.clone());
        let version = match self.documents.get(&key) {
            Some(stored) if create => return conflict(index, &id, stored),
            Some(stored) => stored.version + 1,
            None => 1,
        };
        let stored = Stored {
            source,
            version,
            sequence,
        };
        let (status, result) = if version == 1 {
            (201, "created")
        } else {
            (200, "updated")
        };
        let mut reply = Reply::json(status, &written(index, &id, result, &stored));
        if status == 201 {
            reply.location = Some(format!("/{index}/_doc/{id}"));
        }
        self.documents.insert(key, stored);
        self.writes += 1;
        reply
    }

    fn read(&self, index: &str, id: &str) -> Reply {
        let key = (index.to_owned(), id.to_owned());
        match self.documents.get(&key) {
            Some(stored) => {
                let body = json!({
                    "_index": index, "_id": id, "_version": stored.version,
                    "_seq_no": stored.sequence, "_primary_term": 1,
                    "found": true, "_source": stored.source,
                });
                Reply::json(200, &body)
            }
            None => Reply::json(404, &json!({"_index": index, "_id": id, "found": false})),
        }
    }

    fn delete(&mut self, index: &str, id: &str) -> Reply {
        let removed = self.documents.remove(&(index.to_owned(), id.to_owned()));
        let (status, result) = match removed {
            Some(_) => (200, "deleted"),
            None => (404, "not_found"),
        };
        let tombstone = Stored {
            source: Value::Null,
            version: removed.map_or(1, |stored| stored.version + 1),
            sequence: self.writes,
        };
        self.writes += 1;
        Reply::json(status, &written(index, id, result, &tombstone))
    }
}

fn written(index: &str, id: &str, result: &str, stored: &Stored) -> Value {
    json!({
        "_index": index,
        "_id": id,
        "_version": stored.version,
        "result": result,
        "_shards": {"total": 2, "successful": 1, "failed": 0},
        "_seq_no": stored.sequence,
        "_primary_term": 1,
    })
}

fn conflict(index: &str, id: &str, stored: &Stored) -> Reply {
    let version = stored.version;
    let reason = format!("[{id}]: version conflict, document already exists (current version [{version}])");
    let mut place = Map::new();
    place.insert("index".to_owned(), index.into());
    place.insert("shard".to_owned(), "0".into());
    place.insert("index_uuid".to_owned(), "aStubIndexUuid00000000".into());
    Reply::error(409, "version_conflict_engine_exception", &reason, place)
}

/// An answer before it is sent.
#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    media_type: &'static str,
    location: Option<String>,
    body: String,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            media_type: JSON,
            location: None,
            body: body.to_string(),
        }
    }

    fn text(status: u16, body: String) -> Self {
        let is_json = body.starts_with(['{', '[']);
        Self {
            status,
            media_type: if is_json { JSON } else { "text/plain; charset=UTF-8" },
            location: None,
            body,
        }
    }

    fn error(status: u16, kind: &str, reason: &str, mut details: Map<String, Value>) -> Self {
        details.insert("type".to_owned(), kind.into());
        details.insert("reason".to_owned(), reason.into());
        let mut error = details.clone();
        error.insert("root_cause".to_owned(), json!([details]));
        Self::json(status, &json!({"error": error, "status": status}))
    }

    fn info() -> Self {
        let info = json!({
            "name": "stub-node",
            "cluster_name": "stub",
            "cluster_uuid": "aStubClusterUuid000000",
            "version": {
                "distribution": "opensearch",
                "number": "2.19.4",
                "build_type": "tar",
                "build_hash": "0000000000000000000000000000000000000000",
                "build_date": "2025-11-01T00:00:00.000000000Z",
                "build_snapshot": false,
                "lucene_version": "9.12.3",
                "minimum_wire_compatibility_version": "7.10.0",
                "minimum_index_compatibility_version": "7.0.0",
            },
            "tagline": "The OpenSearch Project: https://opensearch.org/",
        });
        Self::json(200, &info)
    }

    fn login_page() -> Self {
        let body = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\
                    <body><form method=\"post\"><input name=\"user\"></form></body></html>\n";
        Self {
            status: 200,
            media_type: "text/html; charset=UTF-8",
            location: None,
            body: body.to_owned(),
        }
    }

    fn head(&self) -> Vec<u8> {
        let (status, media_type, length) = (self.status, self.media_type, self.body.len());
        let reason = reason_phrase(status);
        let location = self
            .location
            .as_deref()
            .map_or_else(String::new, |path| format!("location: {}\r\n", encode_path(path)));
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\n{location}content-type: {media_type}\r\n\
             content-length: {length}\r\n\r\n"
        );
        head.into_bytes()
    }

    fn cut_short(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(&self.body.as_bytes()[..self.body.len() / 2]);
        bytes
    }
}

fn encode_path(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let encoded = path.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    encoded.collect()
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        411 => "Length Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: &str = "/pixel-2026.01.31/_create/a%2Fb";

    /// A client so plain that it shows what is on the wire.
    struct Client {
        stream: TcpStream,
    }

    impl Client {
        async fn connect(stub: &IndexStub) -> io::Result<Self> {
            let stream = TcpStream::connect(stub.address()).await?;
            Ok(Self { stream })
        }

        async fn send(&mut self, method: &str, target: &str, body: &str) -> io::Result<()> {
            self.send_as("application/json", method, target, body).await
        }

        async fn send_as(&mut self, media_type: &str, method: &str, target: &str, body: &str) -> io::Result<()> {
            let request = format!(
                "{method} {target} HTTP/1.1\r\nHost: index\r\nContent-Type: {media_type}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            self.stream.write_all(request.as_bytes()).await
        }

        /// A whole answer: its status and body.
        async fn receive(&mut self) -> io::Result<(u16, String)> {
            let mut bytes = Vec::new();
            let (head, length) = loop {
                if let Some(end) = find(&bytes, b"\r\n\r\n") {
                    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                    let body: Vec<u8> = bytes.split_off(end + 4);
                    bytes = body;
                    let length = content_length(&head)?;
                    break (head, length);
                }
                self.more(&mut bytes).await?;
            };
            while bytes.len() < length {
                self.more(&mut bytes).await?;
            }
            let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
            let status = status.ok_or(io::ErrorKind::InvalidData)?;
            Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
        }

        async fn more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
            match self.stream.read_buf(bytes).await? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            }
        }

        async fn exchange(&mut self, method: &str, target: &str, body: &str) -> io::Result<(u16, String)> {
            self.send(method, target, body).await?;
            self.receive().await
        }
    }

    fn content_length(head: &str) -> io::Result<usize> {
        let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = line.and_then(|it| it.parse().ok());
        length.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    async fn create(stub: &IndexStub) -> io::Result<(u16, String)> {
        let mut client = Client::connect(stub).await?;
        client.exchange("PUT", CREATE, r#"{"a":1}"#).await
    }

    fn kind(result: io::Result<(u16, String)>) -> io::ErrorKind {
        result.expect_err("there is no answer").kind()
    }

    #[tokio::test]
    async fn stores_once_and_tells_a_conflict() {
        let stub = IndexStub::start().await;
        let mut client = Client::connect(&stub).await.expect("it listens");
        let put = client.exchange("PUT", CREATE, r#"{"a":1}"#).await;
        let (status, body) = put.expect("an answer");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &body["result"]), (201, &json!("created")));
        assert_eq!(body["_id"], "a/b");

        for (method, target) in [("POST", CREATE), ("PUT", "/pixel-2026.01.31/_doc/a%2Fb?op_type=create")] {
            let again = client.exchange(method, target, r#"{"a":2}"#).await;
            let (status, body) = again.expect("an answer");
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!((status, &body["status"]), (409, &json!(409)));
            assert_eq!(body["error"]["type"], "version_conflict_engine_exception");
        }
        let key = ("pixel-2026.01.31".to_owned(), "a/b".to_owned());
        assert_eq!(stub.documents(), BTreeMap::from([(key, json!({"a": 1}))]));
        assert_eq!((stub.requests().len(), stub.connections()), (3, 1));
        assert_eq!(stub.violations(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn knows_the_other_requests() {
        let stub = IndexStub::start().await;
        let mut client = Client::connect(&stub).await.expect("it listens");
        for (method, target, body, status) in [
            ("GET", "/", "", 200),
            ("POST", "/pixel/_doc", "{}", 201),
            ("POST", "/pixel/_doc?op_type=create&refresh=true", "{}", 201),
            ("PUT", "/pixel/_doc/1", "{}", 201),
            ("PUT", "/pixel/_doc/1", "{}", 200),
            ("GET", "/pixel/_doc/1", "", 200),
            ("DELETE", "/pixel/_doc/1", "", 200),
            ("DELETE", "/pixel/_doc/1", "", 404),
            ("GET", "/pixel/_doc/1", "", 404),
        ] {
            let answer = client.exchange(method, target, body).await;
            assert_eq!(answer.expect("an answer").0, status, "{method} {target}");
        }
        assert_eq!(stub.documents().len(), 2);
        assert_eq!(stub.violations(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn notes_what_a_real_server_would_refuse() {
        let stub = IndexStub::start().await;
        let mut client = Client::connect(&stub).await.expect("it listens");
        let requests = [
            ("application/json", "PUT", CREATE, "[1]"),
            ("application/json", "PUT", CREATE, "{"),
            ("text/plain", "PUT", CREATE, "{}"),
            ("application/json", "PUT", "/Pixel/_create/1", "{}"),
            ("application/json", "PUT", "/_all/_create/1", "{}"),
            ("application/json", "PUT", "/pixel/_create", "{}"),
            ("application/json", "PUT", "/pixel/_create/%zz", "{}"),
            ("application/json", "PUT", "/pixel/_doc/1?optype=create", "{}"),
            ("application/json", "POST", "/", "{}"),
            ("application/json", "POST", "/_bulk", "{}"),
        ];
        for (media_type, method, target, body) in requests {
            let sent = client.send_as(media_type, method, target, body).await;
            sent.expect("it is sent");
            let (status, _) = client.receive().await.expect("an answer");
            assert_eq!(status, 400, "{method} {target} {body}");
        }
        assert_eq!(stub.violations().len(), requests.len());
        assert!(stub.documents().is_empty());
    }

    #[tokio::test]
    async fn delays() {
        let stub = IndexStub::start().await;
        stub.behave(Behaviour::Delay(Duration::from_millis(50)));
        let started = Instant::now();
        assert_eq!(create(&stub).await.expect("an answer").0, 201);
        assert!(started.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn follows_the_script_and_then_the_default() {
        let stub = IndexStub::start().await;
        stub.behave(Behaviour::Status(503, "busy".to_owned()));
        stub.script(vec![
            Behaviour::ResetOnAccept,
            Behaviour::Status(429, "{}".to_owned()),
            Behaviour::Normal,
        ]);
        assert!(create(&stub).await.is_err());
        assert_eq!(create(&stub).await.expect("an answer").0, 429);
        assert_eq!(create(&stub).await.expect("an answer").0, 201);
        let last = create(&stub).await.expect("an answer");
        assert_eq!(last, (503, "busy".to_owned()));
        assert_eq!((stub.connections(), stub.requests().len()), (4, 3));
    }

    #[tokio::test]
    async fn stores_and_drops() {
        let stub = IndexStub::start().await;
        stub.behave(Behaviour::DelayThenDropStored(Duration::ZERO));
        assert_eq!(kind(create(&stub).await), io::ErrorKind::UnexpectedEof);
        assert_eq!(stub.documents().len(), 1);
        stub.behave(Behaviour::Normal);
        assert_eq!(create(&stub).await.expect("an answer").0, 409);
    }

    #[tokio::test]
    async fn refuses_and_comes_back_on_the_same_port() {
        let stub = IndexStub::start().await;
        let mut before = Client::connect(&stub).await.expect("it listens");
        before.exchange("GET", "/", "").await.expect("an answer");
        for _ in 0..3 {
            stub.behave(Behaviour::Refuse);
            let refused = create(&stub).await;
            assert_eq!(kind(refused), io::ErrorKind::ConnectionRefused);
            stub.behave(Behaviour::Normal);
            create(&stub).await.expect("an answer");
        }
        assert!(before.exchange("GET", "/", "").await.is_err());
    }

    #[tokio::test]
    async fn resets_new_and_open_connections() {
        let stub = IndexStub::start().await;
        let mut open = Client::connect(&stub).await.expect("it listens");
        open.exchange("GET", "/", "").await.expect("an answer");
        stub.behave(Behaviour::ResetOnAccept);
        let answer = open.exchange("GET", "/", "").await;
        assert_eq!(kind(answer), io::ErrorKind::ConnectionReset);
        assert!(create(&stub).await.is_err());
        assert_eq!(stub.requests().len(), 2);
    }

    #[tokio::test]
    async fn closes_in_the_middle_of_the_body() {
        let stub = IndexStub::start().await;
        stub.behave(Behaviour::CloseMidBody);
        assert_eq!(kind(create(&stub).await), io::ErrorKind::UnexpectedEof);
        assert_eq!(stub.documents().len(), 1);
    }

    #[tokio::test]
    async fn answers_nonsense() {
        let stub = IndexStub::start().await;
        stub.behave(Behaviour::Garbage);
        assert_eq!(kind(create(&stub).await), io::ErrorKind::InvalidData);
        stub.behave(Behaviour::Html200);
        let (status, body) = create(&stub).await.expect("an answer");
        assert!(status == 200 && body.contains("<form"));
        assert!(stub.documents().is_empty());
    }

    #[tokio::test]
    async fn never_answers_until_the_client_leaves() {
        let stub = IndexStub::start().await;
        stub.behave(Behaviour::NeverAnswer);
        let mut client = Client::connect(&stub).await.expect("it listens");
        client.send("PUT", CREATE, "{}").await.expect("it is sent");
        let silence = tokio::time::timeout(Duration::from_millis(50), client.receive());
        assert!(silence.await.is_err());
        stub.wait_for("the request", |stub| stub.requests().len() == 1).await;
        drop(client);
        stub.wait_for("the end", |stub| stub.open_connections() == 0).await;
    }

    #[tokio::test]
    async fn two_requests_in_one_packet_and_one_in_two() {
        let stub = IndexStub::start().await;
        let mut client = Client::connect(&stub).await.expect("it listens");
        let both = "GET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\nConnection: close\r\n\r\n";
        let (first, second) = both.split_at(30);
        for part in [first, second] {
            let written = client.stream.write_all(part.as_bytes()).await;
            written.expect("it is sent");
            tokio::task::yield_now().await;
        }
        let mut all = String::new();
        let read = client.stream.read_to_string(&mut all).await;
        read.expect("both answers and the end");
        assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2);
        assert_eq!(all.matches("2.19.4").count(), 1);
    }
}
