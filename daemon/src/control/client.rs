//! The command line's end of the control socket: blocking, one connection per request.

mod lines;

use super::SocketDir;
use super::care::{CareInfo, CareOrder};
use super::dra::{AssociationInfo, AssociationOrder, AssociationUpdate};
use super::hsm::{HsmInfo, HsmRequest};
use super::publish::{SnapshotExportInfo, SnapshotExportOrder};
use super::quota::{GraceInfo, Kind, QuotaInfo, QuotaReport, QuotaRequest};
use super::snapshot::{RestoredInfo, SnapshotInfo, SnapshotOrder};
use super::task::{TaskInfo, TaskOrder};
use super::types::{ApiError, ApiErrorKind, HiddenKeys, Status, StripeInfo, StripeRequest};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take. Unmounting and status are quick; a stripe layout may need the directory listed first.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no forebay daemon answers for '{}'", .0.display())]
    NoDaemon(PathBuf),
    /// The daemon said no.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The connection failed, or the answer makes no sense.
    #[error("the daemon behind '{}' did not answer: {why}", socket.display())]
    Transport {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
}

/// One daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon of a mount point (absolute, without symlinks); an error if there is none.
    pub fn of_mountpoint(dir: &SocketDir, mountpoint: &Path) -> Result<Self, ClientError> {
        let socket = dir.socket(mountpoint);
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => Ok(Client { socket }),
            Err(_) => Err(ClientError::NoDaemon(mountpoint.to_path_buf())),
        }
    }

    /// Every daemon of this user. Sockets that nobody listens on any more are removed.
    pub fn all(dir: &SocketDir) -> Result<Vec<Self>, super::SocketDirError> {
        Ok(dir.sockets()?.into_iter().filter(|socket| is_alive(socket)).map(|socket| Client { socket }).collect())
    }

    /// Whether both are clients of one daemon.
    pub fn is_same(&self, other: &Client) -> bool {
        self.socket == other.socket
    }

    /// Figures for `forebay status`.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.call(Method::GET, "/v1/status", ())
    }

    /// Unmounts.
    pub fn unmount(&self) -> Result<(), ClientError> {
        self.call(Method::POST, "/v1/unmount", ())
    }

    /// The stripe layout of a path below the root.
    pub fn stripe(&self, path: &[u8]) -> Result<StripeInfo, ClientError> {
        self.call(Method::GET, &stripe_uri(path), ())
    }

    /// Sets the stripe layout of a path below the root.
    pub fn set_stripe(&self, path: &[u8], request: StripeRequest) -> Result<(), ClientError> {
        self.call(Method::PUT, &stripe_uri(path), request)
    }

    /// Keys that cannot be shown, at most `limit`.
    pub fn hidden_keys(&self, limit: usize) -> Result<HiddenKeys, ClientError> {
        self.call(Method::GET, &format!("/v1/hidden-keys?limit={limit}"), ())
    }

    /// The quota of a user or group, or of the project that a path below the root is in.
    pub fn quota(&self, path: &[u8], kind: Kind, id: u64) -> Result<QuotaInfo, ClientError> {
        self.call(Method::GET, &format!("{}&kind={}&id={id}", quota_uri(path), kind.name()), ())
    }

    /// Changes limits; of a project those of the directory that the path is.
    pub fn set_quota(&self, path: &[u8], request: QuotaRequest) -> Result<(), ClientError> {
        self.call(Method::PUT, &quota_uri(path), request)
    }

    /// Every quota.
    pub fn quotas(&self) -> Result<QuotaReport, ClientError> {
        self.call(Method::GET, "/v1/quotas", ())
    }

    /// Sets the grace periods of a kind.
    pub fn set_quota_grace(&self, grace: GraceInfo) -> Result<(), ClientError> {
        self.call(Method::PUT, "/v1/quota-grace", grace)
    }

    /// The states of the file at a path below the root.
    pub fn hsm(&self, path: &[u8]) -> Result<HsmInfo, ClientError> {
        self.call(Method::GET, &hsm_uri(path), ())
    }

    /// Sets and clears states of the file at a path below the root.
    pub fn set_hsm(&self, path: &[u8], request: &HsmRequest) -> Result<HsmInfo, ClientError> {
        self.call(Method::PUT, &hsm_uri(path), request)
    }

    /// Makes a task.
    pub fn start_task(&self, order: &TaskOrder) -> Result<TaskInfo, ClientError> {
        self.call(Method::POST, "/v1/tasks", order)
    }

    /// Every task, oldest first.
    pub fn tasks(&self) -> Result<Vec<TaskInfo>, ClientError> {
        self.call(Method::GET, "/v1/tasks", ())
    }

    /// A task, once it has ended or after so long.
    pub fn task(&self, id: u64, wait: Duration) -> Result<TaskInfo, ClientError> {
        self.call(Method::GET, &format!("/v1/task?id={id}&wait_ms={}", wait.as_millis()), ())
    }

    /// Has a task end as soon as what it has in flight is done.
    pub fn cancel_task(&self, id: u64) -> Result<TaskInfo, ClientError> {
        self.call(Method::POST, &format!("/v1/task/cancel?id={id}"), ())
    }

    /// Links a directory to a bucket.
    pub fn create_association(&self, order: &AssociationOrder) -> Result<AssociationInfo, ClientError> {
        self.call(Method::POST, "/v1/associations", order)
    }

    /// Every association, in the order of paths.
    pub fn associations(&self) -> Result<Vec<AssociationInfo>, ClientError> {
        self.call(Method::GET, "/v1/associations", ())
    }

    /// The association of a directory below the root.
    pub fn association(&self, path: &[u8]) -> Result<AssociationInfo, ClientError> {
        self.call(Method::GET, &association_uri(path), ())
    }

    /// Changes what goes by itself.
    pub fn update_association(&self, path: &[u8], update: &AssociationUpdate) -> Result<AssociationInfo, ClientError> {
        self.call(Method::PUT, &association_uri(path), update)
    }

    /// Begins to unlink a directory from its bucket.
    pub fn delete_association(&self, path: &[u8], delete_data: bool) -> Result<AssociationInfo, ClientError> {
        self.call(Method::DELETE, &format!("{}&delete_data={delete_data}", association_uri(path)), ())
    }

    /// Takes a snapshot.
    pub fn take_snapshot(&self, order: &SnapshotOrder) -> Result<SnapshotInfo, ClientError> {
        self.call(Method::POST, "/v1/snapshots", order)
    }

    /// Every snapshot, in order of their names.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>, ClientError> {
        self.call(Method::GET, "/v1/snapshots", ())
    }

    /// One snapshot.
    pub fn snapshot(&self, name: &[u8]) -> Result<SnapshotInfo, ClientError> {
        self.call(Method::GET, &snapshot_uri(name), ())
    }

    /// Clones a snapshot under a path.
    pub fn clone_snapshot(&self, order: &SnapshotOrder) -> Result<SnapshotInfo, ClientError> {
        self.call(Method::POST, "/v1/snapshot/clone", order)
    }

    /// Rolls a directory back to a snapshot of it.
    pub fn restore_snapshot(&self, name: &[u8]) -> Result<RestoredInfo, ClientError> {
        let uri = format!("/v1/snapshot/restore?name={}", percent_encode(name, NON_ALPHANUMERIC));
        self.call(Method::POST, &uri, ())
    }

    /// Begins to export a snapshot.
    pub fn export_snapshot(&self, order: &SnapshotExportOrder) -> Result<SnapshotExportInfo, ClientError> {
        self.call(Method::POST, "/v1/snapshot/export", order)
    }

    /// How an export of a snapshot stands.
    pub fn snapshot_export(&self, id: u64) -> Result<SnapshotExportInfo, ClientError> {
        self.call(Method::GET, &format!("/v1/snapshot/export?id={id}"), ())
    }

    /// Deletes a snapshot.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<SnapshotInfo, ClientError> {
        self.call(Method::DELETE, &snapshot_uri(name), ())
    }

    /// Begins a check, a scrub or a collection.
    pub fn start_care(&self, order: &CareOrder) -> Result<CareInfo, ClientError> {
        self.call(Method::POST, "/v1/care", order)
    }

    /// How far it is, once it has ended or after so long.
    pub fn care(&self, id: u64, wait: Duration) -> Result<CareInfo, ClientError> {
        self.call(Method::GET, &format!("/v1/care?id={id}&wait_ms={}", wait.as_millis()), ())
    }

    /// One request, on a runtime of its own.
    fn call<T: DeserializeOwned>(&self, method: Method, uri: &str, body: impl Serialize) -> Result<T, ClientError> {
        self.call_within(DEADLINE, method, uri, body)
    }

    /// The same where an answer may take long.
    pub(super) fn call_within<T: DeserializeOwned>(
        &self,
        deadline: Duration,
        method: Method,
        uri: &str,
        body: impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(&body).expect("plain structs serialise");
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(http::header::HOST, "forebay")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a fixed method, an encoded URI and fixed headers");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| self.transport(error))?;
        let exchange = async { tokio::time::timeout(deadline, self.exchange(request)).await };
        let (status, body) = runtime.block_on(exchange).map_err(|_| self.transport(format!("not within {deadline:?}")))??;
        self.decode(status, &body)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
        let (_open, response) = self.begin(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| self.transport(error))?;
        Ok((status, body.to_bytes()))
    }

    /// An answer whose body is still to come, and what keeps the connection open for it.
    async fn begin(&self, request: Request<Full<Bytes>>) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), ClientError> {
        let stream = tokio::net::UnixStream::connect(&self.socket).await.map_err(|error| self.transport(error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.transport(error))?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.transport(error))?;
        Ok((sender, response))
    }

    fn decode<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|error| self.transport(error));
        }
        Err(ClientError::Api(serde_json::from_slice(body).unwrap_or_else(|_| {
            ApiError::new(ApiErrorKind::Unknown, format!("the daemon answered {status}: {}", String::from_utf8_lossy(body)))
        })))
    }

    fn transport(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::Transport { socket: self.socket.clone(), why: why.to_string() }
    }
}

fn association_uri(path: &[u8]) -> String {
    format!("/v1/association?path={}", percent_encode(path, NON_ALPHANUMERIC))
}

fn snapshot_uri(name: &[u8]) -> String {
    format!("/v1/snapshot?name={}", percent_encode(name, NON_ALPHANUMERIC))
}

fn hsm_uri(path: &[u8]) -> String {
    format!("/v1/hsm?path={}", percent_encode(path, NON_ALPHANUMERIC))
}

fn quota_uri(path: &[u8]) -> String {
    format!("/v1/quota?path={}", percent_encode(path, NON_ALPHANUMERIC))
}

fn stripe_uri(path: &[u8]) -> String {
    format!("/v1/stripe?path={}", percent_encode(path, NON_ALPHANUMERIC))
}

/// Whether somebody listens; removes the socket if its daemon is gone.
fn is_alive(socket: &Path) -> bool {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => {
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                let _ = std::fs::remove_file(socket);
            }
            false
        }
    }
}
