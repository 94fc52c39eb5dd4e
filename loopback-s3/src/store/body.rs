//! What an object's bytes are: memory, a piece of a spill file, a generator, or several of these in a row.
//!
//! A [`Body`] is immutable and cheap to clone and slice; nothing is copied by multipart completion or CopyObject.

use super::spill::SpillFile;
use super::synthetic::Texture;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// The content of one object version.
#[derive(Clone, Debug)]
pub enum Body {
    /// Bytes in memory.
    Stored(Bytes),
    /// A piece of a file in the server's spill directory.
    File {
        /// The file; removed from disk with its last reference.
        file: Arc<SpillFile>,
        /// Where the piece begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// Generated while it is read: costs no memory, the same bytes every time.
    Synthetic {
        /// What the content is derived from.
        seed: u64,
        /// Where in the endless stream of that seed the piece begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// What the bytes look like.
        texture: Texture,
    },
    /// The parts of a multipart upload, in order.
    Joined {
        /// The parts.
        parts: Arc<[Body]>,
        /// The sum of their lengths in bytes.
        len: u64,
    },
}

impl Body {
    /// Several bodies as one.
    pub(crate) fn join(parts: Vec<Body>) -> Body {
        let len = parts.iter().map(Body::len).sum();
        Body::Joined { parts: parts.into(), len }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Body::Stored(bytes) => bytes.len() as u64,
            Body::File { len, .. } | Body::Synthetic { len, .. } | Body::Joined { len, .. } => *len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The leaves (no `Joined`) that make up `range`, in order. Panics if `range` goes past the end.
    pub(crate) fn leaves(&self, range: Range<u64>) -> Vec<Body> {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} is not within 0..{}", self.len());
        let mut leaves = Vec::new();
        self.push_leaves(range, &mut leaves);
        leaves
    }

    fn push_leaves(&self, range: Range<u64>, out: &mut Vec<Body>) {
        if range.is_empty() {
            return;
        }
        let Body::Joined { parts, .. } = self else {
            out.push(self.cut(range));
            return;
        };
        let mut start = 0;
        for part in parts.iter() {
            let end = start + part.len();
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                part.push_leaves(from - start..to - start, out);
            }
            start = end;
        }
    }

    /// A piece of a body, sharing its bytes.
    pub(crate) fn slice(&self, range: Range<u64>) -> Body {
        let mut leaves = self.leaves(range);
        match leaves.len() {
            0 => Body::Stored(Bytes::new()),
            1 => leaves.remove(0),
            _ => Body::join(leaves),
        }
    }

    fn cut(&self, range: Range<u64>) -> Body {
        let len = range.end - range.start;
        match self {
            Body::Stored(bytes) => Body::Stored(bytes.slice(range.start as usize..range.end as usize)),
            Body::File { file, offset, .. } => Body::File { file: file.clone(), offset: offset + range.start, len },
            Body::Synthetic { seed, offset, texture, .. } => {
                Body::Synthetic { seed: *seed, offset: offset + range.start, len, texture: *texture }
            }
            Body::Joined { .. } => unreachable!("leaves() takes joined bodies apart"),
        }
    }

    /// The whole content, read at once. For tests and small objects.
    pub fn to_bytes(&self) -> std::io::Result<Bytes> {
        let leaves = self.leaves(0..self.len());
        if let [Body::Stored(bytes)] = leaves.as_slice() {
            return Ok(bytes.clone());
        }
        let mut all = vec![0; self.len() as usize];
        let mut at = 0;
        for leaf in leaves {
            let piece = &mut all[at..at + leaf.len() as usize];
            match &leaf {
                Body::Stored(bytes) => piece.copy_from_slice(bytes),
                Body::File { file, offset, .. } => file.read_exact_at(piece, *offset)?,
                Body::Synthetic { seed, offset, texture, .. } => texture.fill(*seed, *offset, piece),
                Body::Joined { .. } => unreachable!("leaves() takes joined bodies apart"),
            }
            at += piece.len();
        }
        Ok(all.into())
    }
}
