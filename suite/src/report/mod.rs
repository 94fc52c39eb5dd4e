//! What a bench found: the rows of all rounds together, for JSON as it is, as a table ([`table`]) and as a page ([`html`]).

#[cfg(test)]
mod browser;
mod chart;
pub mod html;
mod notes;
#[cfg(test)]
mod sample;
mod scale;
pub mod table;
mod tally;

pub use tally::Tally;

use crate::plan::{Group, Plan};
use crate::row::{RowId, State, Unit};
use crate::run::{Imprint, TargetInfo};
use crate::stats::{Percentiles, Ratio, Spread};
use crate::system::Machine;
use serde::Serialize;
use std::time::Duration;

/// The version of the JSON: a field that goes or changes its meaning raises it, one that is added does not.
const FORMAT: u32 = 1;

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// The program's version.
    pub version: String,
    /// When it was begun.
    pub date: String,
    /// How long it took.
    pub seconds: f64,
    /// On what.
    pub machine: Machine,
    /// What was asked for.
    pub plan: Plan,
    /// What was measured; with two, rows have ratios of the first to the second.
    pub targets: Vec<TargetInfo>,
    /// The rows, in the order in which they were measured.
    pub rows: Vec<Row>,
    /// What these figures cannot say.
    pub notes: Vec<String>,
}

/// A row, of all targets and rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// A name for scripts.
    pub row: String,
    /// A name for people.
    pub title: String,
    /// What it is about.
    #[serde(flatten)]
    pub id: RowId,
    /// Of each target.
    pub results: Vec<Figures>,
    /// The first target's figure as a multiple of the second's.
    pub ratio: Option<Ratio>,
}

/// One target's figures in a row.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Of what the row counts, each second; `None` if it was never measured.
    pub per_second: Option<Spread>,
    /// The same of each round.
    pub rounds: Vec<Option<f64>>,
    /// Bytes a second, the median, where bytes were moved.
    pub bytes_per_second: Option<f64>,
    /// Bytes in all rounds.
    pub bytes: u64,
    /// Operations' latencies in microseconds, of all rounds.
    pub latency_us: Option<Percentiles>,
    /// The same to the first byte.
    pub first_byte_us: Option<Percentiles>,
    /// How it was done.
    pub how: Option<String>,
    /// Why it was not measured.
    pub why: Option<String>,
}

impl Report {
    /// Puts a report together.
    pub(crate) fn new(
        plan: &Plan,
        imprint: Imprint,
        machine: Machine,
        targets: Vec<TargetInfo>,
        tally: Tally,
        took: Duration,
    ) -> Self {
        let rows = tally.rows(plan.rounds);
        let notes = notes::of(plan, &machine, &rows);
        let Imprint { version, date } = imprint;
        Report { format: FORMAT, version, date, seconds: took.as_secs_f64(), machine, plan: plan.clone(), targets, rows, notes }
    }

    /// The rows by group, in order.
    pub(crate) fn groups(&self) -> Vec<(Group, Vec<&Row>)> {
        let mut groups: Vec<(Group, Vec<&Row>)> = Vec::new();
        for row in &self.rows {
            match groups.last_mut() {
                Some((group, rows)) if *group == row.id.group => rows.push(row),
                _ => groups.push((row.id.group, vec![row])),
            }
        }
        groups
    }

    /// Reasons why rows have no figure, each once, with the rows it is of.
    pub(crate) fn reasons(&self) -> Vec<(String, Vec<String>)> {
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for row in &self.rows {
            let name = format!("{}{}", row.title, of_state(row.id.state));
            let whys = row.results.iter().map(|figures| figures.why.as_ref());
            for (why, of) in self.by_target(whys) {
                let name = format!("{name}{}", of.map_or(String::new(), |of| format!(" ({of})")));
                match reasons.iter_mut().find(|(known, _)| known == why) {
                    Some((_, rows)) => rows.push(name),
                    None => reasons.push((why.clone(), vec![name])),
                }
            }
        }
        reasons
    }

    /// What is to be said besides the figures: of all targets, then of each.
    pub(crate) fn all_notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        let longest = self.targets.iter().map(|target| target.notes.len()).max().unwrap_or(0);
        for number in 0..longest {
            let of_number = self.by_target(self.targets.iter().map(|target| target.notes.get(number)));
            notes.extend(of_number.into_iter().map(|(note, of)| of.map_or(note.clone(), |of| format!("{of}: {note}"))));
        }
        notes
    }

    /// What is said of each target: once, and without a name, if the same is said of all.
    fn by_target<'a>(&'a self, said: impl Iterator<Item = Option<&'a String>>) -> Vec<(&'a String, Option<&'a str>)> {
        let said: Vec<Option<&String>> = said.collect();
        match said.first() {
            Some(Some(first)) if said.iter().all(|one| *one == Some(*first)) => vec![(*first, None)],
            _ => {
                let named = self.targets.iter().zip(said);
                named.filter_map(|(target, said)| Some((said?, Some(target.name.as_str())))).collect()
            }
        }
    }
}

fn of_state(state: State) -> String {
    match state {
        State::Made | State::Store => String::new(),
        other => format!(", {}", other.words()),
    }
}

impl Row {
    /// A target's figure, for people.
    pub(crate) fn shown(&self, target: usize) -> String {
        self.results[target].per_second.map_or("-".into(), |spread| self.id.unit.show(spread.median))
    }

    /// What its figure counts.
    pub(crate) fn unit(&self) -> Unit {
        self.id.unit
    }
}

/// A ratio, for people: `≈` where it does not stand out from the noise.
pub(crate) fn show_ratio(ratio: &Ratio) -> String {
    let doubt = if ratio.is_decided { "" } else { "≈" };
    format!("{doubt}{:.2}×", ratio.spread.median)
}
