//! What a subtree holds, and what every operation on it has to answer, errno by errno: the order in which Linux looks at
//! things decides which of two errors is told.

use super::operation::{Attributes, Bytes, EntryKind, Operation, Renaming, Reply, Setting};
use crate::exercise::content;
use rustix::io::Errno;
use std::collections::BTreeMap;

/// A file, directory or symbolic link, whatever names it has.
pub type NodeId = usize;

/// The subtree's own directory.
pub const ROOT: NodeId = 0;

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A file, with its content.
    File(Vec<u8>),
    /// A directory, with its entries and the directory it is in.
    Directory(BTreeMap<String, NodeId>, NodeId),
    /// A symbolic link, with its target.
    Symlink(String),
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits; of a symbolic link all.
    pub mode: u32,
    /// How many names it has, unless it is a directory.
    pub links: u64,
    /// The time it was given, unless it changed since.
    pub mtime: Option<(i64, i64)>,
    /// Extended attributes, by their whole names.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    handles: usize,
}

impl Node {
    fn new(kind: Kind, mode: u32) -> Node {
        Node { kind, mode, links: 1, mtime: None, xattrs: BTreeMap::new(), handles: 0 }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(..))
    }

    /// What it is, without what it holds.
    pub fn entry_kind(&self) -> EntryKind {
        match self.kind {
            Kind::File(_) => EntryKind::File,
            Kind::Directory(..) => EntryKind::Directory,
            Kind::Symlink(_) => EntryKind::Symlink,
        }
    }
}

type Answer = Result<Reply, Errno>;

/// A subtree.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    umask: u32,
    held: Vec<NodeId>,
}

/// Directory and last name of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Tree {
    /// An empty subtree of a process with this umask; its root's mode is 0755.
    pub fn new(umask: u32) -> Tree {
        let root = Node::new(Kind::Directory(BTreeMap::new(), ROOT), 0o755);
        Tree { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, umask, held: Vec::new() }
    }

    /// Every node.
    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    /// How many handles are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The entries of a directory, none of anything else.
    pub fn entries(&self, id: NodeId) -> Option<&BTreeMap<String, NodeId>> {
        match &self.nodes[&id].kind {
            Kind::Directory(entries, _) => Some(entries),
            _ => None,
        }
    }

    /// The path of a directory.
    pub fn path_of(&self, directory: NodeId) -> String {
        let mut path = String::new();
        let mut at = directory;
        while let Kind::Directory(_, parent) = self.nodes[&at].kind
            && at != ROOT
        {
            let name = self.entries(parent).and_then(|all| all.iter().find(|(_, id)| **id == at)).map_or("?", |(name, _)| name);
            path = if path.is_empty() { name.to_owned() } else { format!("{name}/{path}") };
            at = parent;
        }
        path
    }

    /// What a path leads to.
    pub fn find(&self, path: &str) -> Result<NodeId, Errno> {
        if path.is_empty() {
            return Ok(ROOT);
        }
        path.split('/').try_fold(ROOT, |at, name| {
            let entries = self.entries(at).ok_or(Errno::NOTDIR)?;
            entries.get(name).copied().ok_or(Errno::NOENT)
        })
    }

    /// The directory a path lies in, and what lies there.
    fn place(&self, path: &str) -> Result<(NodeId, Option<NodeId>), Errno> {
        let (directory, name) = split(path);
        let parent = self.find(directory)?;
        let entries = self.entries(parent).ok_or(Errno::NOTDIR)?;
        Ok((parent, entries.get(name).copied()))
    }

    fn vacant(&self, path: &str) -> Result<NodeId, Errno> {
        match self.place(path)? {
            (parent, None) => Ok(parent),
            _ => Err(Errno::EXIST),
        }
    }

    fn node(&mut self, id: NodeId) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&id).ok_or(Errno::BADF)
    }

    /// Every change of a directory's entries goes through here, and changes its time.
    fn put(&mut self, parent: NodeId, path: &str, id: Option<NodeId>) -> Result<(), Errno> {
        let node = self.node(parent)?;
        node.mtime = None;
        let Kind::Directory(entries, _) = &mut node.kind else { return Err(Errno::NOTDIR) };
        let name = split(path).1;
        match id {
            Some(id) => entries.insert(name.to_owned(), id),
            None => entries.remove(name),
        };
        let Some(id) = id else { return Ok(()) };
        if let Kind::Directory(_, within) = &mut self.node(id)?.kind
            && *within != parent
        {
            // Its `..` is rewritten, which some count as a change.
            *within = parent;
            self.node(id)?.mtime = None;
        }
        Ok(())
    }

    fn add(&mut self, path: &str, kind: Kind, mode: u32) -> Result<NodeId, Errno> {
        let parent = self.vacant(path)?;
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node::new(kind, mode));
        self.put(parent, path, Some(id))?;
        Ok(id)
    }

    /// A name of it is gone; it goes with the last one, unless a handle is held.
    fn lose_name(&mut self, id: NodeId) -> Result<(), Errno> {
        let node = self.node(id)?;
        node.links -= 1;
        if node.handles == 0 && (node.links == 0 || node.is_directory()) {
            self.nodes.remove(&id);
        }
        Ok(())
    }

    /// A file by its path, opened without following a symbolic link.
    fn file(&self, path: &str) -> Result<NodeId, Errno> {
        let id = self.find(path)?;
        match self.nodes[&id].kind {
            Kind::File(_) => Ok(id),
            Kind::Directory(..) => Err(Errno::ISDIR),
            Kind::Symlink(_) => Err(Errno::LOOP),
        }
    }

    fn content(&mut self, id: NodeId) -> Result<&mut Vec<u8>, Errno> {
        match &mut self.node(id)?.kind {
            Kind::File(content) => Ok(content),
            _ => Err(Errno::ISDIR),
        }
    }

    fn write(&mut self, id: NodeId, offset: u64, bytes: Bytes) -> Answer {
        let written = content::bytes(bytes.tag, offset, bytes.length);
        let content = self.content(id)?;
        let (from, to) = (offset as usize, offset as usize + written.len());
        if content.len() < to {
            content.resize(to, 0);
        }
        content[from..to].copy_from_slice(&written);
        self.node(id)?.mtime = None;
        Ok(Reply::Done)
    }

    fn truncate(&mut self, id: NodeId, size: u64) -> Answer {
        self.content(id)?.resize(size as usize, 0);
        self.node(id)?.mtime = None;
        Ok(Reply::Done)
    }

    fn read(&mut self, id: NodeId, offset: u64, length: usize) -> Answer {
        let content = self.content(id)?;
        let from = (offset as usize).min(content.len());
        let to = (from + length).min(content.len());
        Ok(Reply::Bytes(content[from..to].to_vec()))
    }

    /// What `stat` has to say.
    pub fn attributes(&self, id: NodeId) -> Attributes {
        let node = &self.nodes[&id];
        let directories = |entries: &BTreeMap<_, NodeId>| entries.values().filter(|id| self.nodes[id].is_directory()).count();
        let (size, links) = match &node.kind {
            Kind::File(content) => (content.len(), node.links),
            Kind::Symlink(target) => (target.len(), node.links),
            Kind::Directory(entries, _) => (0, 2 + directories(entries) as u64),
        };
        Attributes { kind: node.entry_kind(), mode: node.mode, links, size: size as u64, mtime: node.mtime }
    }

    fn slot(&self, slot: usize) -> Result<NodeId, Errno> {
        self.held.get(slot).copied().ok_or(Errno::BADF)
    }

    /// Does an operation, and says what it answers.
    pub fn apply(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Create { path, mode } => self.add(path, Kind::File(Vec::new()), mode & !self.umask).map(|_| Reply::Done),
            Operation::Write { path, offset, bytes } => self.write(self.file(path)?, *offset, *bytes),
            Operation::Append { path, bytes } => {
                let id = self.file(path)?;
                let end = self.content(id)?.len() as u64;
                self.write(id, end, *bytes)
            }
            Operation::Truncate { path, size } => self.truncate(self.file(path)?, *size),
            Operation::Read { path, offset, length } => self.read(self.file(path)?, *offset, *length),
            Operation::Sync { path } => self.file(path).map(|_| Reply::Done),
            Operation::Rename { from, to, renaming } => self.rename(from, to, *renaming),
            Operation::Link { from, to } => self.link(from, to),
            Operation::Symlink { target, path } => self.add(path, Kind::Symlink(target.clone()), 0o777).map(|_| Reply::Done),
            Operation::ReadLink { path } => match &self.nodes[&self.find(path)?].kind {
                Kind::Symlink(target) => Ok(Reply::Bytes(target.clone().into_bytes())),
                _ => Err(Errno::INVAL),
            },
            Operation::Unlink { path } => self.remove(path, false),
            Operation::RemoveDirectory { path } => self.remove(path, true),
            Operation::MakeDirectory { path, mode } => {
                let parent = self.vacant(path)?;
                self.add(path, Kind::Directory(BTreeMap::new(), parent), mode & !self.umask).map(|_| Reply::Done)
            }
            Operation::ChangeMode { path, mode } => {
                let id = self.find(path)?;
                self.node(id)?.mode = *mode;
                Ok(Reply::Done)
            }
            Operation::SetTime { path, seconds, nanoseconds } => {
                let id = self.find(path)?;
                self.node(id)?.mtime = Some((*seconds, *nanoseconds));
                Ok(Reply::Done)
            }
            Operation::SetXattr { path, name, bytes, setting } => self.set_xattr(path, name, *bytes, *setting),
            Operation::GetXattr { path, name } => {
                let id = self.find(path)?;
                self.nodes[&id].xattrs.get(name).cloned().map(Reply::Bytes).ok_or(Errno::NODATA)
            }
            Operation::RemoveXattr { path, name } => {
                let id = self.find(path)?;
                let node = self.node(id)?;
                let symlink = matches!(node.kind, Kind::Symlink(_));
                if symlink { Err(Errno::PERM) } else { node.xattrs.remove(name).map(|_| Reply::Done).ok_or(Errno::NODATA) }
            }
            Operation::List { path } => {
                let entries = self.entries(self.find(path)?).ok_or(Errno::NOTDIR)?;
                let kinds = entries.iter().map(|(name, id)| (name.clone(), self.nodes[id].entry_kind()));
                Ok(Reply::Entries(kinds.collect()))
            }
            Operation::Stat { path } => Ok(Reply::Attributes(self.attributes(self.find(path)?))),
            Operation::Hold { path } => {
                let id = self.file(path)?;
                self.node(id)?.handles += 1;
                self.held.push(id);
                Ok(Reply::Done)
            }
            Operation::HeldWrite { slot, offset, bytes } => self.write(self.slot(*slot)?, *offset, *bytes),
            Operation::HeldRead { slot, offset, length } => self.read(self.slot(*slot)?, *offset, *length),
            Operation::HeldTruncate { slot, size } => self.truncate(self.slot(*slot)?, *size),
            Operation::HeldStat { slot } => Ok(Reply::Attributes(self.attributes(self.slot(*slot)?))),
            Operation::Release { slot } => self.release(*slot),
        }
    }

    fn release(&mut self, slot: usize) -> Answer {
        let id = self.slot(slot)?;
        self.held.remove(slot);
        let node = self.node(id)?;
        node.handles -= 1;
        if node.handles == 0 && node.links == 0 {
            self.nodes.remove(&id);
        }
        Ok(Reply::Done)
    }

    fn remove(&mut self, path: &str, directory: bool) -> Answer {
        let (parent, found) = self.place(path)?;
        let id = found.ok_or(Errno::NOENT)?;
        match (self.entries(id), directory) {
            (None, true) => return Err(Errno::NOTDIR),
            (Some(_), false) => return Err(Errno::ISDIR),
            (Some(entries), true) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.put(parent, path, None)?;
        self.lose_name(id)?;
        Ok(Reply::Done)
    }

    fn link(&mut self, from: &str, to: &str) -> Answer {
        let id = self.find(from)?;
        let parent = self.vacant(to)?;
        if self.nodes[&id].is_directory() {
            return Err(Errno::PERM);
        }
        self.put(parent, to, Some(id))?;
        self.node(id)?.links += 1;
        Ok(Reply::Done)
    }

    /// Whether a directory is `above`, or lies somewhere below it.
    fn is_below(&self, mut directory: NodeId, above: NodeId) -> bool {
        while directory != above {
            match self.nodes[&directory].kind {
                Kind::Directory(_, parent) if directory != ROOT => directory = parent,
                _ => return false,
            }
        }
        true
    }

    fn rename(&mut self, from: &str, to: &str, renaming: Renaming) -> Answer {
        // Both directories are looked up before either name.
        let (source_parent, source) = self.place(from)?;
        let (target_parent, target) = self.place(to)?;
        let source = source.ok_or(Errno::NOENT)?;
        match (renaming, target) {
            (Renaming::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Renaming::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if self.is_below(target_parent, source) {
            return Err(Errno::INVAL);
        }
        let exchange = renaming == Renaming::Exchange;
        let Some(target) = target else {
            self.put(source_parent, from, None)?;
            return self.put(target_parent, to, Some(source)).map(|()| Reply::Done);
        };
        if self.is_below(source_parent, target) {
            return Err(if exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        if source == target {
            return Ok(Reply::Done);
        }
        if exchange {
            self.put(source_parent, from, Some(target))?;
            return self.put(target_parent, to, Some(source)).map(|()| Reply::Done);
        }
        match (self.nodes[&source].is_directory(), self.entries(target)) {
            (true, None) => return Err(Errno::NOTDIR),
            (false, Some(_)) => return Err(Errno::ISDIR),
            (true, Some(entries)) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.put(source_parent, from, None)?;
        self.put(target_parent, to, Some(source))?;
        self.lose_name(target)?;
        Ok(Reply::Done)
    }

    fn set_xattr(&mut self, path: &str, name: &str, bytes: Bytes, setting: Setting) -> Answer {
        let id = self.find(path)?;
        let node = self.node(id)?;
        if matches!(node.kind, Kind::Symlink(_)) {
            return Err(Errno::PERM);
        }
        match (setting, node.xattrs.contains_key(name)) {
            (Setting::Create, true) => return Err(Errno::EXIST),
            (Setting::Replace, false) => return Err(Errno::NODATA),
            _ => {}
        }
        node.xattrs.insert(name.to_owned(), content::bytes(bytes.tag, 0, bytes.length));
        Ok(Reply::Done)
    }
}
