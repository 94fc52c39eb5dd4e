//! `forebay preload`: brings data into the cache ahead of its use.

use crate::cli::PreloadArgs;
use crate::error::CliError;
use crate::task_start;

pub(super) fn run(args: &PreloadArgs, json: bool) -> Result<(), CliError> {
    task_start::start("preload", &args.paths, [].into(), &args.task, json)
}
