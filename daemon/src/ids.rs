//! The names of things: inodes, epochs, blocks, devices. Newtypes, so that one is never taken for another.

use std::fmt;

/// An inode number, as `st_ino` shows it. Never reused within one file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory (FUSE fixes it at 1).
    pub const ROOT: Ino = Ino(1);
    /// The directory whose entries are the snapshots.
    pub const SNAPSHOTS: Ino = Ino(u64::MAX);
    /// Bits of a number that are the inode's own; above them stands the epoch of the snapshot through which it is seen, 0 for the tree as it is.
    const OWN_BITS: u32 = 40;
    /// The last epoch that a snapshot can have.
    pub const LAST_EPOCH: Epoch = Epoch((1 << (64 - Self::OWN_BITS)) - 2);

    /// The same inode as it was when an epoch ended.
    pub fn at(self, epoch: Epoch) -> Ino {
        debug_assert!(self.0 >> Self::OWN_BITS == 0 && epoch <= Self::LAST_EPOCH, "{self} at {epoch:?}");
        Ino(epoch.0 << Self::OWN_BITS | self.0)
    }

    /// The epoch at whose end it is seen, and its number in the tree; `None` for an inode of the tree as it is, and for [`Ino::SNAPSHOTS`].
    pub fn in_snapshot(self) -> Option<(Epoch, Ino)> {
        let epoch = self.0 >> Self::OWN_BITS;
        (epoch != 0 && self != Self::SNAPSHOTS).then_some((Epoch(epoch), Ino(self.0 & ((1 << Self::OWN_BITS) - 1))))
    }

    /// Whether nothing about it can change.
    pub fn is_frozen(self) -> bool {
        self.0 >> Self::OWN_BITS != 0
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ino {}", self.0)
    }
}

/// The age of a metadata row: a snapshot increments the file system's epoch, rows are keyed by it, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of a file system that has no snapshot yet.
    pub const FIRST: Epoch = Epoch(1);
}

/// The identity of a block: BLAKE3-256 of its plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub [u8; 32]);

impl BlockId {
    /// Hashes a block's plain bytes.
    pub fn of(plain: &[u8]) -> Self {
        BlockId(*blake3::hash(plain).as_bytes())
    }

    /// The first eight bytes, which the in-memory index keys by.
    pub fn fingerprint(&self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("eight of 32 bytes"))
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{:016x}", u64::from_be_bytes(self.0[..8].try_into().expect("eight of 32 bytes")))
    }
}

/// A device's place in the array: the order of `--cache` when the file system was formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u8);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}", self.0)
    }
}

/// The place of a block within a file: byte offset / block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockIndex(pub u64);

/// The identity of a formatted file system (a UUID); every superblock and the metadata carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FsId(pub [u8; 16]);

impl fmt::Display for FsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", uuid::Uuid::from_bytes(self.0))
    }
}

/// A link between a directory and a bucket's prefix (a data repository association). Never reused within one file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AssociationId(pub u32);

impl AssociationId {
    /// The association that `mount` makes, of the root.
    pub const ROOT: AssociationId = AssociationId(0);
    /// No association at all: where things belong that no bucket is linked to.
    pub const NONE: AssociationId = AssociationId(u32::MAX);
}

impl fmt::Display for AssociationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dra-{}", self.0)
    }
}
