//! The rows that the workloads read and write, encoded by the daemon's own format.

use forebay_daemon::format::rows::{Dirent, FileKind, InodeRow, Link, Origin, key};
use forebay_daemon::ids::{Epoch, Ino};

/// The directory all files are in.
pub const DIR: Ino = Ino(2);
/// The first file's inode number.
pub const FIRST_FILE: u64 = 100;

/// A file's name.
pub fn name(number: u64) -> String {
    format!("image-{number:09}.jpg")
}

/// The key of a file's directory entry.
pub fn dirent_key(name: &str) -> Vec<u8> {
    key::versioned(&key::dirent(DIR, name.as_bytes()), Epoch::FIRST)
}

/// The key of an inode.
pub fn inode_key(ino: Ino) -> Vec<u8> {
    key::versioned(&key::ino(ino), Epoch::FIRST)
}

/// A directory entry.
pub fn dirent(ino: Ino) -> Vec<u8> {
    Dirent { ino, kind: FileKind::File }.encode()
}

/// A file's inode as a listing gives it.
pub fn inode(number: u64, name: &str) -> Vec<u8> {
    let digest = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mtime_ns = 1_700_000_000_000_000_000 + number as i64 * 1_000_000_000;
    let link = Link { parent: DIR, name: name.as_bytes().to_vec() };
    let origin = Origin {
        key: format!("datasets/imagenet/train/{name}"),
        etag: format!("\"{digest:016x}{:016x}\"", digest.rotate_left(17)),
        version: None,
    };
    let row = InodeRow::new(FileKind::File, 0o644, (1000, 1000), mtime_ns, Some(link));
    let row = InodeRow { size: 100_000 + number % 50_000, origin: Some(origin), ..row };
    row.encode()
}

/// A sequence of numbers that looks random and is the same in every run (xorshift64*).
pub struct Numbers(pub u64);

impl Numbers {
    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}
