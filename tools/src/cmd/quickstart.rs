//! `forebay quickstart`: everything embedded on this machine.

use crate::cli::QuickstartArgs;
use crate::error::CliError;

pub(super) fn run(_args: &QuickstartArgs) -> Result<(), CliError> {
    Err(CliError::words("quickstart is not part of this build yet; mount a bucket with 'forebay mount'"))
}
