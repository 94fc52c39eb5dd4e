//! `forebay quota get|set|report`: what users, groups and directory trees use and may use.

use crate::cli::{QuotaCommand, WhoseQuota};
use crate::error::CliError;
use crate::{names, places, quota_table};
use forebay_daemon::control::quota::{GraceInfo, Kind, QuotaInfo, QuotaRequest};
use forebay_daemon::control::types::ApiErrorKind;
use forebay_daemon::control::{Client, ClientError};
use forebay_daemon::units::ByteCount;
use std::path::Path;

pub(super) fn run(command: &QuotaCommand, json: bool) -> Result<(), CliError> {
    match command {
        QuotaCommand::Get { path, whose } => get(path, whose, json),
        QuotaCommand::Report { path, of } => report(path, of, json),
        QuotaCommand::Set { path, whose, block_soft, block_hard, inode_soft, inode_hard, block_grace, inode_grace, of } => {
            let limits = [bytes("--block-soft", block_soft)?, bytes("--block-hard", block_hard)?, *inode_soft, *inode_hard];
            let graces = [seconds("--block-grace", block_grace)?, seconds("--inode-grace", inode_grace)?];
            set(path, whose, limits, graces, of)
        }
    }
}

fn bytes(name: &str, text: &Option<String>) -> Result<Option<u64>, CliError> {
    let parse = |text: &String| text.parse::<ByteCount>().map_err(|error| CliError::usage(format!("{name}: {error}")));
    Ok(text.as_ref().map(parse).transpose()?.map(|size| size.0))
}

fn seconds(name: &str, text: &Option<String>) -> Result<Option<u64>, CliError> {
    let parse = |text: &String| {
        let wrong = |_| CliError::usage(format!("{name}: '{text}' is not a time: write a number with s, m, h or d, as in 7d"));
        humantime::parse_duration(text).map(|time| time.as_secs()).map_err(wrong)
    };
    text.as_ref().map(parse).transpose()
}

fn kinds(names: &[String]) -> Result<Vec<Kind>, CliError> {
    if names.is_empty() {
        return Ok(Kind::ALL.to_vec());
    }
    let parse = |name: &String| {
        let wrong = || CliError::usage(format!("--of: '{name}' is no kind of quota: write user, group or project"));
        Kind::ALL.into_iter().find(|kind| kind.name() == name.as_str()).ok_or_else(wrong)
    };
    names.iter().map(parse).collect()
}

/// Whose quota is meant; `None` if nobody was named.
fn subject(whose: &WhoseQuota) -> Result<Option<(Kind, u64)>, CliError> {
    let named = |kind: Kind, name: &str| {
        let unknown = || CliError::words(format!("{} '{name}' is not known; give its number", kind.name()));
        names::id_of(kind, name).map(|id| (kind, u64::from(id))).ok_or_else(unknown)
    };
    match whose {
        WhoseQuota { user: Some(user), .. } => named(Kind::User, user).map(Some),
        WhoseQuota { group: Some(group), .. } => named(Kind::Group, group).map(Some),
        WhoseQuota { project: true, .. } => Ok(Some((Kind::Project, 0))),
        _ => Ok(None),
    }
}

fn get(path: &Path, whose: &WhoseQuota, json: bool) -> Result<(), CliError> {
    let subject = subject(whose)?;
    let (client, below) = places::daemon_of(path)?;
    let quotas = match subject {
        Some((kind, id)) => vec![client.quota(&below, kind, id).map_err(CliError::failed)?],
        None => own(&client, &below)?,
    };
    if json {
        return super::print_json(&quotas);
    }
    super::print(&quota_table::quotas(&quotas, now()));
    Ok(())
}

/// The caller's quotas, as `lfs quota` shows them.
fn own(client: &Client, below: &[u8]) -> Result<Vec<QuotaInfo>, CliError> {
    let user = places::user()?;
    let mut quotas = Vec::new();
    for (kind, id) in [(Kind::User, user.uid), (Kind::Group, user.gid), (Kind::Project, 0)] {
        match client.quota(below, kind, id.into()) {
            Ok(info) => quotas.push(info),
            // In no project.
            Err(ClientError::Api(error)) if kind == Kind::Project && error.kind == ApiErrorKind::NotFound => {}
            Err(error) => return Err(CliError::failed(error)),
        }
    }
    Ok(quotas)
}

fn report(path: &Path, of: &[String], json: bool) -> Result<(), CliError> {
    let kinds = kinds(of)?;
    let (client, _) = places::daemon_of(path)?;
    let mut report = client.quotas().map_err(CliError::failed)?;
    report.quotas.retain(|quota| kinds.contains(&quota.kind));
    report.graces.retain(|grace| kinds.contains(&grace.kind));
    if json {
        return super::print_json(&report);
    }
    super::print(&quota_table::report(&report, now()));
    Ok(())
}

fn set(
    path: &Path,
    whose: &WhoseQuota,
    limits: [Option<u64>; 4],
    graces: [Option<u64>; 2],
    of: &[String],
) -> Result<(), CliError> {
    let (kinds, subject) = (kinds(of)?, subject(whose)?);
    let sets_limits = limits.iter().any(Option::is_some);
    if !sets_limits && graces.iter().all(Option::is_none) {
        let options = "--block-soft, --block-hard, --inode-soft, --inode-hard, --block-grace or --inode-grace";
        return Err(CliError::usage(format!("quota set: nothing to set; give {options}")));
    }
    if sets_limits && subject.is_none() {
        return Err(CliError::usage("quota set: whose limits? give --user, --group or --project"));
    }
    let (client, below) = places::daemon_of(path)?;
    if let Some((kind, id)) = subject.filter(|_| sets_limits) {
        let [bytes_soft, bytes_hard, inodes_soft, inodes_hard] = limits;
        let request = QuotaRequest { kind, id, bytes_soft, bytes_hard, inodes_soft, inodes_hard };
        client.set_quota(&below, request).map_err(CliError::failed)?;
    }
    set_graces(&client, graces, &kinds)
}

/// Sets what is given; the other period stays as it is.
fn set_graces(client: &Client, [bytes, inodes]: [Option<u64>; 2], kinds: &[Kind]) -> Result<(), CliError> {
    if bytes.is_none() && inodes.is_none() {
        return Ok(());
    }
    for grace in client.quotas().map_err(CliError::failed)?.graces {
        if kinds.contains(&grace.kind) {
            let grace = GraceInfo {
                bytes_seconds: bytes.unwrap_or(grace.bytes_seconds),
                inodes_seconds: inodes.unwrap_or(grace.inodes_seconds),
                ..grace
            };
            client.set_quota_grace(grace).map_err(CliError::failed)?;
        }
    }
    Ok(())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().cast_signed()
}
