//! A connection to one of the APIs, for one request after the other.
//!
//! Each caller has a connection of its own, since a response may take hours. The connection runs in the task that waits
//! for the response: in a pool or a task of its own, each request and each response would need another wake-up.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use http::header::HOST;
use http::{HeaderValue, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::BoxError;
use crate::config::Variables;

/// One of the two APIs.
pub(crate) struct Api {
    address: String,
    host: HeaderValue,
    connection: Option<Connection>,
}

impl Api {
    /// Makes a client without an open connection.
    ///
    /// # Errors
    ///
    /// When the environment has no address of Lambda's APIs.
    pub(crate) fn new(variables: &Variables) -> Result<Self, BoxError> {
        let address = super::address(variables)?;
        Ok(Self {
            host: HeaderValue::from_str(address)?,
            address: address.to_owned(),
            connection: None,
        })
    }

    /// Sends a request and returns the response.
    ///
    /// # Errors
    ///
    /// When there is no response or an incomplete one.
    pub(crate) async fn call(&mut self, mut request: Request<String>) -> Result<Response<Vec<u8>>, BoxError> {
        request.headers_mut().insert(HOST, self.host.clone());
        // A connection that has ended is opened again; a request that fails is not sent again.
        let kept = match self.connection.take() {
            Some(kept) => kept.ready().await,
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => Connection::open(&self.address).await?,
        };
        let answer = connection.sender.send_request(request);
        let answer = connection.until(async {
            let (head, body) = answer.await?.into_parts();
            Ok::<_, hyper::Error>(Response::from_parts(head, read(body).await?))
        });
        let answer = answer.await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// An open connection, kept for one request after the other.
struct Connection {
    sender: http1::SendRequest<String>,
    driver: http1::Connection<TokioIo<TcpStream>, String>,
    has_ended: bool,
}

impl Connection {
    async fn open(address: &str) -> Result<Self, BoxError> {
        let stream = TcpStream::connect(address).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            driver,
            has_ended: false,
        })
    }

    /// Returns the connection if it accepts another request. An ended connection would never become ready: it may have
    /// ended with its last response.
    async fn ready(mut self) -> Option<Self> {
        let ready = poll_fn(|context| {
            self.work(context);
            if self.has_ended {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(context).map(|ready| ready.is_ok())
        });
        ready.await.then_some(self)
    }

    /// Writes and reads what is possible. An error is passed to the caller that waits for the response.
    fn work(&mut self, context: &mut std::task::Context<'_>) {
        self.has_ended = self.has_ended || Pin::new(&mut self.driver).poll(context).is_ready();
    }

    /// Awaits a future while the connection runs.
    async fn until<T>(&mut self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = pin!(awaited);
        poll_fn(|context| {
            self.work(context);
            awaited.as_mut().poll(context)
        })
        .await
    }
}

/// Reads a response to its end, so that its connection can be used again.
async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or_default();
    let mut read = Vec::with_capacity(expected);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;
    use std::time::Duration;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

    /// Serves connections, each with these responses, then closes it. Returns the number of requests of each.
    fn api(connections: Vec<Vec<&'static [u8]>>) -> (Api, JoinHandle<Vec<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let serve = move |answers: Vec<&[u8]>| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut requests = 0;
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).expect("it can be read") == 0 {
                        return requests;
                    }
                    request.extend(byte);
                }
                requests += 1;
                stream.write_all(answer).expect("it can be written");
            }
            requests
        };
        let api = Api {
            host: HeaderValue::from_str(&address).expect("a host"),
            address,
            connection: None,
        };
        (
            api,
            std::thread::spawn(move || connections.into_iter().map(serve).collect()),
        )
    }

    async fn call(api: &mut Api) -> Result<Vec<u8>, BoxError> {
        let request = Request::get("/next").body(String::new()).expect("a request");
        let called = tokio::time::timeout(Duration::from_secs(20), api.call(request)).await;
        called.expect("it ends").map(Response::into_body)
    }

    #[tokio::test]
    async fn one_connection_serves_one_question_after_the_other() {
        let (mut api, served) = api(vec![vec![ANSWER; 3]]);
        for _ in 0..3 {
            assert_eq!(call(&mut api).await.expect("an answer"), b"ok");
        }
        assert_eq!(served.join().expect("it has served"), [3]);
    }

    #[tokio::test]
    async fn what_was_closed_is_opened_again_and_what_broke_is_not_asked_twice() {
        let (whole, half) = (vec![ANSWER], vec![&ANSWER[..30]]);
        let (mut api, served) = api(vec![whole.clone(), half, vec![LAST], whole]);
        assert_eq!(call(&mut api).await.expect("an answer"), b"ok");
        // The end of the connection has not arrived yet.
        while let Some(kept) = api.connection.take() {
            let ready = tokio::time::timeout(Duration::from_secs(20), kept.ready()).await;
            api.connection = ready.expect("it ends");
            tokio::task::yield_now().await;
        }
        assert!(call(&mut api).await.is_err(), "half an answer is none");
        for _ in 0..2 {
            assert_eq!(call(&mut api).await.expect("an answer"), b"ok");
        }
        assert_eq!(served.join().expect("it has served"), [1, 1, 1, 1]);
    }
}
