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

/// What merging changed in one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The changes of names.
    pub changes: Vec<Change>,
    /// Files listed, new or not, whose objects' metadata is not known.
    pub unread: Vec<Ino>,
    /// Whether a directory that the store no longer has stays, being too large to be looked through in one transaction.
    pub is_partial: bool,
}
