//! The open connections: their number is limited, and an idle one is closed for a new one.
//!
//! A new connection may be a visitor's hit, so it is not refused as long as another connection only waits: the one that
//! has waited longest for its client (for a request, for a body or for the client to take a response) is closed
//! instead.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use super::limits::Limits;
use crate::hit::read::is_private_address;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for the client to send a request or a body.
    Receiving,
    /// Answers a request.
    Answering,
    /// Waits for the client to take the response.
    Sending,
    /// Sends live events to a client that has a token.
    Following,
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: Option<IpAddr>,
    /// The state, and the time it began.
    state: Mutex<(State, Instant)>,
    close: Notify,
}

impl Connection {
    fn new(client: Option<IpAddr>, now: Instant) -> Self {
        Self {
            client,
            state: Mutex::new((State::Receiving, now)),
            close: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, (State, Instant)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, state: State) {
        *self.state() = (state, Instant::now());
    }

    /// Records that a request has arrived.
    pub(super) fn begin_answer(&self) {
        self.enter(State::Answering);
    }

    /// Records that the server waits for the body of a request.
    pub(super) fn begin_body(&self) {
        self.enter(State::Receiving);
    }

    /// Records that a response is ready to be sent. `is_followed` is for responses without an end.
    pub(super) fn begin_sending(&self, is_followed: bool) {
        self.enter(if is_followed { State::Following } else { State::Sending });
    }

    /// Records that the client has taken the whole response.
    fn note_sent(&self) {
        let mut state = self.state();
        if state.0 == State::Sending {
            *state = (State::Receiving, Instant::now());
        }
    }

    /// Returns the time since which it waits for its client; none while it does not wait.
    fn waits_since(&self) -> Option<Instant> {
        let (state, since) = *self.state();
        matches!(state, State::Receiving | State::Sending).then_some(since)
    }

    /// Resolves when this connection is to be closed for another.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

/// All open connections.
#[derive(Debug, Default)]
struct Open {
    last: u64,
    connections: HashMap<u64, Arc<Connection>>,
    /// The number of connections of each client.
    clients: HashMap<IpAddr, usize>,
}

impl Open {
    fn count(&self, client: Option<IpAddr>) -> usize {
        client
            .and_then(|client| self.clients.get(&client))
            .copied()
            .unwrap_or(0)
    }

    /// Makes room for another connection, in total and of this client. Returns false if there is no room.
    fn make_room(&mut self, client: Option<IpAddr>, limits: &Limits) -> bool {
        if client.is_some() && self.count(client) >= limits.client_connections {
            return self.close_longest_waiting(|connection| connection.client == client);
        }
        self.connections.len() < limits.connections || self.close_longest_waiting(|_| true)
    }

    fn close_longest_waiting(&mut self, chosen: impl Fn(&Connection) -> bool) -> bool {
        let waiting = self
            .connections
            .iter()
            .filter(|(_, connection)| chosen(connection))
            .filter_map(|(id, connection)| Some((connection.waits_since()?, *id)));
        let Some((_, id)) = waiting.min() else { return false };
        if let Some(connection) = self.remove(id) {
            connection.close.notify_one();
        }
        true
    }

    fn add(&mut self, client: Option<IpAddr>, now: Instant) -> (u64, Arc<Connection>) {
        let connection = Arc::new(Connection::new(client, now));
        self.last += 1;
        self.connections.insert(self.last, Arc::clone(&connection));
        if let Some(client) = client {
            *self.clients.entry(client).or_default() += 1;
        }
        (self.last, connection)
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        let connection = self.connections.remove(&id)?;
        if let Some(client) = connection.client
            && let Some(count) = self.clients.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&client);
            }
        }
        Some(connection)
    }
}

/// The open connections of a server.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    open: Arc<Mutex<Open>>,
    limits: Limits,
    /// True if peers are clients; false behind the owner's proxy.
    peers_are_clients: bool,
}

/// A place among the open connections, returned on drop.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    pub(super) connection: Arc<Connection>,
    all: Connections,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.open().remove(self.id);
    }
}

impl Connections {
    pub(super) fn new(limits: Limits, peers_are_clients: bool) -> Self {
        Self {
            open: Arc::default(),
            limits,
            peers_are_clients,
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place for a new connection; none when all others are being answered.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Place> {
        let client = client_of(peer).filter(|_| self.peers_are_clients);
        let mut open = self.open();
        if !open.make_room(client, &self.limits) {
            return None;
        }
        let (id, connection) = open.add(client, Instant::now());
        drop(open);
        Some(Place {
            id,
            connection,
            all: self.clone(),
        })
    }

    /// Closes the connection that has waited longest, when no more files can be opened.
    pub(super) fn close_one(&self) {
        self.open().close_longest_waiting(|_| true);
    }

    /// Returns the number of open connections.
    pub(super) fn count(&self) -> usize {
        self.open().connections.len()
    }
}

/// Returns the client of a connection. One IPv6 customer has a whole /64 network. Behind a private address there may be
/// many clients, so there is none.
fn client_of(peer: IpAddr) -> Option<IpAddr> {
    match peer.to_canonical() {
        peer if is_private_address(peer) => None,
        IpAddr::V4(peer) => Some(peer.into()),
        IpAddr::V6(peer) => Some(IpAddr::V6((peer.to_bits() & !u128::from(u64::MAX)).into())),
    }
}

/// A connection's stream that fails when its client reads too slowly.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
    limits: Limits,
    /// The deadline for the client to read something; none while nothing is pending.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The bytes that the client has taken since the last step.
    taken: usize,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>, limits: Limits) -> Self {
        Self {
            stream,
            connection,
            limits,
            deadline: None,
            taken: 0,
        }
    }

    /// Checks the result of a write: a client that reads nothing for too long gets a timeout.
    fn watch(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = written {
            self.taken += *result.as_ref().unwrap_or(&0);
            if self.taken >= self.limits.step_bytes {
                (self.taken, self.deadline) = (0, None);
            }
            return Poll::Ready(result);
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(self.limits.answer_step)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not take the answer",
        )))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Flushes the stream; the caller has then written everything.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        (self.taken, self.deadline) = (0, None);
        self.connection.note_sent();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(connections: usize, client_connections: usize) -> Connections {
        let limits = Limits {
            connections,
            client_connections,
            ..Limits::default()
        };
        Connections::new(limits, true)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn is_open(all: &Connections, place: &Place) -> bool {
        all.open().connections.contains_key(&place.id)
    }

    #[test]
    fn the_connection_that_has_waited_longest_makes_room() {
        let all = connections(3, 3);
        let peers = ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(address);
        let places = peers.map(|peer| all.admit(peer).expect("there is room"));
        places[0].connection.begin_answer();
        places[1].connection.begin_answer();
        places[1].connection.begin_sending(false);
        // The third has been waiting for longer than the second.
        let _fourth = all.admit(address("203.0.113.4")).expect("one of the others is closed");
        let open = places.each_ref().map(|place| is_open(&all, place));
        assert_eq!(open, [true, true, false]);
        places[1].connection.begin_sending(true);
        let fifth = all.admit(address("203.0.113.5")).expect("the fourth is closed");
        fifth.connection.begin_answer();
        assert!(all.admit(address("203.0.113.6")).is_none(), "nobody waits");
        assert_eq!(all.count(), 3);
        drop(places);
        drop(fifth);
        assert_eq!((all.count(), all.open().clients.len()), (0, 0));
    }

    #[test]
    fn one_client_makes_room_for_itself_only() {
        let all = connections(100, 2);
        let other = all.admit(address("203.0.113.1")).expect("there is room");
        let one_network = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(address);
        let places = one_network.map(|peer| all.admit(peer).expect("there is room"));
        assert!(is_open(&all, &other));
        assert!(!is_open(&all, &places[0]) && is_open(&all, &places[2]));
        // Many visitors may be behind a proxy.
        let behind = ["127.0.0.1"; 10].map(|peer| all.admit(address(peer)).expect("there is room"));
        assert!(behind.iter().all(|place| is_open(&all, place)));
    }

    #[test]
    fn the_limits_leave_files_for_the_rest() {
        for (files, connections) in [(64, 32), (256, 160), (1024, 928), (1 << 20, 4096), (u64::MAX, 4096)] {
            assert_eq!(Limits::new(files).connections, connections, "{files}");
        }
    }
}
