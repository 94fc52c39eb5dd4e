//! `forebay`: the one binary. Parses, runs a command of `cmd/`, prints the error as one line, sets the exit code.

mod bench_plan;
mod bench_store;
mod care;
mod cli;
mod cli_bench;
mod cli_data;
mod cmd;
mod daemonize;
mod dra_table;
mod error;
mod figures_table;
mod holders;
mod invocation;
mod logging;
mod mount_options;
mod names;
mod pace;
mod places;
mod quota_table;
mod serve;
mod settings;
mod store_settings;
mod table;
mod target;
mod task_progress;
mod task_start;
mod task_table;

use invocation::{Invocation, Start};
use std::process::ExitCode;

/// What is freed goes back to the system within a second, which `--memory-target` needs: it bounds resident memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the allocator keeps freed pages for the next one who asks. Its own 10 ms are shorter than the buffers of a stream
/// live: the kernel then clears a page for every page read (8 % of a cold read).
const PURGE_DELAY_MS: std::ffi::c_long = 1000;
/// `mi_option_purge_delay` of mimalloc.h, which the bindings leave out.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // SAFETY: sets a number that the allocator reads when it frees pages.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    let invocation = match Invocation::parse(std::env::args_os().collect()) {
        Ok(Start::Run(invocation)) => invocation,
        Ok(Start::Nothing) => return ExitCode::SUCCESS,
        Err(usage) => usage.exit(),
    };
    match cmd::run(*invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, error::CliError::Told) {
                eprintln!("forebay: {error}");
            }
            error.exit_code()
        }
    }
}
