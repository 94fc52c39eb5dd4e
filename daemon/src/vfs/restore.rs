//! Rolling a directory back to a snapshot of it.
//!
//! What was changed since is found in the log of rows written over, so the cost follows the changes. Names go back to where they were; what was removed, and files whose
//! content is another now, come back as inodes of their own that share the snapshot's blocks; so whoever has a file open goes on with what it has open.
//! Whatever is in the directory now and was not then is removed, as `rm -r` would.
//!
//! Each step leaves a tree that is right. A restore that was interrupted is gone on with by the same command: what is as it was is passed over.

use super::frozen::must_be_now;
use super::listing::Goal;
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Epoch, Ino};
use crate::meta::{Dirent, FileKind, Inode, Link, RenameMode, SnapshotRow};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What the names of things that are on their way begin with.
const ON_THE_WAY: &str = ".forebay-restore-";

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Names that have again what they had.
    pub names: u64,
    /// Names removed, directories with all that is below them counted as one.
    pub removed: u64,
    /// Files whose content was another.
    pub contents: u64,
    /// Inodes whose attributes were others.
    pub attributes: u64,
}

impl Vfs {
    /// Rolls the directory that a snapshot is of back to it.
    ///
    /// # Errors
    /// `NotFound` without such a snapshot, and if the directory itself was removed.
    pub async fn restore_snapshot(&self, name: &[u8]) -> Result<Restored> {
        self.0.restore_snapshot(name).await
    }
}

impl Inner {
    async fn restore_snapshot(self: &Arc<Self>, name: &[u8]) -> Result<Restored> {
        let snapshot = self.snapshot_named(name)?;
        let row = self.meta.inode(snapshot.root).map_err(metadata_error)?;
        if row.is_none_or(|row| row.link.is_none() && snapshot.root != Ino::ROOT) {
            let path = String::from_utf8_lossy(&snapshot.path);
            let message = format!("'/{path}' was removed since: 'forebay snapshot clone' makes a copy of what was in it");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        // What was written and not recorded yet is a change as well.
        let (done, outcome) = futures::channel::oneshot::channel();
        self.cache.at_standstill(Box::new(move |recorded| drop(done.send(recorded))));
        let stopping = || Error::new(ErrorKind::ShuttingDown, "the file system is shutting down");
        outcome.await.map_err(|_| stopping())??;
        self.finish_clones().await?;
        let (inner, name) = (Arc::clone(self), name.to_vec());
        let restored = self.runtime.spawn_blocking(move || Restore::new(&inner, &name, &snapshot).run()).await;
        restored.map_err(|_| stopping())?
    }
}

/// A restore under way.
struct Restore<'a> {
    inner: &'a Arc<Inner>,
    name: &'a [u8],
    epoch: Epoch,
    root: Ino,
    /// How deep below the root a directory was then; `None`: it was not below it.
    depths: HashMap<Ino, Option<u32>>,
    restored: Restored,
}

impl<'a> Restore<'a> {
    fn new(inner: &'a Arc<Inner>, name: &'a [u8], snapshot: &SnapshotRow) -> Self {
        let (epoch, root) = (snapshot.epoch, snapshot.root);
        Restore { inner, name, epoch, root, depths: HashMap::new(), restored: Restored::default() }
    }

    fn run(mut self) -> Result<Restored> {
        let since = self.inner.meta.changed_since(self.epoch).map_err(metadata_error)?;
        let mut places = BTreeMap::new();
        for (dir, name) in since.names {
            // Directories first, so that what belongs into them finds them where they were.
            if let Some(depth) = self.depth_then(dir)? {
                places.insert((depth, dir, name), ());
            }
        }
        let places: Vec<(Ino, Vec<u8>)> = places.into_keys().map(|(_, dir, name)| (dir, name)).collect();
        let mut touched: BTreeSet<Ino> = since.inodes.into_iter().filter(|ino| !ino.is_frozen()).collect();
        for (dir, name) in &places {
            if self.is_in_place(*dir)? {
                self.put_back((*dir, *dir), name)?;
            }
        }
        for (dir, name) in &places {
            if self.is_in_place(*dir)? && self.entry_then(*dir, name)?.is_none() {
                self.clear(*dir, name)?;
            }
        }
        self.remove_left()?;
        touched.extend(places.iter().map(|(dir, _)| *dir));
        for ino in &touched {
            self.restore_content(*ino)?;
        }
        // Last, since what was done before changes the times of directories.
        for ino in &touched {
            self.restore_attributes(*ino)?;
        }
        self.inner.directories.forget_all();
        self.inner.invalidator.settle();
        tracing::info!(name = %String::from_utf8_lossy(self.name), restored = ?self.restored, "restored a snapshot");
        Ok(self.restored)
    }

    fn now_ns(&self) -> i64 {
        self.inner.clock.wall_ns()
    }

    /// An inode's row as it was.
    fn row_then(&self, ino: Ino) -> Result<Option<Inode>> {
        self.inner.meta.inode(ino.at(self.epoch)).map_err(metadata_error)
    }

    fn row_now(&self, ino: Ino) -> Result<Option<Inode>> {
        self.inner.meta.inode(ino).map_err(metadata_error)
    }

    fn depth_then(&mut self, dir: Ino) -> Result<Option<u32>> {
        if dir == self.root {
            return Ok(Some(0));
        }
        if let Some(known) = self.depths.get(&dir) {
            return Ok(*known);
        }
        let above = match self.row_then(dir)?.and_then(|row| row.link) {
            Some(link) => self.depth_then(link.parent.in_snapshot().map_or(link.parent, |(_, own)| own))?,
            None => None,
        };
        let depth = above.map(|depth| depth + 1);
        self.depths.insert(dir, depth);
        Ok(depth)
    }

    /// Whether a directory is below the root now.
    fn is_in_place(&self, mut dir: Ino) -> Result<bool> {
        loop {
            if dir == self.root {
                return Ok(true);
            }
            match self.row_now(dir)?.and_then(|row| row.link) {
                Some(link) => dir = link.parent,
                None => return Ok(false),
            }
        }
    }

    fn entry_then(&self, dir: Ino, name: &[u8]) -> Result<Option<Dirent>> {
        self.inner.meta.entry_then(self.epoch, dir, name).map_err(metadata_error)
    }

    fn entry_now(&self, dir: Ino, name: &[u8]) -> Result<Option<Dirent>> {
        self.inner.meta.lookup(dir, name).map_err(metadata_error)
    }

    /// Gives a name again what it had, in what is now and what was then the same directory.
    fn put_back(&mut self, (dir, dir_then): (Ino, Ino), name: &[u8]) -> Result<()> {
        let Some(then) = self.entry_then(dir_then, name)? else { return Ok(()) };
        if let Some(now) = self.entry_now(dir, name)? {
            if now.ino == then.ino || self.is_as_good(now, then)? {
                return Ok(());
            }
            self.make_way(dir, name, now.ino)?;
        }
        let place = self.row_now(then.ino)?.filter(|row| row.nlink > 0 && row.kind == then.kind).and_then(|row| row.link);
        match place {
            // It has another name: that was moved, or this is one of several.
            Some(link) if self.is_in_place(link.parent)? => self.move_back(then, &link, dir, name)?,
            _ => {
                let copied = self.inner.meta.copy_from_snapshot(self.name, then.ino, (dir, name), self.now_ns());
                copied.map_err(metadata_error)?;
            }
        }
        self.restored.names += 1;
        self.announce(dir, name);
        Ok(())
    }

    /// Whether something else with this name does as well: a copy that an earlier restore made, or something like it. Its attributes, and what is in it, are made to be
    /// what they were.
    fn is_as_good(&mut self, now: Dirent, then: Dirent) -> Result<bool> {
        // What is still there, under another name, is moved back.
        let link = self.row_now(then.ino)?.filter(|row| row.nlink > 0).and_then(|row| row.link);
        let is_there = link.map_or(Ok(false), |link| self.is_in_place(link.parent))?;
        if now.kind != then.kind || is_there || self.has_place(now.ino)? {
            return Ok(false);
        }
        if now.kind == FileKind::Directory {
            self.reconcile(now.ino, then.ino)?;
        } else if !self.inner.meta.has_same_content(now.ino, then.ino, self.epoch).map_err(metadata_error)? {
            return Ok(false);
        }
        self.put_back_attributes(now.ino, then.ino)?;
        Ok(true)
    }

    /// Has all that is in a directory be what was in another.
    fn reconcile(&mut self, dir: Ino, then: Ino) -> Result<()> {
        self.list(dir)?;
        let read = |ino| self.inner.meta.read_dir(ino, None, usize::MAX).map_err(metadata_error);
        let (before, after) = (read(then.at(self.epoch))?, read(dir)?);
        let had: BTreeSet<Vec<u8>> = before.into_iter().map(|(name, ..)| name).collect();
        for name in &had {
            self.put_back((dir, then), name)?;
        }
        for (name, ..) in after.into_iter().filter(|(name, ..)| !had.contains(name)) {
            self.clear(dir, &name)?;
        }
        Ok(())
    }

    fn move_back(&self, then: Dirent, from: &Link, dir: Ino, name: &[u8]) -> Result<()> {
        let has_several = then.kind != FileKind::Directory && self.row_then(then.ino)?.is_some_and(|row| row.nlink > 1);
        if has_several {
            self.inner.meta.link(then.ino, dir, name, self.now_ns()).map_err(metadata_error)?;
            return Ok(());
        }
        let (from, to) = ((from.parent, from.name.as_slice()), (dir, name));
        self.inner.rename_if(from, to, RenameMode::NoReplace, &|_| Ok(true)).map_err(metadata_error)?;
        self.announce(from.0, from.1);
        Ok(())
    }

    /// Takes a name from what has it: what has a place elsewhere is brought there later.
    fn make_way(&mut self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        if !self.has_place(ino)? {
            return self.remove(dir, name, true);
        }
        let aside = format!("{ON_THE_WAY}{}", ino.0);
        let moved = self.inner.rename_if((dir, name), (self.root, aside.as_bytes()), RenameMode::Replace, &|_| Ok(true));
        moved.map_err(metadata_error)?;
        self.announce(dir, name);
        self.announce(self.root, aside.as_bytes());
        Ok(())
    }

    /// Whether something had a place below the root then.
    fn has_place(&mut self, ino: Ino) -> Result<bool> {
        let link = self.row_then(ino)?.and_then(|row| row.link);
        let parent = link.map(|link| link.parent.in_snapshot().map_or(link.parent, |(_, own)| own));
        parent.map_or(Ok(false), |parent| Ok(self.depth_then(parent)?.is_some()))
    }

    /// Removes a name that nothing had then. What had a place elsewhere is there by now.
    fn clear(&mut self, dir: Ino, name: &[u8]) -> Result<()> {
        match self.entry_now(dir, name)? {
            Some(_) => self.remove(dir, name, false),
            None => Ok(()),
        }
    }

    fn remove(&mut self, dir: Ino, name: &[u8], spare: bool) -> Result<()> {
        self.remove_tree(dir, name, spare)?;
        self.restored.removed += 1;
        Ok(())
    }

    /// Removes a name with all below it; `spare` has directories in it that belong elsewhere wait to be brought there.
    fn remove_tree(&mut self, dir: Ino, name: &[u8], spare: bool) -> Result<()> {
        let Some(dirent) = self.entry_now(dir, name)? else { return Ok(()) };
        if dirent.kind != FileKind::Directory {
            let removed = self.inner.meta.unlink(dir, name, self.now_ns()).map_err(metadata_error)?;
            if removed.orphaned {
                self.inner.cache.unlinked(removed.ino);
            }
            self.announce(dir, name);
            return Ok(());
        }
        self.list(dirent.ino)?;
        loop {
            let page = self.inner.meta.read_dir(dirent.ino, None, 1000).map_err(metadata_error)?;
            if page.is_empty() {
                break;
            }
            for (name, ino, _) in page {
                let is_directory = self.row_then(ino)?.is_some_and(|row| row.kind == FileKind::Directory);
                match spare && is_directory && self.has_place(ino)? {
                    true => self.make_way(dirent.ino, &name, ino)?,
                    false => self.remove_tree(dirent.ino, &name, spare)?,
                }
            }
        }
        self.inner.rmdir(dir, name)?;
        self.announce(dir, name);
        Ok(())
    }

    /// What is removed is known: the bucket may have more of a directory than anybody looked at.
    fn list(&self, dir: Ino) -> Result<()> {
        if self.inner.directory_ready(dir)? {
            return Ok(());
        }
        let directory = self.inner.directory(dir)?;
        self.inner.runtime.block_on(self.inner.list(&directory, Goal::Everything))
    }

    /// Removes what was on its way and has come nowhere: what it was to go into was moved out of the root.
    fn remove_left(&mut self) -> Result<()> {
        let mut left = Vec::new();
        let mut after = Some(ON_THE_WAY.as_bytes().to_vec());
        while let Some(from) = after.take() {
            for (name, ..) in self.inner.meta.read_dir(self.root, Some(&from), 1000).map_err(metadata_error)? {
                if !name.starts_with(ON_THE_WAY.as_bytes()) {
                    break;
                }
                after = Some(name.clone());
                left.push(name);
            }
        }
        for name in left {
            if self.entry_then(self.root, &name)?.is_none() {
                self.remove_tree(self.root, &name, false)?;
            }
        }
        Ok(())
    }

    /// Has a file that is where it was, and whose content is another, be replaced by what it was.
    fn restore_content(&mut self, ino: Ino) -> Result<()> {
        let (Some(then), Some(now)) = (self.row_then(ino)?, self.row_now(ino)?) else { return Ok(()) };
        if then.kind == FileKind::Directory || now.nlink == 0 || !self.has_place(ino)? {
            return Ok(());
        }
        if self.inner.meta.has_same_content(ino, ino, self.epoch).map_err(metadata_error)? {
            return Ok(());
        }
        let own = now.link.iter().map(|link| (link.parent, link.name.clone()));
        let further = self.inner.meta.further_names(ino).map_err(metadata_error)?;
        let names: Vec<_> = own.chain(further.into_iter().map(|(link, _)| (link.parent, link.name))).collect();
        let mut copy = None;
        for (dir, name) in names {
            if !self.is_in_place(dir)? {
                continue;
            }
            let aside = format!("{ON_THE_WAY}{}", ino.0);
            let aside = aside.as_bytes();
            let made = match copy {
                None => self.inner.meta.copy_from_snapshot(self.name, ino, (self.root, aside), self.now_ns()).map(|ino| {
                    copy = Some(ino);
                }),
                Some(copy) => self.inner.meta.link(copy, self.root, aside, self.now_ns()).map(drop),
            };
            made.map_err(metadata_error)?;
            let moved = self.inner.rename_if((self.root, aside), (dir, &name), RenameMode::Replace, &|_| Ok(true));
            moved.map_err(metadata_error)?;
            self.announce(dir, &name);
        }
        self.restored.contents += 1;
        Ok(())
    }

    fn restore_attributes(&mut self, ino: Ino) -> Result<()> {
        let Some(now) = self.row_now(ino)?.filter(|row| row.nlink > 0) else { return Ok(()) };
        let is_below = match &now.link {
            Some(link) => self.is_in_place(link.parent)?,
            None => false,
        };
        if !(is_below || ino == self.root) || must_be_now(ino).is_err() {
            return Ok(());
        }
        self.put_back_attributes(ino, ino)
    }

    fn put_back_attributes(&mut self, ino: Ino, then: Ino) -> Result<()> {
        if self.inner.meta.restore_attributes(ino, then, self.epoch, self.now_ns()).map_err(metadata_error)? {
            self.restored.attributes += 1;
            self.inner.invalidator.inode(ino);
        }
        Ok(())
    }

    fn announce(&self, dir: Ino, name: &[u8]) {
        self.inner.names_changed(dir);
        self.inner.directories.forget_probe(dir, name);
        self.inner.invalidator.entry(dir, name);
        self.inner.invalidator.inode(dir);
    }
}
