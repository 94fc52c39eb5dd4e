//! The digest of a tree: one number for names, modes and contents, the same wherever the tree is.
//!
//! ```text
//! file       BLAKE3 of its bytes, as `b3sum` prints it
//! symlink    BLAKE3 of its target
//! device     BLAKE3 of major:be32 minor:be32
//! fifo, socket   BLAKE3 of nothing
//! directory  BLAKE3 of "forebay tree 1\n", then of each entry, in byte order of the names
//! entry      type:1 mode:be16 length:be16 name digest:32
//! ```
//! The type is a letter: `f`ile, `d`irectory, sym`l`ink, fi`p`o, `s`ocket, `c`haracter device, `b`lock device. The mode is the twelve permission bits; of a symlink,
//! which has none, 0o777. Not in it: owners, times, extended attributes, which names are links of one file, and of the top directory its own name and mode.

use super::rows::FileKind;
use std::fmt;
use std::str::FromStr;

const TREE: &[u8] = b"forebay tree 1\n";
const PREFIX: &str = "b3:";
const SYMLINK_MODE: u16 = 0o777;
const MODE_BITS: u16 = 0o7777;

/// A digest: of a tree, or of something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// Text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 'b3:' and 64 hexadecimal digits")]
pub struct NoDigest;

impl Digest {
    /// Of bytes: a small file, or the target of a symlink.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// Of a device, by its numbers.
    pub fn of_device(major: u32, minor: u32) -> Self {
        Self::of(&[major.to_be_bytes(), minor.to_be_bytes()].concat())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", blake3::Hash::from_bytes(self.0))
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let hex = text.strip_prefix(PREFIX).ok_or(NoDigest)?;
        blake3::Hash::from_hex(hex).map(|hash| Digest(*hash.as_bytes())).map_err(|_| NoDigest)
    }
}

/// The digest of a file, from its bytes in their order.
#[derive(Default)]
pub struct FileHasher(blake3::Hasher);

impl FileHasher {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of what there was.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// The digest of a directory, from its entries in their order.
pub struct DirectoryHasher {
    hasher: blake3::Hasher,
    last: Vec<u8>,
}

impl Default for DirectoryHasher {
    fn default() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TREE);
        DirectoryHasher { hasher, last: Vec::new() }
    }
}

impl DirectoryHasher {
    /// The next entry. Names come in byte order, and have at most 65,535 bytes.
    pub fn entry(&mut self, kind: FileKind, mode: u16, name: &[u8], digest: &Digest) {
        assert!(self.last.as_slice() < name, "entries are hashed in byte order of their names");
        let mode = if kind == FileKind::Symlink { SYMLINK_MODE } else { mode & MODE_BITS };
        let length = u16::try_from(name.len()).expect("a name has at most 65,535 bytes");
        self.hasher.update(&[letter(kind)]).update(&mode.to_be_bytes());
        self.hasher.update(&length.to_be_bytes()).update(name).update(&digest.0);
        self.last = name.to_vec();
    }

    /// The digest of what there was.
    pub fn finish(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}

fn letter(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => b'f',
        FileKind::Directory => b'd',
        FileKind::Symlink => b'l',
        FileKind::Fifo => b'p',
        FileKind::Socket => b's',
        FileKind::CharDevice => b'c',
        FileKind::BlockDevice => b'b',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_file_is_what_b3sum_prints() {
        // From the test vectors of BLAKE3 (`input_len` 0 and 1), and `printf abc | b3sum`.
        for (bytes, hex) in [
            (&b""[..], "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (&[0], "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
            (b"abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
        ] {
            assert_eq!(Digest::of(bytes).to_string(), format!("b3:{hex}"));
            let mut hasher = FileHasher::default();
            bytes.iter().for_each(|byte| hasher.update(&[*byte]));
            assert_eq!(hasher.finish(), Digest::of(bytes), "however it is cut into pieces");
        }
    }

    #[test]
    fn the_bytes_of_a_directory() {
        let (file, link) = (Digest::of(b"content"), Digest::of(b"target"));
        let mut hasher = DirectoryHasher::default();
        hasher.entry(FileKind::File, 0o100_644, b"a", &file);
        hasher.entry(FileKind::Symlink, 0o600, b"link", &link);
        let mut bytes = b"forebay tree 1\nf\x01\xa4\x00\x01a".to_vec();
        bytes.extend(file.0);
        bytes.extend(b"l\x01\xff\x00\x04link");
        bytes.extend(link.0);
        assert_eq!(hasher.finish(), Digest::of(&bytes));
        assert_ne!(DirectoryHasher::default().finish(), Digest::of(b""), "an empty directory is no empty file");
    }

    #[test]
    fn names_modes_kinds_and_contents_count() {
        let digest = |kind, mode, name: &[u8], content: &[u8]| {
            let mut hasher = DirectoryHasher::default();
            hasher.entry(kind, mode, name, &Digest::of(content));
            hasher.finish()
        };
        let one = digest(FileKind::File, 0o644, b"a", b"x");
        assert_eq!(one, digest(FileKind::File, 0o644, b"a", b"x"));
        for other in [
            digest(FileKind::Fifo, 0o644, b"a", b"x"),
            digest(FileKind::File, 0o4644, b"a", b"x"),
            digest(FileKind::File, 0o644, b"b", b"x"),
            digest(FileKind::File, 0o644, b"a", b"y"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn text_is_a_digest_or_refused() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for text in ["", "b3:", "b3:12", &digest.to_string()[3..], &format!("{digest}0"), "sha256:00"] {
            assert_eq!(text.parse::<Digest>(), Err(NoDigest), "{text}");
        }
    }

    #[test]
    #[should_panic(expected = "byte order")]
    fn entries_out_of_order_are_a_mistake() {
        let mut hasher = DirectoryHasher::default();
        hasher.entry(FileKind::File, 0, b"b", &Digest::of(b""));
        hasher.entry(FileKind::File, 0, b"a", &Digest::of(b""));
    }
}
