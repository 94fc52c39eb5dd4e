//! The daemon's end of the control socket.

use super::ControlTarget;
use super::quota::{GraceInfo, Kind, QuotaInfo, QuotaReport, QuotaRequest};
use super::types::{ApiError, ApiErrorKind, HiddenKeys, Status, StripeInfo, StripeRequest};
use super::{care, diff, dra, figures, hsm, publish, snapshot, task};
use crate::stripe::Layout;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long [`ControlServer::stop`] waits for answers under way.
const GRACE: Duration = Duration::from_secs(2);

/// Hidden keys listed where the request names no limit.
const DEFAULT_HIDDEN_KEYS: usize = 1000;

/// Why the control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another daemon answers on it.
    #[error("'{}' is mounted already; run 'forebay umount' first", mountpoint.display())]
    InUse {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Dir(#[from] super::SocketDirError),
    /// The system refused.
    #[error("control socket '{}' could not be opened: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A serving control socket. [`stop`](ControlServer::stop) it: dropping it only removes the socket.
pub struct ControlServer {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl ControlServer {
    /// Opens the socket of a mount point and serves it on the runtime.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        dir: &super::SocketDir,
        mountpoint: &Path,
        target: Arc<dyn ControlTarget>,
    ) -> Result<Self, ServeError> {
        dir.ensure()?;
        let path = dir.socket(mountpoint);
        remove_dead(&path, mountpoint)?;
        let _entered = runtime.enter();
        let listener = tokio::net::UnixListener::bind(&path).map_err(|source| ServeError::Io { path: path.clone(), source })?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            if let Err(error) = axum::serve(listener, router(target)).with_graceful_shutdown(stopped).await {
                tracing::error!("the control socket failed: {error}");
            }
        });
        Ok(ControlServer { path, stop: Some(stop), task })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket, and waits for answers under way. Call it from outside the runtime.
    pub fn stop(mut self, runtime: &tokio::runtime::Handle) {
        drop(self.stop.take());
        let _ = std::fs::remove_file(&self.path);
        runtime.block_on(async {
            if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
                self.task.abort();
            }
        });
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // After `stop` the name may already be another daemon's.
        if self.stop.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket that a killed daemon left; refuses where one answers.
fn remove_dead(path: &Path, mountpoint: &Path) -> Result<(), ServeError> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ServeError::InUse { mountpoint: mountpoint.to_path_buf() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) => std::fs::remove_file(path).map_err(|source| ServeError::Io { path: path.to_path_buf(), source }),
    }
}

pub(super) type Target = State<Arc<dyn ControlTarget>>;

fn router(target: Arc<dyn ControlTarget>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/unmount", post(unmount))
        .route("/v1/stripe", get(stripe).put(set_stripe))
        .route("/v1/hidden-keys", get(hidden_keys))
        .route("/v1/quota", get(quota).put(set_quota))
        .route("/v1/quotas", get(quotas))
        .route("/v1/quota-grace", put(set_quota_grace))
        .route("/v1/hsm", get(hsm::show).put(hsm::change))
        .route("/v1/tasks", get(task::list).post(task::start))
        .route("/v1/task", get(task::show))
        .route("/v1/task/cancel", post(task::cancel))
        .route("/v1/associations", get(dra::list).post(dra::create))
        .route("/v1/association", get(dra::show).put(dra::update).delete(dra::delete))
        .route("/v1/snapshots", get(snapshot::list).post(snapshot::take))
        .route("/v1/snapshot", get(snapshot::show).delete(snapshot::delete))
        .route("/v1/snapshot/clone", post(snapshot::clone))
        .route("/v1/snapshot/restore", post(snapshot::restore))
        .route("/v1/figures", get(figures::show))
        .route("/v1/snapshot/figures", get(figures::of_snapshot))
        .route("/v1/snapshot/diff", get(diff::diff))
        .route("/v1/snapshot/digest", get(diff::digest))
        .route("/v1/care", get(care::show).post(care::start))
        .route("/v1/snapshot/export", get(publish::show).post(publish::begin))
        .fallback(no_such_request)
        .with_state(target)
}

async fn status(State(target): Target) -> Result<Json<Status>, ApiError> {
    target.status().await.map(Json)
}

async fn unmount(State(target): Target) -> Result<Json<()>, ApiError> {
    target.request_unmount().await.map(Json)
}

async fn stripe(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<StripeInfo>, ApiError> {
    target.stripe(&path_of(query)?).await.map(Json)
}

async fn set_stripe(
    State(target): Target,
    RawQuery(query): RawQuery,
    body: Result<Json<StripeRequest>, JsonRejection>,
) -> Result<Json<()>, ApiError> {
    let path = path_of(query)?;
    let Json(request) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    let layout = Layout { stripe_count: request.stripe_count, stripe_size: request.stripe_size };
    target.set_stripe(&path, layout).await.map(Json)
}

async fn hidden_keys(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<HiddenKeys>, ApiError> {
    let limit = match parameter(query.as_deref(), "limit") {
        None => DEFAULT_HIDDEN_KEYS,
        Some(text) => {
            String::from_utf8_lossy(&text).parse().map_err(|_| ApiError::new(ApiErrorKind::Invalid, "'limit' is not a number"))?
        }
    };
    target.hidden_keys(limit).await.map(Json)
}

async fn quota(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<QuotaInfo>, ApiError> {
    let text = |name| parameter(query.as_deref(), name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let kind = text("kind").and_then(|kind| Kind::ALL.into_iter().find(|known| known.name() == kind));
    let kind = kind.ok_or_else(|| ApiError::new(ApiErrorKind::Invalid, "'kind' is not user, group or project"))?;
    let id = text("id").unwrap_or_else(|| "0".into()).parse();
    let id = id.map_err(|_| ApiError::new(ApiErrorKind::Invalid, "'id' is not a number"))?;
    target.quota(&path_of(query)?, kind, id).await.map(Json)
}

async fn set_quota(
    State(target): Target,
    RawQuery(query): RawQuery,
    body: Result<Json<QuotaRequest>, JsonRejection>,
) -> Result<Json<()>, ApiError> {
    let path = path_of(query)?;
    let Json(request) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.set_quota(&path, request).await.map(Json)
}

async fn quotas(State(target): Target) -> Result<Json<QuotaReport>, ApiError> {
    target.quotas().await.map(Json)
}

async fn set_quota_grace(State(target): Target, body: Result<Json<GraceInfo>, JsonRejection>) -> Result<Json<()>, ApiError> {
    let Json(grace) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.set_quota_grace(grace).await.map(Json)
}

async fn no_such_request() -> ApiError {
    ApiError::new(ApiErrorKind::NotFound, "this daemon has no such request; is it older than the command?")
}

fn path_of(query: Option<String>) -> Result<Vec<u8>, ApiError> {
    parameter(query.as_deref(), "path").ok_or_else(|| ApiError::new(ApiErrorKind::Invalid, "'path' is missing"))
}

/// A parameter's bytes. Not serde's query parser, which takes UTF-8 only: a name is any bytes.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<Vec<u8>> {
    query?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| percent_encoding::percent_decode_str(value).collect())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self.kind {
            ApiErrorKind::NotFound => StatusCode::NOT_FOUND,
            ApiErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ApiErrorKind::Busy => StatusCode::CONFLICT,
            ApiErrorKind::Denied => StatusCode::FORBIDDEN,
            ApiErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ApiErrorKind::Failed | ApiErrorKind::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}
