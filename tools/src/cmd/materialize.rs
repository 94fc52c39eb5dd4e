//! `forebay snapshot create --materialize` and `forebay snapshot materialize`: snapshots of which nothing is left to the bucket.

use crate::error::CliError;
use crate::table;
use crate::task_progress;
use crate::task_start::report_directory;
use forebay_daemon::control::Client;
use forebay_daemon::control::snapshot::SnapshotOrder;
use forebay_daemon::control::task::{TaskInfo, TaskOrder, decode_path};
use std::path::Path;

/// Takes a snapshot once all names are known that will be in it, and brings all of it here.
pub(super) fn create(client: &Client, order: &SnapshotOrder, report: Option<&Path>, json: bool) -> Result<(), CliError> {
    if client.snapshot(&decode_path(&order.name)).is_ok() {
        let name = &order.name;
        let hint = format!("'forebay snapshot materialize {name}' brings what it lacks");
        return Err(CliError::words(format!("there is a snapshot '{name}' already; {hint}")));
    }
    list(client, order, json)
        .map_err(|error| CliError::words(format!("no snapshot is taken, since not all names are known: {error}")))?;
    client.take_snapshot(order).map_err(CliError::failed)?;
    run(client, &order.name, report, json)
}

/// What nobody had listed would not be in the snapshot.
fn list(client: &Client, order: &SnapshotOrder, json: bool) -> Result<(), CliError> {
    let status = client.status().map_err(CliError::failed)?;
    let linked = status.associations.iter().map(|association| association.path.trim_matches('/'));
    let paths = [order.path.as_str()].into_iter().chain(linked.filter(|path| is_below(path, &order.path)));
    let paths = paths.map(str::to_owned).collect();
    let import = TaskOrder { kind: "import".into(), paths, options: [].into(), report: None };
    let task = client.start_task(&import).map_err(CliError::failed)?;
    let task = task_progress::ended(client, task.id, json)?;
    match (task.state.as_str(), task.total_is_final) {
        ("SUCCEEDED", _) => Ok(()),
        // It went to the end: names are known, if not the attributes of each.
        ("FAILED", true) => {
            eprintln!("forebay: {}; going on", why(&task));
            Ok(())
        }
        _ => Err(CliError::words(why(&task))),
    }
}

fn is_below(path: &str, dir: &str) -> bool {
    let dir = dir.trim_matches('/');
    !path.is_empty() && (dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')))
}

/// Brings what a snapshot lacks, named as [`SnapshotOrder`] names it: starts a task for it, or waits for the one there is.
pub(super) fn run(client: &Client, name: &str, report: Option<&Path>, json: bool) -> Result<(), CliError> {
    let paths = vec![format!(".snapshots/{name}")];
    let report = report.map(|report| report_directory(report, client)).transpose()?;
    let tasks = client.tasks().map_err(CliError::failed)?;
    let goes_on = tasks.into_iter().find(|task| task.kind == "materialize" && !task.has_ended && task.paths == paths);
    let task = match goes_on {
        Some(task) => task,
        None => {
            let order = TaskOrder { kind: "materialize".into(), paths, options: [].into(), report };
            client.start_task(&order).map_err(CliError::failed)?
        }
    };
    let task = task_progress::ended(client, task.id, json)?;
    if task.state == "SUCCEEDED" {
        let info = client.snapshot(&decode_path(name)).map_err(CliError::failed)?;
        if json {
            return super::print_json(&info);
        }
        super::print(&table::snapshot(&info));
        return Ok(());
    }
    if json {
        super::print_json(&task)?;
        return Err(CliError::Told);
    }
    let again = format!("'forebay snapshot materialize {name}' tries again");
    Err(CliError::words(format!("snapshot '{name}' is there, and not materialized: {}; {again}", why(&task))))
}

fn why(task: &TaskInfo) -> String {
    let mut text = match task.failed {
        0 => format!("task {} {}", task.id, task.state),
        failed => format!("{failed} of {} files failed", task.total),
    };
    if let Some(error) = &task.last_error {
        text += &format!(", last {error}");
    }
    if let Some(report) = &task.report {
        text += &format!("; all failures: {report}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn what_is_linked_below_a_directory_is_listed_as_well() {
        assert!(is_below("a/b", "a") && is_below("a/b", "/a/") && is_below("a", ""));
        assert!(!is_below("ab", "a") && !is_below("a", "a") && !is_below("", "") && !is_below("a", "a/b"));
    }
}
