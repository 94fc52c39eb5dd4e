//! Answers of many items: a line of JSON for each, sent as they come.
//!
//! A failure after the first line can no longer be a status, so it is a line as well, the last one. Where nothing comes for a while a line says that something still
//! will: a client that hears nothing at all knows that nobody is there.

use super::types::ApiError;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, unfold};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::time::Duration;

/// How long nothing is said.
const QUIET: Duration = Duration::from_secs(5);
/// Items that are ready are sent together, at most so many.
const TOGETHER: usize = 512;

/// Items, the last perhaps an error.
pub type Items<T> = BoxStream<'static, Result<T, ApiError>>;

/// A line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<T> {
    /// An item.
    Item(T),
    /// There is more to come, and it takes time.
    Waiting,
    /// There is no more to come, and not all has.
    Failed(ApiError),
}

/// The answer that these items are.
pub(super) fn respond<T: Serialize + Send + 'static>(items: Items<T>) -> Response {
    let body = unfold(items.ready_chunks(TOGETHER), |mut items| async move {
        let lines = match tokio::time::timeout(QUIET, items.next()).await {
            Ok(some) => some?.into_iter().map(|item| item.map_or_else(Line::Failed, Line::Item)).collect(),
            Err(_) => vec![Line::Waiting],
        };
        Some((Ok::<_, Infallible>(encode(&lines)), items))
    });
    ([(http::header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}

fn encode<T: Serialize>(lines: &[Line<T>]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).expect("plain structs serialise into memory");
        text.push(b'\n');
    }
    text.into()
}
