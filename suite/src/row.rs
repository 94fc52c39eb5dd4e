//! Rows: what was measured, in which state of the caches, and what came of it.

use crate::error::{Error, Result};
use crate::meter::Sample;
use crate::plan::Group;
use crate::stop::Stop;
use crate::units;
use serde::Serialize;

/// Where the data or the names were when they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As the bench found it: cold, if nobody had read it here before.
    Found,
    /// Not in the memory of the kernel.
    Device,
    /// In the memory of the kernel, as far as the file system leaves it there.
    Memory,
    /// Made or changed by the row itself.
    Made,
    /// In a store.
    Store,
}

impl State {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            State::Found => "first read",
            State::Device => "cached on device",
            State::Memory => "cached in memory",
            State::Made => "made or changed",
            State::Store => "store",
        }
    }

    /// In a table's column.
    pub fn short(self) -> &'static str {
        match self {
            State::Found => "first",
            State::Device => "device",
            State::Memory => "memory",
            State::Made | State::Store => "-",
        }
    }
}

/// What a row's figure counts, each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Reads or writes.
    Operations,
    /// Files or objects.
    Files,
    /// Names.
    Names,
}

impl Unit {
    /// A figure, for people.
    pub fn show(self, per_second: f64) -> String {
        match self {
            Unit::Bytes => units::rate(per_second),
            _ => units::count_rate(per_second),
        }
    }

    /// What it counts, in words.
    pub fn words(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes a second",
            Unit::Operations => "operations a second",
            Unit::Files => "files or objects a second",
            Unit::Names => "names a second",
        }
    }
}

/// What tells a row from every other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowId {
    /// The group it is in.
    pub group: Group,
    /// What is done.
    pub what: &'static str,
    /// The size of a block, file or object, where it is about one.
    pub block_bytes: Option<u64>,
    /// How many do it at the same time.
    pub threads: usize,
    /// Where the data was.
    pub state: State,
    /// What is counted.
    pub unit: Unit,
}

impl RowId {
    /// `random read 4 KiB, 4 threads`.
    pub fn title(&self) -> String {
        let block = self.block_bytes.map_or(String::new(), |bytes| format!(" {}", units::size(bytes)));
        let threads = if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        format!("{}{block}, {threads}", self.what)
    }

    /// A name for scripts: `random/random-read/4096/4/device`.
    pub fn slug(&self) -> String {
        let block = self.block_bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
        let words = self.what.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let what = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
        let state = format!("{:?}", self.state).to_lowercase();
        format!("{}/{what}/{block}/{}/{state}", self.group, self.threads)
    }
}

/// What came of a row in a round.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A figure.
    Measured {
        /// What the meter saw.
        sample: Box<Sample>,
        /// How it was done: `O_DIRECT`, `buffered, fsync at the end`.
        how: String,
    },
    /// None, and why.
    NotMeasured(String),
}

/// Takes the rows of a round, and tells whoever looks on what is being measured.
pub struct Recorder<'a> {
    rows: &'a mut Vec<(RowId, Outcome)>,
    stop: &'a Stop,
    show: &'a dyn Fn(&str),
}

impl<'a> Recorder<'a> {
    /// For one target.
    pub fn new(rows: &'a mut Vec<(RowId, Outcome)>, stop: &'a Stop, show: &'a dyn Fn(&str)) -> Self {
        Recorder { rows, stop, show }
    }

    /// The wish to end early.
    pub(crate) fn stop(&self) -> &'a Stop {
        self.stop
    }

    /// Says what is being done that is no row.
    pub(crate) fn doing(&self, what: &str) {
        (self.show)(what);
    }

    /// Measures a row. A refusal of the file system is what the row says; what ends the bench is an error.
    pub(crate) fn row(&mut self, id: RowId, measure: impl FnOnce() -> Result<(Sample, String)>) -> Result<()> {
        self.stop.check()?;
        (self.show)(&id.title());
        let outcome = match measure() {
            Ok((sample, how)) => Outcome::Measured { sample: Box::new(sample), how },
            Err(error) if error.ends_the_bench() => return Err(error),
            Err(error) => Outcome::NotMeasured(error.to_string()),
        };
        self.rows.push((id, outcome));
        Ok(())
    }

    /// Says why a row has no figure.
    pub(crate) fn skip(&mut self, id: RowId, why: impl Into<String>) {
        self.rows.push((id, Outcome::NotMeasured(why.into())));
    }

    /// A group that could not be begun: one row that says so.
    pub(crate) fn group_failed(&mut self, group: Group, error: &Error) {
        let state = if group.is_of_stores() { State::Store } else { State::Made };
        let id = RowId { group, what: "all of it", block_bytes: None, threads: 1, state, unit: Unit::Operations };
        self.skip(id, error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::At;
    use std::path::Path;

    fn id() -> RowId {
        let (group, state) = (Group::Random, State::Device);
        RowId { group, what: "random read", block_bytes: Some(4096), threads: 4, state, unit: Unit::Operations }
    }

    #[test]
    fn a_row_has_a_title_for_people_and_a_name_for_scripts() {
        assert_eq!(id().title(), "random read 4 KiB, 4 threads");
        assert_eq!(id().slug(), "random/random-read/4096/4/device");
        assert_eq!(RowId { what: "a, b (-l)", ..id() }.slug(), "random/a-b-l/4096/4/device");
        assert_eq!(RowId { block_bytes: None, threads: 1, what: "list (ls -l)", ..id() }.title(), "list (ls -l), 1 thread");
    }

    #[test]
    fn a_refusal_is_told_in_the_row_and_a_full_disk_ends_the_bench() {
        let (mut rows, stop) = (Vec::new(), Stop::default());
        let mut recorder = Recorder::new(&mut rows, &stop, &|_| ());
        let failing = |code| move || Err(std::io::Error::from_raw_os_error(code)).at("map", Path::new("/d/x"));
        assert!(recorder.row(id(), failing(libc::ENODEV)).is_ok());
        assert!(recorder.row(id(), failing(libc::ENOSPC)).is_err());
        stop.ask();
        assert!(matches!(recorder.row(id(), failing(0)), Err(Error::Interrupted)));
        assert_eq!(rows.len(), 1);
        assert!(matches!(&rows[0].1, Outcome::NotMeasured(why) if why.contains("cannot map '/d/x': No such device")));
    }
}
