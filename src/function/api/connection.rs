//! A connection to one of the APIs, for one question after the other.
//!
//! Whoever asks has a connection of its own, since an answer may take hours. It works in the task that waits for the answer:
//! in a pool, or in a task of its own, it has to be woken for each request, and wakes for each answer.

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
    /// No connection is opened yet.
    ///
    /// # Errors
    ///
    /// When Lambda has not said where its APIs are.
    pub(crate) fn new(variables: &Variables) -> Result<Self, BoxError> {
        let address = super::address(variables)?;
        Ok(Self {
            host: HeaderValue::from_str(address)?,
            address: address.to_owned(),
            connection: None,
        })
    }

    /// The answer to a request.
    ///
    /// # Errors
    ///
    /// When there is none, or half of one.
    pub(crate) async fn call(&mut self, mut request: Request<String>) -> Result<Response<Vec<u8>>, BoxError> {
        request.headers_mut().insert(HOST, self.host.clone());
        // What has ended meanwhile is opened anew; what fails on the way is not sent again.
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

/// Opened, and kept for one request after the other.
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

    /// The connection, when it takes another request. One that has ended would never say whether it does: it may have done so
    /// with its last answer.
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

    /// Writes and reads what can be. An error is told to whoever waits for the answer.
    fn work(&mut self, context: &mut std::task::Context<'_>) {
        self.has_ended = self.has_ended || Pin::new(&mut self.driver).poll(context).is_ready();
    }

    /// What is waited for, while the connection works.
    async fn until<T>(&mut self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = pin!(awaited);
        poll_fn(|context| {
            self.work(context);
            awaited.as_mut().poll(context)
        })
        .await
    }
}

/// Reads an answer to its end, so that its connection can be used again.
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

    /// Serves connections, each with these answers, then closes it; how many requests each of them had.
    fn api(connections: Vec<Vec<&'static [u8]>>) -> (Api, JoinHandle<Vec<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let serve = move |answers: Vec<&[u8]>| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut asked = 0;
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).expect("it can be read") == 0 {
                        return asked;
                    }
                    request.extend(byte);
                }
                asked += 1;
                stream.write_all(answer).expect("it can be written");
            }
            asked
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
        // The end of the connection is on its way.
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
