//! A report as text: a block for each group, figures in columns, and beneath what they cannot say.

use super::{Figures, Report, Row, show_ratio};
use crate::stats::{Percentiles, Spread};
use crate::units;
use std::fmt::Write;

/// Between columns.
const GAP: &str = "  ";

/// The whole report.
pub fn of(report: &Report) -> String {
    let mut out = head(report);
    // One width for each column over all groups, so that the eye can go down.
    let heading = heading(report);
    let all: Vec<Vec<String>> = report.rows.iter().map(|row| cells(report, row)).collect();
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| all.iter().chain([&heading]).map(|cells| cells[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut lines = all.iter();
    for (group, rows) in report.groups() {
        let mut heading = heading.clone();
        heading[0] = group.heading().to_owned();
        writeln!(out, "\n{}", line(&heading, &widths)).expect("writing to a string");
        for cells in lines.by_ref().take(rows.len()) {
            writeln!(out, "{}", line(cells, &widths)).expect("writing to a string");
        }
    }
    out + &foot(report)
}

fn head(report: &Report) -> String {
    let (plan, machine) = (&report.plan, &report.machine);
    let mut out = String::new();
    for (letter, target) in letters().zip(&report.targets) {
        let on = target.file_system.as_ref().map_or(String::new(), |on| format!("  on {on}"));
        let letter = if report.targets.len() > 1 { format!("{letter} = ") } else { String::new() };
        writeln!(out, "{letter}{}{on}", target.name).expect("writing to a string");
    }
    let rounds = if plan.rounds == 1 { "1 round".to_owned() } else { format!("the median of {} rounds", plan.rounds) };
    let (memory, took) = (units::size(machine.memory_bytes), units::time(report.seconds * 1e6));
    let (cores, kernel) = (machine.cores, &machine.kernel);
    writeln!(out, "{rounds}, took {took}; {cores} processors, {memory}, Linux {kernel}; {}", report.date)
        .expect("writing to a string");
    out
}

fn letters() -> impl Iterator<Item = char> {
    'A'..='Z'
}

fn heading(report: &Report) -> Vec<String> {
    let columns: &[&str] = match report.targets.len() {
        2 => &["", "CACHE", "A", "B", "A/B", "A p50", "B p50", "A p99", "B p99", "HOW"],
        _ => &["", "CACHE", "MEDIAN", "SPREAD", "p50", "p99", "p99.9", "HOW"],
    };
    columns.iter().map(|column| (*column).to_owned()).collect()
}

fn cells(report: &Report, row: &Row) -> Vec<String> {
    let mut cells = vec![format!("  {}", row.title), row.id.state.short().to_owned()];
    let at = |target: usize, pick: fn(&Percentiles) -> f64| time(&row.results[target], pick);
    match report.targets.len() {
        2 => {
            cells.extend([row.shown(0), row.shown(1)]);
            cells.push(row.ratio.as_ref().map_or("-".into(), show_ratio));
            cells.extend([at(0, |p| p.p50), at(1, |p| p.p50), at(0, |p| p.p99), at(1, |p| p.p99)]);
        }
        _ => {
            let spread = row.results[0].per_second.filter(|_| report.plan.rounds > 1);
            cells.extend([row.shown(0), spread.map_or("-".into(), |spread| show_spread(&spread))]);
            cells.extend([at(0, |p| p.p50), at(0, |p| p.p99), at(0, |p| p.p999)]);
        }
    }
    cells.push(how(row));
    cells
}

fn time(figures: &Figures, pick: fn(&Percentiles) -> f64) -> String {
    figures.latency_us.as_ref().map_or("-".into(), |latency| units::time(pick(latency)))
}

/// Half the way from the least to the greatest, as a share of the median.
pub(super) fn show_spread(spread: &Spread) -> String {
    format!("±{:.0}%", spread.relative() * 50.0)
}

/// How a row was done by all targets, or by each.
pub(super) fn how(row: &Row) -> String {
    let mut ways: Vec<&str> = row.results.iter().map(|figures| figures.how.as_deref().unwrap_or("not measured")).collect();
    ways.dedup();
    let first_byte = row.results[0]
        .first_byte_us
        .map_or(String::new(), |first| format!("; first byte p50 {}, p99 {}", units::time(first.p50), units::time(first.p99)));
    format!("{}{first_byte}", ways.join(" | "))
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let last = cells.len() - 1;
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
        // Names and words to the left, figures to the right.
        0 | 1 => format!("{cell:<width$}"),
        _ if column == last => cell.clone(),
        _ => format!("{cell:>width$}"),
    });
    padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

fn foot(report: &Report) -> String {
    let mut out = String::new();
    let reasons = report.reasons();
    if !reasons.is_empty() {
        out.push_str("\nNot measured:\n");
        for (why, rows) in reasons {
            writeln!(out, "  {}: {why}", rows.join("; ")).expect("writing to a string");
        }
    }
    let notes = report.all_notes();
    if !notes.is_empty() {
        out.push_str("\nNotes:\n");
        notes.iter().for_each(|note| writeln!(out, "  {note}").expect("writing to a string"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn one_target_has_spread_and_percentiles() {
        let text = of(&sample::report(1));
        let expected = "\
/mnt/<data>  on ext4 (/dev/vda)
the median of 2 rounds, took 61.5 s; 4 processors, 8 GiB, Linux 6.12.0; 2026-07-01T12:00:00Z

Sequential                                  CACHE      MEDIAN  SPREAD      p50     p99   p99.9  HOW
  write 1 MiB, 4 threads                    -       810 MiB/s     ±1%  61 µs  340 µs  19 ms  O_DIRECT, page cache dropped
";
        // Widths follow the longest of all groups, so the first lines are compared without runs of spaces.
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeeze(&text).starts_with(&squeeze(expected)), "{text}");
        assert!(
            text.contains("Not measured:\n  readdir and stat each (ls -l), 4 threads, cached on device: names stay in memory\n"),
            "{text}"
        );
        assert!(text.contains("Notes:\n  read with care & thought\n  cold reads are not measured\n"), "{text}");
    }

    #[test]
    fn two_targets_stand_beside_each_other_with_their_ratio() {
        let text = of(&sample::report(2));
        assert!(text.starts_with("A = /mnt/<data>  on ext4 (/dev/vda)\nB = /srv/b  on ext4 (/dev/vda)\n"), "{text}");
        let reads = text.lines().find(|line| line.contains("random read 4 KiB, 4 threads")).expect("a row");
        assert!(reads.contains("14.9k/s") && reads.contains("13.4k/s") && reads.contains("≈1.02×"), "{reads}");
    }

    #[test]
    fn figures_stand_beneath_each_other() {
        let text = of(&sample::report(1));
        let ends: Vec<usize> = text
            .lines()
            .filter(|line| line.starts_with("  ") && line.contains("/s "))
            .map(|line| line.chars().take(line.find("/s ").map_or(0, |at| line[..at].chars().count())).count())
            .collect();
        assert!(ends.len() >= 5 && ends.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
