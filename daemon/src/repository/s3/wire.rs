//! HTTP/1.1 to the store: pooled connections, through hyper or our own, time limits on connecting, on the first byte and on silence.
//!
//! Not `reqwest`: it parses every URL with a library that folds `.` and `..` parts of keys, and costs more CPU per body
//! (docs/decisions/0003-s3-client.md).

use super::address::Address;
use super::direct::{Answer, Direct};
use super::send_body::SendBody;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Time limits of one request. There is none on a whole body: only silence ends it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the TCP connection.
    pub connect: Duration,
    /// From sending a request to the answer's headers, a new connection's TLS included; a body that moves is waited for.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connect: Duration::from_secs(5), first_byte: Duration::from_secs(20), silence: Duration::from_secs(15) }
    }
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No connection: refused, no such host, no route, a certificate that does not hold.
    #[error("cannot connect to {endpoint}: {cause}")]
    Unreachable {
        /// Scheme and host.
        endpoint: String,
        /// The innermost cause.
        cause: String,
    },
    /// No headers in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// The connection broke.
    #[error("connection broken: {0}")]
    Broken(String),
}

/// A pool of connections.
pub struct Wire {
    client: Client<HttpsConnector<HttpConnector>, SendBody>,
    direct: Direct,
    endpoint: String,
    limits: Limits,
}

/// What a read from a socket may bring at once, in bytes: hyper grows its buffer up to this while bodies keep it full.
const READ_BUFFER: usize = 512 << 10;
/// Idle connections kept. As many as the most concurrent requests, else every wave of requests reconnects.
pub(super) const IDLE_CONNECTIONS: usize = 256;
/// S3 closes connections that idle for about 20 s to several minutes; closing first avoids a lost request.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(15);

impl Wire {
    /// A pool for one endpoint. Reads the system's root certificates if it is `https`.
    pub fn new(address: &Address, limits: Limits) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(30)));
        http.set_connect_timeout(Some(limits.connect));
        let tls = tls_config(address.is_https())?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let direct = Direct::new(https.clone(), address.endpoint());
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(READ_BUFFER)
            .build(https);
        Ok(Wire { client, direct, endpoint: address.endpoint(), limits })
    }

    /// The time limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Sends a request without a body, for an answer whose body goes straight to where it is wanted; returns once the headers are there, which may
    /// take `patience`.
    pub async fn get(&self, request: &Request<SendBody>, patience: Duration) -> Result<Answer, WireError> {
        self.direct.get(request, patience).await
    }

    /// Sends a request; returns once the headers are there. They may take `patience` (at most twice that) from when the connection last took
    /// some of the request's body.
    pub async fn send(&self, request: Request<SendBody>, patience: Duration) -> Result<Response<Incoming>, WireError> {
        let progress = request.body().progress();
        let mut answer = pin!(self.client.request(request));
        let mut seen = 0;
        loop {
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) if error.is_connect() => {
                    return Err(WireError::Unreachable { endpoint: self.endpoint.clone(), cause: innermost(&error) });
                }
                Ok(Err(error)) => return Err(WireError::Broken(innermost(&error))),
                Err(_) if progress.bytes() > seen => seen = progress.bytes(),
                Err(_) => return Err(WireError::Silent(patience)),
            }
        }
    }
}

fn tls_config(needed: bool) -> io::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?;
    // Reading a hundred root certificates takes milliseconds that a plain-HTTP endpoint need not pay.
    let roots =
        if needed { builder.with_native_roots()? } else { builder.with_root_certificates(rustls::RootCertStore::empty()) };
    Ok(roots.with_no_client_auth())
}

/// The innermost cause: hyper's own words ("client error (Connect)") say nothing.
pub fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
