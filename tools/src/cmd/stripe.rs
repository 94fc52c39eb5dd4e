//! `forebay stripe get|set`: how files are spread over the cache's devices.

use crate::cli::StripeCommand;
use crate::error::CliError;
use crate::places;
use crate::settings;
use crate::table;
use forebay_daemon::control::types::StripeRequest;
use std::path::Path;

pub(super) fn run(command: &StripeCommand, json: bool) -> Result<(), CliError> {
    match command {
        StripeCommand::Get { path } => get(path, json),
        StripeCommand::Set { path, stripe_count, stripe_size } => set(path, stripe_count.as_deref(), stripe_size.as_deref()),
    }
}

fn get(path: &Path, json: bool) -> Result<(), CliError> {
    let (client, below) = places::daemon_of(path)?;
    let info = client.stripe(&below).map_err(CliError::failed)?;
    if json {
        return super::print_json(&info);
    }
    super::print(&table::stripe(&info));
    Ok(())
}

/// Sets what is given; the other half stays as it is in force.
fn set(path: &Path, count: Option<&str>, size: Option<&str>) -> Result<(), CliError> {
    if count.is_none() && size.is_none() {
        return Err(CliError::usage("stripe set: nothing to set; give --stripe-count, --stripe-size or both"));
    }
    let usage = |error: settings::BadSetting| CliError::usage(error.to_string());
    let count = count.map(|text| settings::stripe_count(text, None)).transpose().map_err(usage)?;
    let size = size.map(settings::stripe_size).transpose().map_err(usage)?;
    let (client, below) = places::daemon_of(path)?;
    let current = client.stripe(&below).map_err(CliError::failed)?;
    let request = StripeRequest {
        stripe_count: count.unwrap_or(current.stripe_count),
        stripe_size: size.map_or(current.stripe_size, |size| size.0),
    };
    client.set_stripe(&below, request).map_err(CliError::failed)
}
