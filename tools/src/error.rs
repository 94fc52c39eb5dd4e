//! A command's failure: one line that names the thing, the cause and the way out; and the exit code that goes with it.

use std::process::ExitCode;

/// Why a command ended without doing what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Asked wrongly: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Failed, and what there is to say was said: exit code 1.
    #[error("")]
    Told,
    /// Asked rightly and failed: exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// A wrong argument.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        CliError::Usage(message.into())
    }

    /// A failure, with the chain of its causes in one line.
    pub(crate) fn failed(error: impl std::error::Error) -> Self {
        CliError::Failed(chain(&error))
    }

    /// A failure in words.
    pub(crate) fn words(message: impl Into<String>) -> Self {
        CliError::Failed(message.into())
    }

    /// 2 for wrong usage, 1 for failure.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::Usage(_) => 2,
            CliError::Failed(_) | CliError::Told => 1,
        })
    }
}

/// An error and its causes in one line; a cause that the line above already tells is not repeated.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !line.contains(&words) {
            line.push_str(": ");
            line.push_str(&words);
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not\nstart")]
    struct Outer(#[source] Inner);
    #[derive(Debug, thiserror::Error)]
    #[error("no disk")]
    struct Inner;

    #[test]
    fn a_chain_is_one_line_without_repetition() {
        assert_eq!(chain(&Outer(Inner)), "could not start: no disk");
    }
}
