//! Associations as text for people.

use crate::table;
use forebay_daemon::control::dra::{AssociationInfo, Event};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Width of the names in the left column of one association.
const NAME_WIDTH: usize = 13;

fn events(events: &[Event]) -> String {
    let name = |event: &Event| match event {
        Event::New => "new",
        Event::Changed => "changed",
        Event::Deleted => "deleted",
    };
    if events.is_empty() { "none".into() } else { events.iter().map(name).collect::<Vec<_>>().join(",") }
}

/// All associations, a line each.
pub(crate) fn associations(all: &[AssociationInfo]) -> String {
    if all.is_empty() {
        return "nothing is linked; 'forebay dra create DIR s3://bucket' links a directory".into();
    }
    let width = all.iter().map(|info| info.path.chars().count()).max().unwrap_or(0).max(4);
    let mut out =
        format!("{:<7} {:<width$} {:<13} {:<19} {:<19} REPOSITORY\n", "ID", "PATH", "LIFECYCLE", "AUTO-IMPORT", "AUTO-EXPORT");
    for info in all {
        let (import, export) = (events(&info.auto_import), events(&info.auto_export));
        writeln!(out, "{:<7} {:<width$} {:<13} {import:<19} {export:<19} {}", info.id, info.path, info.lifecycle, info.url)
            .expect("writing to a string");
        info.failure.iter().for_each(|why| writeln!(out, "        {why}").expect("writing to a string"));
    }
    out
}

/// One association.
pub(crate) fn association(info: &AssociationInfo) -> String {
    let mut out = format!("{}  {}  {}\n", info.id, info.path, info.url);
    let mut line = |name: &str, value: &str| {
        writeln!(out, "  {name:<NAME_WIDTH$}{value}").expect("writing to a string");
    };
    line("lifecycle", &info.lifecycle);
    info.failure.iter().for_each(|why| line("failure", why));
    line("auto-import", &events(&info.auto_import));
    if let Some(status) = &info.auto_import_status {
        line("", &table::auto_import(status));
        status.queue.iter().for_each(|queue| line("event queue", &table::event_queue(queue)));
    }
    line("auto-export", &events(&info.auto_export));
    line("on conflict", &format!("{:?}", info.on_conflict).to_lowercase());
    for (name, value) in &info.options {
        line("option", &format!("{name}={value}"));
    }
    let created = UNIX_EPOCH + Duration::from_secs_f64(info.created.max(0.0));
    line("created", &humantime::format_rfc3339_seconds(created).to_string());
    if info.lifecycle == "DELETING" {
        line("deleting", &format!("{} files so far", info.deleted_files));
    }
    out
}
