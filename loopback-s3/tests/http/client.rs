//! A raw HTTP client: requests go out byte for byte as the tests write them.

use bytes::Bytes;
use forebay_loopback_s3::{LoopbackConfig, LoopbackS3, Server};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A reply, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {self:?}")).to_str().expect("an ASCII header")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }

    /// The text of the first element of that name.
    pub fn element(&self, name: &str) -> &str {
        self.elements(name).first().copied().unwrap_or_else(|| panic!("no <{name}> in {}", self.text()))
    }

    /// The texts of all elements of that name.
    pub fn elements(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        self.text().split(&open).skip(1).map(|rest| rest.split_once(&close).expect("a closing tag").0).collect()
    }

    /// Asserts an error reply.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.element("Code")), (status, code));
    }
}

/// Why no whole reply came.
#[derive(Debug)]
pub struct Broken {
    /// The status, if the head arrived.
    pub status: Option<StatusCode>,
    /// Bytes of the body that arrived.
    pub received: u64,
    /// Whether the connection was reset rather than closed.
    pub reset: bool,
}

/// A client with a connection for each request unless `keep` is used.
#[derive(Clone, Copy)]
pub struct Client {
    address: SocketAddr,
}

pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// A kept connection.
pub struct Connection(http1::SendRequest<Full<Bytes>>);

impl Client {
    pub fn new(server: &Server) -> Client {
        Client { address: server.address() }
    }

    pub async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("an HTTP/1.1 handshake");
        tokio::spawn(connection);
        Connection(sender)
    }

    /// Sends a request; `target` is path and query as they stand on the wire.
    pub async fn try_send(&self, method: Method, target: &str, headers: Headers<'_>, body: Bytes) -> Result<Reply, Broken> {
        self.connect().await.try_send(method, target, headers, body).await
    }

    pub async fn send(&self, method: Method, target: &str, headers: Headers<'_>, body: impl Into<Bytes>) -> Reply {
        self.try_send(method, target, headers, body.into()).await.expect("a whole reply")
    }

    pub async fn get(&self, target: &str, headers: Headers<'_>) -> Reply {
        self.send(Method::GET, target, headers, "").await
    }

    pub async fn head(&self, target: &str, headers: Headers<'_>) -> Reply {
        self.send(Method::HEAD, target, headers, "").await
    }

    pub async fn put(&self, target: &str, headers: Headers<'_>, body: impl Into<Bytes>) -> Reply {
        self.send(Method::PUT, target, headers, body).await
    }

    pub async fn post(&self, target: &str, headers: Headers<'_>, body: impl Into<Bytes>) -> Reply {
        self.send(Method::POST, target, headers, body).await
    }

    pub async fn delete(&self, target: &str, headers: Headers<'_>) -> Reply {
        self.send(Method::DELETE, target, headers, "").await
    }
}

impl Connection {
    pub async fn try_send(&mut self, method: Method, target: &str, headers: Headers<'_>, body: Bytes) -> Result<Reply, Broken> {
        let mut request = Request::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a well-formed request");
        let response = self.0.send_request(request).await.map_err(|error| broken(None, 0, &error))?;
        let (parts, body) = response.into_parts();
        let body = read(body).await.map_err(|(received, error)| broken(Some(parts.status), received, &error))?;
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, (u64, hyper::Error)> {
    let mut all = Vec::with_capacity(body.size_hint().lower() as usize);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => all.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(error) => return Err((all.len() as u64, error)),
        }
    }
    Ok(all.into())
}

fn broken(status: Option<StatusCode>, received: u64, error: &hyper::Error) -> Broken {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    let mut reset = false;
    while let Some(error) = source {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        reset |= kind == Some(std::io::ErrorKind::ConnectionReset);
        source = error.source();
    }
    Broken { status, received, reset }
}

/// A server with bucket `data`, and a client of it.
pub async fn start() -> (Server, Client) {
    start_with(LoopbackConfig::default()).await
}

pub async fn start_with(config: LoopbackConfig) -> (Server, Client) {
    let config = LoopbackConfig { buckets: vec!["data".to_owned()], ..config };
    let server = LoopbackS3::start(config).await.expect("a port on loopback");
    let client = Client::new(&server);
    (server, client)
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize) -> Bytes {
    (0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
}
