//! An HTTP server on loopback whose answers a test makes up: a stub of something else, or a proxy before it. Every request is
//! recorded.
//!
//! It takes one request per connection, with a length and without chunks, and speaks no TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::matrix::Subject;
use super::servers;
use super::serving::PATIENCE;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Status and body.
    Answer(u16, String),
    /// The same with a `Date`.
    Dated(u16, String, String),
    /// The connection is closed without an answer.
    Drop,
    /// There is no answer until the client gives up.
    Silence,
}

impl Reaction {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Answer(status, body.to_string())
    }
}

/// The server; dropping it closes the port.
#[derive(Debug)]
pub struct SmallServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
}

impl SmallServer {
    pub fn start(react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = Self {
            address,
            asked: Arc::default(),
            stopped: Arc::default(),
        };
        let (asked, stopped, react) = (Arc::clone(&server.asked), Arc::clone(&server.stopped), Arc::new(react));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (asked, react) = (Arc::clone(&asked), Arc::clone(&react));
                std::thread::spawn(move || serve(stream, &asked, &*react));
            }
        });
        server
    }

    /// Passes every request on that `intercept` does not answer, as the administrator and whoever asks.
    pub fn proxy(subject: &Subject, intercept: impl Fn(&Asked) -> Option<Reaction> + Send + Sync + 'static) -> Self {
        let running = subject.running.clone();
        Self::start(move |asked| {
            intercept(asked).unwrap_or_else(|| {
                let body = Some(asked.body.as_str()).filter(|body| !body.is_empty());
                let (status, body) = servers::request(&running, &asked.method, &asked.path, body);
                Reaction::Answer(status, body)
            })
        })
    }

    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests that change something, as `METHOD path`.
    pub fn writes(&self) -> Vec<String> {
        let asked = self.asked();
        let writes = asked.iter().filter(|asked| asked.is_write());
        writes.map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    pub fn forget(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for SmallServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, asked: &Mutex<Vec<Asked>>, react: &dyn Fn(&Asked) -> Reaction) {
    let Some(request) = read(&stream) else { return };
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request.clone());
    match react(&request) {
        Reaction::Answer(status, body) => answer(&mut stream, status, &body, ""),
        Reaction::Dated(status, body, date) => answer(&mut stream, status, &body, &format!("Date: {date}\r\n")),
        Reaction::Drop => {}
        Reaction::Silence => {
            let _ = stream.read(&mut [0]);
        }
    }
}

fn answer(stream: &mut TcpStream, status: u16, body: &str, headers: &str) {
    let kind = if body.starts_with('<') {
        "text/html"
    } else {
        "application/json"
    };
    let length = body.len();
    // Whoever is gone needs no answer.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Status\r\n{headers}Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

fn read(stream: &TcpStream) -> Option<Asked> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let (first, headers) = lines.split_first()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: Vec<_> = headers.iter().filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
