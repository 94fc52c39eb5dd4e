//! Reading a file from its beginning in calls of one size, as the real readers do, and throwing the bytes away.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A file being read.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Bytes that came from the file.
    pub(super) bytes: u64,
}

impl Stream {
    /// Opens a file that is to be read `call` bytes at a time.
    pub(super) fn open(path: &Path, call: usize) -> io::Result<Self> {
        Ok(Stream { file: File::open(path)?, buffer: vec![0; call], at: 0, end: 0, bytes: 0 })
    }

    /// The file itself.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Takes the next bytes, as many as the buffer is long. False if the file ends before the first of them.
    pub(super) fn take(&mut self, out: &mut [u8]) -> io::Result<bool> {
        let mut done = 0;
        while done < out.len() {
            if !self.refill()? {
                return if done == 0 { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let len = (self.end - self.at).min(out.len() - done);
            out[done..done + len].copy_from_slice(&self.buffer[self.at..self.at + len]);
            self.at += len;
            done += len;
        }
        Ok(true)
    }

    /// Reads over the next `count` bytes, showing them to `look`.
    pub(super) fn pass(&mut self, count: u64, mut look: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            if !self.refill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let len = (self.end - self.at).min(usize::try_from(left).unwrap_or(usize::MAX));
            look(&self.buffer[self.at..self.at + len]);
            self.at += len;
            left -= len as u64;
        }
        Ok(())
    }

    /// Reads to the end of the file; returns the bytes read so far.
    pub(super) fn drain(&mut self) -> io::Result<u64> {
        while self.refill()? {
            self.at = self.end;
        }
        Ok(self.bytes)
    }

    /// False at the end of the file.
    fn refill(&mut self) -> io::Result<bool> {
        if self.at == self.end {
            self.at = 0;
            self.end = uninterrupted(|| self.file.read(&mut self.buffer))?;
            self.bytes += self.end as u64;
        }
        Ok(self.end > 0)
    }
}

/// A signal that is handled is no reason to fail.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_taken_once_whatever_the_size_of_a_call() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        let content: Vec<u8> = (0..100).collect();
        std::fs::write(&path, &content).expect("write");
        for call in [1, 7, 64, 1000] {
            let mut stream = Stream::open(&path, call).expect("open");
            let (mut head, mut passed) = ([0; 10], Vec::new());
            assert!(stream.take(&mut head).expect("read"));
            stream.pass(60, |bytes| passed.extend_from_slice(bytes)).expect("read");
            assert_eq!((&head[..], &passed[..]), (&content[..10], &content[10..70]), "call of {call}");
            assert_eq!(stream.drain().expect("read"), 100);
            assert!(!stream.take(&mut head).expect("the end"));
            assert_eq!(stream.pass(1, |_| ()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn an_end_within_what_is_taken_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        std::fs::write(&path, [1; 5]).expect("write");
        let mut stream = Stream::open(&path, 4).expect("open");
        assert_eq!(stream.take(&mut [0; 6]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
