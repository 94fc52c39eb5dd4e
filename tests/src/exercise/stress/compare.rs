//! Compares a whole subtree with its model: names, kinds, modes, sizes, link counts, times that were set, extended
//! attributes, targets and contents; and that names of one file are names of one inode.

use super::model::{Kind, NodeId, ROOT, Tree};
use super::system;
use crate::exercise::content;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What differs first, in words.
pub fn whole(root: &Path, tree: &Tree) -> Result<(), String> {
    let mut comparison = Comparison { tree, inodes: BTreeMap::new() };
    comparison.node(root, ROOT)
}

struct Comparison<'a> {
    tree: &'a Tree,
    /// Which node an inode number turned out to be.
    inodes: BTreeMap<u64, NodeId>,
}

impl Comparison<'_> {
    fn node(&mut self, path: &Path, id: NodeId) -> Result<(), String> {
        let node = &self.tree.nodes()[&id];
        let said = |error: Errno| format!("{}: {error}", path.display());
        let expected = self.tree.attributes(id);
        let (found, inode) = system::stat(path).map_err(said)?;
        if !expected.allow(&found) {
            return Err(format!("{}: expected {expected:?}, found {found:?}", path.display()));
        }
        if *self.inodes.entry(inode).or_insert(id) != id {
            return Err(format!("{}: inode {inode} is also that of another file", path.display()));
        }
        self.xattrs(path, &node.xattrs)?;
        match &node.kind {
            Kind::File(expected) => same_bytes(path, expected, &std::fs::read(path).map_err(|error| error.to_string())?),
            Kind::Symlink(target) => {
                let found = rustix::fs::readlink(path, Vec::new()).map_err(said)?;
                same_bytes(path, target.as_bytes(), found.as_bytes())
            }
            Kind::Directory(entries, _) => self.directory(path, entries),
        }
    }

    fn directory(&mut self, path: &Path, entries: &BTreeMap<String, NodeId>) -> Result<(), String> {
        let listed = system::list(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let expected: BTreeMap<_, _> =
            entries.iter().map(|(name, id)| (name.clone(), self.tree.nodes()[id].entry_kind())).collect();
        if listed != expected {
            return Err(format!("{}: expected the entries {expected:?}, listed {listed:?}", path.display()));
        }
        entries.iter().try_for_each(|(name, id)| self.node(&path.join(name), *id))
    }

    fn xattrs(&self, path: &Path, expected: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
        let names = match system::xattr_names(path) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if expected.is_empty() => return Ok(()),
            names => names.map_err(|error| format!("{}: listxattr: {error}", path.display()))?,
        };
        if names != expected.keys().cloned().collect::<BTreeSet<_>>() {
            return Err(format!("{}: expected the attributes {:?}, listed {names:?}", path.display(), expected.keys()));
        }
        expected.iter().try_for_each(|(name, value)| {
            let found = system::xattr(path, name).map_err(|error| format!("{}: {name}: {error}", path.display()))?;
            same_bytes(path, value, &found).map_err(|what| format!("{name}: {what}"))
        })
    }
}

fn same_bytes(path: &Path, expected: &[u8], found: &[u8]) -> Result<(), String> {
    match content::difference(expected, found) {
        None => Ok(()),
        Some(wrong) => Err(format!("{}: {}", path.display(), content::describe(wrong, 0, expected, found))),
    }
}
