//! Programs of others: whether they are there, and what they say.

use std::process::Command;

/// A step of a check: what it found, or what went wrong, in words.
pub type Step<T> = Result<T, String>;

/// Whether a program is on the path.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Runs a program to its end; what it prints, unless it fails.
pub fn run(command: &mut Command) -> Step<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(said.into_owned());
    }
    Err(format!("{command:?}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
