//! `forebay import`: the names and attributes below paths, from the bucket.

use crate::cli::ImportArgs;
use crate::error::CliError;
use crate::task_start;

pub(super) fn run(args: &ImportArgs, json: bool) -> Result<(), CliError> {
    let options = if args.prune { [("prune".to_owned(), "true".to_owned())].into() } else { [].into() };
    task_start::start("import", &args.paths, options, &args.task, json)
}
