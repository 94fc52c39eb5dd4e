//! Time stamps as stores write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch of an ISO 8601 time in UTC: `2009-10-12T17:50:30.000Z`.
pub fn parse_iso(text: &str) -> Option<i64> {
    since_epoch(humantime::parse_rfc3339_weak(text.trim()).ok()?)
}

/// Nanoseconds since the Unix epoch of an HTTP date: `Mon, 12 Oct 2009 17:50:30 GMT`.
pub fn parse_http(text: &str) -> Option<i64> {
    since_epoch(httpdate::parse_http_date(text.trim()).ok()?)
}

/// Nanoseconds since the Unix epoch; `None` outside the years that fit.
pub fn since_epoch(at: SystemTime) -> Option<i64> {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|ns| -ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse_iso("2009-10-12T17:50:30.000Z"), Some(1_255_369_830_000_000_000));
        assert_eq!(parse_http("Mon, 12 Oct 2009 17:50:30 GMT"), Some(1_255_369_830_000_000_000));
        assert_eq!(parse_iso("yesterday"), None);
        assert_eq!(parse_http(""), None);
    }
}
