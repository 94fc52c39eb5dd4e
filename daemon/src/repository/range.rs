//! Ranges of objects, as S3 takes them.

use super::StoreError;
use std::ops::Range;

/// The part of a range that an object of this size has, the whole for `None`; the error S3 gives where there is none.
pub fn clamp(key: &str, range: Option<Range<u64>>, size: u64) -> Result<Range<u64>, StoreError> {
    let asked = range.unwrap_or(0..u64::MAX);
    let is_whole_of_nothing = asked.start == 0 && size == 0;
    if asked.is_empty() || (asked.start >= size && !is_whole_of_nothing) {
        let message = format!("bytes {}..{} cannot be had of {size}", asked.start, asked.end);
        return Err(StoreError::Permanent { what: key.to_owned(), message });
    }
    Ok(asked.start..asked.end.min(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stop_at_the_end_and_must_begin_before_it() {
        let clamped = |range, size| clamp("k", range, size).ok();
        assert_eq!(clamped(None, 10), Some(0..10));
        assert_eq!(clamped(Some(2..4), 10), Some(2..4));
        assert_eq!(clamped(Some(2..40), 10), Some(2..10));
        assert_eq!(clamped(Some(10..11), 10), None);
        assert_eq!(clamped(Some(4..4), 10), None);
        assert_eq!(clamped(None, 0), Some(0..0));
        assert_eq!(clamped(Some(0..5), 0), Some(0..0));
        assert_eq!(clamped(Some(1..5), 0), None);
    }
}
