//! Which names that one tree lost and the other gained belong together.

use super::side::{Entry, Side};
use crate::ids::Ino;
use crate::meta::{FileKind, MetaError};
use std::collections::{BTreeMap, HashMap};

/// Names that differ, each in one place.
#[derive(Default)]
pub(super) struct Names {
    /// One inode under another name.
    pub renamed: Vec<(Entry, Entry)>,
    /// Another inode of the same kind under one name.
    pub replaced: Vec<(Entry, Entry)>,
    pub removed: Vec<Entry>,
    pub added: Vec<Entry>,
}

/// Matches names: first by inode, then by place.
pub(super) fn match_names(
    lost: Vec<Entry>,
    gained: Vec<Entry>,
    from: &mut Side<'_>,
    to: &mut Side<'_>,
) -> Result<Names, MetaError> {
    let (lost, gained) = (by_path(lost, from)?, by_path(gained, to)?);
    let mut names = Names::default();
    let gained = match_inodes(lost, gained, &mut names);
    match_places(gained, &mut names);
    Ok(names)
}

/// In the order of the paths: a directory comes before what is below it.
fn by_path(entries: Vec<Entry>, side: &mut Side<'_>) -> Result<Vec<Entry>, MetaError> {
    let mut keyed = entries.into_iter().map(|entry| Ok((side.path(&entry)?, entry))).collect::<Result<Vec<_>, MetaError>>()?;
    keyed.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(keyed.into_iter().map(|(_, entry)| entry).collect())
}

/// Renamings; of a file with several names as many as it lost and gained. Leaves what was lost in `removed`, and gives what was gained.
fn match_inodes(lost: Vec<Entry>, gained: Vec<Entry>, names: &mut Names) -> Vec<Entry> {
    let mut by_inode: BTreeMap<Ino, std::collections::VecDeque<Entry>> = BTreeMap::new();
    for entry in lost {
        by_inode.entry(entry.ino).or_default().push_back(entry);
    }
    let mut rest = Vec::new();
    for entry in gained {
        match by_inode.get_mut(&entry.ino).and_then(std::collections::VecDeque::pop_front) {
            Some(was) => names.renamed.push((was, entry)),
            None => rest.push(entry),
        }
    }
    names.removed = by_inode.into_values().flatten().collect();
    rest
}

/// What is in the place of something that is gone: under the same name, in the same directory or in one that is in its place.
fn match_places(gained: Vec<Entry>, names: &mut Names) {
    let removed = std::mem::take(&mut names.removed);
    let mut by_place: HashMap<(Ino, Vec<u8>), Entry> =
        removed.into_iter().map(|entry| ((entry.parent, entry.name.clone()), entry)).collect();
    // Directories that are in the place of others.
    let mut instead_of: HashMap<Ino, Ino> = HashMap::new();
    for entry in gained {
        let parent = instead_of.get(&entry.parent).copied().unwrap_or(entry.parent);
        let place = (parent, entry.name.clone());
        match by_place.remove(&place) {
            Some(was) if was.kind == entry.kind => {
                if entry.kind == FileKind::Directory {
                    instead_of.insert(entry.ino, was.ino);
                }
                names.replaced.push((was, entry));
            }
            was => {
                names.removed.extend(was);
                names.added.push(entry);
            }
        }
    }
    names.removed.extend(by_place.into_values());
}
