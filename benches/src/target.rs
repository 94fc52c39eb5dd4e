//! The targets of DESIGN section 9, as rules over the outcome of a workload.

use crate::harness::stats::{median, paired_ratio};
use crate::run::{Outcome, Row};

/// The peer that is held to the targets.
pub const SUBJECT: &str = "forebay";
/// The subject with a hundred snapshots.
pub const WITH_SNAPSHOTS: &str = "forebay-snapshots";
/// The subject with `--dedup off`.
pub const WITHOUT_DEDUP: &str = "forebay-no-dedup";
/// Peers that are no competitors but measures.
const MEASURES: [&str; 5] = ["plain", "plain-client", "bindfs", WITH_SNAPSHOTS, WITHOUT_DEDUP];
/// A hundred snapshots leave at least so much of the speed of reading, and of writing.
const LEFT_WITH_SNAPSHOTS: (f64, f64) = (0.95, 0.85);
/// Dedup leaves at least so much of the speed of what is not a duplicate.
const LEFT_WITH_DEDUP: f64 = 0.85;

/// What has to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// At least so many times as good as the best other mount.
    BestPeer(f64),
    /// At least so many times as good as the workload's baseline.
    Baseline(f64),
    /// At least so much, in the workload's unit.
    AtLeast(f64),
    /// At most so long.
    AtMostSeconds(f64),
    /// At most so many requests of a kind.
    AtMostRequests(&'static str, u64),
}

/// A rule for one series of a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The series.
    pub series: &'static str,
    /// The rule.
    pub rule: Rule,
}

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Reached.
    Reached,
    /// Not reached.
    Missed,
    /// Forebay or what it is compared with gave no figure.
    Unknown,
}

/// A target with its outcome, as printed.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Judgement {
    /// The workload and series.
    pub work: String,
    /// The rule, in words.
    pub target: String,
    /// The figure, in words.
    pub figure: String,
    /// The verdict.
    pub verdict: Verdict,
}

impl Target {
    /// A rule for a series.
    pub fn new(series: &'static str, rule: Rule) -> Self {
        Target { series, rule }
    }

    /// Judges an outcome of this target's series.
    pub fn judge(&self, outcome: &Outcome) -> Judgement {
        let subject = outcome.rows.iter().find(|row| row.peer == SUBJECT);
        let (target, judged) = match self.rule {
            Rule::BestPeer(times) => (format!("≥ {times} × best peer"), subject.and_then(|s| best_peer(outcome, s, times))),
            Rule::Baseline(times) => {
                (format!("≥ {times} × {}", outcome.baseline), subject.and_then(|s| baseline(outcome, s, times)))
            }
            Rule::AtLeast(figure) => {
                let shown = format!("≥ {figure} {}", outcome.unit.name());
                (shown, subject.and_then(|s| at_least(outcome, s, figure)))
            }
            Rule::AtMostSeconds(limit) => (format!("≤ {limit} s"), subject.and_then(|s| at_most_seconds(s, limit))),
            Rule::AtMostRequests(operation, limit) => {
                (format!("≤ {limit} {operation}"), subject.and_then(|s| at_most_requests(s, operation, limit)))
            }
        };
        let (figure, verdict) = match judged {
            Some((figure, true)) => (figure, Verdict::Reached),
            Some((figure, false)) => (figure, Verdict::Missed),
            None => ("no figure".to_owned(), Verdict::Unknown),
        };
        Judgement { work: format!("{} {}", outcome.workload, self.series), target, figure, verdict }
    }
}

/// What a feature costs, where a variant of the subject took part: the speed with the feature, in shares of the speed without.
pub fn costs(outcome: &Outcome) -> Vec<Judgement> {
    let (reading, writing) = LEFT_WITH_SNAPSHOTS;
    let reads = ["read", "stat", "fresh", "again"].contains(&outcome.series);
    let with_snapshots = if reads { reading } else { writing };
    let pairs = [(WITH_SNAPSHOTS, SUBJECT, with_snapshots), (SUBJECT, WITHOUT_DEDUP, LEFT_WITH_DEDUP)];
    pairs.into_iter().filter_map(|(with, without, least)| cost(outcome, with, without, least)).collect()
}

fn cost(outcome: &Outcome, with: &str, without: &str, least: f64) -> Option<Judgement> {
    let row = |name: &str| outcome.rows.iter().find(|row| row.peer == name);
    let (with_row, without_row) = (row(with)?, row(without)?);
    let ratio = paired_ratio(&with_row.values, &without_row.values, outcome.unit.higher_is_better());
    let (figure, verdict) = match ratio {
        Some(ratio) => (format!("{ratio:.2}"), if ratio >= least { Verdict::Reached } else { Verdict::Missed }),
        None => ("no figure".to_owned(), Verdict::Unknown),
    };
    let work = format!("{} {}: {with}", outcome.workload, outcome.series);
    Some(Judgement { work, target: format!("≥ {least} × {without}"), figure, verdict })
}

/// The least ratio to any competitor decides.
fn best_peer(outcome: &Outcome, subject: &Row, times: f64) -> Option<(String, bool)> {
    let competitors = outcome.rows.iter().filter(|row| row.peer != SUBJECT && !MEASURES.contains(&row.peer.as_str()));
    let ratio = |row: &Row| paired_ratio(&subject.values, &row.values, outcome.unit.higher_is_better());
    let least = competitors.filter_map(|row| Some((ratio(row)?, &row.peer))).min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some((format!("{:.2} × {}", least.0, least.1), least.0 >= times))
}

fn baseline(outcome: &Outcome, subject: &Row, times: f64) -> Option<(String, bool)> {
    let baseline = outcome.rows.iter().find(|row| row.peer == outcome.baseline)?;
    let ratio = paired_ratio(&subject.values, &baseline.values, outcome.unit.higher_is_better())?;
    Some((format!("{ratio:.2} × {}", outcome.baseline), ratio >= times))
}

fn at_least(outcome: &Outcome, subject: &Row, least: f64) -> Option<(String, bool)> {
    let figure = median(&subject.finished())?;
    Some((format!("{} {}", outcome.unit.format(figure), outcome.unit.name()), figure >= least))
}

fn at_most_seconds(subject: &Row, limit: f64) -> Option<(String, bool)> {
    let seconds = median(&subject.finished())?;
    Some((format!("{seconds:.3} s"), seconds <= limit))
}

fn at_most_requests(subject: &Row, operation: &str, limit: u64) -> Option<(String, bool)> {
    subject.finished().first()?;
    let most = subject.requests.iter().map(|round| round.get(operation).copied().unwrap_or(0)).max()?;
    Some((format!("{most} {operation}"), most <= limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::meter::Unit;
    use crate::harness::store::Counts;

    fn row(peer: &str, values: &[f64]) -> Row {
        Row {
            peer: peer.to_owned(),
            values: values.iter().copied().map(Some).collect(),
            cpu_seconds: Vec::new(),
            requests: vec![Counts::from([("HEAD".to_owned(), 3)])],
            failure: None,
        }
    }

    fn outcome(rows: Vec<Row>) -> Outcome {
        Outcome {
            workload: "w".to_owned(),
            series: "read",
            unit: Unit::MibPerSecond,
            configuration: String::new(),
            baseline: "plain-client".to_owned(),
            rows,
        }
    }

    fn verdict(rule: Rule, outcome: &Outcome) -> Verdict {
        Target::new("read", rule).judge(outcome).verdict
    }

    #[test]
    fn the_best_peer_is_a_mount_and_not_a_measure() {
        let outcome =
            outcome(vec![row("plain-client", &[900.0]), row("forebay", &[600.0]), row("a", &[100.0]), row("b", &[290.0])]);
        assert_eq!(verdict(Rule::BestPeer(2.0), &outcome), Verdict::Reached);
        assert_eq!(verdict(Rule::BestPeer(2.1), &outcome), Verdict::Missed);
        assert_eq!(verdict(Rule::Baseline(0.6), &outcome), Verdict::Reached);
        assert_eq!(verdict(Rule::Baseline(0.7), &outcome), Verdict::Missed);
        assert_eq!(verdict(Rule::AtLeast(600.0), &outcome), Verdict::Reached);
        assert_eq!(verdict(Rule::AtLeast(601.0), &outcome), Verdict::Missed);
        assert_eq!(verdict(Rule::AtMostRequests("HEAD", 2), &outcome), Verdict::Missed);
        assert_eq!(verdict(Rule::AtMostRequests("LIST", 0), &outcome), Verdict::Reached);
    }

    #[test]
    fn a_feature_is_held_to_the_speed_without_it() {
        let read = outcome(vec![row("forebay", &[100.0]), row(WITH_SNAPSHOTS, &[94.0]), row(WITHOUT_DEDUP, &[110.0])]);
        let verdicts: Vec<Verdict> = costs(&read).into_iter().map(|judged| judged.verdict).collect();
        assert_eq!(verdicts, [Verdict::Missed, Verdict::Reached]);
        let written = Outcome { series: "write", ..read };
        assert!(costs(&written).iter().all(|judged| judged.verdict == Verdict::Reached));
        assert!(costs(&outcome(vec![row("forebay", &[100.0])])).is_empty(), "only where a variant takes part");
    }

    #[test]
    fn without_a_figure_nothing_is_reached() {
        let alone = outcome(vec![row("forebay", &[600.0])]);
        assert_eq!(verdict(Rule::BestPeer(2.0), &alone), Verdict::Unknown);
        let absent = outcome(vec![row("a", &[1.0])]);
        for rule in [Rule::BestPeer(2.0), Rule::Baseline(0.7), Rule::AtMostSeconds(1.0), Rule::AtMostRequests("HEAD", 9)] {
            assert_eq!(verdict(rule, &absent), Verdict::Unknown);
        }
    }
}
