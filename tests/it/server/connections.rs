//! Clients that send half a request, or never take an answer: they are given up, and visitors pass.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use pixel::config::Config;
use pixel::config::token;
use pixel::config::token::Scope;
use pixel::hit::request::Ingress;
use pixel::server::{Limits, PixelServer, Sink, serve};
use pixel::sqlite::Store;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use super::{Prepared, get, json, metric};
use crate::support::serving::{PATIENCE, Reply, request, wait_for};

const TOKEN: &str = "pixel_of-the-slow-clients";

/// Long enough for everything that a test does, and short enough to be waited for.
const SHORT: Duration = Duration::from_millis(300);
/// Longer than any test.
const NEVER: Duration = Duration::from_hours(1);

const fn limits() -> Limits {
    Limits {
        head: NEVER,
        body: NEVER,
        answer_step: NEVER,
        step_bytes: 64 * 1024,
        connections: 1000,
        client_connections: 1000,
    }
}

/// A server in this process, under other limits.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: TempDir,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pixel.db");
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let mut config = Config::default();
                config.tokens.add(token::hash_token(TOKEN), &Scope::ALL);
                let sink = Sink::store(Store::open(&path).unwrap());
                let (reports, _) = mpsc::channel(1);
                let stage = PixelServer::new(config, Ingress::Passthrough, sink, reports).with_limits(limits);
                serve(Arc::new(stage), listener, async {
                    let _ = stopped.await;
                })
                .await;
            });
        });
        Self {
            address: told.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// A connection on which this was sent.
    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// A request of which the end of the body is missing.
fn half_sent(token: &str) -> Vec<u8> {
    let authorization = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    format!("POST /v1/api/codes HTTP/1.1\r\nHost: a\r\n{authorization}Content-Length: 100\r\n\r\n{{\"campaign\":")
        .into()
}

/// All that comes until the connection is closed.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let server = Server::start(Limits {
        body: SHORT,
        ..limits()
    });
    let answer = rest(server.send(&half_sent(TOKEN)));
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[test]
fn nobody_s_body_is_read_without_a_token() {
    // It would be waited for.
    let server = Server::start(limits());
    for token in ["", "pixel_wrong"] {
        let answer = rest(server.send(&half_sent(token)));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{token:?}: {answer}");
    }
    let nowhere = String::from_utf8(half_sent("")).unwrap().replace("/codes", "/nothing");
    let answer = rest(server.send(nowhere.as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    // The whole request is answered as ever.
    let body = r#"{"campaign": "spring"}"#;
    let whole = format!(
        "POST /v1/api/codes HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = rest(server.send(whole.as_bytes()));
    assert!(
        answer.starts_with("HTTP/1.1 201 ") && answer.contains("spring"),
        "{answer}"
    );
}

/// So many requests for the page, one behind the other, have a longer answer than the system keeps for a client.
const PAGES: usize = 400;

fn pages() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(PAGES)
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let server = Server::start(Limits {
        answer_step: SHORT,
        ..limits()
    });
    let unread = server.send(&pages());
    // The one that asks is one of them.
    wait_for("two connections", || {
        (metric(server.address, "pixel_connections") == 2).then_some(())
    });
    wait_for("the end of one", || {
        (metric(server.address, "pixel_connections") == 1).then_some(())
    });
    drop(unread);
    // Who takes it has all of it.
    let mut taken = server.send(&pages());
    taken
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let answer = rest(taken);
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), PAGES + 1);
}

#[test]
fn slow_clients_make_room_for_visitors_and_followers_stay() {
    const MOST: usize = 8;
    let server = Server::start(Limits {
        connections: MOST,
        ..limits()
    });
    let follow = format!(
        "GET /v1/api/events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    let mut follower = server.send(follow.as_bytes());
    let mut begun = [0; 12];
    follower.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");

    let pages = pages();
    let slow: [&[u8]; 4] = [b"", b"GET /pixel.gif HT", &half_sent(TOKEN), &pages];
    let held: Vec<_> = (0..40).map(|number| server.send(slow[number % slow.len()])).collect();
    for number in 0..20 {
        let reply = get(server.address, &format!("/pixel/visitor-{number}.gif"));
        assert_eq!((reply.status, reply.header("x-pixel")), (200, Some("accepted")));
        assert!(metric(server.address, "pixel_connections") <= MOST as u64);
    }
    drop(held);
    let mut events = String::new();
    let mut part = [0; 4096];
    while !events.contains("visitor-19") {
        let read = follower.read(&mut part).expect("the follower is told");
        assert!(read > 0, "the follower was closed: {events}");
        events.push_str(&String::from_utf8_lossy(&part[..read]));
    }
}

#[test]
fn a_slow_request_that_is_whole_in_time_is_answered() {
    let server = Server::start(Limits {
        connections: 2,
        ..limits()
    });
    let whole = request("GET", "/pixel.gif", &[]);
    let (first, last) = whole.split_at(whole.len() / 2);
    let mut stream = server.send(first);
    assert_eq!(get(server.address, "/health").status, 200);
    stream.write_all(last).unwrap();
    assert!(rest(stream).starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_limit_of_open_files_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    let served = Prepared::start(folder.path(), "ulimit -Sn 128", &["--quiet"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", served.process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let values: Vec<_> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(values[0], values[1], "{line}");
    let reply: Reply = get(served.address, "/ready");
    assert_eq!(json(&reply)["status"], "ready");
}
