//! Writes to a device that failed, each told once to every handle of the file (as Linux' `errseq_t` does).

use crate::error::Error;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What failed of one file.
#[derive(Debug, Default)]
pub struct WriteErrors {
    last: Mutex<Option<Failure>>,
}

#[derive(Debug)]
struct Failure {
    number: u64,
    error: Error,
    told: bool,
}

/// What a handle has been told.
#[derive(Debug)]
pub struct Told(AtomicU64);

impl WriteErrors {
    /// Notes a failure.
    pub fn note(&self, error: Error) {
        let mut last = self.last.lock();
        let number = last.as_ref().map_or(1, |failure| failure.number + 1);
        *last = Some(Failure { number, error, told: false });
    }

    /// How many failures there were.
    pub fn count(&self) -> u64 {
        self.last.lock().as_ref().map_or(0, |failure| failure.number)
    }

    /// The last failure, if there were more than so many. Whoever asks is not taken for one who was told.
    pub fn after(&self, count: u64) -> Option<Error> {
        self.last.lock().as_ref().filter(|failure| failure.number > count).map(|failure| failure.error.clone())
    }

    /// Where a new handle begins: a failure that nobody was told of yet it will be told of.
    pub fn begin(&self) -> Told {
        let known = self.last.lock().as_ref().map_or(0, |failure| failure.number - u64::from(!failure.told));
        Told(AtomicU64::new(known))
    }

    /// The last failure since the handle was told of one.
    pub fn since(&self, told: &Told) -> Option<Error> {
        let mut last = self.last.lock();
        let failure = last.as_mut().filter(|failure| failure.number > told.0.load(Ordering::Relaxed))?;
        told.0.store(failure.number, Ordering::Relaxed);
        failure.told = true;
        Some(failure.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_handle_is_told_once_and_one_that_comes_later_only_of_what_nobody_was_told() {
        let errors = WriteErrors::default();
        let (one, two) = (errors.begin(), errors.begin());
        assert!(errors.since(&one).is_none());
        errors.note(Error::new(ErrorKind::Io, "first"));
        let late = errors.begin();
        assert!([&one, &two, &late].iter().all(|told| errors.since(told).is_some()));
        assert!([&one, &two, &late, &errors.begin()].iter().all(|told| errors.since(told).is_none()));
        errors.note(Error::new(ErrorKind::Io, "second"));
        errors.note(Error::new(ErrorKind::NoSpace, "third"));
        assert_eq!(errors.since(&two).map(|error| error.kind), Some(ErrorKind::NoSpace));
        assert!(errors.since(&two).is_none());
    }
}
