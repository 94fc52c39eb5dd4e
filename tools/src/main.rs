//! `forebay`: the one binary. Parses, runs a command of `cmd/`, prints the error as one line, sets the exit code.

mod cli;
mod cmd;
mod daemonize;
mod error;
mod holders;
mod invocation;
mod logging;
mod mount_options;
mod places;
mod serve;
mod settings;
mod table;
mod target;

use invocation::{Invocation, Start};
use std::process::ExitCode;

/// What is freed goes back to the system within milliseconds, which `--memory-target` needs: it bounds resident memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = match Invocation::parse(std::env::args_os().collect()) {
        Ok(Start::Run(invocation)) => invocation,
        Ok(Start::Nothing) => return ExitCode::SUCCESS,
        Err(usage) => usage.exit(),
    };
    match cmd::run(*invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay: {error}");
            error.exit_code()
        }
    }
}
