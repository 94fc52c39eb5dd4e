//! One request on its way: what it asks for, how far it got, and what a completion of the kernel means for it.

use super::gather::Gather;
use crate::io::{Completion, IoBuf, IoError, IoOp, IoOutcome, IoRequest};
use crate::units::SECTOR;
use std::time::{Duration, Instant};

/// The longest piece of a transfer given to the kernel at once (it takes at most 2 GiB less a page).
const MAX_PIECE: usize = 1 << 30;

/// Retries at once; after these a request waits a moment before each next one.
const HASTY_TRIES: u32 = 4;

/// What the kernel is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Transfer the buffer.
    Transfer(IoOp),
    /// fdatasync.
    Sync,
    /// fallocate with these mode flags.
    Fallocate(i32),
}

/// A request between its submission and the kernel's last word on it.
pub(super) struct Flight {
    pub(super) work: Work,
    pub(super) offset: u64,
    /// Bytes asked for.
    pub(super) len: u64,
    /// Bytes transferred by the pieces so far.
    moved: usize,
    pub(super) buf: Option<IoBuf>,
    /// What is to be written behind it.
    behind: Gather,
    /// `None` once the caller has been told that the deadline passed.
    pub(super) done: Option<Completion>,
    pub(super) since: Instant,
    tries: u32,
}

/// What to do with a request after a completion of the kernel.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is over.
    Finished(Result<(), IoError>),
    /// Give it (or what is left of it) to the kernel again.
    Again,
    /// The same, after a moment.
    Later,
}

/// The memory and place of the next piece of a transfer.
pub(super) struct Piece {
    pub(super) address: *mut u8,
    pub(super) len: u32,
    pub(super) offset: u64,
}

/// The same for memory in several places.
pub(super) struct Pieces {
    /// Stays where it is until the request is over, or asked for again.
    pub(super) list: *const libc::iovec,
    pub(super) count: u32,
    pub(super) offset: u64,
}

impl Flight {
    pub(super) fn transfer(request: IoRequest, since: Instant) -> Self {
        let len = request.bytes() as u64;
        let IoRequest { op, offset, buf, behind, done } = request;
        let behind = Gather::new(behind);
        Flight { work: Work::Transfer(op), offset, len, moved: 0, buf: Some(buf), behind, done: Some(done), since, tries: 0 }
    }

    pub(super) fn control(work: Work, offset: u64, len: u64, done: Completion) -> Self {
        let behind = Gather::default();
        Flight { work, offset, len, moved: 0, buf: None, behind, done: Some(done), since: Instant::now(), tries: 0 }
    }

    /// What is left to write of a request with memory in several places.
    pub(super) fn pieces(&mut self) -> Option<Pieces> {
        let buf = self.buf.as_mut().filter(|_| !self.behind.is_empty())?;
        let (list, count) = self.behind.list(buf, self.moved);
        Some(Pieces { list, count, offset: self.offset + self.moved as u64 })
    }

    /// What is left to transfer.
    pub(super) fn piece(&mut self) -> Piece {
        let moved = self.moved;
        let buf = self.buf.as_mut().expect("a transfer has its buffer until it is over");
        let rest = &mut buf[moved..];
        Piece { len: rest.len().min(MAX_PIECE) as u32, address: rest.as_mut_ptr(), offset: self.offset + moved as u64 }
    }

    /// Takes in the kernel's answer.
    pub(super) fn judge(&mut self, answer: i32) -> Verdict {
        if answer >= 0 {
            return self.advance(answer as usize);
        }
        match -answer {
            // ECANCELED: the kernel drops what it had queued for a thread of the submitter that exited.
            libc::EAGAIN | libc::EINTR | libc::ECANCELED => {
                self.tries += 1;
                if self.tries <= HASTY_TRIES { Verdict::Again } else { Verdict::Later }
            }
            errno => Verdict::Finished(Err(self.os_error(errno))),
        }
    }

    fn advance(&mut self, bytes: usize) -> Verdict {
        let Work::Transfer(op) = self.work else { return Verdict::Finished(Ok(())) };
        let reached = self.moved + bytes;
        if reached as u64 == self.len {
            return Verdict::Finished(Ok(()));
        }
        // O_DIRECT goes on at sector boundaries only; a piece that ends within a sector is done again from its start.
        let resume = reached - reached % SECTOR;
        if resume > self.moved {
            self.moved = resume;
            return Verdict::Again;
        }
        Verdict::Finished(Err(match op {
            IoOp::Read => IoError::UnexpectedEnd { offset: self.offset, len: self.len as usize },
            IoOp::Write | IoOp::WriteThrough => self.os_error(libc::EIO),
        }))
    }

    /// Whether its deadline has passed.
    pub(super) fn overdue(&self, now: Instant, deadline: Duration) -> bool {
        now.saturating_duration_since(self.since) >= deadline
    }

    pub(super) fn timeout(&self, deadline: Duration) -> IoError {
        IoError::Timeout { op: self.name(), offset: self.offset, seconds: deadline.as_secs() }
    }

    fn os_error(&self, errno: i32) -> IoError {
        IoError::Os { op: self.name(), offset: self.offset, len: self.len as usize, errno }
    }

    fn name(&self) -> &'static str {
        match self.work {
            Work::Transfer(op) => op.name(),
            Work::Sync => "flush",
            Work::Fallocate(0) => "allocate",
            Work::Fallocate(_) => "discard",
        }
    }

    /// Ends it: the caller's completion, if it still waits, with what to tell it.
    pub(super) fn finish(self, result: Result<(), IoError>) -> Option<(Completion, IoOutcome)> {
        self.done.map(|done| (done, IoOutcome { buf: self.buf, result }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::BufferPool;

    fn flight(op: IoOp, len: usize) -> Flight {
        let request = IoRequest::new(op, 8192, BufferPool::new(0).alloc(len), Box::new(|_| ()));
        Flight::transfer(request, Instant::now())
    }

    #[test]
    fn a_short_transfer_goes_on_where_it_stopped() {
        let mut read = flight(IoOp::Read, 16384);
        assert!(matches!(read.judge(4096), Verdict::Again));
        let piece = read.piece();
        assert_eq!((piece.offset, piece.len), (8192 + 4096, 12288));
        assert!(matches!(read.judge(12288), Verdict::Finished(Ok(()))));
    }

    #[test]
    fn a_transfer_that_stops_within_a_sector_resumes_at_its_start() {
        let mut read = flight(IoOp::Read, 16384);
        assert!(matches!(read.judge(5000), Verdict::Again));
        assert_eq!(read.piece().offset, 8192 + 4096);
        assert!(matches!(read.judge(904), Verdict::Finished(Err(IoError::UnexpectedEnd { offset: 8192, len: 16384 }))));
    }

    #[test]
    fn nothing_transferred_is_an_error_and_never_success() {
        assert!(matches!(flight(IoOp::Read, 4096).judge(0), Verdict::Finished(Err(IoError::UnexpectedEnd { .. }))));
        assert!(matches!(flight(IoOp::Write, 4096).judge(0), Verdict::Finished(Err(IoError::Os { errno: libc::EIO, .. }))));
    }

    #[test]
    fn passing_refusals_are_retried_hastily_then_patiently() {
        for errno in [libc::EAGAIN, libc::EINTR, libc::ECANCELED] {
            let mut read = flight(IoOp::Read, 4096);
            for _ in 0..HASTY_TRIES {
                assert!(matches!(read.judge(-errno), Verdict::Again));
            }
            assert!(matches!(read.judge(-errno), Verdict::Later));
        }
    }

    #[test]
    fn other_errors_are_final() {
        let verdict = flight(IoOp::Write, 4096).judge(-libc::ENOSPC);
        assert!(matches!(verdict, Verdict::Finished(Err(IoError::Os { op: "write", errno: libc::ENOSPC, .. }))));
    }
}
