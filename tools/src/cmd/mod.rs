//! The verbs: a file each, arguments in, work done.

mod bench;
mod bench_ml;
mod dra;
mod export;
mod fsck;
mod gc;
mod hsm;
mod import;
mod materialize;
mod mount;
mod preload;
mod quickstart;
mod quota;
mod release;
mod scrub;
mod snapshot;
mod snapshot_export;
mod status;
mod stripe;
mod task;
mod umount;

use crate::cli::Command;
use crate::error::CliError;
use crate::invocation::Invocation;
use serde::Serialize;

/// Runs a command.
pub(crate) fn run(invocation: Invocation) -> Result<(), CliError> {
    let Invocation { cli, args } = invocation;
    match cli.command {
        Command::Mount(mount) => mount::run(&mount, &args, cli.json),
        Command::Umount(umount) => umount::run(&umount),
        Command::Status(status) => status::run(&status, cli.json),
        Command::Stripe(stripe) => stripe::run(&stripe, cli.json),
        Command::Quota(quota) => quota::run(&quota, cli.json),
        Command::Export(export) => export::run(&export, cli.json),
        Command::Import(import) => import::run(&import, cli.json),
        Command::Release(release) => release::run(&release, cli.json),
        Command::Preload(preload) => preload::run(&preload, cli.json),
        Command::Hsm(hsm) => hsm::run(&hsm, cli.json),
        Command::Task(task) => task::run(&task, cli.json),
        Command::Dra(dra) => dra::run(&dra, cli.json),
        Command::Snapshot(snapshot) => snapshot::run(&snapshot, cli.json),
        Command::Fsck(fsck) => fsck::run(&fsck, cli.json),
        Command::Scrub(scrub) => scrub::run(&scrub, cli.json),
        Command::Gc(of) => gc::run(&of, cli.json),
        Command::Bench(bench) => bench::run(&bench, cli.json),
        Command::Quickstart(quickstart) => quickstart::run(&quickstart),
    }
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(CliError::failed)?;
    print(&text);
    Ok(())
}

/// Prints to standard output. A reader that went away (`| head`) is no failure of ours.
pub(crate) fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
