//! Quotas for people: a line each.

use crate::names;
use forebay_daemon::control::quota::{Amount, Kind, QuotaInfo, QuotaReport, Standing};
use forebay_daemon::units::ByteCount;
use std::time::Duration;

const HEAD: [&str; 10] = ["kind", "whose", "bytes", "soft", "hard", "grace", "inodes", "soft", "hard", "grace"];

/// Quotas as a table; `now` in seconds since the Unix epoch.
pub(crate) fn quotas(quotas: &[QuotaInfo], now: i64) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(quotas.iter().map(|quota| line(quota, now)));
    let widths: Vec<usize> =
        (0..HEAD.len()).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
    let print = |line: &[String; 10]| {
        let cell = |(column, text): (usize, &String)| {
            let width = widths[column];
            if column < 2 { format!("{text:<width$}") } else { format!("{text:>width$}") }
        };
        line.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(print).collect::<Vec<_>>().join("\n")
}

/// Everybody's, with the grace periods.
pub(crate) fn report(report: &QuotaReport, now: i64) -> String {
    let mut out = quotas(&report.quotas, now);
    for grace in &report.graces {
        let (bytes, inodes) = (duration(grace.bytes_seconds), duration(grace.inodes_seconds));
        out.push_str(&format!("\ngrace of {}s: {bytes} for bytes, {inodes} for inodes", grace.kind.name()));
    }
    if report.counting {
        out.push_str("\nwhat was here before the first limit is still being counted: these figures are too low");
    }
    out
}

fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

fn line(quota: &QuotaInfo, now: i64) -> [String; 10] {
    let whose = match (&quota.path, quota.kind) {
        (Some(path), Kind::Project) => format!("/{path}"),
        (_, kind) => names::name_of(kind, quota.id),
    };
    let bytes = |count: u64| ByteCount(count).to_string();
    let limit = |count: u64, text: String| if count == 0 { "-".to_owned() } else { text };
    let (b, i) = (&quota.bytes, &quota.inodes);
    [
        quota.kind.name().to_owned(),
        whose,
        bytes(b.used),
        limit(b.soft, bytes(b.soft)),
        limit(b.hard, bytes(b.hard)),
        grace(b, now),
        i.used.to_string(),
        limit(i.soft, i.soft.to_string()),
        limit(i.hard, i.hard.to_string()),
        grace(i, now),
    ]
}

fn grace(amount: &Amount, now: i64) -> String {
    match (amount.standing, amount.grace_until) {
        (Standing::Within, _) => "-".to_owned(),
        (Standing::Grace, Some(until)) => duration(u64::try_from(until - now).unwrap_or(0)),
        (Standing::Grace | Standing::Expired, _) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_read_as_a_table() {
        let none = Amount { used: 3, soft: 0, hard: 0, standing: Standing::Within, grace_until: None };
        let soft = Amount { used: 12 << 30, soft: 10 << 30, hard: 15 << 30, standing: Standing::Grace, grace_until: Some(3700) };
        let over = Amount { used: 9, soft: 8, hard: 0, standing: Standing::Expired, grace_until: None };
        let all = [
            QuotaInfo { kind: Kind::User, id: 0, path: None, bytes: soft, inodes: none },
            QuotaInfo { kind: Kind::Project, id: 9, path: Some("a/b".into()), bytes: none, inodes: over },
        ];
        let expected = "\
kind     whose   bytes    soft    hard   grace  inodes  soft  hard  grace
user     root   12 GiB  10 GiB  15 GiB  1h 40s       3     -     -      -
project  /a/b      3 B       -       -       -       9     8     -   none";
        assert_eq!(quotas(&all, 60), expected);
    }
}
