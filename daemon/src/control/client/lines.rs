//! Answers of many items, as they come.

use super::{Client, ClientError, DEADLINE};
use crate::control::diff::{DiffEntry, DigestInfo};
use crate::control::lines::Line;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::de::DeserializeOwned;
use std::ops::ControlFlow;

impl Client {
    /// Visits what differs between a snapshot and another, or now.
    pub fn diff_snapshots(
        &self,
        name: &[u8],
        other: Option<&[u8]>,
        visit: &mut dyn FnMut(DiffEntry) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let encoded = |bytes| percent_encode(bytes, NON_ALPHANUMERIC);
        let other = other.map_or(String::new(), |other| format!("&other={}", encoded(other)));
        self.lines(&format!("/v1/snapshot/diff?name={}{other}", encoded(name)), visit)
    }

    /// The digest of a snapshot; `visit` hears how far it is.
    pub fn digest_snapshot(&self, name: &[u8], visit: &mut dyn FnMut(&DigestInfo)) -> Result<DigestInfo, ClientError> {
        let mut last = None;
        let uri = format!("/v1/snapshot/digest?name={}", percent_encode(name, NON_ALPHANUMERIC));
        self.lines(&uri, &mut |info: DigestInfo| {
            visit(&info);
            last = Some(info);
            ControlFlow::Continue(())
        })?;
        last.filter(|info| info.digest.is_some()).ok_or_else(|| self.transport("the answer ended before the digest"))
    }

    /// A request for many items; breaks off where `visit` does.
    fn lines<T: DeserializeOwned>(&self, uri: &str, visit: &mut dyn FnMut(T) -> ControlFlow<()>) -> Result<(), ClientError> {
        let request = Request::get(uri).header(http::header::HOST, "forebay").body(Full::new(Bytes::new()));
        let request = request.expect("a fixed method, an encoded URI and a fixed header");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| self.transport(error))?;
        runtime.block_on(async {
            let (_open, mut response) = self.within_deadline(self.begin(request)).await??;
            let status = response.status();
            if !status.is_success() {
                let body = self.within_deadline(response.into_body().collect()).await?;
                let body = body.map_err(|error| self.transport(error))?.to_bytes();
                return self.decode::<()>(status, &body);
            }
            let mut text = Vec::new();
            while let Some(frame) = self.within_deadline(response.body_mut().frame()).await? {
                let frame = frame.map_err(|error| self.transport(error))?;
                text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { continue };
                for line in text[..end].split(|byte| *byte == b'\n') {
                    match serde_json::from_slice(line).map_err(|error| self.transport(error))? {
                        Line::Item(item) => {
                            if visit(item).is_break() {
                                return Ok(());
                            }
                        }
                        Line::Waiting => {}
                        Line::Failed(error) => return Err(error.into()),
                    }
                }
                text.drain(..=end);
            }
            Ok(())
        })
    }

    /// For each step, not for all of them.
    async fn within_deadline<F: Future>(&self, step: F) -> Result<F::Output, ClientError> {
        tokio::time::timeout(DEADLINE, step).await.map_err(|_| self.transport(format!("not within {DEADLINE:?}")))
    }
}
