//! One measured step: how long it took, what the peer's processes and the store did meanwhile.

use super::error::Result;
use super::process;
use super::site::Site;
use super::store::{self, Counts};
use super::system;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Unit {
    /// MiB a second.
    #[serde(rename = "MiB/s")]
    MibPerSecond,
    /// Operations a second.
    #[serde(rename = "IOPS")]
    Iops,
    /// Files a second.
    #[serde(rename = "files/s")]
    FilesPerSecond,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
}

impl Unit {
    /// Its short name.
    pub fn name(self) -> &'static str {
        match self {
            Unit::MibPerSecond => "MiB/s",
            Unit::Iops => "IOPS",
            Unit::FilesPerSecond => "files/s",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Unit::Milliseconds | Unit::Seconds)
    }

    /// A figure as it is printed.
    pub fn format(self, value: f64) -> String {
        match self {
            Unit::Milliseconds | Unit::Seconds => format!("{value:.3}"),
            _ if value < 100.0 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        }
    }
}

/// What a step comes to.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// An amount, to be divided by the seconds it took.
    Amount(f64),
    /// Nothing but the seconds it took.
    Time,
    /// A figure that the step's own tool measured.
    Figure(f64),
}

/// One measured step.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Sample {
    /// Which of the workload's series it belongs to.
    pub series: &'static str,
    /// The figure, in the workload's unit.
    pub value: f64,
    /// CPU seconds that the peer's processes used meanwhile; `None` where there are none.
    pub cpu_seconds: Option<f64>,
    /// What the store was asked meanwhile.
    pub requests: Counts,
}

/// Measures the steps of one round of one peer.
#[derive(Debug)]
pub struct Meter<'a> {
    site: &'a Site,
    mountpoint: Option<&'a Path>,
    samples: Vec<Sample>,
}

impl<'a> Meter<'a> {
    /// How long one step may take.
    pub fn deadline(&self) -> Duration {
        self.site.deadline
    }

    /// The surroundings.
    pub fn site(&self) -> &'a Site {
        self.site
    }

    /// A meter for whatever process has the mount point among its arguments.
    pub fn new(site: &'a Site, mountpoint: Option<&'a Path>) -> Self {
        Meter { site, mountpoint, samples: Vec::new() }
    }

    /// Runs and measures a step, under the site's deadline.
    pub fn measure(&mut self, series: &'static str, step: impl FnOnce() -> Result<Work> + Send + 'static) -> Result<()> {
        let pids = self.mountpoint.map(system::processes_naming).unwrap_or_default();
        let (cpu_before, counts_before) = (system::cpu_seconds(&pids), self.site.store.counts()?);
        let (work, seconds) = process::with_deadline(series, self.site.deadline, || {
            let start = Instant::now();
            step().map(|work| (work, start.elapsed().as_secs_f64()))
        })?;
        let cpu_seconds = (!pids.is_empty()).then(|| system::cpu_seconds(&pids) - cpu_before);
        let requests = store::difference(&counts_before, &self.site.store.counts()?);
        let value = match work {
            Work::Amount(amount) => amount / seconds,
            Work::Time => seconds,
            Work::Figure(figure) => figure,
        };
        self.samples.push(Sample { series, value, cpu_seconds, requests });
        Ok(())
    }

    /// Notes a figure that was measured elsewhere.
    pub fn note(&mut self, series: &'static str, value: f64) {
        self.samples.push(Sample { series, value, cpu_seconds: None, requests: Counts::new() });
    }

    /// The samples, in order.
    pub fn finish(self) -> Vec<Sample> {
        self.samples
    }
}
