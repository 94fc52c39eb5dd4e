//! `forebay export`: what was made and changed below paths, to the bucket.

use crate::cli::ExportArgs;
use crate::error::CliError;
use crate::task_start;

pub(super) fn run(args: &ExportArgs, json: bool) -> Result<(), CliError> {
    let options = [("prune".to_owned(), args.prune.to_string()), ("on-conflict".to_owned(), args.on_conflict.clone())];
    task_start::start("export", &args.paths, options.into(), &args.task, json)
}
