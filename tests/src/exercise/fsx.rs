//! One file under random reads, writes, truncations, mappings, allocations and copies, beside a copy of its content in
//! memory. Every read is compared, the size after every operation, and the whole file every so often.
//!
//! Nothing is ever stored behind the end of the file through a mapping, so the rest of the last page has to read as zeros.

mod operation;
mod target;

use super::{Failure, content};
use operation::{Allocation, Bounds, Operation, Span};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use target::Target;

/// How often data and holes are asked for again where the two answers do not agree.
const SEEK_TRIES: usize = 50;

/// The file's name within the directory.
const NAME: &str = "fsx";
/// How many operations are remembered, to tell which of them touched a place that went wrong.
const REMEMBERED: usize = 4096;
/// How many of those are told.
const TOLD: usize = 12;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The same seed, the same operations.
    pub seed: u64,
    /// How many.
    pub operations: u64,
    /// What the file may grow to.
    pub max_file_bytes: u64,
    /// Whether to read and write through mappings as well.
    pub mmap: bool,
    /// After how many operations the whole file is compared.
    pub compare_every: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { seed: 1, operations: 10_000, max_file_bytes: 4 << 20, mmap: true, compare_every: 200 }
    }
}

/// What was done, and what the file holds now.
#[derive(Debug)]
pub struct Outcome {
    /// How often each operation was done.
    pub done: BTreeMap<&'static str, u64>,
    /// How often each operation was refused as not offered (`EOPNOTSUPP`, `ENOSYS`).
    pub not_offered: BTreeMap<&'static str, u64>,
    plan: Plan,
    model: Vec<u8>,
}

/// Exercises a new file in `dir`; the file stays, for [`verify`].
pub fn run(dir: &Path, plan: &Plan) -> Result<Outcome, Failure> {
    let path = dir.join(NAME);
    let mut run = Run::new(&path, plan)?;
    let mut rng = StdRng::seed_from_u64(plan.seed);
    for number in 0..plan.operations {
        let bounds = Bounds { size: run.model.len() as u64, max_size: plan.max_file_bytes, mmap: plan.mmap };
        let operation = operation::choose(&mut rng, bounds);
        run.number = number;
        run.remember(operation);
        run.step(operation).and_then(|()| run.sizes_agree()).map_err(|what| run.failure(operation, &what))?;
        if (number + 1) % plan.compare_every == 0 {
            run.whole_agrees().map_err(|what| run.failure(operation, &what))?;
        }
    }
    let last = Operation::Reopen;
    run.step(last).and_then(|()| run.whole_agrees()).map_err(|what| run.failure(last, &what))?;
    Ok(Outcome { done: run.done, not_offered: run.not_offered, plan: *plan, model: run.model })
}

/// Compares the file with what [`run`] left, for instance after another mount.
pub fn verify(dir: &Path, outcome: &Outcome) -> Result<(), Failure> {
    let failure =
        |difference| Failure { exerciser: "fsx verify", seed: outcome.plan.seed, operation: outcome.plan.operations, difference };
    let found = std::fs::read(dir.join(NAME)).map_err(|error| failure(error.to_string()))?;
    let wrong = content::difference(&outcome.model, &found);
    wrong.map_or(Ok(()), |wrong| Err(failure(content::describe(wrong, 0, &outcome.model, &found))))
}

/// Why an operation is a failure: in words, and at which bytes if it is about bytes.
struct Wrong {
    what: String,
    at: Option<(u64, u64)>,
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Self {
        Wrong { what: error.to_string(), at: None }
    }
}

struct Run {
    plan: Plan,
    path: PathBuf,
    /// Empty only while it is opened again.
    target: Option<Target>,
    model: Vec<u8>,
    number: u64,
    past: VecDeque<(u64, Operation)>,
    done: BTreeMap<&'static str, u64>,
    not_offered: BTreeMap<&'static str, u64>,
}

impl Run {
    fn new(path: &Path, plan: &Plan) -> Result<Run, Failure> {
        let opened = match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Target::open(path),
        };
        let target = opened.map_err(|error| Failure {
            exerciser: "fsx",
            seed: plan.seed,
            operation: 0,
            difference: format!("{}: {error}", path.display()),
        })?;
        Ok(Run {
            plan: *plan,
            path: path.to_path_buf(),
            target: Some(target),
            model: Vec::new(),
            number: 0,
            past: VecDeque::new(),
            done: BTreeMap::new(),
            not_offered: BTreeMap::new(),
        })
    }

    fn remember(&mut self, operation: Operation) {
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back((self.number, operation));
    }

    fn target(&mut self) -> Result<&mut Target, Wrong> {
        self.target.as_mut().ok_or_else(|| Wrong { what: "the file could not be opened again".into(), at: None })
    }

    fn count(&mut self, operation: Operation, offered: bool) {
        let tally = if offered { &mut self.done } else { &mut self.not_offered };
        *tally.entry(operation.name()).or_default() += 1;
    }

    /// Does one operation on the file and on the model.
    fn step(&mut self, operation: Operation) -> Result<(), Wrong> {
        let offered = match operation {
            Operation::Read(span) => self.read(span).map(|()| true),
            Operation::Write(span) => self.write(span).map(|()| true),
            Operation::Append(length) => self.append(length).map(|()| true),
            Operation::Truncate(size) => self.truncate(size).map(|()| true),
            Operation::MapRead(span) => self.map_read(span).map(|()| true),
            Operation::MapWrite(span, synced) => self.map_write(span, synced).map(|()| true),
            Operation::Allocate(allocation, span) => self.allocate(allocation, span),
            Operation::Copy(from, to) => self.copy(from, to),
            Operation::Sync => Ok(self.target()?.sync().map(|()| true)?),
            Operation::Reopen => self.reopen().map(|()| true),
            Operation::Seek(from) => self.seek(from).map(|()| true),
        }?;
        self.count(operation, offered);
        Ok(())
    }

    /// The model's bytes of a span, cut at the end of the file.
    fn expected(&self, span: Span) -> &[u8] {
        let size = self.model.len();
        &self.model[(span.offset as usize).min(size)..(span.end() as usize).min(size)]
    }

    fn agrees(expected: &[u8], found: &[u8], base: u64) -> Result<(), Wrong> {
        let Some(wrong) = content::difference(expected, found) else { return Ok(()) };
        let at = (base + wrong.first as u64, base + wrong.last as u64);
        Err(Wrong { what: content::describe(wrong, base, expected, found), at: Some(at) })
    }

    fn read(&mut self, span: Span) -> Result<(), Wrong> {
        let found = self.target()?.read(span)?;
        Self::agrees(self.expected(span), &found, span.offset)
    }

    /// Bytes that only this operation writes there.
    fn fresh(&self, span: Span) -> Vec<u8> {
        content::bytes(self.plan.seed ^ (self.number << 20), span.offset, span.length as usize)
    }

    /// Puts bytes into the model, which grows as a file does.
    fn store(&mut self, offset: u64, bytes: &[u8]) {
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if self.model.len() < to {
            self.model.resize(to, 0);
        }
        self.model[from..to].copy_from_slice(bytes);
    }

    fn write(&mut self, span: Span) -> Result<(), Wrong> {
        let bytes = self.fresh(span);
        self.target()?.write(span.offset, &bytes)?;
        self.store(span.offset, &bytes);
        Ok(())
    }

    fn append(&mut self, length: u64) -> Result<(), Wrong> {
        let end = self.model.len() as u64;
        let bytes = self.fresh(Span { offset: end, length });
        let written = self.target()?.append(&bytes)?;
        if written != bytes.len() {
            return Err(Wrong { what: format!("a short write: {written} of {length} bytes"), at: None });
        }
        self.store(end, &bytes);
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> Result<(), Wrong> {
        self.target()?.truncate(size)?;
        self.model.resize(size as usize, 0);
        Ok(())
    }

    fn map_read(&mut self, span: Span) -> Result<(), Wrong> {
        let size = self.model.len() as u64;
        let (found, tail) = self.target()?.map_read(span, size)?;
        Self::agrees(self.expected(span), &found, span.offset)?;
        Self::agrees(&vec![0; tail.len()], &tail, size)
    }

    fn map_write(&mut self, span: Span, synced: bool) -> Result<(), Wrong> {
        let bytes = self.fresh(span);
        self.target()?.map_write(span.offset, &bytes, synced)?;
        self.store(span.offset, &bytes);
        Ok(())
    }

    fn allocate(&mut self, allocation: Allocation, span: Span) -> Result<bool, Wrong> {
        if !self.target()?.allocate(allocation, span)? {
            return Ok(false);
        }
        let size = self.model.len();
        let (from, to) = (span.offset as usize, span.end() as usize);
        if matches!(allocation, Allocation::Extend | Allocation::Zero) && size < to {
            self.model.resize(to, 0);
        }
        if matches!(allocation, Allocation::Punch | Allocation::Zero | Allocation::ZeroKeepSize) {
            let size = self.model.len();
            self.model[from.min(size)..to.min(size)].fill(0);
        }
        Ok(true)
    }

    fn copy(&mut self, from: Span, to: u64) -> Result<bool, Wrong> {
        let Some(copied) = self.target()?.copy(from, to)? else { return Ok(false) };
        let bytes = self.expected(from).to_vec();
        if copied != bytes.len() as u64 {
            return Err(Wrong { what: format!("copied {copied} of {} bytes", bytes.len()), at: None });
        }
        if !bytes.is_empty() {
            self.store(to, &bytes);
        }
        Ok(true)
    }

    fn reopen(&mut self) -> Result<(), Wrong> {
        let reopened = self.target.take().map(Target::reopen);
        self.target = reopened.transpose()?;
        Ok(())
    }

    /// A hole may be told as data, but data never as a hole.
    fn seek(&mut self, from: u64) -> Result<(), Wrong> {
        let (mut data, mut hole) = self.target()?.seek(from)?;
        for _ in 0..SEEK_TRIES {
            if !matches!((data, hole), (Some(data), Some(hole)) if (data == from) == (hole == from)) {
                break;
            }
            // Between the two questions the answer may change from data to a hole: the last handle that may have mapped the file is let go of, after
            // `close` returned; a round finds a block to be zeros.
            std::thread::sleep(std::time::Duration::from_millis(20));
            (data, hole) = self.target()?.seek(from)?;
        }
        let size = self.model.len() as u64;
        let wrong = |what: String| Err(Wrong { what, at: Some((from, from)) });
        match (data, hole) {
            (None, None) if from >= size => Ok(()),
            (data, hole) if from >= size => wrong(format!("behind the end at {size:#x}: data {data:?}, hole {hole:?}")),
            (_, None) => wrong("the end of the file counts as a hole, and none was found".into()),
            (_, Some(hole)) if hole < from || hole > size => wrong(format!("the hole at {hole:#x} is out of bounds")),
            (Some(data), _) if data < from || data >= size => wrong(format!("the data at {data:#x} are out of bounds")),
            (Some(data), Some(hole)) if (data == from) == (hole == from) => {
                wrong(format!("it is either data or a hole: data {data:#x}, hole {hole:#x}"))
            }
            (data, _) => self.only_zeros(from, data.unwrap_or(size)),
        }
    }

    fn only_zeros(&self, from: u64, to: u64) -> Result<(), Wrong> {
        let skipped = self.expected(Span { offset: from, length: to - from });
        match skipped.iter().position(|&byte| byte != 0) {
            None => Ok(()),
            Some(at) => {
                let at = from + at as u64;
                Err(Wrong { what: format!("told as a hole up to {to:#x}, but there are data at {at:#x}"), at: Some((at, at)) })
            }
        }
    }

    fn sizes_agree(&mut self) -> Result<(), Wrong> {
        let expected = self.model.len() as u64;
        let (by_handle, by_name) = self.target()?.sizes()?;
        if (by_handle, by_name) == (expected, expected) {
            return Ok(());
        }
        let what = format!("size {expected:#x} expected, found {by_handle:#x} by fstat and {by_name:#x} by stat");
        Err(Wrong { what, at: Some((expected.min(by_handle), expected.max(by_handle))) })
    }

    fn whole_agrees(&mut self) -> Result<(), Wrong> {
        self.sizes_agree()?;
        // One byte more, to see that the file ends where its size says.
        let whole = Span { offset: 0, length: self.plan.max_file_bytes + 1 };
        let found = self.target()?.read(whole)?;
        Self::agrees(&self.model, &found, 0)
    }

    fn failure(&self, operation: Operation, wrong: &Wrong) -> Failure {
        let history = wrong.at.map_or(String::new(), |(first, last)| self.history(first, last));
        let difference = format!("{}: {operation}: {}{history}", self.path.display(), wrong.what);
        Failure { exerciser: "fsx", seed: self.plan.seed, operation: self.number, difference }
    }

    /// The last operations that had to do with these bytes.
    fn history(&self, first: u64, last: u64) -> String {
        let concerned = |operation: &Operation| match operation {
            Operation::Write(span) | Operation::MapWrite(span, _) | Operation::Allocate(_, span) => span.meets(first, last),
            Operation::Copy(span, to) => Span { offset: *to, ..*span }.meets(first, last),
            Operation::Truncate(_) | Operation::Append(_) | Operation::Reopen => true,
            Operation::Read(_) | Operation::MapRead(_) | Operation::Sync | Operation::Seek(_) => false,
        };
        let lately = self.past.iter().rev().filter(|(_, operation)| concerned(operation)).take(TOLD);
        lately.map(|(number, operation)| format!("\n  before, at {number}: {operation}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_agrees_with_its_model() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (seed, mmap) in [(1, true), (2, false)] {
            let plan = Plan { seed, operations: 3000, max_file_bytes: 1 << 20, mmap, ..Plan::default() };
            let outcome = run(dir.path(), &plan).unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(outcome.done.values().chain(outcome.not_offered.values()).sum::<u64>(), plan.operations + 1);
            assert_eq!(outcome.done.contains_key("mapwrite"), mmap);
            verify(dir.path(), &outcome).expect("nothing changed since");
        }
    }

    #[test]
    fn one_wrong_byte_is_found_and_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let plan = Plan { operations: 500, max_file_bytes: 1 << 20, ..Plan::default() };
        let outcome = run(dir.path(), &plan).expect("a plain file agrees");
        let mut bytes = std::fs::read(dir.path().join(NAME)).expect("read the file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(dir.path().join(NAME), &bytes).expect("write the file");
        let failure = verify(dir.path(), &outcome).expect_err("one byte differs");
        assert!(failure.difference.contains(&format!("1 of {} bytes differ, from {middle:#x}", bytes.len())), "{failure}");
    }

    #[test]
    fn bytes_that_change_behind_its_back_are_found_while_it_runs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let plan = Plan { seed: 3, operations: 400, max_file_bytes: 1 << 20, ..Plan::default() };
        let mut run = Run::new(&dir.path().join(NAME), &plan).unwrap_or_else(|failure| panic!("{failure}"));
        let written = Operation::Write(Span { offset: 0, length: 10_000 });
        run.remember(written);
        assert!(run.step(written).is_ok());
        std::fs::write(dir.path().join(NAME), vec![0; 10_000]).expect("zero the file");
        let reading = Operation::Read(Span { offset: 4000, length: 100 });
        let wrong = run.step(reading).expect_err("the bytes are zeros");
        let failure = run.failure(reading, &wrong).to_string();
        assert!(failure.contains("seed 3") && failure.contains("before, at 0: write 0x0..0x2710"), "{failure}");
    }
}
