//! `forebay task list|show|wait|cancel`.

use crate::cli::{TaskCommand, WhichTask};
use crate::error::CliError;
use crate::places;
use crate::task_progress;
use crate::task_table;
use forebay_daemon::control::Client;
use std::time::Duration;

pub(super) fn run(command: &TaskCommand, json: bool) -> Result<(), CliError> {
    match command {
        TaskCommand::List(of) => list(&places::daemon_of_maybe(of.mount.as_deref())?, json),
        TaskCommand::Show(which) => show(which, json),
        TaskCommand::Wait(which) => task_progress::wait(&daemon(which)?, which.id, json),
        TaskCommand::Cancel(which) => cancel(which, json),
    }
}

fn daemon(which: &WhichTask) -> Result<Client, CliError> {
    places::daemon_of_maybe(which.of.mount.as_deref())
}

fn list(client: &Client, json: bool) -> Result<(), CliError> {
    let tasks = client.tasks().map_err(CliError::failed)?;
    if json {
        return super::print_json(&tasks);
    }
    super::print(&task_table::tasks(&tasks));
    Ok(())
}

fn show(which: &WhichTask, json: bool) -> Result<(), CliError> {
    let task = daemon(which)?.task(which.id, Duration::ZERO).map_err(CliError::failed)?;
    if json {
        return super::print_json(&task);
    }
    super::print(&task_table::task(&task));
    Ok(())
}

fn cancel(which: &WhichTask, json: bool) -> Result<(), CliError> {
    let task = daemon(which)?.cancel_task(which.id).map_err(CliError::failed)?;
    if json {
        return super::print_json(&task);
    }
    super::print(&format!("task {} is {}", task.id, task.state));
    Ok(())
}
