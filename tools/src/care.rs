//! What `fsck`, `scrub` and `gc` have in common: waiting for the daemon, and words for what it found.

use crate::error::CliError;
use forebay_daemon::control::Client;
use forebay_daemon::control::care::{CareOrder, CareReport, FsckReport, LostPart, ScrubReport};
use forebay_daemon::units::ByteCount;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Between looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Has a daemon do something, and waits for the end; a terminal shows how far it is. Interrupted, the daemon ends it as well.
pub(crate) fn done(client: &Client, order: &CareOrder) -> Result<CareReport, CliError> {
    let mut info = client.start_care(order).map_err(CliError::failed)?;
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{bar:24} {percent:>3} %").unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    });
    let report = loop {
        if let Some(report) = info.report {
            break report;
        }
        if let Some(bar) = &bar {
            bar.set_length(info.total);
            bar.set_position(info.done.min(info.total));
        }
        info = client.care(info.id, LOOK).map_err(CliError::failed)?;
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(report)
}

/// The error for a report of something else than was asked for.
pub(crate) fn confused() -> CliError {
    CliError::words("the daemon answered something else; is it of another version?")
}

/// A rate of reading, in bytes a second.
pub(crate) fn rate(text: &str) -> Result<u64, CliError> {
    match text.parse::<ByteCount>() {
        Ok(ByteCount(0)) => Err(CliError::usage("--rate: nothing is read at 0 bytes a second")),
        Ok(rate) => Ok(rate.0),
        Err(error) => Err(CliError::usage(format!("--rate: {error}"))),
    }
}

/// What a check found, a line each.
pub(crate) fn fsck_lines(report: &FsckReport) -> Vec<String> {
    let word = |repaired| if repaired { "repaired" } else { "problem" };
    let mut lines: Vec<String> =
        report.problems.iter().map(|problem| format!("{}: {}", word(problem.repaired), problem.what)).collect();
    let untold = report.found.saturating_sub(report.problems.len() as u64);
    lines.extend((untold > 0).then(|| format!("and {untold} more")));
    lines.extend(report.missing.iter().map(|part| lost_line(part, "on no device")));
    if let Some(data) = &report.data {
        lines.extend(scrub_lines(data));
    }
    let (left, blocks) = (report.found - report.repaired.min(report.found), report.held_blocks);
    lines.push(match report.has_problems() {
        false if report.found == 0 => format!("no problems; {blocks} blocks exist only here"),
        false => format!("{} problems, all repaired; {blocks} blocks exist only here", report.found),
        true => format!("{} problems, {left} of them not repaired; {} blocks missing", report.found, report.missing_blocks),
    });
    lines.extend((!report.is_whole).then(|| "it ended before all was checked".to_owned()));
    lines
}

/// What a look at all data found, a line each.
pub(crate) fn scrub_lines(report: &ScrubReport) -> Vec<String> {
    let mut lines = vec![format!("{} blocks, {} read and verified", report.frames, ByteCount(report.bytes))];
    let healed = |yes: &str, no: &str| if report.healed { yes.to_owned() } else { no.to_owned() };
    let mut add =
        |count: u64, what: &str, outcome: String| lines.extend((count > 0).then(|| format!("{count} {what}: {outcome}")));
    add(report.cached, "damaged cached blocks", healed("dropped, to be fetched again", "to be dropped and fetched again"));
    add(report.copies, "damaged copies", healed("made anew from the other copy", "to be made anew from the other copy"));
    add(report.descriptions, "blocks with a damaged description", healed("stored anew", "to be stored anew"));
    add(report.lacking_copies, "blocks that exist only here", "they have no second copy yet".to_owned());
    add(report.unread_frames, "blocks not verified", "their device does not answer".to_owned());
    lines.extend(report.lost.iter().map(|part| lost_line(part, "damaged, and there is no other copy")));
    let lost = report.lost_blocks;
    lines.extend((lost > 0).then(|| format!("{lost} blocks that existed only here are lost")));
    lines.extend((!report.is_whole).then(|| "it ended before all was read".to_owned()));
    lines
}

fn lost_line(part: &LostPart, why: &str) -> String {
    format!("lost: {}, bytes {} to {}: {why}", part.path, part.start, part.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_daemon::control::care::Problem;

    #[test]
    fn what_was_found_is_said_a_line_each() {
        let whole = FsckReport { is_whole: true, held_blocks: 3, ..FsckReport::default() };
        assert_eq!(fsck_lines(&whole), ["no problems; 3 blocks exist only here"]);
        let problems = vec![Problem { what: "a".into(), repaired: true }, Problem { what: "b".into(), repaired: false }];
        let missing = vec![LostPart { path: "d/f".into(), start: 0, end: 131_072 }];
        let report = FsckReport { problems, found: 5, repaired: 1, missing_blocks: 1, missing, ..whole };
        assert_eq!(
            fsck_lines(&report),
            [
                "repaired: a",
                "problem: b",
                "and 3 more",
                "lost: d/f, bytes 0 to 131072: on no device",
                "5 problems, 4 of them not repaired; 1 blocks missing"
            ]
        );
    }

    #[test]
    fn a_scrub_says_what_it_healed_and_what_is_lost() {
        let report = ScrubReport { is_whole: true, frames: 9, bytes: 1 << 20, cached: 2, healed: true, ..ScrubReport::default() };
        assert!(!report.has_problems());
        assert_eq!(
            scrub_lines(&report),
            ["9 blocks, 1 MiB read and verified", "2 damaged cached blocks: dropped, to be fetched again"]
        );
        let report = ScrubReport { healed: false, is_whole: false, ..report };
        assert!(report.has_problems());
        assert!(scrub_lines(&report).contains(&"it ended before all was read".to_owned()));
    }

    #[test]
    fn rates_are_sizes_and_not_nothing() {
        assert_eq!(rate("100M").ok(), Some(100 << 20));
        assert!(rate("0").is_err() && rate("fast").is_err());
    }
}
