//! What has to be there after the end came, by the log and by what the file system promises.
//!
//! 1. The names are those of one point of the log: every operation on names up to it happened, and none after it. That
//!    point does not lie before the last one that was made durable.
//! 2. Every file holds what it held at one point of the log, not before its last `fsync` (under [`Kept::Synced`]) or not
//!    before what was acknowledged last (under [`Kept::Acknowledged`]): no zeros, no mixture, no bytes of another file.

use super::log::{FileId, Log, Names, Operation};
use crate::exercise::content;
use std::collections::BTreeMap;
use std::path::Path;

/// A write is cut nowhere else: the kernel hands it over in whole pages.
const PAGE: u64 = 4096;

/// From when on an operation outlives the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// From its acknowledgement on.
    Acknowledged,
    /// From the next `fsync` on: of the file for its content, of the directory for its names.
    Synced,
}

/// What the file system promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For names.
    pub names: Kept,
    /// For contents.
    pub contents: Kept,
    /// Whether an `fsync` of a file also keeps the name it has then.
    pub sync_keeps_name: bool,
    /// Whether the last write that a file shows may be there up to a page's border only.
    pub torn_writes: bool,
}

impl Rules {
    /// For a file system that is itself not ended: what was acknowledged is there.
    pub const LOCAL: Rules =
        Rules { names: Kept::Acknowledged, contents: Kept::Acknowledged, sync_keeps_name: true, torn_writes: true };
    /// For one that is ended, and promises what POSIX and ext4 do.
    pub const SYNCED: Rules = Rules { names: Kept::Synced, contents: Kept::Synced, sync_keeps_name: true, torn_writes: true };
}

/// What was found right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survived {
    /// Operations that were acknowledged.
    pub acknowledged: usize,
    /// How many operations the names are behind the last one.
    pub names_behind: usize,
    /// Files whose content was compared.
    pub files: usize,
    /// Files among them that had been synced at least once.
    pub synced_files: usize,
}

/// Compares a directory with a log.
pub fn check(dir: &Path, log: &Log, rules: &Rules) -> Result<Survived, String> {
    let mut found = BTreeMap::new();
    collect(dir, "", &mut found)?;
    let histories = Histories::new(log, rules);
    let first = first_point(log, rules);
    let points = points(log, first);
    let mut reasons = Vec::new();
    for (point, names) in points.iter().rev() {
        match same_names(names, &found).and_then(|()| histories.allow(names, &found)) {
            Ok((files, synced_files)) => {
                let names_behind = log.operations.len() - point;
                return Ok(Survived { acknowledged: log.acknowledged, names_behind, files, synced_files });
            }
            Err(reason) => reasons.push((reason, *point)),
        }
    }
    // Contents that are wrong say more than names that do not fit a point they have nothing to do with.
    reasons.sort_by_key(|((weight, _), point)| (*weight, usize::MAX - point));
    let tried = points.len();
    let told: String = reasons.iter().take(3).map(|((_, what), point)| format!("\n  after {point} operations: {what}")).collect();
    Err(format!("of {tried} points of the log that the names may be at, from {first} on, none fits:{told}"))
}

/// How far off something is, and in words.
type Reason = (usize, String);

/// Every file's content and every directory, by path.
fn collect(dir: &Path, within: &str, found: &mut BTreeMap<String, Option<Vec<u8>>>) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", dir.display());
    for entry in std::fs::read_dir(dir).map_err(said)? {
        let entry = entry.map_err(said)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        if entry.file_type().map_err(said)?.is_dir() {
            found.insert(path.clone(), None);
            collect(&entry.path(), &path, found)?;
        } else {
            let bytes = std::fs::read(entry.path()).map_err(|error| format!("{path}: {error}"))?;
            found.insert(path, Some(bytes));
        }
    }
    Ok(())
}

/// How many operations the names hold at least.
fn first_point(log: &Log, rules: &Rules) -> usize {
    if rules.names == Kept::Acknowledged {
        return log.acknowledged;
    }
    let directory_of = |path: &str| path.rsplit_once('/').map_or(".", |(directory, _)| directory).to_owned();
    let last_change = |before: usize, concerns: &dyn Fn(&str) -> bool| {
        let changes = |operation: &Operation| operation.names_changed().into_iter().any(concerns);
        log.operations[..before].iter().rposition(changes).map_or(0, |at| at + 1)
    };
    let kept = log.operations[..log.acknowledged].iter().enumerate().map(|(at, operation)| match operation {
        Operation::SyncDirectory { path } => last_change(at, &|changed| directory_of(changed) == *path),
        Operation::Sync { path, .. } if rules.sync_keeps_name => last_change(at, &|changed| changed == path),
        _ => 0,
    });
    kept.max().unwrap_or(0)
}

/// The names after each number of operations from `first` on, where they differ from those before.
fn points(log: &Log, first: usize) -> Vec<(usize, Names)> {
    let mut names = Names::new();
    log.operations[..first].iter().for_each(|operation| operation.change_names(&mut names));
    let mut points = vec![(first, names.clone())];
    for (at, operation) in log.operations.iter().enumerate().skip(first) {
        if !operation.names_changed().is_empty() {
            operation.change_names(&mut names);
            points.push((at + 1, names.clone()));
        }
    }
    points
}

fn same_names(names: &Names, found: &BTreeMap<String, Option<Vec<u8>>>) -> Result<(), Reason> {
    let lacking: Vec<&String> = names
        .iter()
        .filter(|(path, entry)| found.get(*path).is_none_or(|found| found.is_none() != entry.is_none()))
        .map(|(path, _)| path)
        .collect();
    let extra: Vec<&String> = found.keys().filter(|path| !names.contains_key(*path)).collect();
    if lacking.is_empty() && extra.is_empty() {
        return Ok(());
    }
    Err((10 + lacking.len() + extra.len(), format!("lacks {lacking:?}, has {extra:?} besides")))
}

/// What each file may hold.
struct Histories<'a> {
    log: &'a Log,
    rules: &'a Rules,
    /// Operations on each file's content, and after how many of the log it holds at least.
    files: BTreeMap<FileId, (Vec<usize>, usize)>,
}

impl<'a> Histories<'a> {
    fn new(log: &'a Log, rules: &'a Rules) -> Self {
        let mut files: BTreeMap<FileId, (Vec<usize>, usize)> = BTreeMap::new();
        for (at, operation) in log.operations.iter().enumerate() {
            if let Some(file) = operation.content_changed() {
                files.entry(file).or_default().0.push(at);
            }
            match operation {
                Operation::Sync { file, .. } if at < log.acknowledged => files.entry(*file).or_default().1 = at,
                _ => {}
            }
        }
        Histories { log, rules, files }
    }

    /// How many files there are, and how many of them had been synced.
    fn allow(&self, names: &Names, found: &BTreeMap<String, Option<Vec<u8>>>) -> Result<(usize, usize), Reason> {
        let (mut files, mut synced) = (0, 0);
        for (path, file) in names.iter().filter_map(|(path, entry)| Some((path, (*entry)?))) {
            let bytes = found.get(path).and_then(Option::as_deref).unwrap_or_default();
            self.file(file, bytes).map_err(|what| (0, format!("{path}, which is file {file}: {what}")))?;
            files += 1;
            synced += usize::from(self.files.get(&file).is_some_and(|(_, synced)| *synced > 0));
        }
        Ok((files, synced))
    }

    fn file(&self, file: FileId, found: &[u8]) -> Result<(), String> {
        let nothing = (Vec::new(), 0);
        let (changes, synced) = self.files.get(&file).unwrap_or(&nothing);
        let least = if self.rules.contents == Kept::Acknowledged { self.log.acknowledged } else { *synced };
        let (kept, open) = changes.split_at(changes.partition_point(|at| *at < least));
        let mut content = Vec::new();
        kept.iter().for_each(|at| self.apply(*at, usize::MAX, &mut content));
        let kept_content = content.clone();
        for at in open {
            if content == found || (self.rules.torn_writes && self.torn(*at, &content, found)) {
                return Ok(());
            }
            self.apply(*at, usize::MAX, &mut content);
        }
        let Some(_) = content::difference(&content, found) else { return Ok(()) };
        let wrong = content::difference(&kept_content, found)
            .map_or("nothing differs".to_owned(), |wrong| content::describe(wrong, 0, &kept_content, found));
        Err(format!("none of {} states since operation {least}; from the first, {wrong}", open.len() + 1))
    }

    fn apply(&self, at: usize, limit: usize, content: &mut Vec<u8>) {
        self.log.operations[at].change_content(self.log.seed, at as u64, limit, content);
    }

    /// Whether the operation, cut at a page's border, makes `found` of `content`.
    fn torn(&self, at: usize, content: &[u8], found: &[u8]) -> bool {
        let Some((offset, bytes)) = self.log.operations[at].written(self.log.seed, at as u64) else { return false };
        let end = offset + bytes.len() as u64;
        let mut border = (offset + 1).next_multiple_of(PAGE);
        while border < end {
            let mut torn = content.to_vec();
            self.apply(at, (border - offset) as usize, &mut torn);
            if torn == found {
                return true;
            }
            border += PAGE;
        }
        false
    }
}
