//! The environment variables that choose a store and its credentials, taken once so that nothing below reads the process's.

use super::s3::profile::ProfileFiles;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A copy of the environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The process's own, variables that are not UTF-8 left out. For the composition root.
    pub fn of_process() -> Self {
        let utf8 =
            |(name, value): (std::ffi::OsString, std::ffi::OsString)| name.into_string().ok().zip(value.into_string().ok());
        Self::from_pairs(std::env::vars_os().filter_map(utf8))
    }

    /// One made up of these variables.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Environment { variables: pairs.into_iter().collect() }
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables whose names start so.
    pub fn starting_with<'e>(&'e self, start: &'e str) -> impl Iterator<Item = (&'e str, &'e str)> {
        let all = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(move |(name, _)| name.starts_with(start))
    }

    /// Where the AWS profile files are.
    pub fn profile_files(&self) -> ProfileFiles {
        let at = |variable: &str, name: &str| {
            let own = self.get(variable).map(PathBuf::from);
            own.or_else(|| self.get("HOME").map(|home| PathBuf::from(home).join(".aws").join(name)))
        };
        ProfileFiles { credentials: at("AWS_SHARED_CREDENTIALS_FILE", "credentials"), config: at("AWS_CONFIG_FILE", "config") }
    }
}
