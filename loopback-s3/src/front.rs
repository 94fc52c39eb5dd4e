//! What stands between hyper and `s3s`: observation, faults, and what `s3s` reads differently from S3.

use crate::faults::{Fault, Faults, Plan};
use crate::line::Line;
use crate::observe::{Observer, RequestRecord};
use crate::shaped::{Event, Shape, ShapedBody};
use crate::xml::escape_controls;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use s3s::service::S3Service;
use s3s::{Body, S3Error, S3ErrorCode, StdError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Answers requests.
pub(crate) struct Front {
    pub(crate) s3: S3Service,
    pub(crate) observer: Arc<Observer>,
    pub(crate) faults: Arc<Faults>,
}

type Answer = Result<Response<Body>, StdError>;

impl Front {
    /// An error ends the connection without a reply.
    pub(crate) async fn answer(&self, mut request: Request<Incoming>, line: Arc<Line>) -> Answer {
        let arrived = Instant::now();
        let record = RequestRecord::of(&request);
        let names_keys = record.op.names_keys();
        let plan = self.faults.plan(&record);
        self.observer.record(record);
        drop_malformed_range(&mut request);
        let answer = match refusal(&plan) {
            Some(error) => {
                // Read to its end, or the connection could not be used again.
                drain(request).await;
                Ok(error.to_http_response().map_err(Box::new)?)
            }
            None if plan.fault == Some(Fault::ResetBeforeReply) => {
                drain(request).await;
                Err(reset(&line))
            }
            None => self.s3.call(request.map(Body::from)).await.map_err(StdError::from),
        };
        hold_back(arrived, &plan).await;
        if plan.fault == Some(Fault::ReplyLost) {
            return Err(reset(&line));
        }
        let reply = if names_keys { escape_controls(answer?) } else { answer? };
        Ok(distort(reply, &plan, line))
    }
}

/// S3 ignores a `Range` it cannot read, such as several ranges at once; `s3s` would answer 400.
fn drop_malformed_range<B>(request: &mut Request<B>) {
    let Some(value) = request.headers().get(header::RANGE) else { return };
    // `s3s` takes a suffix of no digits for one of 0 bytes.
    let readable = |value: &str| value != "bytes=-" && s3s::dto::Range::parse(value).is_ok();
    if !value.to_str().is_ok_and(readable) {
        request.headers_mut().remove(header::RANGE);
    }
}

fn reset(line: &Line) -> StdError {
    line.mark_reset();
    "the connection is reset by request of a fault rule".into()
}

async fn drain(request: Request<Incoming>) {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

async fn hold_back(arrived: Instant, plan: &Plan) {
    let extra = match plan.fault {
        Some(Fault::Delay(delay)) => delay,
        _ => Duration::ZERO,
    };
    let wait = plan.latency + extra;
    if !wait.is_zero() {
        tokio::time::sleep_until(arrived + wait).await;
    }
}

/// The error reply of a fault that is one.
fn refusal(plan: &Plan) -> Option<S3Error> {
    let error = |code, status, message| {
        let mut error = S3Error::with_message(code, message);
        error.set_status_code(status);
        error
    };
    match plan.fault.as_ref()? {
        Fault::SlowDown { retry_after_s } => {
            let mut slow = error(S3ErrorCode::SlowDown, StatusCode::SERVICE_UNAVAILABLE, "Please reduce your request rate.");
            if let Some(seconds) = retry_after_s {
                let xml = (header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
                slow.set_headers(HeaderMap::from_iter([xml, (header::RETRY_AFTER, HeaderValue::from(*seconds))]));
            }
            Some(slow)
        }
        Fault::InternalError => {
            let message = "We encountered an internal error. Please try again.";
            Some(error(S3ErrorCode::InternalError, StatusCode::INTERNAL_SERVER_ERROR, message))
        }
        Fault::ErrorInBody => {
            let message = "We encountered an internal error. Please try again.";
            Some(error(S3ErrorCode::InternalError, StatusCode::OK, message))
        }
        Fault::Conflict => {
            let code = S3ErrorCode::Custom("ConditionalRequestConflict".into());
            let message = "The conditional request cannot succeed due to a conflicting operation against this resource.";
            Some(error(code, StatusCode::CONFLICT, message))
        }
        Fault::NotImplemented => {
            let message = "A header you provided implies functionality that is not implemented";
            Some(error(S3ErrorCode::NotImplemented, StatusCode::NOT_IMPLEMENTED, message))
        }
        Fault::AccessDenied => Some(error(S3ErrorCode::AccessDenied, StatusCode::FORBIDDEN, "Access Denied")),
        _ => None,
    }
}

/// Applies the faults that let a reply through, changed.
fn distort(mut reply: Response<Body>, plan: &Plan, line: Arc<Line>) -> Response<Body> {
    let mut shape = Shape { bandwidth: plan.bandwidth, ..Shape::default() };
    match plan.fault {
        Some(Fault::ResetMidBody { after_bytes }) => shape.event = Some((after_bytes, Event::End { reset: true })),
        Some(Fault::TruncateBody { after_bytes }) => shape.event = Some((after_bytes, Event::End { reset: false })),
        Some(Fault::Stall { after_bytes, pause }) => shape.event = Some((after_bytes, Event::Stall(pause))),
        Some(Fault::ResizeBody { by }) => {
            shape.resize = by;
            resize_head(reply.headers_mut(), by);
        }
        Some(Fault::ShiftContentRange { by }) => shift_content_range(reply.headers_mut(), by),
        _ => {}
    }
    if shape.event.is_none() && shape.resize == 0 && shape.bandwidth.is_none() {
        return reply;
    }
    reply.map(|body| Body::http_body_unsync(ShapedBody::new(body, shape, line)))
}

fn resize_head(headers: &mut HeaderMap, by: i64) {
    let Some(length) = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok()) else {
        return;
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length.saturating_add_signed(by)));
}

fn shift_content_range(headers: &mut HeaderMap, by: i64) {
    let shifted = headers.get(header::CONTENT_RANGE).and_then(|value| {
        let (range, size) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let shift = |at: &str| Some(at.parse::<u64>().ok()?.saturating_add_signed(by));
        HeaderValue::from_str(&format!("bytes {}-{}/{size}", shift(first)?, shift(last)?)).ok()
    });
    if let Some(shifted) = shifted {
        headers.insert(header::CONTENT_RANGE, shifted);
    }
}
