//! A proxy of TCP connections on loopback that does what networks and servers do on bad days. What it does is chosen anew for
//! each request.
//!
//! It knows where requests begin, and nothing else of HTTP: it takes one at a time on a connection, and no pipelining.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nobody listens, and open connections are closed. Not for [`FaultProxy::choose`].
    Down,
    /// The connection is reset, and nothing passed on.
    Reset,
    /// The request is passed on, and the connection reset instead of an answer.
    ResetAnswer,
    /// The proxy ends its side of the connection, and reads on.
    HalfClose,
    /// The request is passed on, and its answer ends after so many bytes.
    CutAnswer(usize),
    /// The request is passed on, and its answer is not.
    Swallow,
    /// The request is not passed on, and there is no answer.
    Silence,
    /// The answer is passed on after this time.
    Late(Duration),
    /// The request is not passed on, and answered so.
    Answer(u16, &'static str),
}

/// By the request's first line.
type Choose = Box<dyn FnMut(&str) -> Fault + Send>;

struct Shared {
    target: SocketAddr,
    choose: Mutex<Choose>,
    down: watch::Sender<bool>,
}

/// The proxy; dropping it closes all connections.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Its own, so that tests need none.
    runtime: Option<Runtime>,
}

impl FaultProxy {
    /// A proxy without a fault before `http://ADDRESS`.
    pub fn before(url: &str) -> Self {
        let target = url
            .trim_start_matches("http://")
            .parse()
            .expect("the URL has an address");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let shared = Arc::new(Shared {
            target,
            choose: Mutex::new(Box::new(|_| Fault::None)),
            down: watch::Sender::new(false),
        });
        let entered = runtime.enter();
        // Keeps the port while nobody listens on it.
        let reserved = bind(([127, 0, 0, 1], 0).into());
        let address = reserved.local_addr().expect("it is bound");
        let listener = bind(address).listen(1024).expect("the port can be listened on");
        let down = shared.down.subscribe();
        runtime.spawn(run(Arc::clone(&shared), down, reserved, listener));
        drop(entered);
        Self {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of all requests from now on.
    pub fn set(&self, fault: Fault) {
        let down = fault == Fault::Down;
        self.choose(move || fault.clone());
        self.shared.down.send_replace(down);
        if down {
            let refused = || std::net::TcpStream::connect(self.address).is_err().then_some(());
            super::serving::wait_for("that nobody listens", refused);
        }
    }

    /// What becomes of each request from now on.
    pub fn choose(&self, mut choose: impl FnMut() -> Fault + Send + 'static) {
        self.choose_by(move |_| choose());
    }

    /// What becomes of each request from now on, by its first line.
    pub fn choose_by(&self, choose: impl FnMut(&str) -> Fault + Send + 'static) {
        *self.shared.choose.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(choose);
        self.shared.down.send_replace(false);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.set_reuseport(true).expect("the port can be shared");
    socket.set_reuseaddr(true).expect("the address can be reused");
    socket.bind(address).expect("the port can be bound");
    socket
}

async fn run(shared: Arc<Shared>, mut down: watch::Receiver<bool>, reserved: TcpSocket, listener: TcpListener) {
    let address = reserved.local_addr().expect("it is bound");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(pass(Arc::clone(&shared), client));
                }
            }
            Ok(()) = down.changed() => {
                if *down.borrow_and_update() {
                    listener = None;
                    connections.abort_all();
                } else if listener.is_none() {
                    listener = bind(address).listen(1024).ok();
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Passes one connection on. An error is somebody's leaving.
async fn pass(shared: Arc<Shared>, mut client: TcpStream) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let (mut fault, mut passed) = (Fault::None, 0);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                if begins_request(bytes) {
                    fault = (shared.choose.lock().unwrap_or_else(PoisonError::into_inner))(&first_line(bytes));
                    passed = 0;
                    match fault {
                        Fault::Reset => return client.set_zero_linger(),
                        Fault::HalfClose => client.shutdown().await?,
                        Fault::Answer(status, body) => return answer(client, bytes, status, body).await,
                        _ => {}
                    }
                }
                if !matches!(fault, Fault::HalfClose | Fault::Silence) {
                    server.write_all(bytes).await?;
                }
            }
            read = server.read(&mut answered) => {
                let mut bytes = &answered[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                match fault {
                    Fault::ResetAnswer => return client.set_zero_linger(),
                    Fault::Swallow => continue,
                    Fault::Late(time) if passed == 0 => tokio::time::sleep(time).await,
                    Fault::CutAnswer(most) => bytes = &bytes[..bytes.len().min(most - passed)],
                    _ => {}
                }
                passed += bytes.len();
                client.write_all(bytes).await?;
                if fault == Fault::CutAnswer(passed) {
                    return client.shutdown().await;
                }
            }
        }
    }
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

fn begins_request(bytes: &[u8]) -> bool {
    ["POST /", "PUT /", "GET /", "HEAD /"]
        .iter()
        .any(|method| bytes.starts_with(method.as_bytes()))
}

/// Reads the request to its end, of which these are the first bytes, and answers it.
async fn answer(mut client: TcpStream, begun: &[u8], status: u16, body: &str) -> io::Result<()> {
    let text = String::from_utf8_lossy(begun).to_ascii_lowercase();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_default();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    let mut left = length.saturating_sub(rest.len());
    let mut chunk = vec![0; 64 * 1024];
    while left > 0 {
        let read = client.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        left = left.saturating_sub(read);
    }
    let answer = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}
