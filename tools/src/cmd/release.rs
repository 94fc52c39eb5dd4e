//! `forebay release`: lets go of data that the bucket has.

use crate::cli::ReleaseArgs;
use crate::error::CliError;
use crate::task_start;
use std::collections::BTreeMap;

pub(super) fn run(args: &ReleaseArgs, json: bool) -> Result<(), CliError> {
    let mut options = BTreeMap::new();
    if let Some(text) = &args.older_than {
        let wrong = |error| CliError::usage(format!("--older-than '{text}': {error}; give a time such as 7d or 12h"));
        let time = humantime::parse_duration(text).map_err(wrong)?;
        options.insert("older-than".to_owned(), time.as_secs().to_string());
    }
    task_start::start("release", &args.paths, options, &args.task, json)
}
