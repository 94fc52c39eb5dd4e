//! Which operations there are, and how the next one is chosen: sizes and places gather around the borders where file
//! systems go wrong.

use rand::Rng;
use rand::rngs::StdRng;
use std::fmt;

/// Borders that offsets and lengths are drawn to: sector, page, and a request of FUSE (also a stripe's block).
const BORDERS: [u64; 3] = [512, 4096, 128 * 1024];
/// The longest single operation.
const LONGEST: u64 = 256 * 1024;

/// Bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

impl Span {
    /// The byte after the last.
    pub fn end(self) -> u64 {
        self.offset + self.length
    }

    /// Whether it holds one of the bytes from `first` to `last`.
    pub fn meets(self, first: u64, last: u64) -> bool {
        self.offset <= last && first < self.end()
    }
}

/// What `fallocate` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Space, and the size grows.
    Extend,
    /// Space beyond the size.
    KeepSize,
    /// A hole.
    Punch,
    /// Zeros, and the size grows.
    Zero,
    /// Zeros within the size.
    ZeroKeepSize,
}

/// One operation on the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `pread`.
    Read(Span),
    /// `pwrite`.
    Write(Span),
    /// `write` through a handle with `O_APPEND`.
    Append(u64),
    /// `ftruncate` to this size.
    Truncate(u64),
    /// Read through a mapping.
    MapRead(Span),
    /// Write through a shared mapping; with or without a synchronous `msync`.
    MapWrite(Span, bool),
    /// `fallocate`.
    Allocate(Allocation, Span),
    /// `copy_file_range` to this offset.
    Copy(Span, u64),
    /// `fsync`.
    Sync,
    /// Close every handle and open again.
    Reopen,
    /// `SEEK_DATA` and `SEEK_HOLE` from here.
    Seek(u64),
}

impl Operation {
    /// Its name in a tally.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Read(_) => "read",
            Operation::Write(_) => "write",
            Operation::Append(_) => "append",
            Operation::Truncate(_) => "truncate",
            Operation::MapRead(_) => "mapread",
            Operation::MapWrite(..) => "mapwrite",
            Operation::Allocate(Allocation::Extend, _) => "allocate",
            Operation::Allocate(Allocation::KeepSize, _) => "allocate keep-size",
            Operation::Allocate(Allocation::Punch, _) => "punch hole",
            Operation::Allocate(Allocation::Zero, _) => "zero range",
            Operation::Allocate(Allocation::ZeroKeepSize, _) => "zero range keep-size",
            Operation::Copy(..) => "copy",
            Operation::Sync => "fsync",
            Operation::Reopen => "reopen",
            Operation::Seek(_) => "seek",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        match self {
            Operation::Read(span) | Operation::Write(span) | Operation::MapRead(span) | Operation::Allocate(_, span) => {
                write!(f, " {:#x}..{:#x}", span.offset, span.end())
            }
            Operation::MapWrite(span, synced) => {
                write!(f, " {:#x}..{:#x}{}", span.offset, span.end(), if *synced { " msync" } else { "" })
            }
            Operation::Copy(span, to) => write!(f, " {:#x}..{:#x} to {to:#x}", span.offset, span.end()),
            Operation::Append(length) => write!(f, " {length:#x} bytes"),
            Operation::Truncate(size) => write!(f, " to {size:#x}"),
            Operation::Seek(from) => write!(f, " from {from:#x}"),
            Operation::Sync | Operation::Reopen => Ok(()),
        }
    }
}

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The file's size now.
    pub size: u64,
    /// What it may grow to.
    pub max_size: u64,
    /// Whether mappings are used.
    pub mmap: bool,
}

/// The next operation.
pub fn choose(rng: &mut StdRng, bounds: Bounds) -> Operation {
    match rng.random_range(0..1000) {
        0..220 => Operation::Read(within(rng, bounds.size + 1)),
        220..450 => Operation::Write(within(rng, bounds.max_size)),
        450..520 => Operation::Append(append_length(rng, bounds)),
        520..600 => Operation::Truncate(truncated_size(rng, bounds)),
        600..690 if bounds.mmap && bounds.size > 0 => Operation::MapRead(within(rng, bounds.size)),
        690..780 if bounds.mmap && bounds.size > 0 => Operation::MapWrite(within(rng, bounds.size), rng.random_range(0..50) == 0),
        600..690 => Operation::Read(within(rng, bounds.size + 1)),
        690..780 => Operation::Write(within(rng, bounds.max_size)),
        780..870 => allocate(rng, bounds),
        870..920 => copy(rng, bounds),
        920..922 => Operation::Sync,
        922..940 => Operation::Reopen,
        _ => Operation::Seek(near_border(rng, bounds.size + 4096)),
    }
}

/// A place below `limit`, half of the time within a few bytes of a border, or on it.
fn near_border(rng: &mut StdRng, limit: u64) -> u64 {
    let place = rng.random_range(0..limit.max(1));
    if rng.random() {
        return place;
    }
    let border = BORDERS[rng.random_range(0..BORDERS.len())];
    let by = if rng.random() { 0 } else { rng.random_range(0..=16) };
    let on = place / border * border;
    let moved = if rng.random() { on + by } else { on.saturating_sub(by) };
    moved.min(limit.saturating_sub(1))
}

/// A length of at least 1, mostly short, half of the time near a border.
fn length(rng: &mut StdRng) -> u64 {
    let most = [64, 4096, 20_000, LONGEST][rng.random_range(0..4)];
    near_border(rng, most) + 1
}

/// A span of at least one byte that ends at `limit` or before.
fn within(rng: &mut StdRng, limit: u64) -> Span {
    let offset = near_border(rng, limit);
    Span { offset, length: length(rng).min(limit - offset).max(1) }
}

fn append_length(rng: &mut StdRng, bounds: Bounds) -> u64 {
    length(rng).min(bounds.max_size - bounds.size)
}

/// Mostly a small change; now and then any size, and rarely none at all, so that files get large as well.
fn truncated_size(rng: &mut StdRng, bounds: Bounds) -> u64 {
    match rng.random_range(0..20) {
        0 => 0,
        1..4 => near_border(rng, bounds.max_size),
        4..12 => bounds.size.saturating_sub(length(rng)),
        _ => (bounds.size + length(rng)).min(bounds.max_size),
    }
}

fn allocate(rng: &mut StdRng, bounds: Bounds) -> Operation {
    let kinds = [
        Allocation::Extend,
        Allocation::KeepSize,
        Allocation::Punch,
        Allocation::Punch,
        Allocation::Zero,
        Allocation::ZeroKeepSize,
    ];
    Operation::Allocate(kinds[rng.random_range(0..kinds.len())], within(rng, bounds.max_size))
}

/// The kernel refuses ranges that overlap within one file, so the longest that does not is taken. The source ends within
/// the file: a copy that is cut at its end and goes on would find what it wrote itself.
fn copy(rng: &mut StdRng, bounds: Bounds) -> Operation {
    let from = within(rng, bounds.size.max(1));
    let to = near_border(rng, bounds.max_size);
    let apart = if from.offset == to { 0 } else { from.offset.abs_diff(to) };
    let length = from.length.min(apart).min(bounds.size - from.offset).min(bounds.max_size - to);
    if length == 0 { Operation::Read(from) } else { Operation::Copy(Span { length, ..from }, to) }
}
