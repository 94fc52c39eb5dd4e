//! Names without content, all in one directory: directories and empty files made, listed, renamed and removed. Nothing is synced, as no tool that works with
//! names does it.

use super::Directory;
use super::file::{self, Access};
use super::pages::About;
use super::small::{NAMES_STAY, deleters, each, shuffled};
use crate::error::{At, Result};
use crate::meter::{Act, Worker};
use crate::plan::Group;
use crate::row::{Recorder, RowId, State, Unit};
use std::fs::File;
use std::path::{Path, PathBuf};

/// How a name looks after it was renamed.
const RENAMED: &str = "renamed";

pub(super) fn round(dir: &mut Directory, to: &mut Recorder<'_>) -> Result<()> {
    let home = dir.subdirectory("metadata")?;
    let threads = dir.plan.threads;
    let id = |what, state| named(what, threads, state);
    let count = dir.plan.files;
    let numbered = |kind: &str| -> Vec<PathBuf> { (0..count).map(|n| home.join(format!("{kind}-{n:07}"))).collect() };

    let directories = numbered("directory");
    dir.plain_row(to, id("mkdir", State::Made), NOT_SYNCED, || {
        Ok(each(&directories, threads, |path| std::fs::create_dir(path).at("make", path)))
    })?;
    let made = shuffled(there(directories), dir.next_seed());
    dir.plain_row(to, id("rmdir", State::Made), NOT_SYNCED, || {
        Ok(each(&made, threads, |path| std::fs::remove_dir(path).at("remove", path)))
    })?;

    let files = numbered("file");
    dir.plain_row(to, id("create empty", State::Made), NOT_SYNCED, || {
        Ok(each(&files, threads, |path| File::create_new(path).at("create", path).map(drop)))
    })?;
    let files = shuffled(there(files), dir.next_seed());
    listings(dir, to, &home)?;
    dir.plain_row(to, id("rename", State::Made), NOT_SYNCED, || {
        Ok(each(&files, threads, |path| std::fs::rename(path, path.with_extension(RENAMED)).at("rename", path)))
    })?;
    // A file system that renames nothing has them under their old names, all or some.
    let renamed = files.iter().map(|path| path.with_extension(RENAMED));
    let left = there(files.iter().cloned().chain(renamed).collect());
    dir.plain_row(to, id("unlink", State::Made), NOT_SYNCED, || Ok(deleters(&left, threads)))?;
    file::remove_directory(&home)
}

const NOT_SYNCED: &str = "not synced";

fn named(what: &'static str, threads: usize, state: State) -> RowId {
    RowId { group: Group::Metadata, what, block_bytes: None, threads, state, unit: Unit::Names }
}

fn there(names: Vec<PathBuf>) -> Vec<PathBuf> {
    names.into_iter().filter(|name| name.symlink_metadata().is_ok()).collect()
}

/// The names of a large directory, and with their attributes; one reader.
fn listings(dir: &Directory, to: &mut Recorder<'_>, home: &Path) -> Result<()> {
    for (what, attributes) in [("readdir", false), ("readdir and stat each (ls -l)", true)] {
        let id = |state| named(what, 1, state);
        let lister = |again| Ok(vec![Lister { home: home.to_owned(), attributes, again, is_done: false }]);
        if dir.pages.drops_names() {
            let itself = [home.to_owned()];
            dir.device_row(to, id(State::Device), About::names(&itself), Access::Buffered, || lister(false))?;
        } else {
            to.skip(id(State::Device), NAMES_STAY);
        }
        dir.plain_row(to, id(State::Memory), "names known to the kernel", || {
            let mut first = lister(false)?;
            first.iter_mut().try_for_each(|lister| lister.act().map(drop))?;
            lister(true)
        })?;
    }
    Ok(())
}

/// One operation is a whole listing: a name of it alone is no request.
struct Lister {
    home: PathBuf,
    attributes: bool,
    again: bool,
    is_done: bool,
}

impl Worker for Lister {
    fn ready(&mut self) -> Result<bool> {
        Ok(self.again || !self.is_done)
    }

    fn act(&mut self) -> Result<Act> {
        self.is_done = true;
        let mut act = Act::default();
        for entry in std::fs::read_dir(&self.home).at("list", &self.home)? {
            let entry = entry.at("list", &self.home)?;
            if self.attributes {
                entry.metadata().at("look at", &entry.path())?;
            }
            act.count += 1;
        }
        Ok(act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_counts_names() {
        let dir = tempfile::tempdir().expect("a directory");
        (0..5).for_each(|n| std::fs::write(dir.path().join(n.to_string()), "").expect("writes"));
        let mut lister = Lister { home: dir.path().to_owned(), attributes: true, again: false, is_done: false };
        assert!(lister.ready().expect("ready"));
        assert_eq!(lister.act().expect("lists").count, 5);
        assert!(!lister.ready().expect("ready"));
    }
}
