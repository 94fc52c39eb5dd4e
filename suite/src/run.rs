//! Rounds. Within each group the targets alternate (A B A B …), so that a machine that gets slower does so for all of them.

use crate::error::Result;
use crate::plan::{Group, Plan};
use crate::report::{Report, Tally};
use crate::row::Recorder;
use crate::stop::Stop;
use crate::system::Machine;
use serde::Serialize;
use std::time::Instant;

/// What can be measured.
pub trait Target {
    /// What people called it, and what is known of it.
    fn info(&self) -> TargetInfo;
    /// The groups that it has, in order.
    fn groups(&self) -> Vec<Group>;
    /// Measures a group once.
    fn round(&mut self, group: Group, round: u32, to: &mut Recorder<'_>) -> Result<()>;
    /// Removes what it made. Called once, whatever happened before.
    fn leave(&mut self) -> Result<()>;
}

/// A target, in a report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TargetInfo {
    /// As it was given.
    pub name: String,
    /// `directory` or `store`.
    pub kind: &'static str,
    /// Kind and source of the mount that it is in; of a store nothing.
    pub file_system: Option<String>,
    /// What whoever reads its figures should know.
    pub notes: Vec<String>,
}

/// How far a bench is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Groups of rows that are done.
    pub done: usize,
    /// Of how many.
    pub total: usize,
    /// What is being measured.
    pub what: &'a str,
}

/// When a report was made, and by what: known to the caller only.
#[derive(Clone, Debug)]
pub struct Imprint {
    /// The version of the program.
    pub version: String,
    /// The date.
    pub date: String,
}

/// Measures all targets and makes the report. What the targets made is removed when this returns, with a failure too.
pub fn run(
    mut targets: Vec<Box<dyn Target>>,
    plan: &Plan,
    imprint: Imprint,
    stop: &Stop,
    show: &dyn Fn(Progress<'_>),
) -> Result<Report> {
    let (machine, began) = (Machine::look(), Instant::now());
    let measured = rounds(&mut targets, plan, stop, show);
    let infos = targets.iter().map(|target| target.info()).collect();
    // All are asked to leave before the first failure counts.
    let left: Vec<Result<()>> = targets.iter_mut().map(|target| target.leave()).collect();
    let tally = measured?;
    left.into_iter().collect::<Result<()>>()?;
    Ok(Report::new(plan, imprint, machine, infos, tally, began.elapsed()))
}

fn rounds(targets: &mut [Box<dyn Target>], plan: &Plan, stop: &Stop, show: &dyn Fn(Progress<'_>)) -> Result<Tally> {
    let mut groups: Vec<Group> = targets.iter().flat_map(|target| target.groups()).collect();
    groups.sort();
    groups.dedup();
    let mut tally = Tally::new(targets.len());
    let total = groups.len() * targets.len() * plan.rounds as usize;
    let mut done = 0;
    for group in groups {
        for round in 0..plan.rounds {
            for (number, target) in targets.iter_mut().enumerate() {
                stop.check()?;
                let mut rows = Vec::new();
                let show = |what: &str| show(Progress { done, total, what });
                let mut recorder = Recorder::new(&mut rows, stop, &show);
                match target.round(group, round, &mut recorder) {
                    Err(error) if error.ends_the_bench() => return Err(error),
                    Err(error) => recorder.group_failed(group, &error),
                    Ok(()) => {}
                }
                tally.add(number, round, rows);
                done += 1;
            }
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Diary = Rc<RefCell<Vec<String>>>;

    struct Fake {
        name: &'static str,
        diary: Diary,
        fails: Option<fn() -> Error>,
    }

    impl Target for Fake {
        fn info(&self) -> TargetInfo {
            TargetInfo { name: self.name.into(), ..TargetInfo::default() }
        }

        fn groups(&self) -> Vec<Group> {
            vec![Group::Sequential, Group::Small]
        }

        fn round(&mut self, group: Group, round: u32, _to: &mut Recorder<'_>) -> Result<()> {
            self.diary.borrow_mut().push(format!("{} {group} {round}", self.name));
            self.fails.map_or(Ok(()), |error| Err(error()))
        }

        fn leave(&mut self) -> Result<()> {
            self.diary.borrow_mut().push(format!("{} leaves", self.name));
            Ok(())
        }
    }

    fn run_two(fails: Option<fn() -> Error>) -> (Result<Report>, Vec<String>) {
        let diary = Diary::default();
        let fake = |name, fails| Box::new(Fake { name, diary: Rc::clone(&diary), fails }) as Box<dyn Target>;
        let targets = vec![fake("A", None), fake("B", fails)];
        let plan = Plan { rounds: 2, ..crate::plan::tiny() };
        let imprint = Imprint { version: "1".into(), date: "today".into() };
        let report = run(targets, &plan, imprint, &Stop::default(), &|_| ());
        (report, diary.take())
    }

    #[test]
    fn targets_alternate_within_each_group_and_leave() {
        let (report, diary) = run_two(None);
        assert_eq!(report.expect("a report").targets.len(), 2);
        let expected = "A sequential 0,B sequential 0,A sequential 1,B sequential 1,A small 0,B small 0,A small 1,B small 1,A leaves,B leaves";
        assert_eq!(diary.join(","), expected);
    }

    #[test]
    fn all_leave_when_one_fails() {
        let (report, diary) = run_two(Some(|| Error::Interrupted));
        assert!(matches!(report, Err(Error::Interrupted)));
        assert_eq!(diary[diary.len() - 2..], ["A leaves", "B leaves"]);
    }

    #[test]
    fn a_group_that_fails_is_a_row_without_a_figure() {
        let refused = || Error::Io { what: "lay out", path: "/x".into(), source: std::io::Error::from_raw_os_error(libc::EPERM) };
        let (report, diary) = run_two(Some(refused));
        assert_eq!(diary.len(), 10);
        let report = report.expect("a report");
        assert_eq!(report.rows.len(), 2);
        assert!(report.rows[0].results[1].why.as_deref().is_some_and(|why| why.contains("cannot lay out '/x'")));
    }
}
