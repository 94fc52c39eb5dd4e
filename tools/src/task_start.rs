//! What all verbs that start a task have in common: paths, the report's place, waiting or not.

use crate::cli::TaskArgs;
use crate::cmd;
use crate::error::CliError;
use crate::places;
use crate::task_progress;
use forebay_daemon::control::Client;
use forebay_daemon::control::task::{TaskOrder, encode_path};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Starts a task over paths (in one mount, or URLs of what is mounted) and waits for it, unless told not to.
pub(crate) fn start(
    kind: &str,
    paths: &[PathBuf],
    options: BTreeMap<String, String>,
    args: &TaskArgs,
    json: bool,
) -> Result<(), CliError> {
    let (client, below) = daemon_of_all(paths)?;
    let report = args.report.as_deref().map(|report| report_directory(report, &client)).transpose()?;
    let paths = below.iter().map(|path| encode_path(path)).collect();
    let order = TaskOrder { kind: kind.to_owned(), paths, options, report };
    let task = client.start_task(&order).map_err(CliError::failed)?;
    if !args.detach {
        return task_progress::wait(&client, task.id, json);
    }
    if json {
        return cmd::print_json(&task);
    }
    cmd::print(&format!("task {} is started; 'forebay task wait {}' waits for it", task.id, task.id));
    Ok(())
}

/// The one daemon that all paths are of, and the paths below its root.
fn daemon_of_all(paths: &[PathBuf]) -> Result<(Client, Vec<Vec<u8>>), CliError> {
    let mut found: Option<Client> = None;
    let mut all = Vec::with_capacity(paths.len());
    for path in paths {
        let (client, below) = match path.to_str().filter(|text| text.contains("://")) {
            Some(url) => places::daemon_of_url(url)?,
            None => places::daemon_of(path)?,
        };
        if found.as_ref().is_some_and(|found| !found.is_same(&client)) {
            let path = path.display();
            return Err(CliError::usage(format!("'{path}' is in another mount than the paths before it; start a task for each")));
        }
        found = Some(client);
        all.push(below);
    }
    let client = found.ok_or_else(|| CliError::usage("no path is given"))?;
    Ok((client, all))
}

/// The report's directory as the daemon needs it. Not in the mount itself: the daemon would wait for its own answers.
pub(crate) fn report_directory(report: &Path, client: &Client) -> Result<String, CliError> {
    let shown = report.display();
    let text = report.to_str().ok_or_else(|| CliError::usage(format!("--report: '{shown}' is not UTF-8")))?;
    let in_url = text.strip_prefix("file://").filter(|path| path.starts_with('/'));
    if in_url.is_none() && text.contains("://") {
        return Ok(text.to_owned());
    }
    let report = in_url.map_or(report, Path::new);
    let absolute = std::path::absolute(report).map_err(|error| CliError::words(format!("--report '{shown}': {error}")))?;
    if absolute.ancestors().any(|dir| places::daemon_of(dir).is_ok_and(|(holder, _)| holder.is_same(client))) {
        return Err(CliError::usage(format!("--report '{shown}' is in the mount that the task is of; give a directory outside")));
    }
    Ok(absolute.to_str().unwrap_or(text).to_owned())
}
