//! A directory, whatever file system it is on. Everything is made inside one directory of the bench's own, which goes at the end; data that was there
//! before is only read.

mod existing;
mod file;
mod mapped;
mod metadata;
mod pages;
mod place;
mod random;
mod sequential;
mod small;
#[cfg(test)]
mod tests;

use crate::data::Source;
use crate::error::Result;
use crate::order::splitmix;
use crate::plan::{Group, Plan};
use crate::row::Recorder;
use crate::run::{Target, TargetInfo};
use existing::Existing;
use file::Access;
use pages::Pages;
use place::Place;
use std::path::{Path, PathBuf};

/// Groups that make files.
const MAKING: [Group; 5] = [Group::Sequential, Group::Random, Group::Small, Group::Metadata, Group::Mapped];

/// A directory that is measured.
pub struct Directory {
    name: String,
    place: Place,
    plan: Plan,
    pages: Pages,
    /// Whether O_DIRECT is taken.
    takes_direct: bool,
    existing: Option<Existing>,
    /// Files that live as long as the bench.
    laid_out: Vec<(&'static str, PathBuf)>,
    seed: u64,
}

impl Directory {
    /// Looks at a directory, and makes the bench's own in it unless only data that is there is to be read.
    /// `number` tells targets of one bench apart: their data must not be the same.
    pub fn open(path: &Path, plan: &Plan, number: u64, read_from: Option<&Path>) -> Result<Self> {
        let makes_files = MAKING.iter().any(|group| plan.wants(*group));
        let mut place = Place::look(path)?;
        let existing = match read_from {
            Some(below) if plan.wants(Group::Existing) => Some(Existing::find(&place.root().join(below), plan)?),
            _ => None,
        };
        if makes_files {
            place.settle(plan.needed_bytes())?;
        }
        let takes_direct = makes_files && file::takes_direct(place.work());
        Ok(Directory {
            name: path.display().to_string(),
            takes_direct,
            pages: Pages::new(plan.drop),
            existing,
            laid_out: Vec::new(),
            seed: splitmix(plan.seed ^ splitmix(number)),
            plan: plan.clone(),
            place,
        })
    }

    /// A directory below the bench's own, made anew.
    fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        file::make_directory(&self.place.work().join(name))
    }

    /// Data that was never written before.
    fn source(&mut self, largest: usize) -> Source {
        Source::new(self.plan.data, self.next_seed(), largest)
    }

    fn next_seed(&mut self) -> u64 {
        self.seed = splitmix(self.seed);
        self.seed
    }

    /// How reads that are to come from the device are done.
    fn device_access(&self) -> Access {
        use crate::plan::DirectUse;
        if self.takes_direct && self.plan.direct != DirectUse::Never { Access::Direct } else { Access::Buffered }
    }

    /// A large file that is laid out once and stays.
    fn laid_out(&mut self, name: &'static str, to: &Recorder<'_>) -> Result<PathBuf> {
        if let Some((_, path)) = self.laid_out.iter().find(|(known, _)| *known == name) {
            return Ok(path.clone());
        }
        to.doing("laying out a file");
        let path = self.place.work().join(name);
        let (bytes, limit) = (self.plan.size_bytes, self.plan.limit);
        file::lay_out(&path, bytes, limit, self.source(file::LAYOUT_BLOCK), to.stop())?;
        self.laid_out.push((name, path.clone()));
        Ok(path)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.existing.is_none() {
            notes.push("cold reads are not measured: files that the bench wrote itself were never cold; give --read-from PATH with data that nobody has read here".to_owned());
        }
        if self.place.has_work() {
            notes.extend(self.pages.note());
            if !self.takes_direct {
                notes.push("the file system takes no O_DIRECT: reads from the device go through the page cache".to_owned());
            }
            if self.place.is_in_memory() {
                notes.push("this file system is in memory: there is no device below it".to_owned());
            }
        }
        notes.extend(self.place.note());
        notes
    }
}

impl Target for Directory {
    fn info(&self) -> TargetInfo {
        TargetInfo { name: self.name.clone(), kind: "directory", file_system: self.place.file_system(), notes: self.notes() }
    }

    fn groups(&self) -> Vec<Group> {
        let made = MAKING.into_iter().filter(|group| self.plan.wants(*group));
        self.existing.iter().map(|_| Group::Existing).chain(made).collect()
    }

    fn round(&mut self, group: Group, _round: u32, to: &mut Recorder<'_>) -> Result<()> {
        match group {
            Group::Existing => existing::round(self, to),
            Group::Sequential => sequential::round(self, to),
            Group::Random => random::round(self, to),
            Group::Small => small::round(self, to),
            Group::Metadata => metadata::round(self, to),
            Group::Mapped => mapped::round(self, to),
            Group::Put | Group::Get | Group::List => Ok(()),
        }
    }

    fn leave(&mut self) -> Result<()> {
        self.place.leave()
    }
}
