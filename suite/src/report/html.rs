//! A report as one page: style and drawings are in it, nothing is loaded, and nothing has to run.

use super::chart::{Chart, escape};
use super::table::{how, show_spread};
use super::{Report, Row, show_ratio};
use crate::row::{State, Unit};
use crate::stats::Percentiles;
use crate::units;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub fn of(report: &Report) -> String {
    let title = report.targets.iter().map(|target| escape(&target.name)).collect::<Vec<_>>().join(" against ");
    let body = [head(report), not_said(report), legend(report), charts(report), table(report)].concat();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>forebay bench: {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

fn head(report: &Report) -> String {
    let (plan, machine) = (&report.plan, &report.machine);
    let mut out = String::from("<ul class=\"targets\">\n");
    for (number, target) in report.targets.iter().enumerate() {
        let on =
            target.file_system.as_ref().map_or(String::new(), |on| format!(" <span class=\"soft\">on {}</span>", escape(on)));
        let letter = if report.targets.len() > 1 { ["A: ", "B: "][number.min(1)] } else { "" };
        let name = escape(&target.name);
        writeln!(out, "<li><span class=\"key s{number}\"></span>{letter}<b>{name}</b>{on}</li>").expect("writing to a string");
    }
    let memory = units::size(machine.memory_bytes);
    let rounds = if plan.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", plan.rounds) };
    let sizes = plan.blocks.iter().map(|bytes| units::size(*bytes)).collect::<Vec<_>>().join(", ");
    writeln!(
        out,
        "</ul>\n<p class=\"soft\">{}; {rounds}, took {}; {} processors, {memory} of memory, Linux {}; forebay {}</p>\n\
         <p class=\"soft\">{} in large files or objects, {} small files of {}, blocks of {sizes}, {} threads, {} data, at most {} for each row</p>",
        escape(&report.date),
        units::time(report.seconds * 1e6),
        machine.cores,
        escape(&machine.kernel),
        escape(&report.version),
        units::size(plan.size_bytes),
        plan.files,
        units::size(plan.file_bytes),
        plan.threads,
        plan.data.name(),
        units::time(plan.limit.as_secs_f64() * 1e6),
    )
    .expect("writing to a string");
    out
}

/// What the figures cannot say, before the figures.
fn not_said(report: &Report) -> String {
    let mut items: Vec<String> = report.all_notes().iter().map(|note| escape(note)).collect();
    items.extend(
        report.reasons().iter().map(|(why, rows)| format!("not measured: {}: {}", escape(&rows.join("; ")), escape(why))),
    );
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|item| format!("<li>{item}</li>\n")).collect();
    format!("<div class=\"notes\">\n<h2>What these figures do not say</h2>\n<ul>\n{items}</ul>\n</div>\n")
}

fn legend(report: &Report) -> String {
    let ratio = if report.targets.len() == 2 {
        " A/B is the median of the ratios of each round; with ≈ before it, it does not stand out from the noise between rounds."
    } else {
        ""
    };
    format!(
        "<p class=\"legend\">Latency: the dot is the median, the thick line goes to the 99th percentile, the thin one to the 99.9th.{ratio}</p>\n"
    )
}

fn charts(report: &Report) -> String {
    let mut out = String::new();
    for (group, rows) in report.groups() {
        writeln!(out, "<section>\n<h2>{}</h2>", group.heading()).expect("writing to a string");
        let mut under = None;
        for (state, rows) in by_state_and_unit(&rows) {
            let Some(chart) = Chart::of(&rows) else { continue };
            let words = heading_of(state);
            if under.replace(state) != Some(state) {
                writeln!(out, "<h3>{words}</h3>").expect("writing to a string");
            }
            out.push_str(&chart.svg(&format!("{}: {words}", group.heading())));
        }
        out.push_str("</section>\n");
    }
    out
}

fn heading_of(state: State) -> &'static str {
    match state {
        State::Found => "First read, as it was found",
        State::Device => "Cached on device: not in the kernel's memory",
        State::Memory => "Cached in memory: read before",
        State::Made => "Made and changed",
        State::Store => "Requests to the store",
    }
}

/// Rows that can share an axis: memory is a hundred times as fast as a device, and bytes are no operations.
fn by_state_and_unit<'a>(rows: &[&'a Row]) -> Vec<(State, Vec<&'a Row>)> {
    let mut kinds: Vec<((State, Unit), Vec<&Row>)> = Vec::new();
    for row in rows {
        let kind = (row.id.state, row.id.unit);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, rows)) => rows.push(row),
            None => kinds.push((kind, vec![row])),
        }
    }
    // First read, device, memory, what was made: as states are ordered.
    kinds.sort_by_key(|((state, _), _)| *state);
    kinds.into_iter().map(|((state, _), rows)| (state, rows)).collect()
}

fn table(report: &Report) -> String {
    let mut out = String::from("<h2>All figures</h2>\n<div class=\"scroll\">\n<table>\n");
    let several = report.targets.len() > 1;
    let columns = ["median", "spread", "p50", "p90", "p95", "p99", "p99.9", "slowest"];
    let ratio = if several { "<th>A/B</th>" } else { "" };
    let columns: String = columns.iter().map(|column| format!("<th>{column}</th>")).collect();
    let target = if several { "<th class=\"left\"></th>" } else { "" };
    writeln!(out, "<tr><th>row</th><th class=\"left\">cache</th>{target}{columns}{ratio}</tr>").expect("writing to a string");
    for row in &report.rows {
        for target in 0..report.targets.len() {
            out.push_str(&table_row(report, row, target));
        }
    }
    out + "</table>\n</div>\n"
}

fn table_row(report: &Report, row: &Row, target: usize) -> String {
    let figures = &row.results[target];
    let spread = figures.per_second.filter(|_| report.plan.rounds > 1).map_or("-".into(), |spread| show_spread(&spread));
    let picks: [fn(&Percentiles) -> f64; 6] = [|p| p.p50, |p| p.p90, |p| p.p95, |p| p.p99, |p| p.p999, |p| p.max];
    let times = picks.map(|pick| figures.latency_us.as_ref().map_or("-".into(), |latency| units::time(pick(latency))));
    let cells: String = [row.shown(target), spread].iter().chain(&times).map(|cell| format!("<td>{cell}</td>")).collect();
    let several = report.targets.len() > 1;
    let ratio = match (several, target, &row.ratio) {
        (true, 0, Some(ratio)) => format!("<td>{}</td>", show_ratio(ratio)),
        (true, ..) => "<td></td>".into(),
        _ => String::new(),
    };
    let name = |first: String| if target == 0 { first } else { String::new() };
    let letter = if several { format!("<td class=\"left\">{}</td>", ["A", "B"][target.min(1)]) } else { String::new() };
    let how = format!("<br><span class=\"soft\">{}</span>", escape(&how(row)));
    format!(
        "<tr><td>{}</td><td class=\"left\">{}</td>{letter}{cells}{ratio}</tr>\n",
        name(escape(&format!("{}: {}", row.id.group, row.title)) + &how),
        name(row.id.state.short().into()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_runs_nothing() {
        for targets in [1, 2] {
            let page = of(&sample::report(targets));
            for part in ["<script", "http://", "https://", "src=", "href=", "@import", "url("] {
                assert!(!page.contains(part), "{part}");
            }
            assert!(page.contains("/mnt/&lt;data&gt;") && !page.contains("/mnt/<data>"));
            assert!(page.contains("read with care &amp; thought"));
        }
    }

    #[test]
    fn states_and_units_have_charts_of_their_own_and_every_row_is_in_the_table() {
        let report = sample::report(2);
        let page = of(&report);
        // Sequential has three states; random one; of metadata only what was made has a figure.
        assert_eq!(page.matches("<svg").count(), 5);
        assert_eq!(page.matches("<tr>").count(), 1 + 2 * report.rows.len());
    }
}
