//! A report for tests: some rows of each kind, steady and not, measured and not.

use super::{Figures, Report, Row};
use crate::plan::{Group, tiny};
use crate::row::{RowId, State, Unit};
use crate::run::TargetInfo;
use crate::stats::{Percentiles, Spread, ratio};
use crate::system::Machine;

/// Of one target, or of two.
pub(crate) fn report(targets: usize) -> Report {
    let mib = f64::from(1 << 20);
    let rows = [
        (Group::Sequential, "write", Some(1 << 20), State::Made, Unit::Bytes, [Some(800.0 * mib), Some(820.0 * mib)]),
        (Group::Sequential, "read", Some(1 << 20), State::Device, Unit::Bytes, [Some(1500.0 * mib), Some(1100.0 * mib)]),
        (Group::Sequential, "read", Some(1 << 20), State::Memory, Unit::Bytes, [Some(9000.0 * mib), Some(9100.0 * mib)]),
        (Group::Random, "random read", Some(4096), State::Device, Unit::Operations, [Some(14_800.0), Some(15_000.0)]),
        (Group::Metadata, "readdir and stat each (ls -l)", None, State::Device, Unit::Names, [None, None]),
        (Group::Metadata, "mkdir", None, State::Made, Unit::Names, [Some(31_000.0), Some(31_500.0)]),
    ];
    let rows = rows.into_iter().map(|(group, what, block_bytes, state, unit, figures)| {
        let id = RowId { group, what, block_bytes, threads: 4, state, unit };
        row(id, &figures[..], targets)
    });
    let target = |name: &str| TargetInfo {
        name: name.into(),
        kind: "directory",
        file_system: Some("ext4 (/dev/vda)".into()),
        notes: vec!["cold reads are not measured".into()],
    };
    Report {
        format: 1,
        version: "0.1.0".into(),
        date: "2026-07-01T12:00:00Z".into(),
        seconds: 61.5,
        machine: Machine { cores: 4, memory_bytes: 8 << 30, kernel: "6.12.0".into(), load: 0.2 },
        plan: crate::plan::Plan { rounds: 2, ..tiny() },
        targets: ["/mnt/<data>", "/srv/b"].map(target).into_iter().take(targets).collect(),
        rows: rows.collect(),
        notes: vec!["read with care & thought".into()],
    }
}

fn row(id: RowId, figures: &[Option<f64>], targets: usize) -> Row {
    let results: Vec<Figures> = (0..targets).map(|target| of(figures, if target == 0 { 1.0 } else { 0.9 })).collect();
    let ratio = if targets == 2 {
        ratio(&results[0].rounds, &[results[1].rounds[0], results[1].rounds[1].map(|f| f * 1.2)])
    } else {
        None
    };
    Row { row: id.slug(), title: id.title(), id, results, ratio }
}

fn of(rounds: &[Option<f64>], factor: f64) -> Figures {
    let rounds: Vec<Option<f64>> = rounds.iter().map(|figure| figure.map(|figure| figure * factor)).collect();
    let figures: Vec<f64> = rounds.iter().flatten().copied().collect();
    let latency =
        Percentiles { count: 1000, mean: 70.0, p50: 61.0, p90: 90.0, p95: 120.0, p99: 340.0, p999: 19_000.0, max: 52_000.0 };
    let is_measured = !figures.is_empty();
    Figures {
        per_second: Spread::of(&figures),
        rounds,
        latency_us: is_measured.then_some(latency),
        how: is_measured.then(|| "O_DIRECT, page cache dropped".into()),
        why: (!is_measured).then(|| "names stay in memory".into()),
        ..Figures::default()
    }
}
