//! Inodes: the row that exists once per file, so the one whose size matters.
//!
//! ```text
//! version:1  flags:2 (LE)  perm uid gid nlink size (numbers)  mtime:8
//! [atime:8 unless it is mtime]  [ctime:8 unless it is mtime]
//! [special: kind:1  rdev (number)]
//! [base (number)  [allocated (number)]]
//! [origin:  key (counted)  etag (see below)  [version id (counted)]]
//! [layout:  stripe_count:1  stripe_size (number)]
//! [parent:  ino (number)  name: its length if the origin's key ends in it, else counted]
//! ```
//! Two flags have nothing that follows them: the data stays here (bit 14), the data does not go to the bucket (bit 15).
//!
//! ETags are nearly always a quoted MD5 in hex, with `-parts` after a multipart upload; those are kept as 16 bytes. Others are
//! kept as text. The high bit of an ETag's first byte says that the object is another file's. The origin's key nearly always ends in the file's name, which then needs only its length.

use super::wire::{Reader, Writer};
use super::{RowError, key};
use crate::ids::Ino;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A local socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    /// Fifo, socket or device: nothing but a row here.
    pub fn is_special(self) -> bool {
        self.code() >= SPECIAL_BITS as u8
    }

    pub(super) fn code(self) -> u8 {
        match self {
            FileKind::File => 0,
            FileKind::Directory => 1,
            FileKind::Symlink => 2,
            FileKind::Fifo => 3,
            FileKind::Socket => 4,
            FileKind::CharDevice => 5,
            FileKind::BlockDevice => 6,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Self, RowError> {
        match code {
            0 => Ok(FileKind::File),
            1 => Ok(FileKind::Directory),
            2 => Ok(FileKind::Symlink),
            3 => Ok(FileKind::Fifo),
            4 => Ok(FileKind::Socket),
            5 => Ok(FileKind::CharDevice),
            6 => Ok(FileKind::BlockDevice),
            _ => Err(RowError::Field("kind")),
        }
    }
}

/// The object an inode's content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The full object key.
    pub key: String,
    /// The ETag of the version this inode stands for.
    pub etag: String,
    /// The version id, where known.
    pub version: Option<String>,
}

impl Origin {
    /// The prefix that a directory's entries come from.
    pub fn prefix(key: String) -> Self {
        Origin { key, etag: String::new(), version: None }
    }
}

/// How a file's bytes are spread over devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    /// Devices the file is spread over; 0 means all of them.
    pub stripe_count: u8,
    /// Bytes on one device before the next takes over; a multiple of the block size.
    pub stripe_size: u64,
}

/// Where an inode hangs in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The directory.
    pub parent: Ino,
    /// The name in it.
    pub name: Vec<u8>,
}

/// An inode's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodeRow {
    /// File, directory, symlink.
    pub kind: FileKind,
    /// Permission bits, `0o7777` at most.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Access time, ns since the Unix epoch.
    pub atime_ns: i64,
    /// Modification time, ns since the Unix epoch.
    pub mtime_ns: i64,
    /// Change time, ns since the Unix epoch.
    pub ctime_ns: i64,
    /// Whether the POSIX attributes came from the object's own metadata.
    pub posix_known: bool,
    /// Device number of a device; 0 for everything else.
    pub rdev: u32,
    /// Made here: no listing of the store is about it.
    pub local: bool,
    /// Attributes were set here.
    pub attrs_changed: bool,
    /// The content was changed here: only bytes below this come from the origin, where the map names no block.
    pub base: Option<u64>,
    /// Bytes that have something in them, where that was counted; only of a file whose content was changed here.
    pub allocated: Option<u64>,
    /// Where the content comes from; of a directory moved here, the prefix its entries come from.
    pub origin: Option<Origin>,
    /// The object that the content comes from is another file's: this one is a clone of it and was not exported. Only with an origin.
    pub borrowed: bool,
    /// Somebody wants the data to stay here.
    pub norelease: bool,
    /// Somebody wants the data not to go to the bucket.
    pub noarchive: bool,
    /// Stripe layout set here.
    pub layout: Option<Layout>,
    /// Where it hangs; `None` for the root and for what has lost its last name.
    pub link: Option<Link>,
}

const KIND_BITS: u16 = 0b11;
/// These kind bits: the kind follows, with the device number.
const SPECIAL_BITS: u16 = 3;
const POSIX_KNOWN: u16 = 1 << 2;
const ATIME: u16 = 1 << 3;
const CTIME: u16 = 1 << 4;
const ORIGIN: u16 = 1 << 5;
const VERSION_ID: u16 = 1 << 6;
const LAYOUT: u16 = 1 << 7;
const LINK: u16 = 1 << 8;
/// The name is not the end of the origin's key and stands in full.
const NAME_IN_FULL: u16 = 1 << 9;
const LOCAL: u16 = 1 << 10;
const ATTRS_CHANGED: u16 = 1 << 11;
const BASE: u16 = 1 << 12;
const ALLOCATED: u16 = 1 << 13;
const NORELEASE: u16 = 1 << 14;
const NOARCHIVE: u16 = 1 << 15;
const PERM_MAX: u16 = 0o7777;

impl InodeRow {
    /// The row of something just made: one link, no content, all times the same, attributes as given.
    pub fn new(kind: FileKind, perm: u16, (uid, gid): (u32, u32), now_ns: i64, link: Option<Link>) -> Self {
        InodeRow {
            kind,
            perm,
            uid,
            gid,
            nlink: if kind == FileKind::Directory { 2 } else { 1 },
            size: 0,
            atime_ns: now_ns,
            mtime_ns: now_ns,
            ctime_ns: now_ns,
            posix_known: false,
            rdev: 0,
            local: false,
            attrs_changed: false,
            base: None,
            allocated: None,
            origin: None,
            borrowed: false,
            norelease: false,
            noarchive: false,
            layout: None,
            link,
        }
    }

    /// The object that is this inode's own: what the bucket has of it, and what goes when it goes.
    pub fn own_origin(&self) -> Option<&Origin> {
        self.origin.as_ref().filter(|_| !self.borrowed)
    }

    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let flags = self.flags();
        let mut row = Writer::row(160);
        row.raw(&flags.to_le_bytes());
        for number in [self.perm.into(), self.uid.into(), self.gid.into(), self.nlink.into(), self.size] {
            row.number(number);
        }
        row.i64(self.mtime_ns);
        if flags & ATIME != 0 {
            row.i64(self.atime_ns);
        }
        if flags & CTIME != 0 {
            row.i64(self.ctime_ns);
        }
        if self.kind.is_special() {
            row.byte(self.kind.code());
            row.number(self.rdev.into());
        }
        if let Some(base) = self.base {
            row.number(base);
            if let Some(allocated) = self.allocated {
                row.number(allocated);
            }
        }
        if let Some(origin) = &self.origin {
            row.counted(origin.key.as_bytes());
            encode_etag(&mut row, &origin.etag, self.borrowed);
            if let Some(version) = &origin.version {
                row.counted(version.as_bytes());
            }
        }
        if let Some(layout) = &self.layout {
            row.byte(layout.stripe_count);
            row.number(layout.stripe_size);
        }
        if let Some(link) = &self.link {
            row.number(link.parent.0);
            if flags & NAME_IN_FULL != 0 {
                row.counted(&link.name);
            } else {
                row.number(link.name.len() as u64);
            }
        }
        row.done()
    }

    fn flags(&self) -> u16 {
        let bit = |on: bool, flag: u16| if on { flag } else { 0 };
        let name_in_full = self.link.as_ref().is_some_and(|link| !ends_key(self.origin.as_ref(), &link.name));
        u16::from(self.kind.code()).min(SPECIAL_BITS)
            | bit(self.local, LOCAL)
            | bit(self.attrs_changed, ATTRS_CHANGED)
            | bit(self.base.is_some(), BASE)
            | bit(self.base.is_some() && self.allocated.is_some(), ALLOCATED)
            | bit(self.norelease, NORELEASE)
            | bit(self.noarchive, NOARCHIVE)
            | bit(self.posix_known, POSIX_KNOWN)
            | bit(self.atime_ns != self.mtime_ns, ATIME)
            | bit(self.ctime_ns != self.mtime_ns, CTIME)
            | bit(self.origin.is_some(), ORIGIN)
            | bit(self.origin.as_ref().is_some_and(|o| o.version.is_some()), VERSION_ID)
            | bit(self.layout.is_some(), LAYOUT)
            | bit(self.link.is_some(), LINK)
            | bit(name_in_full, NAME_IN_FULL)
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let flags = u16::from_le_bytes([row.byte()?, row.byte()?]);
        let has = |flag: u16| flags & flag != 0;
        let without = |flag: u16, needs: u16| has(flag) && !has(needs);
        if without(VERSION_ID, ORIGIN) || without(NAME_IN_FULL, LINK) || without(ALLOCATED, BASE) {
            return Err(RowError::Field("flags"));
        }
        let perm = row.small("perm")?;
        if perm > PERM_MAX {
            return Err(RowError::Field("perm"));
        }
        let (uid, gid, nlink, size) = (row.small("uid")?, row.small("gid")?, row.small("nlink")?, row.number("size")?);
        let mtime_ns = row.i64()?;
        let atime_ns = decode_time(&mut row, has(ATIME), mtime_ns, "atime")?;
        let ctime_ns = decode_time(&mut row, has(CTIME), mtime_ns, "ctime")?;
        let (kind, rdev) = decode_kind(&mut row, flags & KIND_BITS)?;
        let base = if has(BASE) { Some(row.number("base")?) } else { None };
        let allocated = if has(ALLOCATED) { Some(row.number("allocated")?) } else { None };
        let (origin, borrowed) = match has(ORIGIN) {
            true => decode_origin(&mut row, has(VERSION_ID)).map(|(origin, borrowed)| (Some(origin), borrowed))?,
            false => (None, false),
        };
        let layout =
            if has(LAYOUT) { Some(Layout { stripe_count: row.byte()?, stripe_size: row.number("stripe_size")? }) } else { None };
        let link = if has(LINK) { Some(decode_link(&mut row, has(NAME_IN_FULL), origin.as_ref())?) } else { None };
        row.end()?;
        Ok(InodeRow {
            kind,
            perm,
            uid,
            gid,
            nlink,
            size,
            atime_ns,
            mtime_ns,
            ctime_ns,
            posix_known: has(POSIX_KNOWN),
            rdev,
            local: has(LOCAL),
            attrs_changed: has(ATTRS_CHANGED),
            base,
            allocated,
            origin,
            borrowed,
            norelease: has(NORELEASE),
            noarchive: has(NOARCHIVE),
            layout,
            link,
        })
    }
}

fn decode_kind(row: &mut Reader<'_>, bits: u16) -> Result<(FileKind, u32), RowError> {
    if bits != SPECIAL_BITS {
        return Ok((FileKind::from_code(bits as u8)?, 0));
    }
    let kind = FileKind::from_code(row.byte()?)?;
    if !kind.is_special() {
        return Err(RowError::Field("kind"));
    }
    Ok((kind, row.small("rdev")?))
}

fn decode_time(row: &mut Reader<'_>, present: bool, mtime_ns: i64, field: &'static str) -> Result<i64, RowError> {
    if !present {
        return Ok(mtime_ns);
    }
    match row.i64()? {
        same if same == mtime_ns => Err(RowError::Field(field)),
        other => Ok(other),
    }
}

/// The origin, and whether it is borrowed.
fn decode_origin(row: &mut Reader<'_>, has_version: bool) -> Result<(Origin, bool), RowError> {
    let key = row.text("key")?;
    let (etag, borrowed) = decode_etag(row)?;
    let version = if has_version { Some(row.text("version")?) } else { None };
    Ok((Origin { key, etag, version }, borrowed))
}

fn decode_link(row: &mut Reader<'_>, in_full: bool, origin: Option<&Origin>) -> Result<Link, RowError> {
    let parent = Ino(row.number("parent")?);
    let name = if in_full {
        let name = row.counted("name")?;
        if ends_key(origin, name) {
            return Err(RowError::Field("name"));
        }
        name.to_vec()
    } else {
        let key = origin.ok_or(RowError::Field("name"))?.key.as_bytes();
        let len = row.small::<usize>("name")?;
        let start = key.len().checked_sub(len).ok_or(RowError::Field("name"))?;
        key[start..].to_vec()
    };
    if !key::is_name(&name) {
        return Err(RowError::Field("name"));
    }
    Ok(Link { parent, name })
}

fn ends_key(origin: Option<&Origin>, name: &[u8]) -> bool {
    origin.is_some_and(|origin| origin.key.as_bytes().ends_with(name))
}

/// How an ETag is stored: its first byte.
const ETAG_TEXT: u8 = 0;
const ETAG_QUOTED_MD5: u8 = 1;
const ETAG_QUOTED_PARTS: u8 = 2;
const ETAG_BARE_MD5: u8 = 3;
/// Beside the form: the object is another file's.
const BORROWED: u8 = 1 << 7;

/// An ETag taken apart; `None` if only its text will do.
fn split_etag(etag: &str) -> Option<(u8, [u8; 16], u64)> {
    let (quoted, inner) = match etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => (true, inner),
        None => (false, etag),
    };
    let (hex, parts) = match inner.split_once('-') {
        Some((hex, parts)) => (hex, Some(parts)),
        None => (inner, None),
    };
    let digest = unhex(hex)?;
    match (quoted, parts) {
        (true, None) => Some((ETAG_QUOTED_MD5, digest, 0)),
        (false, None) => Some((ETAG_BARE_MD5, digest, 0)),
        // Only what prints back to the same text: no sign, no leading zero.
        (true, Some(parts)) => {
            let count: u64 = parts.parse().ok()?;
            (count.to_string() == parts).then_some((ETAG_QUOTED_PARTS, digest, count))
        }
        (false, Some(_)) => None,
    }
}

fn encode_etag(row: &mut Writer, etag: &str, borrowed: bool) {
    let mark = if borrowed { BORROWED } else { 0 };
    match split_etag(etag) {
        Some((form, digest, parts)) => {
            row.byte(form | mark);
            row.raw(&digest);
            if form == ETAG_QUOTED_PARTS {
                row.number(parts);
            }
        }
        None => {
            row.byte(ETAG_TEXT | mark);
            row.counted(etag.as_bytes());
        }
    }
}

fn decode_etag(row: &mut Reader<'_>) -> Result<(String, bool), RowError> {
    let first = row.byte()?;
    let etag = match first & !BORROWED {
        ETAG_TEXT => {
            let text = row.text("etag")?;
            if split_etag(&text).is_some() {
                return Err(RowError::Field("etag"));
            }
            text
        }
        ETAG_QUOTED_MD5 => format!("\"{}\"", hex(row.raw(16)?)),
        ETAG_QUOTED_PARTS => {
            let digest = hex(row.raw(16)?);
            format!("\"{digest}-{}\"", row.number("etag")?)
        }
        ETAG_BARE_MD5 => hex(row.raw(16)?),
        _ => return Err(RowError::Field("etag")),
    };
    Ok((etag, first & BORROWED != 0))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of 32 lower-case hex digits.
fn unhex(text: &str) -> Option<[u8; 16]> {
    let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}
