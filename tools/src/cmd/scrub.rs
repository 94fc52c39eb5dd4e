//! `forebay scrub`: all data read and verified, healed where it can be.

use crate::care::{self, confused, done, scrub_lines};
use crate::cli_data::ScrubArgs;
use crate::error::CliError;
use crate::places;
use forebay_daemon::control::care::{CareOrder, CareReport};

pub(super) fn run(args: &ScrubArgs, json: bool) -> Result<(), CliError> {
    let rate = care::rate(&args.rate)?;
    let client = places::daemon_of_maybe(args.of.mount.as_deref())?;
    let CareReport::Scrub(report) = done(&client, &CareOrder::Scrub { rate })? else { return Err(confused()) };
    if json {
        super::print_json(&report)?;
    } else {
        super::print(&scrub_lines(&report).join("\n"));
    }
    if !report.has_problems() {
        return Ok(());
    }
    if json {
        return Err(CliError::Told);
    }
    Err(CliError::words(match report.lost_blocks {
        0 => "not all data could be verified or healed; see above, and scrub again once its devices are in service".to_owned(),
        lost => format!("{lost} blocks are lost; restore the files named above from elsewhere, or remove them"),
    }))
}
