//! Manifests: a snapshot as objects of a bucket, from which any node can mount it. `docs/format-manifest.md` has every field.
//!
//! ```text
//! PREFIX.forebay/snapshots/NAME/manifest      lines of JSON: a header, an entry for each name, an end
//! PREFIX.forebay/snapshots/NAME/data/PATH     the content of files that no other object of the bucket has
//! ```
//!
//! Invariants, which the decoder checks:
//! 1. The first entry is the directory that the snapshot is of, with an empty path. Entries come in the order of a walk: paths compared name by name, each once, and after
//!    the directory that they are in.
//! 2. A file with bytes in it says which version of which object has them.
//! 3. The end has the number of entries, and the BLAKE3 of every byte before it. Nothing follows it.

use super::rows::{FileKind, Origin, key};
use super::text;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The name below a prefix under which everything of Forebay's own is kept in a bucket. No tree shows it.
pub const OWN_NAME: &str = ".forebay";
/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// What a header says it is.
const KIND: &str = "snapshot";
/// The longest line, in bytes: a name's extended attributes have up to 64 KiB each.
const LONGEST_LINE: usize = 16 << 20;
/// What an end begins with, and no entry.
const END_BEGINS: &[u8] = b"{\"entries\":";
const PERM_MAX: u16 = 0o7777;

/// The prefix of all objects of a snapshot; `prefix` is empty or ends in a slash.
pub fn snapshot_prefix(prefix: &str, name: &[u8]) -> String {
    format!("{prefix}{OWN_NAME}/snapshots/{}/", text::encode(name))
}

/// The key of a snapshot's manifest.
pub fn manifest_key(prefix: &str, name: &[u8]) -> String {
    snapshot_prefix(prefix, name) + "manifest"
}

/// The prefix of the objects that hold content for a snapshot alone.
pub fn data_prefix(prefix: &str, name: &[u8]) -> String {
    snapshot_prefix(prefix, name) + "data/"
}

/// What a manifest is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The snapshot's name.
    pub name: Vec<u8>,
    /// The directory that it was taken of, below the root of its file system.
    pub path: Vec<u8>,
    /// When it was taken, ns since the Unix epoch.
    pub taken_ns: i64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Size in bytes.
        size: u64,
        /// The object of the manifest's bucket that has its bytes; `None` of an empty file.
        object: Option<Origin>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads.
        target: Vec<u8>,
    },
    /// A pipe, a socket or a device.
    Special {
        /// Which.
        kind: FileKind,
        /// The device's number.
        rdev: u32,
    },
}

/// A name of the snapshot's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Below the directory that the snapshot is of.
    pub path: Vec<u8>,
    /// Permission bits.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, ns since the Unix epoch.
    pub mtime_ns: i64,
    /// Extended attributes, access control lists among them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it is.
    pub node: Node,
}

/// The end of a whole manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Entries in it.
    pub entries: u64,
    /// BLAKE3 of all that comes before the end.
    pub digest: [u8; 32],
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Something else.
    #[error("it does not begin as a manifest does")]
    Foreign,
    /// Of another version.
    #[error("it has version {0} of the format, and this forebay reads version {VERSION}: use a newer forebay")]
    Version(u32),
    /// A line that makes no sense.
    #[error("line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// It stops before its end.
    #[error("it is cut off after line {0}")]
    Cut(u64),
    /// Its end is of other lines.
    #[error("it is damaged, or put together of several: its lines are not those that its end is of")]
    Mixed,
}

#[derive(Serialize, Deserialize)]
struct HeaderLine {
    forebay: String,
    version: u32,
    name: String,
    path: String,
    taken_ns: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindText {
    Dir,
    File,
    Symlink,
    Fifo,
    Socket,
    Char,
    Block,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    path: String,
    kind: KindText,
    mode: String,
    uid: u32,
    gid: u32,
    mtime_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rdev: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    entries: u64,
    blake3: String,
}

impl EntryLine {
    fn of(entry: &Entry) -> Self {
        let Entry { path, perm, uid, gid, mtime_ns, xattrs, node } = entry;
        let mut line = EntryLine {
            path: text::encode(path),
            kind: KindText::Dir,
            mode: format!("{perm:04o}"),
            uid: *uid,
            gid: *gid,
            mtime_ns: *mtime_ns,
            size: None,
            key: None,
            etag: None,
            version: None,
            target: None,
            rdev: None,
            xattrs: xattrs.iter().map(|(name, value)| (text::encode(name), text::encode(value))).collect(),
        };
        match node {
            Node::Directory => {}
            Node::File { size, object } => {
                (line.kind, line.size) = (KindText::File, Some(*size));
                if let Some(Origin { key, etag, version }) = object {
                    (line.key, line.etag, line.version) = (Some(key.clone()), Some(etag.clone()), version.clone());
                }
            }
            Node::Symlink { target } => (line.kind, line.target) = (KindText::Symlink, Some(text::encode(target))),
            Node::Special { kind, rdev } => (line.kind, line.rdev) = (special_text(*kind), Some(*rdev)),
        }
        line
    }

    fn node(&self) -> Result<Node, &'static str> {
        let object = match (&self.key, &self.etag) {
            (Some(key), Some(etag)) if !key.is_empty() && !etag.is_empty() => {
                Some(Origin { key: key.clone(), etag: etag.clone(), version: self.version.clone() })
            }
            (None, None) if self.version.is_none() => None,
            _ => return Err("an object has a key and an ETag"),
        };
        Ok(match (self.kind, self.size, object, &self.target, self.rdev) {
            (KindText::Dir, None, None, None, None) => Node::Directory,
            (KindText::File, Some(size), object, None, None) => {
                if (size > 0) != object.is_some() {
                    return Err("a file has an object if it has bytes");
                }
                Node::File { size, object }
            }
            (KindText::Symlink, None, None, Some(target), None) => Node::Symlink { target: text::decode(target) },
            (kind, None, None, None, Some(rdev)) => {
                Node::Special { kind: special_kind(kind).ok_or("only devices have numbers")?, rdev }
            }
            _ => return Err("fields of another kind of entry, or missing ones"),
        })
    }

    fn entry(self) -> Result<Entry, &'static str> {
        let perm = u16::from_str_radix(&self.mode, 8).ok().filter(|perm| *perm <= PERM_MAX).ok_or("the mode is none")?;
        let xattrs: BTreeMap<_, _> = self.xattrs.iter().map(|(name, value)| (text::decode(name), text::decode(value))).collect();
        if !xattrs.keys().all(|name| key::is_attribute(name)) {
            return Err("an extended attribute's name is none");
        }
        let node = self.node()?;
        let (uid, gid, mtime_ns) = (self.uid, self.gid, self.mtime_ns);
        Ok(Entry { path: text::decode(&self.path), perm, uid, gid, mtime_ns, xattrs, node })
    }
}

fn special_text(kind: FileKind) -> KindText {
    match kind {
        FileKind::File => KindText::File,
        FileKind::Directory => KindText::Dir,
        FileKind::Symlink => KindText::Symlink,
        FileKind::Fifo => KindText::Fifo,
        FileKind::Socket => KindText::Socket,
        FileKind::CharDevice => KindText::Char,
        FileKind::BlockDevice => KindText::Block,
    }
}

fn special_kind(kind: KindText) -> Option<FileKind> {
    match kind {
        KindText::Dir | KindText::File | KindText::Symlink => None,
        KindText::Fifo => Some(FileKind::Fifo),
        KindText::Socket => Some(FileKind::Socket),
        KindText::Char => Some(FileKind::CharDevice),
        KindText::Block => Some(FileKind::BlockDevice),
    }
}

/// Compares paths in the order of a walk.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}

/// The directory that a path is in, and the name there.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    }
}

/// Writes a manifest, line by line.
pub struct Encoder {
    hash: blake3::Hasher,
    entries: u64,
}

impl Encoder {
    /// Begins with the header.
    pub fn begin(header: &Header, out: &mut Vec<u8>) -> Self {
        let mut this = Encoder { hash: blake3::Hasher::new(), entries: 0 };
        let line = HeaderLine {
            forebay: KIND.to_owned(),
            version: VERSION,
            name: text::encode(&header.name),
            path: text::encode(&header.path),
            taken_ns: header.taken_ns,
        };
        this.line(&line, out);
        this
    }

    /// Adds an entry. The caller keeps the order.
    pub fn entry(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        self.entries += 1;
        self.line(&EntryLine::of(entry), out);
    }

    /// Ends it.
    pub fn end(mut self, out: &mut Vec<u8>) -> End {
        let end = End { entries: self.entries, digest: *self.hash.finalize().as_bytes() };
        let blake3 = blake3::Hash::from_bytes(end.digest).to_hex().to_string();
        self.line(&EndLine { entries: end.entries, blake3 }, out);
        end
    }

    fn line(&mut self, line: &impl Serialize, out: &mut Vec<u8>) {
        let from = out.len();
        serde_json::to_writer(&mut *out, line).expect("plain structs serialise into memory");
        out.push(b'\n');
        self.hash.update(&out[from..]);
    }
}

/// Reads a manifest as its bytes come. What it gave is of a whole one only once [`Decoder::end`] says so.
pub struct Decoder {
    hash: blake3::Hasher,
    /// The line that has not ended yet.
    rest: Vec<u8>,
    lines: u64,
    entries: u64,
    header: Option<Header>,
    end: Option<End>,
    last: Option<Vec<u8>>,
    /// The directories that the last entry is in, or is.
    open: Vec<Vec<u8>>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// At the first byte.
    pub fn new() -> Self {
        Decoder {
            hash: blake3::Hasher::new(),
            rest: Vec::new(),
            lines: 0,
            entries: 0,
            header: None,
            end: None,
            last: None,
            open: Vec::new(),
        }
    }

    /// The header, once it came.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Takes the next bytes; the entries that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Entry>, ManifestError> {
        let mut entries = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.rest.len() + piece.len() > LONGEST_LINE {
                return Err(self.wrong("it is too long"));
            }
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                entries.extend(self.line(&line)?);
            }
        }
        Ok(entries)
    }

    /// Nothing more comes.
    pub fn end(self) -> Result<End, ManifestError> {
        match self.end {
            _ if self.header.is_none() => Err(ManifestError::Foreign),
            Some(end) if self.rest.is_empty() => Ok(end),
            Some(_) => Err(ManifestError::Mixed),
            None => Err(ManifestError::Cut(self.lines)),
        }
    }

    fn wrong(&self, why: impl Into<String>) -> ManifestError {
        match self.header {
            None => ManifestError::Foreign,
            Some(_) => ManifestError::Line { line: self.lines + 1, why: why.into() },
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Entry>, ManifestError> {
        if self.end.is_some() {
            return Err(ManifestError::Mixed);
        }
        if line.starts_with(END_BEGINS) {
            self.end = Some(self.read_end(line)?);
            return Ok(None);
        }
        let entry = match self.header {
            None => {
                self.header = Some(read_header(line)?);
                None
            }
            Some(_) => Some(self.read_entry(line)?),
        };
        self.hash.update(line);
        self.lines += 1;
        Ok(entry)
    }

    fn read_end(&self, line: &[u8]) -> Result<End, ManifestError> {
        let end: EndLine = serde_json::from_slice(line).map_err(|error| self.wrong(error.to_string()))?;
        let digest = blake3::Hash::from_hex(&end.blake3).map_err(|_| self.wrong("the digest is none"))?;
        if self.entries == 0 || end.entries != self.entries || digest != self.hash.finalize() {
            return Err(ManifestError::Mixed);
        }
        Ok(End { entries: end.entries, digest: *digest.as_bytes() })
    }

    fn read_entry(&mut self, line: &[u8]) -> Result<Entry, ManifestError> {
        let read: EntryLine = serde_json::from_slice(line).map_err(|error| self.wrong(error.to_string()))?;
        let entry = read.entry().map_err(|why| self.wrong(why))?;
        self.check_place(&entry).map_err(|why| self.wrong(why))?;
        if entry.node == Node::Directory {
            self.open.push(entry.path.clone());
        }
        self.last = Some(entry.path.clone());
        self.entries += 1;
        Ok(entry)
    }

    /// Invariant 1.
    fn check_place(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let Some(last) = &self.last else {
            let is_root = entry.path.is_empty() && entry.node == Node::Directory;
            return is_root.then_some(()).ok_or("the first entry is not the snapshot's directory");
        };
        if compare(last, &entry.path) != Ordering::Less {
            return Err("it does not come after the line before it");
        }
        let (parent, name) = split(&entry.path);
        if !key::is_name(name) || name == b"." || name == b".." {
            return Err("a name that is none");
        }
        while self.open.pop_if(|open| open.as_slice() != parent).is_some() {}
        if self.open.is_empty() { Err("the directory that it is in is missing") } else { Ok(()) }
    }
}

fn read_header(line: &[u8]) -> Result<Header, ManifestError> {
    // What a newer version says beside this is its own matter.
    let read: HeaderLine = serde_json::from_slice(line).map_err(|_| ManifestError::Foreign)?;
    match (read.forebay.as_str(), read.version) {
        (KIND, VERSION) => {}
        (KIND, other) => return Err(ManifestError::Version(other)),
        _ => return Err(ManifestError::Foreign),
    }
    Ok(Header { name: text::decode(&read.name), path: text::decode(&read.path), taken_ns: read.taken_ns })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
