//! One tree under random operations of many threads. Each thread has a subtree of its own with an exact model, which
//! predicts every content and every errno; and all meet in one directory, where only invariants hold.
//!
//! The models are returned, so that a caller can mount again and ask [`verify`].

mod choice;
mod compare;
mod model;
mod operation;
mod shared;
mod system;

use super::Failure;
use model::Tree;
use operation::Reply;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::fs::{CWD, RenameFlags, XattrFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The directory where threads meet.
const SHARED: &str = "shared";

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The same seed, the same operations (but for the shared directory).
    pub seed: u64,
    /// How many threads.
    pub threads: usize,
    /// How many operations each does.
    pub operations: u64,
    /// One in this many is done in the shared directory; 0 for none.
    pub shared_every: u32,
    /// After how many operations a thread compares its whole subtree.
    pub compare_every: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { seed: 1, threads: 8, operations: 2000, shared_every: 6, compare_every: 1000 }
    }
}

/// What the file system was found to offer beyond files and directories; the rest is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Extended attributes of users.
    pub xattrs: bool,
    /// `RENAME_NOREPLACE` and `RENAME_EXCHANGE`.
    pub rename_flags: bool,
    /// Hard links.
    pub links: bool,
}

/// What the tree has to hold, for [`verify`].
#[derive(Debug)]
pub struct Models {
    /// What the file system offered.
    pub offered: Offered,
    plan: Plan,
    trees: Vec<Tree>,
    appended: Vec<u64>,
    shared: shared::Rest,
}

/// Exercises a new tree in `dir`, which stays, and compares it at the end.
pub fn run(dir: &Path, plan: &Plan) -> Result<Models, Failure> {
    let offered = prepare(dir, plan).map_err(|what| failure(plan, 0, what))?;
    let umask = umask().map_err(|what| failure(plan, 0, what))?;
    let stop = AtomicBool::new(false);
    let work = |thread: usize| {
        let result = Worker::new(dir, plan, thread, umask, offered).work(&stop);
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..plan.threads).map(|thread| scope.spawn(move || work(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(failure(plan, 0, "a thread panicked".into()))))
            .collect()
    });
    let (trees, appended): (Vec<_>, Vec<_>) = results.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let shared = shared::at_rest(&dir.join(SHARED), &appended).map_err(|what| failure(plan, plan.operations, what))?;
    let models = Models { offered, plan: *plan, trees, appended, shared };
    verify(dir, &models).map(|()| models)
}

/// Compares the tree with what [`run`] left, for instance after another mount.
pub fn verify(dir: &Path, models: &Models) -> Result<(), Failure> {
    let plan = &models.plan;
    let wrong = |what| failure(plan, plan.operations, what);
    for (thread, tree) in models.trees.iter().enumerate() {
        compare::whole(&home(dir, thread), tree).map_err(wrong)?;
    }
    let shared = shared::at_rest(&dir.join(SHARED), &models.appended).map_err(wrong)?;
    if shared == models.shared {
        return Ok(());
    }
    Err(wrong(format!("the shared directory: expected {:?}, found {shared:?}", models.shared)))
}

fn failure(plan: &Plan, operation: u64, difference: String) -> Failure {
    Failure { exerciser: "stress", seed: plan.seed, operation, difference }
}

fn home(dir: &Path, thread: usize) -> PathBuf {
    dir.join(format!("thread-{thread}"))
}

/// Makes the directories, and finds out what is offered.
fn prepare(dir: &Path, plan: &Plan) -> Result<Offered, String> {
    let said = |error: std::io::Error| format!("{}: {error}", dir.display());
    shared::prepare(&dir.join(SHARED)).map_err(said)?;
    for thread in 0..plan.threads {
        let home = home(dir, thread);
        std::fs::create_dir(&home).map_err(said)?;
        std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(said)?;
    }
    probe(dir).map_err(|error| said(error.into()))
}

fn probe(dir: &Path) -> Result<Offered, Errno> {
    let (one, two) = (dir.join("probe-1"), dir.join("probe-2"));
    std::fs::write(&one, b"").map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let offered = |result: Result<(), Errno>| match result {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => Ok(false),
        other => other.map(|()| true),
    };
    let xattrs = offered(rustix::fs::setxattr(&one, "user.probe", b"", XattrFlags::empty()))?;
    let links = offered(rustix::fs::link(&one, &two))?;
    if links {
        rustix::fs::unlink(&two)?;
    }
    let rename_flags = offered(rustix::fs::renameat_with(CWD, &one, CWD, &two, RenameFlags::NOREPLACE))?;
    rustix::fs::unlink(if rename_flags { two } else { one })?;
    Ok(Offered { xattrs, rename_flags, links })
}

/// The umask, which can be read without changing it only here.
fn umask() -> Result<u32, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap_or_default();
    u32::from_str_radix(line.trim(), 8).map_err(|error| format!("the umask '{line}': {error}"))
}

/// One thread.
struct Worker<'a> {
    plan: &'a Plan,
    thread: usize,
    home: PathBuf,
    offered: Offered,
    rng: StdRng,
    model: Tree,
    system: system::System,
    guest: shared::Guest,
}

impl<'a> Worker<'a> {
    fn new(dir: &Path, plan: &'a Plan, thread: usize, umask: u32, offered: Offered) -> Self {
        let home = home(dir, thread);
        Worker {
            plan,
            thread,
            offered,
            rng: StdRng::seed_from_u64(plan.seed.wrapping_mul(1000) + thread as u64),
            model: Tree::new(umask),
            system: system::System::new(&home),
            guest: shared::Guest::new(&dir.join(SHARED), thread),
            home,
        }
    }

    /// Does all operations; the model of the subtree, and how many records it appended to the log.
    fn work(mut self, stop: &AtomicBool) -> Result<(Tree, u64), Failure> {
        for number in 0..self.plan.operations {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let wrong = |what: String| failure(self.plan, number, format!("thread {}: {what}", self.thread));
            if self.plan.shared_every > 0 && self.rng.random_range(0..self.plan.shared_every) == 0 {
                self.guest.visit(&mut self.rng, self.offered).map_err(wrong)?;
            } else {
                let operation = choice::choose(&mut self.rng, &self.model, self.offered);
                let expected = self.model.apply(&operation);
                let found = self.system.apply(&operation);
                agree(&expected, &found).map_err(|what| wrong(format!("{operation:?}: {what}")))?;
            }
            if (number + 1) % self.plan.compare_every == 0 {
                compare::whole(&self.home, &self.model).map_err(wrong)?;
            }
        }
        Ok((self.model, self.guest.appended))
    }
}

/// Whether the file system answered what the model says.
fn agree(expected: &Result<Reply, Errno>, found: &Result<Reply, Errno>) -> Result<(), String> {
    match (expected, found) {
        (Ok(Reply::Attributes(expected)), Ok(Reply::Attributes(found))) if expected.allow(found) => Ok(()),
        (Ok(Reply::Bytes(expected)), Ok(Reply::Bytes(found))) => match super::content::difference(expected, found) {
            None => Ok(()),
            Some(wrong) => Err(super::content::describe(wrong, 0, expected, found)),
        },
        (expected, found) if expected == found => Ok(()),
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}")),
    }
}

#[cfg(test)]
mod tests;
