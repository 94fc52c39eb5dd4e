//! Printing: every figure under the configuration it was made with, as text or as JSON.

use super::stats::{median, paired_ratio, spread};
use super::store::Counts;
use crate::run::{Outcome, Row};
use crate::target::{Judgement, Verdict};

/// A peer and how it was set up.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PeerLine {
    /// Its name.
    pub name: String,
    /// Its version, or why it did not take part.
    pub version: String,
    /// Its settings.
    pub settings: String,
    /// Whether it took part.
    pub available: bool,
}

/// A whole run.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// The machine.
    pub machine: String,
    /// The peers.
    pub peers: Vec<PeerLine>,
    /// The figures.
    pub outcomes: Vec<Outcome>,
    /// The targets.
    pub judgements: Vec<Judgement>,
}

/// What stands above all figures.
pub fn head(machine: &str, peers: &[PeerLine]) -> String {
    let mut text = format!("machine: {machine}\n");
    for peer in peers {
        let detail =
            if peer.available { format!("{}; {}", peer.version, peer.settings) } else { format!("absent: {}", peer.version) };
        text += &format!("peer {:<17} {detail}\n", peer.name);
    }
    text
}

/// One series: a line for each peer.
pub fn outcome(outcome: &Outcome) -> String {
    let mut text = format!("\n{} {}\n  {}\n", outcome.workload, outcome.series, outcome.configuration);
    let (unit, baseline) = (outcome.unit.name(), &outcome.baseline);
    text += &format!(
        "  {:<17} {unit:>10} {:>19}  {:>14} {:>7}  requests\n",
        "peer",
        "least … most",
        format!("× {baseline}"),
        "CPU s"
    );
    outcome.rows.iter().for_each(|row| text += &line(outcome, row));
    text
}

fn line(outcome: &Outcome, row: &Row) -> String {
    let finished = row.finished();
    let failure = row.failure.as_ref().map(|why| format!("  {:<17} FAILED {why}\n", row.peer)).unwrap_or_default();
    let (Some(middle), Some((least, most))) = (median(&finished), spread(&finished)) else { return failure };
    let format = |value| outcome.unit.format(value);
    let baseline = outcome.rows.iter().find(|other| other.peer == outcome.baseline);
    let ratio = baseline.and_then(|to| paired_ratio(&row.values, &to.values, outcome.unit.higher_is_better()));
    let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let cpu = median(&row.cpu_seconds).map_or("-".to_owned(), |cpu| format!("{cpu:.2}"));
    let range = format!("{} … {}", format(least), format(most));
    let requests = row.requests.last().map(requests).unwrap_or_default();
    format!("  {:<17} {:>10} {range:>19}  {ratio:>14} {cpu:>7}  {requests}\n{failure}", row.peer, format(middle))
}

fn requests(counts: &Counts) -> String {
    counts.iter().map(|(operation, count)| format!("{operation} {count}")).collect::<Vec<_>>().join(", ")
}

/// The table of targets.
pub fn judgements(judgements: &[Judgement]) -> String {
    let mut text = format!("\n{:<38} {:<24} {:<26} verdict\n", "work", "target", "figure");
    for judgement in judgements {
        let verdict = match judgement.verdict {
            Verdict::Reached => "reached",
            Verdict::Missed => "MISSED",
            Verdict::Unknown => "unknown",
        };
        text += &format!("{:<38} {:<24} {:<26} {verdict}\n", judgement.work, judgement.target, judgement.figure);
    }
    text
}
