//! The AWS profile files, `~/.aws/credentials` and `~/.aws/config`: static keys, session token, region, endpoint.
//!
//! Only what can be used without asking another service is read. A profile that needs one (SSO, an assumed role, a
//! credential process) is an error with the command that turns it into keys.

use object_store::aws::AwsCredential;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where the two files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileFiles {
    /// `~/.aws/credentials`, or `AWS_SHARED_CREDENTIALS_FILE`.
    pub credentials: Option<PathBuf>,
    /// `~/.aws/config`, or `AWS_CONFIG_FILE`.
    pub config: Option<PathBuf>,
}

/// A profile's settings, those of the credentials file before those of the config file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Profile {
    settings: BTreeMap<String, String>,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No such section in either file.
    #[error("profile '{name}' is in neither {files}: use one of: {known}")]
    Unknown {
        /// As asked for.
        name: String,
        /// The files looked into.
        files: String,
        /// The profiles there are.
        known: String,
    },
    /// A file that is there but cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its keys come from elsewhere.
    #[error(
        "profile '{name}' gets its keys through {by}, which Forebay does not ask: run eval \"$(aws configure export-credentials --profile {name} --format env)\" and mount without --profile"
    )]
    Indirect {
        /// The profile.
        name: String,
        /// The setting that says so.
        by: &'static str,
    },
    /// A key id without a secret, or the other way round.
    #[error("profile '{name}' has only one of aws_access_key_id and aws_secret_access_key: set both")]
    HalfAKey {
        /// The profile.
        name: String,
    },
}

impl ProfileFiles {
    /// Reads a profile; `None` if neither file has it. A file that does not exist is an empty one.
    pub fn find(&self, name: &str) -> Result<Option<Profile>, ProfileError> {
        let mut config = sections(&read(self.config.as_deref())?, true);
        let mut credentials = sections(&read(self.credentials.as_deref())?, false);
        let mut found = config.remove(name);
        if let Some(own) = credentials.remove(name) {
            found.get_or_insert_default().extend(own);
        }
        Ok(found.map(|settings| Profile { settings }))
    }

    /// Reads a profile that somebody named.
    pub fn require(&self, name: &str) -> Result<Profile, ProfileError> {
        let Some(profile) = self.find(name)? else {
            let mut known = sections(&read(self.config.as_deref())?, true);
            known.extend(sections(&read(self.credentials.as_deref())?, false));
            let known: Vec<String> = known.into_keys().collect();
            let known = if known.is_empty() { "(none)".to_owned() } else { known.join(", ") };
            let files = [&self.credentials, &self.config].into_iter().flatten();
            let files = files.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" nor ");
            return Err(ProfileError::Unknown { name: name.to_owned(), files, known });
        };
        Ok(profile)
    }
}

impl Profile {
    /// One of its settings.
    pub fn get(&self, setting: &str) -> Option<&str> {
        self.settings.get(setting).map(String::as_str)
    }

    /// Its static keys; `None` if it has nothing to do with credentials (only a region, say).
    pub fn credential(&self, name: &str) -> Result<Option<AwsCredential>, ProfileError> {
        match (self.get("aws_access_key_id"), self.get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Ok(Some(AwsCredential {
                key_id: id.to_owned(),
                secret_key: secret.to_owned(),
                token: self.get("aws_session_token").map(str::to_owned),
            })),
            (None, None) => match ["sso_session", "sso_start_url", "role_arn", "credential_process"]
                .into_iter()
                .find(|setting| self.get(setting).is_some())
            {
                Some(by) => Err(ProfileError::Indirect { name: name.to_owned(), by }),
                None => Ok(None),
            },
            _ => Err(ProfileError::HalfAKey { name: name.to_owned() }),
        }
    }
}

fn read(path: Option<&Path>) -> Result<String, ProfileError> {
    let Some(path) = path else { return Ok(String::new()) };
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(ProfileError::Unreadable { path: path.to_owned(), source }),
    }
}

type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Total: what is neither a section nor `name = value` is skipped, as the AWS tools do. In the config file, profiles
/// other than `default` are headed `[profile NAME]`; its other sections (`sso-session`, `services`) are not profiles.
fn sections(text: &str, is_config: bool) -> Sections {
    let mut found = Sections::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(heading) = line.strip_prefix('[') {
            let heading = heading.split(']').next().unwrap_or_default().trim();
            current = section_name(heading, is_config);
            if let Some(name) = &current {
                found.entry(name.clone()).or_default();
            }
            continue;
        }
        // Indented lines are nested settings (s3 =\n  addressing_style = path), not the profile's own.
        if indented {
            continue;
        }
        if let (Some(name), Some((setting, value))) = (&current, line.split_once('=')) {
            let value = value.split(" #").next().unwrap_or_default().trim();
            found.entry(name.clone()).or_default().insert(setting.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    found
}

fn section_name(heading: &str, is_config: bool) -> Option<String> {
    if !is_config || heading == "default" {
        return Some(heading.to_owned());
    }
    let rest = heading.strip_prefix("profile")?;
    rest.starts_with([' ', '\t']).then(|| rest.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key=secret=with=signs

# a comment
[temporary]
AWS_ACCESS_KEY_ID = ASIA
aws_secret_access_key = s
aws_session_token = t # rotated hourly
[half]
aws_access_key_id = AKIA
";
    const CONFIG: &str = "\
[default]
region = eu-west-1
[profile temporary]
region = us-west-2
s3 =
  region = nested
endpoint_url = http://10.0.0.1:9000
[profile sso]
sso_session = corp
[sso-session corp]
region = nowhere
";

    fn files(dir: &tempfile::TempDir) -> ProfileFiles {
        let (credentials, config) = (dir.path().join("credentials"), dir.path().join("config"));
        std::fs::write(&credentials, CREDENTIALS).expect("written");
        std::fs::write(&config, CONFIG).expect("written");
        ProfileFiles { credentials: Some(credentials), config: Some(config) }
    }

    #[test]
    fn both_files_make_up_a_profile() {
        let dir = tempfile::tempdir().expect("a directory");
        let profile = files(&dir).require("temporary").expect("there");
        let keys = profile.credential("temporary").expect("good").expect("keys");
        assert_eq!((keys.key_id.as_str(), keys.secret_key.as_str(), keys.token.as_deref()), ("ASIA", "s", Some("t")));
        assert_eq!((profile.get("region"), profile.get("endpoint_url")), (Some("us-west-2"), Some("http://10.0.0.1:9000")));
        let default = files(&dir).require("default").expect("there");
        assert_eq!(default.credential("default").expect("good").expect("keys").secret_key, "secret=with=signs");
    }

    #[test]
    fn profiles_that_cannot_be_used_say_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(&dir);
        let sso = files.require("sso").expect("there").credential("sso").expect_err("needs a login");
        assert!(sso.to_string().contains("export-credentials --profile sso"), "{sso}");
        let half = files.require("half").expect("there").credential("half").expect_err("no secret");
        assert!(matches!(half, ProfileError::HalfAKey { .. }), "{half}");
        let unknown = files.require("corp").expect_err("a section, not a profile");
        assert!(unknown.to_string().contains("default, half, sso, temporary"), "{unknown}");
    }

    #[test]
    fn missing_files_hold_no_profiles() {
        let files = ProfileFiles { credentials: Some("/nonexistent/credentials".into()), config: None };
        assert_eq!(files.find("default").expect("no error"), None);
    }
}
