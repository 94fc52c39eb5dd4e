//! What figures cannot say: noise, too few rounds, a machine that does something else.

use super::Row;
use crate::plan::Plan;
use crate::system::Machine;

/// Spread over the rounds, as a share of the median, above which a row is called noisy.
const NOISY: f64 = 0.25;
/// Load of a processor above which somebody else is at work.
const BUSY: f64 = 0.5;

/// Notes on a whole report.
pub(super) fn of(plan: &Plan, machine: &Machine, rows: &[Row]) -> Vec<String> {
    [too_few(plan), busy(machine), noisy(plan, rows), undecided(plan, rows)].into_iter().flatten().collect()
}

fn too_few(plan: &Plan) -> Option<String> {
    (plan.rounds < 2).then(|| "one round says nothing about noise: give --rounds 3 or more before you compare".to_owned())
}

fn busy(machine: &Machine) -> Option<String> {
    let (load, cores) = (machine.load, machine.cores);
    (load > cores as f64 * BUSY)
        .then(|| format!("the machine was at work when this began (load {load:.1} on {cores} processors): figures are lower for it, and less steady"))
}

fn noisy(plan: &Plan, rows: &[Row]) -> Option<String> {
    let is_noisy =
        |row: &&Row| row.results.iter().any(|figures| figures.per_second.is_some_and(|spread| spread.relative() > NOISY));
    let (noisy, all) = (rows.iter().filter(is_noisy).count(), rows.len());
    (plan.rounds > 1 && noisy > 0).then(|| {
        format!("{noisy} of {all} rows moved by more than a quarter between rounds: read their medians with care; more --rounds, more --seconds or a quieter machine help")
    })
}

fn undecided(plan: &Plan, rows: &[Row]) -> Option<String> {
    let undecided = rows.iter().filter(|row| row.ratio.is_some_and(|ratio| !ratio.is_decided)).count();
    (plan.rounds > 1 && undecided > 0).then(|| {
        format!("{undecided} ratios are marked ≈: they do not stand out from the noise between rounds, or there were too few")
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_quiet_machine_and_steady_rows_need_no_note() {
        let mut report = sample::report(1);
        report.machine.load = 0.1;
        report.rows.truncate(1);
        assert_eq!(of(&report.plan, &report.machine, &report.rows), [""; 0]);
    }

    #[test]
    fn noise_and_doubt_are_said() {
        let mut report = sample::report(2);
        report.machine.load = 9.0;
        let notes = of(&report.plan, &report.machine, &report.rows).join("\n");
        for part in ["load 9.0 on 4 processors", "rows moved by more than a quarter", "ratios are marked ≈"] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
        report.plan.rounds = 1;
        assert!(of(&report.plan, &report.machine, &report.rows)[0].contains("one round says nothing"));
    }
}
