//! Rows of many rounds, put together.

use super::{Figures, Row};
use crate::meter::Sample;
use crate::row::{Outcome, RowId, Unit};
use crate::stats::{Latencies, Spread, ratio};

/// All outcomes so far.
#[derive(Debug)]
pub struct Tally {
    targets: usize,
    rows: Vec<(RowId, Vec<Outcomes>)>,
}

/// Of one target in one row, by round.
type Outcomes = Vec<(u32, Outcome)>;

impl Tally {
    /// For so many targets.
    pub fn new(targets: usize) -> Self {
        Tally { targets, rows: Vec::new() }
    }

    /// Takes in a round of a target.
    pub fn add(&mut self, target: usize, round: u32, rows: Vec<(RowId, Outcome)>) {
        for (id, outcome) in rows {
            let at = self.rows.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
                self.rows.push((id, vec![Vec::new(); self.targets]));
                self.rows.len() - 1
            });
            self.rows[at].1[target].push((round, outcome));
        }
    }

    /// The rows, of so many rounds.
    pub(super) fn rows(self, rounds: u32) -> Vec<Row> {
        self.rows.into_iter().map(|(id, outcomes)| row(id, &outcomes, rounds)).collect()
    }
}

fn row(id: RowId, outcomes: &[Outcomes], rounds: u32) -> Row {
    let results: Vec<Figures> = outcomes.iter().map(|outcomes| figures(&id, outcomes, rounds)).collect();
    let ratio = match &results[..] {
        [of, to] => ratio(&of.rounds, &to.rounds),
        _ => None,
    };
    Row { row: id.slug(), title: id.title(), id, results, ratio }
}

fn figures(id: &RowId, outcomes: &Outcomes, rounds: u32) -> Figures {
    let samples: Vec<(u32, &Sample, &String)> = outcomes
        .iter()
        .filter_map(|(round, outcome)| match outcome {
            Outcome::Measured { sample, how } => Some((*round, sample.as_ref(), how)),
            Outcome::NotMeasured(_) => None,
        })
        .collect();
    let of_round = |wanted: u32| samples.iter().find(|(round, ..)| *round == wanted).map(|(_, sample, _)| figure(id, sample));
    let by_round: Vec<Option<f64>> = (0..rounds).map(of_round).collect();
    let moved: Vec<f64> = samples.iter().filter(|(_, s, _)| s.bytes > 0).map(|(_, s, _)| s.per_second(s.bytes)).collect();
    Figures {
        per_second: Spread::of(&by_round.iter().flatten().copied().collect::<Vec<f64>>()),
        rounds: by_round,
        bytes_per_second: Spread::of(&moved).map(|spread| spread.median),
        bytes: samples.iter().map(|(_, sample, _)| sample.bytes).sum(),
        latency_us: all(samples.iter().map(|(_, sample, _)| &sample.latencies)).percentiles(),
        first_byte_us: all(samples.iter().map(|(_, sample, _)| &sample.first_bytes)).percentiles(),
        how: samples.last().map(|(_, _, how)| (*how).clone()),
        why: if samples.is_empty() { Some(why(outcomes)) } else { None },
    }
}

/// Why a row has no figure at all.
fn why(outcomes: &Outcomes) -> String {
    let reason = outcomes.iter().find_map(|(_, outcome)| match outcome {
        Outcome::NotMeasured(why) => Some(why.clone()),
        Outcome::Measured { .. } => None,
    });
    reason.unwrap_or_else(|| "it is not there".to_owned())
}

fn figure(id: &RowId, sample: &Sample) -> f64 {
    sample.per_second(if id.unit == Unit::Bytes { sample.bytes } else { sample.count })
}

fn all<'a>(latencies: impl Iterator<Item = &'a Latencies>) -> Latencies {
    latencies.fold(Latencies::default(), |mut all, one| {
        all.merge(one);
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Group;
    use crate::row::State;
    use std::time::Duration;

    fn id(unit: Unit) -> RowId {
        RowId { group: Group::Random, what: "read", block_bytes: None, threads: 1, state: State::Device, unit }
    }

    fn measured(count: u64, bytes: u64) -> Outcome {
        let mut sample = Sample { count, bytes, elapsed: Duration::from_secs(2), ..Sample::default() };
        sample.latencies.record(Duration::from_micros(count));
        Outcome::Measured { sample: Box::new(sample), how: format!("how {count}") }
    }

    #[test]
    fn rounds_come_together_in_a_row_and_ratios_are_of_rounds() {
        let mut tally = Tally::new(2);
        for (round, count) in [(0, 10), (1, 30), (2, 20)] {
            tally.add(0, round, vec![(id(Unit::Operations), measured(count, count * 100))]);
            tally.add(1, round, vec![(id(Unit::Operations), measured(count * 2, 0))]);
        }
        let rows = tally.rows(3);
        assert_eq!(rows.len(), 1);
        let (first, second) = (&rows[0].results[0], &rows[0].results[1]);
        assert_eq!(first.per_second, Some(Spread { median: 10.0, least: 5.0, greatest: 15.0 }));
        assert_eq!(
            (first.rounds.clone(), first.bytes_per_second, first.bytes),
            (vec![Some(5.0), Some(15.0), Some(10.0)], Some(1000.0), 6000)
        );
        assert_eq!((second.bytes_per_second, first.how.as_deref()), (None, Some("how 20")));
        assert_eq!(first.latency_us.map(|p| p.count), Some(3));
        assert_eq!(rows[0].ratio.map(|ratio| (ratio.spread.median, ratio.is_decided)), Some((0.5, true)));
    }

    #[test]
    fn a_row_of_bytes_counts_bytes() {
        let mut tally = Tally::new(1);
        tally.add(0, 0, vec![(id(Unit::Bytes), measured(1, 500))]);
        let rows = tally.rows(1);
        assert_eq!(rows[0].results[0].per_second.map(|spread| spread.median), Some(250.0));
        assert_eq!(rows[0].ratio, None);
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let mut tally = Tally::new(2);
        tally.add(0, 0, vec![(id(Unit::Bytes), Outcome::NotMeasured("no memory".into()))]);
        let rows = tally.rows(1);
        let why = |target: usize| rows[0].results[target].why.as_deref();
        assert_eq!((why(0), why(1), rows[0].ratio), (Some("no memory"), Some("it is not there"), None));
    }
}
