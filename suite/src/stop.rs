//! The wish to end early. Every loop asks, so that the bench ends within one operation and cleans up in its own thread, in the usual order.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, from a signal's thread; asked for everywhere.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for the end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Set if the end was asked for, for those who only look.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// An error if the end was asked for.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_asked_every_clone_knows() {
        let stop = Stop::default();
        let other = stop.clone();
        assert!(other.check().is_ok());
        stop.ask();
        assert!(matches!(other.check(), Err(Error::Interrupted)));
    }
}
