//! `forebay fsck`: metadata, blocks and references against each other.

use crate::care::{self, confused, done, fsck_lines};
use crate::cli_data::FsckArgs;
use crate::error::CliError;
use crate::places;
use forebay_daemon::cache::care::Watch;
use forebay_daemon::control::care::{CareOrder, CareReport, FsckReport};
use forebay_daemon::engine::{OfflineCheck, check_offline};

pub(super) fn run(args: &FsckArgs, json: bool) -> Result<(), CliError> {
    let rate = care::rate(&args.rate)?;
    let data_rate = args.data.then_some(rate);
    let report = if args.cache.is_empty() {
        let client = places::daemon_of_maybe(args.mount.as_deref()).map_err(or_unmounted)?;
        match done(&client, &CareOrder::Fsck { repair: args.repair, data_rate })? {
            CareReport::Fsck(report) => report,
            _ => return Err(confused()),
        }
    } else {
        let user = places::user()?;
        let dirs = args.cache.iter().map(|dir| user.cwd.join(dir)).collect();
        let (repair, owner) = (args.repair, (user.uid, user.gid));
        let check = OfflineCheck { dirs, repair, data_rate, copies: args.dirty_copies, owner };
        check_offline(&check, &Watch::new(None)).map_err(CliError::failed)?
    };
    if json {
        super::print_json(&report)?;
    } else {
        super::print(&fsck_lines(&report).join("\n"));
    }
    if report.has_problems() { Err(failure(&report, args, json)) } else { Ok(()) }
}

/// What is not mounted can be checked as well.
fn or_unmounted(error: CliError) -> CliError {
    match error {
        CliError::Failed(why) => CliError::words(format!("{why}; to check what is not mounted, give its --cache directories")),
        other => other,
    }
}

fn failure(report: &FsckReport, args: &FsckArgs, json: bool) -> CliError {
    if json {
        return CliError::Told;
    }
    let is_lost = report.missing_blocks > 0 || report.data.as_ref().is_some_and(|data| data.lost_blocks > 0);
    let what_now = match (is_lost, args.repair) {
        (_, false) if report.found > report.repaired => "'forebay fsck --repair' repairs what can be repaired",
        (true, _) => "restore the files named above from elsewhere, or remove them",
        (false, _) => "see above for what is left",
    };
    CliError::words(format!("the file system has problems; {what_now}"))
}
