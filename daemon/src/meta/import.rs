//! What merging many directories of a listing at once takes and gives.

use super::{Change, ListedEntry, ListingState};
use crate::ids::Ino;

/// Names from the first (inclusive) to the second (exclusive), and all that the store has between them, sorted.
pub type ListedSegment<'a> = ((Option<Vec<u8>>, Option<Vec<u8>>), &'a [ListedEntry]);

/// What a listing said of one directory.
#[derive(Clone, Debug)]
pub struct ListedPart<'a> {
    /// The directory.
    pub parent: Ino,
    /// Disjoint intervals of its names, ascending.
    pub segments: Vec<ListedSegment<'a>>,
    /// When the store was asked, ns since the Unix epoch: about what was exported since it says nothing.
    pub asked_ns: i64,
    /// Its new state, if this changes it.
    pub state: Option<&'a ListingState>,
}

/// What becomes of a name that came from the store and that the store no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It goes, as in a listing.
    Remove,
    /// It stays until somebody lists its directory.
    Keep,
}

/// Which changes of the store are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Names that are not here.
    pub new: bool,
    /// Names that stand for another version, or another kind of thing.
    pub changed: bool,
    /// Names that the store no longer has.
    pub deleted: bool,
}

impl Accept {
    /// All of them, as in a listing.
    pub const ALL: Accept = Accept { new: true, changed: true, deleted: true };

    /// Whether these are all changes there are: then a directory is as the store has it once they are taken over.
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }
}

impl From<Missing> for Accept {
    fn from(missing: Missing) -> Self {
        Accept { deleted: missing == Missing::Remove, ..Accept::ALL }
    }
}

/// What the store did to an object whose file was changed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// It has another version there, or something where something else was made here.
    Changed,
    /// It has it no longer.
    Deleted,
}

/// A name that both sides changed: neither is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The name.
    pub name: Vec<u8>,
    /// What has it here.
    pub ino: Ino,
    /// What the store did.
    pub kind: ConflictKind,
}

/// What merging changed in one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The changes of names.
    pub changes: Vec<Change>,
    /// Files listed, new or not, whose objects' metadata is not known.
    pub unread: Vec<Ino>,
    /// Whether a directory that the store no longer has stays, being too large to be looked through in one transaction.
    pub is_partial: bool,
    /// Names that were changed on both sides and stay as they are here.
    pub conflicts: Vec<Conflict>,
    /// Directories that the store no longer has and that stay, since something below them exists only here.
    pub bereft: Vec<Ino>,
}
