//! The states of files and what people ask for them, as they go over the control socket.

use super::server::{Target, parameter};
use super::types::{ApiError, ApiErrorKind};
use crate::meta::Wishes;
use crate::task::{Shown, TaskKind};
use crate::vfs::{HsmAction, HsmState, Vfs};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};

/// Lustre's number and our name of each state, with the word that `lfs hsm_state` has for it, in the order in which that prints them.
pub const STATES: [(u32, &str, &str); 7] = [
    (0x04, "released", "released"),
    (0x01, "exists", "exists"),
    (0x02, "dirty", "dirty"),
    (0x08, "archived", "archived"),
    (0x10, "norelease", "never_release"),
    (0x20, "noarchive", "never_archive"),
    (0x40, "lost", "lost_from_hsm"),
];
/// The archive that files with an object are in.
const ARCHIVE: u32 = 1;

/// The states of a file, and what is being done with its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HsmInfo {
    /// The states as Lustre's numbers, added up.
    pub flags: u32,
    /// The states by their names.
    pub states: Vec<String>,
    /// 1 if the bucket has an object for the file, else 0.
    pub archive_id: u32,
    /// `NOOP`, `ARCHIVE`, `RESTORE` or `RELEASE`.
    pub action: String,
    /// Where that stands: `waiting` for its turn in a task, or `running`.
    pub progress: Option<String>,
    /// Bytes that have come so far; of `RESTORE`.
    pub bytes_moved: Option<u64>,
}

/// States to be set and cleared, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HsmRequest {
    /// To be set.
    #[serde(default)]
    pub set: Vec<String>,
    /// To be cleared.
    #[serde(default)]
    pub clear: Vec<String>,
}

fn flags(state: &HsmState) -> u32 {
    let is = [state.released, state.exists, state.dirty, state.archived, state.norelease, state.noarchive, state.lost];
    STATES.iter().zip(is).filter(|(_, is)| *is).map(|((flag, ..), _)| flag).sum()
}

impl HsmInfo {
    /// What `lfs hsm_state` prints behind a file's name.
    pub fn state_line(&self) -> String {
        let words = STATES.iter().filter(|(flag, ..)| self.flags & flag != 0).map(|(_, _, word)| format!(" {word}"));
        let archive = if self.archive_id == 0 { String::new() } else { format!(", archive_id:{}", self.archive_id) };
        format!("(0x{:08x}){}{archive}", self.flags, words.collect::<String>())
    }

    /// What `lfs hsm_action` prints behind a file's name.
    pub fn action_line(&self) -> String {
        match (&self.progress, self.bytes_moved) {
            (None, _) => self.action.clone(),
            (Some(progress), Some(bytes)) => format!("{} {progress} ({bytes} bytes moved)", self.action),
            (Some(progress), None) => format!("{} {progress} (from 0 to EOF)", self.action),
        }
    }

    pub(super) fn new(state: &HsmState, action: &'static str, progress: Option<&'static str>, bytes_moved: Option<u64>) -> Self {
        let flags = flags(state);
        let states = STATES.iter().filter(|(flag, ..)| flags & flag != 0).map(|(_, name, _)| (*name).to_owned());
        HsmInfo {
            flags,
            states: states.collect(),
            archive_id: if state.exists { ARCHIVE } else { 0 },
            action: action.into(),
            progress: progress.map(str::to_owned),
            bytes_moved,
        }
    }
}

/// What is to be done with a file by a task that has not ended, and has not come to it.
fn waiting(path: &[u8], state: &HsmState, tasks: &[Shown]) -> Option<&'static str> {
    let is_of = |task: &Shown| task.row.paths.iter().any(|of| is_at_or_below(path, of));
    tasks.iter().filter(|task| !task.row.state.is_final() && is_of(task)).find_map(|task| match task.row.kind {
        TaskKind::Export if (!state.archived || state.dirty) && !state.noarchive => Some("ARCHIVE"),
        TaskKind::Preload if state.released => Some("RESTORE"),
        TaskKind::Release if state.archived && !state.released && !state.norelease => Some("RELEASE"),
        _ => None,
    })
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    let above = above.strip_suffix(b"/").unwrap_or(above);
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The states of the file at a path, and what is done with its data; `tasks` are all there are.
pub async fn info(vfs: &Vfs, tasks: &[Shown], path: &[u8]) -> Result<HsmInfo, ApiError> {
    let (state, action) = (vfs.hsm_state(path).await?, vfs.hsm_action(path).await?);
    Ok(match action {
        HsmAction::Archive => HsmInfo::new(&state, "ARCHIVE", Some("running"), None),
        HsmAction::Restore(bytes) => HsmInfo::new(&state, "RESTORE", Some("running"), Some(bytes)),
        HsmAction::Nothing => match waiting(path, &state, tasks) {
            Some(action) => HsmInfo::new(&state, action, Some("waiting"), None),
            None => HsmInfo::new(&state, "NOOP", None, None),
        },
    })
}

/// Sets and clears states of the file at a path.
pub async fn set(vfs: &Vfs, tasks: &[Shown], path: &[u8], request: &HsmRequest) -> Result<HsmInfo, ApiError> {
    let mut wishes = Wishes::default();
    let state = vfs.hsm_state(path).await?;
    for (names, value) in [(&request.set, true), (&request.clear, false)] {
        for name in names {
            match name.as_str() {
                "norelease" => wishes.norelease = Some(value),
                "noarchive" => wishes.noarchive = Some(value),
                name => check_is(&state, name, value)?,
            }
        }
    }
    if wishes != Wishes::default() {
        vfs.set_wishes(path, wishes).await?;
    }
    info(vfs, tasks, path).await
}

/// States that say how things are cannot be set to something else: the file would be taken for exported when it is not, or the other way round.
fn check_is(state: &HsmState, name: &str, value: bool) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ApiErrorKind::Invalid, message));
    let Some((flag, ..)) = STATES.into_iter().find(|(_, known, _)| *known == name) else {
        return invalid(format!("'{name}' is no state of a file"));
    };
    let is_set = flags(state) & flag != 0;
    let way_out = match (name, value) {
        _ if is_set == value => return Ok(()),
        ("released", true) => "'forebay hsm release' brings it about",
        ("released", false) => "'forebay hsm restore' brings it about",
        ("dirty", true) => "writing to the file brings it about",
        ("exists" | "archived", true) | ("dirty", false) => "'forebay hsm archive' brings it about",
        _ => "nothing else changes it",
    };
    let what = if value { "set" } else { "cleared" };
    invalid(format!("'{name}' says how things are and cannot be {what} by hand; {way_out}"))
}

pub(super) async fn show(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<HsmInfo>, ApiError> {
    target.hsm(&path_of(query.as_deref())?).await.map(Json)
}

pub(super) async fn change(
    State(target): Target,
    RawQuery(query): RawQuery,
    body: Result<Json<HsmRequest>, JsonRejection>,
) -> Result<Json<HsmInfo>, ApiError> {
    let path = path_of(query.as_deref())?;
    let Json(request) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.set_hsm(&path, request).await.map(Json)
}

fn path_of(query: Option<&str>) -> Result<Vec<u8>, ApiError> {
    parameter(query, "path").ok_or_else(|| ApiError::new(ApiErrorKind::Invalid, "'path' is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_printed_as_lfs_does() {
        let line = |state: HsmState| HsmInfo::new(&state, "NOOP", None, None).state_line();
        assert_eq!(line(HsmState::default()), "(0x00000000)");
        let archived = HsmState { exists: true, archived: true, ..HsmState::default() };
        assert_eq!(line(archived), "(0x00000009) exists archived, archive_id:1");
        assert_eq!(line(HsmState { released: true, ..archived }), "(0x0000000d) released exists archived, archive_id:1");
        let all =
            HsmState { exists: true, dirty: true, released: true, archived: true, norelease: true, noarchive: true, lost: true };
        let words = "released exists dirty archived never_release never_archive lost_from_hsm";
        assert_eq!(line(all), format!("(0x0000007f) {words}, archive_id:1"));
    }

    #[test]
    fn actions_are_printed_as_lfs_does() {
        let state = HsmState::default();
        assert_eq!(HsmInfo::new(&state, "NOOP", None, None).action_line(), "NOOP");
        let running = HsmInfo::new(&state, "RESTORE", Some("running"), Some(7));
        assert_eq!(running.action_line(), "RESTORE running (7 bytes moved)");
        assert_eq!(HsmInfo::new(&state, "ARCHIVE", Some("waiting"), None).action_line(), "ARCHIVE waiting (from 0 to EOF)");
    }

    #[test]
    fn what_says_how_things_are_cannot_be_set_to_something_else() {
        let archived = HsmState { exists: true, archived: true, ..HsmState::default() };
        assert_eq!(check_is(&archived, "archived", true), Ok(()));
        assert_eq!(check_is(&archived, "dirty", false), Ok(()));
        for (name, value) in [("archived", false), ("exists", false), ("dirty", true), ("lost", true), ("released", true)] {
            assert!(check_is(&archived, name, value).is_err_and(|error| error.kind == ApiErrorKind::Invalid), "{name}");
        }
        assert!(check_is(&HsmState { dirty: true, ..archived }, "dirty", false).is_err());
        assert!(check_is(&archived, "nothing", false).is_err());
    }

    #[test]
    fn a_task_is_about_what_is_at_and_below_its_paths() {
        assert!(is_at_or_below(b"a/b", b"") && is_at_or_below(b"a/b", b"a/b") && is_at_or_below(b"a/b", b"a/"));
        assert!(!is_at_or_below(b"ab", b"a") && !is_at_or_below(b"a", b"a/b"));
    }
}
