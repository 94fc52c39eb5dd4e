//! `forebay gc`: what nothing refers to is freed, and its space given back.

use crate::care::{confused, done};
use crate::cli::WhichMount;
use crate::error::CliError;
use crate::places;
use forebay_daemon::control::care::{CareOrder, CareReport};
use forebay_daemon::units::ByteCount;

pub(super) fn run(of: &WhichMount, json: bool) -> Result<(), CliError> {
    let client = places::daemon_of_maybe(of.mount.as_deref())?;
    let CareReport::Gc(report) = done(&client, &CareOrder::Gc {})? else { return Err(confused()) };
    if json {
        super::print_json(&report)?;
    } else {
        let (dropped, given) = (ByteCount(report.dropped_bytes), ByteCount(report.given_back_bytes));
        let inodes = report.inodes;
        super::print(&format!("{inodes} removed files freed, {dropped} of blocks dropped, {given} given back to the disk"));
    }
    if report.is_whole { Ok(()) } else { Err(CliError::words("it ended before all was freed; run it again")) }
}
