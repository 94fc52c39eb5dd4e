//! `forebay dra create|list|show|update|delete`: which directories are linked to which buckets.

use crate::cli::{DraCommand, DraCreateArgs, PolicyArgs};
use crate::dra_table;
use crate::error::CliError;
use crate::places;
use crate::store_settings;
use forebay_daemon::config::OnConflict;
use forebay_daemon::control::dra::{AssociationInfo, AssociationOrder, AssociationUpdate, Event};
use forebay_daemon::control::task::encode_path;
use forebay_daemon::control::types::ApiErrorKind;
use forebay_daemon::control::{Client, ClientError};
use forebay_daemon::vfs::EVENT_QUEUE_URL;
use std::path::Path;
use std::time::Duration;

/// How often a deletion is looked at.
const POLL: Duration = Duration::from_millis(200);

pub(super) fn run(command: &DraCommand, json: bool) -> Result<(), CliError> {
    match command {
        DraCommand::Create(args) => create(args, json),
        DraCommand::List(of) => list(&places::daemon_of_maybe(of.mount.as_deref())?, json),
        DraCommand::Show { path } => {
            let (client, below) = places::daemon_of(path)?;
            shown(&client.association(&below).map_err(CliError::failed)?, json)
        }
        DraCommand::Update { path, policy } => update(path, policy, json),
        DraCommand::Delete { path, delete_data, detach } => delete(path, *delete_data, *detach, json),
    }
}

fn shown(info: &AssociationInfo, json: bool) -> Result<(), CliError> {
    if json {
        return super::print_json(info);
    }
    super::print(&dra_table::association(info));
    Ok(())
}

fn events(name: &str, text: &Option<String>) -> Result<Option<Vec<Event>>, CliError> {
    let Some(text) = text else { return Ok(None) };
    let mut found = Vec::new();
    for event in text.split(',') {
        match event.trim().to_lowercase().as_str() {
            "none" => {}
            "new" => found.push(Event::New),
            "changed" => found.push(Event::Changed),
            "deleted" => found.push(Event::Deleted),
            other => {
                let message = format!("{name}: '{other}' is no event; use new, changed, deleted, separated by commas, or none");
                return Err(CliError::usage(message));
            }
        }
    }
    Ok(Some(found))
}

fn on_conflict(text: &Option<String>) -> Result<Option<OnConflict>, CliError> {
    let parse = |text: &String| serde_json::from_value(text.as_str().into());
    text.as_ref().map(parse).transpose().map_err(|error| CliError::usage(format!("--on-conflict: {error}")))
}

fn create(args: &DraCreateArgs, json: bool) -> Result<(), CliError> {
    let settings =
        store_settings::repository(&args.repository, &args.store).map_err(|error| CliError::usage(error.to_string()))?;
    if settings.sse.as_deref() == Some("sse-c") {
        let message =
            "--sse sse-c: an association is remembered, and a key is not to be; use aws:kms, or mount that bucket by itself";
        return Err(CliError::usage(message));
    }
    let (client, below) = places::daemon_of_new(&args.path)?;
    let mut options = settings.options();
    if let Some(queue) = &args.event_queue_url {
        options.insert(EVENT_QUEUE_URL.to_owned(), queue.clone());
    }
    let order = AssociationOrder {
        path: encode_path(&below),
        url: settings.url.clone(),
        options,
        auto_import: events("--auto-import", &args.policy.auto_import)?.unwrap_or_default(),
        auto_export: events("--auto-export", &args.policy.auto_export)?.unwrap_or_default(),
        on_conflict: on_conflict(&args.policy.on_conflict)?.unwrap_or_default(),
    };
    shown(&client.create_association(&order).map_err(CliError::failed)?, json)
}

fn list(client: &Client, json: bool) -> Result<(), CliError> {
    let all = client.associations().map_err(CliError::failed)?;
    if json {
        return super::print_json(&all);
    }
    super::print(&dra_table::associations(&all));
    Ok(())
}

fn update(path: &Path, policy: &PolicyArgs, json: bool) -> Result<(), CliError> {
    let update = AssociationUpdate {
        auto_import: events("--auto-import", &policy.auto_import)?,
        auto_export: events("--auto-export", &policy.auto_export)?,
        on_conflict: on_conflict(&policy.on_conflict)?,
    };
    if update == AssociationUpdate::default() {
        return Err(CliError::usage("nothing to change: give --auto-import, --auto-export or --on-conflict"));
    }
    let (client, below) = places::daemon_of(path)?;
    shown(&client.update_association(&below, &update).map_err(CliError::failed)?, json)
}

fn delete(path: &Path, delete_data: bool, detach: bool, json: bool) -> Result<(), CliError> {
    let (client, below) = places::daemon_of(path)?;
    let mut info = client.delete_association(&below, delete_data).map_err(CliError::failed)?;
    if detach {
        return shown(&info, json);
    }
    loop {
        std::thread::sleep(POLL);
        match client.association(&below) {
            Ok(now) if now.lifecycle == "DELETING" => info = now,
            Ok(now) => {
                let why = now.failure.unwrap_or_default();
                return Err(CliError::words(format!("{} could not be deleted: {why}", now.id)));
            }
            Err(ClientError::Api(error)) if error.kind == ApiErrorKind::NotFound => break,
            Err(error) => return Err(CliError::failed(error)),
        }
    }
    if json {
        return super::print_json(&info);
    }
    super::print(&format!("{} is deleted: {} is not linked to {} any more", info.id, info.path, info.url));
    Ok(())
}
