//! What people do with a file system, done in a directory: a database, a repository, an archive, a copy, a build. Every
//! check runs the programs people run; one that is not installed is a reason to skip.

mod programs;
mod sources;

use super::Failure;
use programs::{Step, installed, run};
use std::path::Path;
use std::process::Command;

/// What a check came to, when nothing was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not, for this reason.
    Skipped(String),
}

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The same seed, the same files.
    pub seed: u64,
    /// Files of a source tree, or rows of a database.
    pub items: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { seed: 1, items: 200 }
    }
}

/// A check, by its name.
pub type Check = (&'static str, fn(&Path, &Plan) -> Result<Outcome, Failure>);

/// Every check.
pub const CHECKS: [Check; 5] = [("sqlite", sqlite), ("git", git), ("tar", tar), ("rsync", rsync), ("cargo", cargo)];

/// Every check, each in a directory of its own in `dir`; prints what is skipped.
pub fn all(dir: &Path, plan: &Plan) -> Result<(), Failure> {
    for (name, check) in CHECKS {
        let home = dir.join(name);
        std::fs::create_dir(&home).map_err(|error| failure(name, plan, format!("{}: {error}", home.display())))?;
        if let Outcome::Skipped(reason) = check(&home, plan)? {
            println!("skipped: {name}: {reason}");
        }
    }
    Ok(())
}

fn failure(check: &'static str, plan: &Plan, difference: String) -> Failure {
    Failure { exerciser: check, seed: plan.seed, operation: 0, difference }
}

/// Skips where a program is missing, and otherwise does the check's steps.
fn with(check: &'static str, needs: &[&str], plan: &Plan, steps: impl FnOnce() -> Step<()>) -> Result<Outcome, Failure> {
    if let Some(missing) = needs.iter().find(|program| !installed(program)) {
        return Ok(Outcome::Skipped(format!("{missing} is not installed")));
    }
    steps().map(|()| Outcome::Done).map_err(|what| failure(check, plan, what))
}

/// An SQLite database in WAL mode: writers beside a reader, a checkpoint, and its own check of its integrity.
pub fn sqlite(dir: &Path, plan: &Plan) -> Result<Outcome, Failure> {
    with("sqlite", &["sqlite3"], plan, || {
        let sql = |statements: &str| {
            let mut command = Command::new("sqlite3");
            run(command.current_dir(dir).args(["-batch", "-cmd", ".timeout 60000", "base.db", statements]))
        };
        expect("the journal's mode", &sql("PRAGMA journal_mode=WAL;")?, "wal")?;
        sql("CREATE TABLE t(id INTEGER PRIMARY KEY, writer INTEGER, body BLOB); CREATE INDEX by_writer ON t(writer);")?;
        // Two writers take turns at the lock, each row a transaction of its own or one of ten.
        let insert = |writer: usize| {
            let one = format!("INSERT INTO t(writer, body) VALUES({writer}, randomblob(700));");
            let ten = format!("BEGIN IMMEDIATE;{}COMMIT;", one.repeat(10));
            sql(&format!("{}{}", ten.repeat(plan.items / 20), one.repeat(plan.items / 20 * 10)))
        };
        std::thread::scope(|scope| {
            let writers = [0, 1].map(|writer| scope.spawn(move || insert(writer)));
            let counted = sql("SELECT count(*) FROM t;");
            writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer panicked".to_owned())?.map(drop))?;
            counted
        })?;
        let rows = plan.items / 20 * 20 * 2;
        let each = rows / 2;
        expect("rows by writer", &sql("SELECT writer, count(*) FROM t GROUP BY writer;")?, &format!("0|{each}\n1|{each}"))?;
        sql("UPDATE t SET body = randomblob(300) WHERE id % 3 = 0; DELETE FROM t WHERE id % 5 = 0;")?;
        expect("the checkpoint", &sql("PRAGMA wal_checkpoint(TRUNCATE);")?, "0|0|0")?;
        sql("VACUUM;")?;
        expect("rows at the end", &sql("SELECT count(*) FROM t;")?, &(rows - rows / 5).to_string())?;
        expect("the integrity", &sql("PRAGMA integrity_check;")?, "ok")
    })
}

/// A git repository: commits, a clone that links and one that copies, garbage collection, `fsck`.
pub fn git(dir: &Path, plan: &Plan) -> Result<Outcome, Failure> {
    with("git", &["git", "diff"], plan, || {
        let work = dir.join("work");
        let in_work = |args: &[&str]| git_in(&work, args);
        git_in(dir, &["init", "--quiet", "--initial-branch=main", "work"])?;
        for revision in 0..3 {
            sources::write(&work, plan.seed + revision, plan.items)?;
            in_work(&["add", "--all"])?;
            in_work(&["commit", "--quiet", "--message", &format!("revision {revision}")])?;
        }
        expect("git status", &in_work(&["status", "--porcelain"])?, "")?;
        git_in(dir, &["clone", "--quiet", "work", "linked"])?;
        git_in(dir, &["clone", "--quiet", "--no-local", "work", "copied"])?;
        in_work(&["gc", "--quiet", "--prune=now"])?;
        in_work(&["checkout", "--quiet", "HEAD~2"])?;
        in_work(&["checkout", "--quiet", "main"])?;
        for clone in ["work", "linked", "copied"] {
            git_in(&dir.join(clone), &["fsck", "--full", "--strict"])?;
            expect("git status", &git_in(&dir.join(clone), &["status", "--porcelain"])?, "")?;
            run(Command::new("diff").current_dir(dir).args(["-r", "--exclude=.git", "work", clone]))?;
        }
        Ok(())
    })
}

/// Git without what the machine or the user configured.
fn git_in(dir: &Path, args: &[&str]) -> Step<String> {
    let mut command = Command::new("git");
    command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=Forebay", "-c", "user.email=forebay@example.invalid", "-c", "safe.directory=*"]);
    run(command.args(args))
}

/// An archive of a source tree, packed and unpacked in the directory, and compared with where it came from.
pub fn tar(dir: &Path, plan: &Plan) -> Result<Outcome, Failure> {
    with("tar", &["tar", "diff"], plan, || {
        let elsewhere = tempfile::tempdir().map_err(|error| error.to_string())?;
        let origin = elsewhere.path().join("tree");
        sources::write(&origin, plan.seed, plan.items)?;
        run(Command::new("tar")
            .arg("--create")
            .arg("--file")
            .arg(dir.join("tree.tar"))
            .arg("-C")
            .arg(elsewhere.path())
            .arg("tree"))?;
        run(Command::new("tar").current_dir(dir).args(["--extract", "--preserve-permissions", "--file", "tree.tar"]))?;
        run(Command::new("diff").arg("-r").arg("--no-dereference").arg(&origin).arg(dir.join("tree")))?;
        run(Command::new("tar").current_dir(dir).args(["--diff", "--file", "tree.tar"])).map(drop)
    })
}

/// A copy by rsync, and a second one that finds nothing to copy.
pub fn rsync(dir: &Path, plan: &Plan) -> Result<Outcome, Failure> {
    with("rsync", &["rsync", "diff"], plan, || {
        let elsewhere = tempfile::tempdir().map_err(|error| error.to_string())?;
        sources::write(elsewhere.path(), plan.seed, plan.items)?;
        // The slash asks for what is in the directory.
        let origin = format!("{}/", elsewhere.path().display());
        let copy =
            || run(Command::new("rsync").arg("--archive").arg("--hard-links").arg("--itemize-changes").arg(&origin).arg(dir));
        if copy()?.lines().count() < plan.items {
            return Err("the first rsync copied too little".to_owned());
        }
        run(Command::new("diff").arg("-r").arg("--no-dereference").arg(&origin).arg(dir))?;
        expect("what the second rsync copied", &copy()?, "")
    })
}

/// A build of a small crate, its program run, and a second build that finds everything fresh.
pub fn cargo(dir: &Path, plan: &Plan) -> Result<Outcome, Failure> {
    with("cargo", &["cargo", "cc"], plan, || {
        sources::write_crate(dir, plan.seed, 20)?;
        let cargo = |verb: &str| {
            let mut command = Command::new("cargo");
            for variable in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER"] {
                command.env_remove(variable);
            }
            run(command.current_dir(dir).args([verb, "--offline", "--quiet"]))
        };
        cargo("build")?;
        expect("what the program says", &cargo("run")?, &sources::crate_says(plan.seed, 20))?;
        let program = dir.join("target/debug/made");
        let built = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).map_err(|error| error.to_string());
        let before = built(&program)?;
        cargo("build")?;
        if built(&program)? != before {
            return Err("the second build built again".to_owned());
        }
        Ok(())
    })
}

/// Whether something came out as it should.
fn expect(what: &str, found: &str, expected: &str) -> Step<()> {
    if found.trim() == expected { Ok(()) } else { Err(format!("{what}: expected '{expected}', found '{found}'")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test per check, so that each has a reason of its own to fail.
    fn on_a_plain_directory(check: fn(&Path, &Plan) -> Result<Outcome, Failure>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        match check(dir.path(), &Plan { seed: 1, items: 100 }) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Skipped(reason)) => println!("skipped: {reason}"),
            Err(failure) => panic!("{failure}"),
        }
    }

    #[test]
    fn sqlite_works_on_a_plain_directory() {
        on_a_plain_directory(sqlite);
    }

    #[test]
    fn git_works_on_a_plain_directory() {
        on_a_plain_directory(git);
    }

    #[test]
    fn tar_works_on_a_plain_directory() {
        on_a_plain_directory(tar);
    }

    #[test]
    fn rsync_works_on_a_plain_directory() {
        on_a_plain_directory(rsync);
    }

    #[test]
    fn cargo_works_on_a_plain_directory() {
        on_a_plain_directory(cargo);
    }

    #[test]
    fn a_missing_program_skips_and_a_failing_one_fails() {
        let plan = Plan::default();
        let skipped = with("sqlite", &["no-such-program-4711"], &plan, || panic!("not reached"));
        assert_eq!(skipped, Ok(Outcome::Skipped("no-such-program-4711 is not installed".to_owned())));
        let failed =
            with("tar", &["tar"], &plan, || run(Command::new("tar").args(["--extract", "--file", "/no/such"])).map(drop));
        assert!(failed.expect_err("there is no such archive").to_string().contains("/no/such"));
    }
}
