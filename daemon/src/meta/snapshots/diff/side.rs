//! One of the two trees that are compared: its rows, and where things are in it.

use crate::format::rows::{Dirent, InodeRow, Link, key};
use crate::ids::{Epoch, Ino};
use crate::meta::dir::{lookup, read_dirents, whole_directory};
use crate::meta::engine::{KeyRange, Table, View};
use crate::meta::inode::read_inode;
use crate::meta::rows::Reading;
use crate::meta::{FileKind, MetaError};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;

/// A name in a tree, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub parent: Ino,
    pub name: Vec<u8>,
    pub ino: Ino,
    pub kind: FileKind,
}

impl Entry {
    fn new(parent: Ino, name: &[u8], dirent: Dirent) -> Self {
        Entry { parent, name: name.to_vec(), ino: dirent.ino, kind: dirent.kind }
    }
}

/// A tree at the end of an epoch, below a directory.
pub(super) struct Side<'v> {
    pub reading: Reading<'v>,
    root: Ino,
    /// Paths below the root, each with a slash behind it; `None` of directories that are not below it. Those that led to a change are remembered.
    paths: HashMap<Ino, Option<Rc<[u8]>>>,
}

impl<'v> Side<'v> {
    pub fn new(view: &'v dyn View, epoch: Epoch, root: Ino) -> Self {
        Side { reading: Reading { view: Box::new(view), epoch }, root, paths: HashMap::new() }
    }

    /// Whether the root is in the tree at all.
    pub fn is_rooted(&self) -> Result<bool, MetaError> {
        let mut at = self.root;
        while at != Ino::ROOT {
            match self.own_name(at)? {
                Some(link) => at = link.parent,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    pub fn inode(&self, ino: Ino) -> Result<Option<InodeRow>, MetaError> {
        read_inode(&self.reading, ino)
    }

    /// What a name stands for.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>, MetaError> {
        Ok(lookup(&self.reading, parent, name)?.map(|dirent| Entry::new(parent, name, dirent)))
    }

    /// All names in a directory.
    pub fn entries(&self, dir: Ino) -> Result<Vec<Entry>, MetaError> {
        let all = read_dirents(&self.reading, &whole_directory(dir), usize::MAX)?;
        Ok(all.into_iter().map(|(name, dirent)| Entry::new(dir, &name, dirent)).collect())
    }

    /// Whether a directory is the root or below it.
    pub fn has_directory(&mut self, dir: Ino) -> Result<bool, MetaError> {
        Ok(self.directory(dir)?.is_some())
    }

    /// The path of a name below the root.
    pub fn path(&mut self, entry: &Entry) -> Result<Vec<u8>, MetaError> {
        let parent = self.directory(entry.parent)?.unwrap_or_default();
        Ok([&*parent, &entry.name].concat())
    }

    /// The names of an inode below the root.
    pub fn names(&mut self, ino: Ino) -> Result<Vec<Entry>, MetaError> {
        let Some(row) = self.inode(ino)? else { return Ok(Vec::new()) };
        let mut links: Vec<Link> = row.link.into_iter().collect();
        if row.kind != FileKind::Directory && row.nlink > 1 {
            self.reading.scan(Table::Links, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, _| {
                links.extend(key::split_further_name(prefix).map(|(parent, name)| Link { parent, name: name.to_vec() }));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        let mut found = Vec::with_capacity(links.len());
        for link in links {
            // What a listing took a name from still says that it has it.
            let entry = self.lookup(link.parent, &link.name)?.filter(|entry| entry.ino == ino);
            if entry.is_some() && self.has_directory(link.parent)? {
                found.extend(entry);
            }
        }
        Ok(found)
    }

    /// The path of a directory below the root, with a slash behind it (none of the root itself); `None` if it is not there.
    fn directory(&mut self, dir: Ino) -> Result<Option<Rc<[u8]>>, MetaError> {
        let (mut chain, mut at) = (Vec::new(), dir);
        let mut path: Option<Rc<[u8]>> = loop {
            if at == self.root {
                break Some(Rc::default());
            }
            if let Some(known) = self.paths.get(&at) {
                break known.clone();
            }
            let link = self.own_name(at)?;
            let Some(Link { parent, name }) = link else {
                chain.push((at, Vec::new()));
                break None;
            };
            chain.push((at, name));
            at = parent;
        };
        while let Some((dir, name)) = chain.pop() {
            path = path.map(|above| [&*above, &name, b"/"].concat().into());
            self.paths.insert(dir, path.clone());
        }
        Ok(path)
    }

    /// The name of a directory, if it still has it.
    fn own_name(&self, dir: Ino) -> Result<Option<Link>, MetaError> {
        let Some(link) = self.inode(dir)?.and_then(|row| row.link) else { return Ok(None) };
        let has_it = self.lookup(link.parent, &link.name)?.is_some_and(|entry| entry.ino == dir);
        Ok(Some(link).filter(|_| has_it))
    }
}
