//! Text for people: what the commands print without `--json`.

use crate::figures_table;
use forebay_daemon::control::figures::FiguresInfo;
use forebay_daemon::control::snapshot::SnapshotInfo;
use forebay_daemon::control::types::{DeviceStatus, HiddenKeys, Status, StripeInfo, Unexported};
use forebay_daemon::format::located::bare;
use forebay_daemon::task::watch::{AutoImportStatus, QueueStatus};
use forebay_daemon::units::ByteCount;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Width of the names in the left column.
const NAME_WIDTH: usize = 12;

fn bytes(n: u64) -> ByteCount {
    ByteCount(n)
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.0}%", part as f64 * 100.0 / whole as f64) }
}

fn duration(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

/// One mount, as `forebay status` shows it, with what its data takes.
pub(crate) fn status(status: &Status, figures: Option<&FiguresInfo>) -> String {
    let mut out = format!("{}  {}\n", status.mountpoint, status.repository);
    let mut line = |name: &str, value: String| {
        writeln!(out, "  {name:<NAME_WIDTH$}{value}").expect("writing to a string");
    };
    line("daemon", format!("pid {}, version {}, up {}", status.pid, status.version, duration(status.uptime_seconds)));
    line("deployment", status.deployment.clone());
    line("cache", cache(status));
    if let Some(figures) = figures {
        line("data", figures_table::line(figures));
    }
    line("served", format!("{} from the cache, {} fetched", bytes(status.hit_bytes), bytes(status.fetched_bytes)));
    let r = &status.requests;
    line("requests", format!("{} GET, {} HEAD, {} LIST, {} repeated", r.get, r.head, r.list, r.retries));
    if r.put + r.delete + r.copy + r.multipart > 0 {
        line("written", format!("{} PUT, {} DELETE, {} COPY, {} in multipart uploads", r.put, r.delete, r.copy, r.multipart));
    }
    line("memory", format!("{} of {}", bytes(status.memory_bytes), bytes(status.memory_target_bytes)));
    if status.dirty_bytes > 0 {
        line("dirty", format!("{} exist only here", bytes(status.dirty_bytes)));
    }
    for association in status.associations.iter().filter(|association| association.path != "/") {
        line("linked", format!("{} to {} ({})", association.path, association.url, association.lifecycle));
    }
    if status.unexported.changes > 0 {
        line("unexported", unexported(&status.unexported));
    }
    for import in &status.auto_import {
        line("auto-import", auto_import(import));
        if let Some(queue) = &import.queue {
            line("event queue", event_queue(queue));
        }
    }
    if status.dirty_copies > 1 {
        line("copies", copies(status));
    }
    if status.hidden_keys > 0 {
        line("hidden keys", format!("{} ('forebay status --hidden-keys' lists them)", status.hidden_keys));
    }
    for device in &status.devices {
        line("device", device_line(device));
    }
    out
}

fn cache(status: &Status) -> String {
    let c = &status.cache;
    let used = percent(c.stored_bytes, c.capacity_bytes);
    let mut text = format!("{} of {} used ({used}), {} blocks", bytes(c.stored_bytes), bytes(c.capacity_bytes), c.blocks);
    for (count, what) in [(c.evicted_blocks, "evicted"), (c.corrupt_blocks, "corrupt")] {
        if count > 0 {
            write!(text, ", {count} {what}").expect("writing to a string");
        }
    }
    text
}

fn unexported(unexported: &Unexported) -> String {
    let mut text = format!("{} changes, the oldest {} ago", unexported.changes, duration(unexported.oldest_seconds));
    if !unexported.automatic {
        text += " ('forebay export' sends them)";
    }
    if let (failing @ 1.., Some(why)) = (unexported.failing, &unexported.last_failure) {
        write!(text, "; {failing} FAILED so far: {why}").expect("writing to a string");
    }
    text
}

/// How automatic import is doing.
pub(crate) fn auto_import(import: &AutoImportStatus) -> String {
    let mut text = import.events.join(",");
    let prefix = bare(&import.prefix);
    if !prefix.is_empty() {
        write!(text, " of '{prefix}'").expect("writing to a string");
    }
    match &import.last_pass {
        None => text += "; not listed yet",
        Some(pass) => {
            let ago = duration(pass.ago_seconds);
            write!(text, "; listed {ago} ago ({} objects in {} ms)", pass.objects, pass.took_ms).expect("writing to a string");
        }
    }
    let every = duration(import.interval_ms.div_ceil(1000));
    let (new, changed, deleted) = (import.new, import.changed, import.deleted);
    write!(text, ", next after {every}; {new} new, {changed} changed, {deleted} deleted").expect("writing to a string");
    if let (conflicts @ 1.., Some(key)) = (import.conflicts, &import.conflict) {
        write!(text, "; {conflicts} CONFLICTS, such as '{key}'").expect("writing to a string");
    }
    if let Some(error) = &import.last_error {
        write!(text, "; FAILED last: {error}").expect("writing to a string");
    }
    text
}

/// How a queue of events is doing.
pub(crate) fn event_queue(queue: &QueueStatus) -> String {
    let mut text = if queue.connected { "connected".to_owned() } else { "NOT CONNECTED".to_owned() };
    write!(text, ", {} messages", queue.messages).expect("writing to a string");
    if let Some(ago) = queue.last_message_seconds {
        write!(text, ", the last {} ago", duration(ago)).expect("writing to a string");
    }
    if let Some(backlog) = queue.backlog {
        write!(text, ", {backlog} waiting").expect("writing to a string");
    }
    if let Some(age) = queue.oldest_message_seconds {
        write!(text, ", the oldest in hand {} old", duration(age)).expect("writing to a string");
    }
    for (count, what) in [(queue.unreadable, "unreadable"), (queue.given_up, "given up")] {
        if count > 0 {
            write!(text, ", {count} {what}").expect("writing to a string");
        }
    }
    if let Some(error) = &queue.last_error {
        write!(text, ": {error}").expect("writing to a string");
    }
    text
}

fn copies(status: &Status) -> String {
    let wanted = status.dirty_copies;
    match status.lacking_copies {
        0 => format!("{wanted} of what exists only here"),
        lacking => format!("{wanted} of what exists only here; {lacking} blocks LACK their second copy"),
    }
}

fn device_line(device: &DeviceStatus) -> String {
    let health = if device.in_service { "in service" } else { "OUT OF SERVICE" };
    let (read, written) = (bytes(device.read_bytes), bytes(device.written_bytes));
    format!(
        "{}: {}, {health}, {} errors, {read} read ({} reads), {written} written ({} writes)",
        device.path,
        bytes(device.capacity_bytes),
        device.errors,
        device.reads,
        device.writes
    )
}

/// The hidden keys of one mount.
pub(crate) fn hidden_keys(mountpoint: &str, hidden: &HiddenKeys) -> String {
    let mut out = format!("{mountpoint}  {} hidden keys\n", hidden.total);
    for key in &hidden.keys {
        writeln!(out, "  {:?}  {}", key.key, key.reason).expect("writing to a string");
    }
    let more = hidden.total.saturating_sub(hidden.keys.len() as u64);
    if more > 0 {
        writeln!(out, "  … and {more} more").expect("writing to a string");
    }
    out
}

/// A stripe layout.
pub(crate) fn stripe(info: &StripeInfo) -> String {
    let count = if info.stripe_count == 0 { "all devices".to_owned() } else { info.stripe_count.to_string() };
    let whence = if info.inherited { "inherited" } else { "set here" };
    format!("stripe count {count}, stripe size {}, {whence}", bytes(info.stripe_size))
}

/// All snapshots, a line each.
pub(crate) fn snapshots(all: &[SnapshotInfo]) -> String {
    if all.is_empty() {
        return "there are no snapshots; 'forebay snapshot create NAME' takes one".into();
    }
    let width = all.iter().map(|info| info.name.chars().count()).max().unwrap_or(0).max(4);
    let mut out = format!("{:<width$}  {:<20}  PATH\n", "NAME", "CREATED");
    for info in all {
        let held = if info.materialized { "  (materialized)" } else { "" };
        writeln!(out, "{:<width$}  {:<20}  {}{held}", info.name, time(info.created), info.path).expect("writing to a string");
    }
    out
}

/// One snapshot.
pub(crate) fn snapshot(info: &SnapshotInfo) -> String {
    let held = if info.materialized { ", materialized" } else { "" };
    format!("{}  of {}, taken {}{held}", info.name, info.path, time(info.created))
}

fn time(seconds: f64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_daemon::block::BlockStats;
    use forebay_daemon::control::types::{HiddenKey, Requests};
    use forebay_daemon::task::watch::PassStatus;
    use forebay_daemon::vfs::Figures;

    fn sample() -> Status {
        Status {
            repository: "s3://bucket".into(),
            mountpoint: "/mnt/data".into(),
            pid: 7,
            version: "0.1.0".into(),
            uptime_seconds: 3661,
            deployment: "persistent".into(),
            cache: BlockStats {
                blocks: 10,
                plain_bytes: 4 << 20,
                stored_bytes: 1 << 20,
                capacity_bytes: 4 << 20,
                dedup_bytes: 1 << 10,
                corrupt_blocks: 2,
                ..BlockStats::default()
            },
            devices: vec![DeviceStatus {
                path: "/nvme0".into(),
                capacity_bytes: 4 << 20,
                in_service: false,
                errors: 3,
                read_bytes: 1024,
                written_bytes: 2048,
                reads: 1,
                writes: 2,
            }],
            memory_bytes: 100 << 20,
            memory_target_bytes: 1 << 30,
            hit_bytes: 5,
            fetched_bytes: 6,
            requests: Requests { get: 1, head: 2, list: 3, put: 5, delete: 6, copy: 7, multipart: 8, retries: 4 },
            hidden_keys: 1,
            dirty_bytes: 0,
            associations: Vec::new(),
            dirty_copies: 1,
            lacking_copies: 0,
            unexported: Unexported::default(),
            auto_import: Vec::new(),
        }
    }

    #[test]
    fn automatic_import_is_told_with_what_is_wrong_with_it() {
        let mut status = sample();
        assert!(!super::status(&status, None).contains("auto-import"));
        let pass = PassStatus { ago_seconds: 7, took_ms: 40, objects: 1200, ..PassStatus::default() };
        let queue =
            QueueStatus { messages: 3, backlog: Some(2), last_error: Some("status 503".into()), ..QueueStatus::default() };
        status.auto_import = vec![AutoImportStatus {
            events: vec!["new".into(), "deleted".into()],
            last_pass: Some(pass),
            interval_ms: 9_500,
            new: 5,
            conflicts: 2,
            conflict: Some("a/b".into()),
            queue: Some(queue),
            ..AutoImportStatus::default()
        }];
        let text = super::status(&status, None);
        let line = "new,deleted; listed 7s ago (1200 objects in 40 ms), next after 10s; 5 new, 0 changed, 0 deleted; 2 CONFLICTS, such as 'a/b'";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("NOT CONNECTED, 3 messages, 2 waiting: status 503"), "{text}");
    }

    #[test]
    fn a_mount_reads_as_a_table() {
        let expected = "\
/mnt/data  s3://bucket
  daemon      pid 7, version 0.1.0, up 1h 1m 1s
  deployment  persistent
  cache       1 MiB of 4 MiB used (25%), 10 blocks, 2 corrupt
  data        8 MiB logical, 6 MiB referenced, 4 MiB unique, 1 MiB stored; dedup 1.50x, compression 4.00x
  served      5 B from the cache, 6 B fetched
  requests    1 GET, 2 HEAD, 3 LIST, 4 repeated
  written     5 PUT, 6 DELETE, 7 COPY, 8 in multipart uploads
  memory      100 MiB of 1 GiB
  hidden keys 1 ('forebay status --hidden-keys' lists them)
  device      /nvme0: 4 MiB, OUT OF SERVICE, 3 errors, 1 KiB read (1 reads), 2 KiB written (2 writes)
";
        let figures = Figures {
            logical_bytes: 8 << 20,
            referenced_bytes: 6 << 20,
            unique_bytes: 4 << 20,
            stored_bytes: 1 << 20,
            ..Figures::default()
        };
        assert_eq!(status(&sample(), Some(&figures.into())), expected);
    }

    #[test]
    fn copies_are_shown_where_there_are_to_be_two() {
        let shown = |lacking_copies| status(&Status { dirty_copies: 2, lacking_copies, ..sample() }, None);
        assert!(shown(0).contains("\n  copies      2 of what exists only here\n"));
        assert!(shown(7).contains("\n  copies      2 of what exists only here; 7 blocks LACK their second copy\n"));
    }

    #[test]
    fn hidden_keys_are_quoted_and_the_rest_counted() {
        let key = HiddenKey { key: "a//b\n".into(), reason: "empty part".into() };
        let text = hidden_keys("/m", &HiddenKeys { keys: vec![key], total: 3 });
        assert_eq!(text, "/m  3 hidden keys\n  \"a//b\\n\"  empty part\n  … and 2 more\n");
    }

    #[test]
    fn a_layout_says_where_it_comes_from() {
        let info = StripeInfo { stripe_count: 0, stripe_size: 1 << 20, inherited: true };
        assert_eq!(stripe(&info), "stripe count all devices, stripe size 1 MiB, inherited");
    }
}
