//! The POSIX suite `pjdfstest` (the Rust one, 0.2.2, BSD-2-Clause): a program of its own, run on a directory and read.
//!
//! It has to run as root: most of its tests switch to other users, for which it takes `nobody` and `daemon`, who are there
//! on every Debian. On a FUSE mount this asks for `allow_other` and `default_permissions`. On a local ext4 nothing fails,
//! and what is skipped is [`SKIPPED_EVERYWHERE`]; a run takes about four seconds there.
//!
//! Features of it that are always off, since Linux has none of them: `chflags`, `chflags_sf_snapshot`, `nfsv4_acls` and
//! `stat_st_birthtime`; no test of this build asks for one of them. File flags stay off for the same reason.

use super::Failure;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that names the program; `.ci/run` sets it.
pub const VARIABLE: &str = "FOREBAY_PJDFSTEST";

/// How the names of tests that are skipped on every file system end: these would remount it read-only.
pub const SKIPPED_EVERYWHERE: [&str; 2] = ["::erofs_named", "::erofs_new_file"];

/// What the file system under test offers, and what the suite needs to know of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether `posix_fallocate` works; without, its tests are skipped.
    pub fallocate: bool,
    /// Whether a rename changes the ctime of what is renamed; POSIX allows both.
    pub rename_changes_ctime: bool,
    /// Longer than the granularity of time stamps.
    pub nap_seconds: f64,
    /// A directory on another file system, for `EXDEV`.
    pub elsewhere: Option<PathBuf>,
    /// Only tests whose name holds one of these; all if there is none.
    pub patterns: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        // The kernel stamps at its tick, which is 10 ms at the longest.
        Settings { fallocate: true, rename_changes_ctime: true, nap_seconds: 0.02, elsewhere: None, patterns: Vec::new() }
    }
}

impl Settings {
    /// The suite's configuration file.
    fn to_toml(&self) -> String {
        let features = [
            ("posix_fallocate", self.fallocate),
            ("rename_ctime", self.rename_changes_ctime),
            ("utime_now", true),
            ("utimensat", true),
        ];
        let features: String = features.iter().filter(|(_, on)| *on).map(|(name, _)| format!("{name} = {{}}\n")).collect();
        let nap = self.nap_seconds;
        format!(
            "[features]\n{features}\n[settings]\nnaptime = {nap:?}\nallow_remount = false\n\n\
             [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n"
        )
    }
}

/// What a run came to, by the names of its tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tests that passed.
    pub passed: Vec<String>,
    /// Tests that failed, each with what it said.
    pub failed: BTreeMap<String, String>,
    /// Tests that were skipped, each with the reason.
    pub skipped: BTreeMap<String, String>,
}

impl Report {
    /// Every failure, a line or more each.
    pub fn failures(&self) -> String {
        self.failed.iter().map(|(name, why)| format!("{name}: {why}\n")).collect()
    }

    /// Skipped tests that are not among [`SKIPPED_EVERYWHERE`].
    pub fn skipped_here(&self) -> Vec<&str> {
        let everywhere = |name: &str| SKIPPED_EVERYWHERE.iter().any(|end| name.ends_with(end));
        self.skipped.keys().map(String::as_str).filter(|name| !everywhere(name)).collect()
    }
}

/// The program that [`VARIABLE`] names, or why there is nothing to run.
pub fn program() -> Result<PathBuf, String> {
    let Some(program) = std::env::var_os(VARIABLE) else { return Err(format!("{VARIABLE} is not set")) };
    if !rustix::process::geteuid().is_root() {
        return Err("pjdfstest switches users, which takes root".to_owned());
    }
    Ok(program.into())
}

/// Runs the suite on a directory; failed tests are in the report, an error is a suite that could not be run or read.
pub fn run(program: &Path, dir: &Path, settings: &Settings) -> Result<Report, Failure> {
    let failure = |difference| Failure { exerciser: "pjdfstest", seed: 0, operation: 0, difference };
    let config = tempfile::Builder::new().suffix(".toml").tempfile().map_err(|error| failure(error.to_string()))?;
    std::fs::write(config.path(), settings.to_toml()).map_err(|error| failure(error.to_string()))?;
    let mut command = Command::new(program);
    command.arg("--configuration-file").arg(config.path()).arg("--path").arg(dir).env("NO_COLOR", "1");
    if let Some(elsewhere) = &settings.elsewhere {
        command.arg("--secondary-fs").arg(elsewhere);
    }
    let output = command.args(&settings.patterns).output().map_err(|error| failure(format!("{}: {error}", program.display())))?;
    let said = String::from_utf8_lossy(&output.stdout);
    parse(&said).map_err(|what| failure(format!("{what}\n{said}{}", String::from_utf8_lossy(&output.stderr))))
}

/// Reads what the suite prints: a line per test, below it (after a tab) what it has to say, and a summary.
fn parse(said: &str) -> Result<Report, String> {
    let mut report = Report::default();
    let mut explains: Option<&mut String> = None;
    for line in said.lines() {
        if let Some((name, verdict)) = verdict(line) {
            explains = match verdict {
                "ok" => {
                    report.passed.push(name.to_owned());
                    None
                }
                "FAILED" => Some(report.failed.entry(name.to_owned()).or_default()),
                _ => Some(report.skipped.entry(name.to_owned()).or_default()),
            };
        } else if let Some(summary) = line.strip_prefix("Summary: ") {
            return agrees(&report, summary).then_some(report).ok_or_else(|| format!("read otherwise than '{summary}'"));
        } else if let Some(text) = explains.as_deref_mut()
            && !line.trim().is_empty()
        {
            text.push_str(if text.is_empty() { "" } else { "; " });
            text.push_str(line.trim());
        }
    }
    Err("no summary".to_owned())
}

/// A test's name and what became of it, if the line is about that.
fn verdict(line: &str) -> Option<(&str, &str)> {
    let (name, verdict) = line.split_once(char::is_whitespace)?;
    let verdict = verdict.trim();
    (name.contains("::") && ["ok", "FAILED", "skipped"].contains(&verdict)).then_some((name, verdict))
}

/// Whether the suite counted what was read.
fn agrees(report: &Report, summary: &str) -> bool {
    let count = |word: &str| {
        let part = summary.split(", ").find_map(|part| part.strip_suffix(word))?;
        part.trim().parse::<usize>().ok()
    };
    let read = [report.failed.len(), report.skipped.len(), report.passed.len()];
    ["failed", "skipped", "passed"].map(count) == read.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_directory_passes_everything() {
        let program = match program() {
            Ok(program) => program,
            Err(reason) => return println!("skipped: {reason}"),
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let report = run(&program, dir.path(), &Settings::default()).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(report.failures(), "");
        assert!(report.passed.len() > 350, "only {} tests passed", report.passed.len());
        // Without another file system there is nothing to ask EXDEV of.
        let asked: Vec<&str> = report.skipped_here().into_iter().filter(|name| !name.ends_with("::exdev_target")).collect();
        assert_eq!(asked, [""; 0]);
    }

    #[test]
    fn what_it_prints_is_read() {
        let said = "unlink::a                    ok\nlink::b::c         FAILED\n\tassertion `left == right` failed\n  left: 1\n right: 2\n\
                    open::d           skipped\n\trequires features: chflags\n\nSummary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n";
        let report = parse(said).expect("it is read");
        assert_eq!(report.passed, ["unlink::a"]);
        assert_eq!(report.failures(), "link::b::c: assertion `left == right` failed; left: 1; right: 2\n");
        assert_eq!(report.skipped_here(), ["open::d"]);
        assert_eq!(report.skipped["open::d"], "requires features: chflags");
    }

    #[test]
    fn a_run_that_broke_off_or_counts_otherwise_is_no_report() {
        assert_eq!(parse("unlink::a    ok\n"), Err("no summary".to_owned()));
        let said = "unlink::a    ok\n\nSummary: 0 failed, 0 skipped, 2 passed, 0 expected failures, 2 total\n";
        assert!(parse(said).is_err());
    }
}
