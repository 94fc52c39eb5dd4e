//! A link between a directory and a bucket's prefix.
//!
//! ```text
//! association  version  root: number  state:1  flags:1  created: le64  auto_import:1  auto_export:1  on_conflict:1
//!              url: counted  options: number, then each, ascending: name value: counted  failure: counted
//! ```

use super::RowError;
use super::wire::{Reader, Writer};
use crate::ids::Ino;
use std::collections::BTreeMap;

/// Where an association is in its life; the names are FSx's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssociationState {
    /// Being made.
    Creating = 0,
    /// In use.
    Available = 1,
    /// The bucket cannot be used as it stands; nothing is imported or exported by itself until it can.
    Misconfigured = 2,
    /// Its settings are being changed.
    Updating = 3,
    /// Being taken apart.
    Deleting = 4,
    /// Could not be taken apart.
    Failed = 5,
}

impl AssociationState {
    const ALL: [AssociationState; 6] = [
        AssociationState::Creating,
        AssociationState::Available,
        AssociationState::Misconfigured,
        AssociationState::Updating,
        AssociationState::Deleting,
        AssociationState::Failed,
    ];

    /// The state's name, as FSx for Lustre has it.
    pub fn name(self) -> &'static str {
        match self {
            AssociationState::Creating => "CREATING",
            AssociationState::Available => "AVAILABLE",
            AssociationState::Misconfigured => "MISCONFIGURED",
            AssociationState::Updating => "UPDATING",
            AssociationState::Deleting => "DELETING",
            AssociationState::Failed => "FAILED",
        }
    }
}

/// A set of events: what is imported or exported by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventBits(u8);

impl EventBits {
    const MOST: u8 = 0b111;

    /// These of the three: new, changed, deleted.
    pub fn new(new: bool, changed: bool, deleted: bool) -> Self {
        EventBits(u8::from(new) | u8::from(changed) << 1 | u8::from(deleted) << 2)
    }

    fn decode(bits: u8) -> Result<Self, RowError> {
        if bits > Self::MOST { Err(RowError::Field("events")) } else { Ok(EventBits(bits)) }
    }

    /// Whether it has new, changed, deleted.
    pub fn parts(self) -> [bool; 3] {
        [self.0 & 1 != 0, self.0 & 2 != 0, self.0 & 4 != 0]
    }
}

/// A data repository association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationRow {
    /// The directory.
    pub root: Ino,
    /// Where it is in its life.
    pub state: AssociationState,
    /// Being deleted: whether the files go as well.
    pub delete_data: bool,
    /// When it was made, ns since the Unix epoch.
    pub created_ns: i64,
    /// What is imported by itself.
    pub auto_import: EventBits,
    /// What is exported by itself.
    pub auto_export: EventBits,
    /// What automatic export does about conflicts: the place of the word in the configuration's list.
    pub on_conflict: u8,
    /// The bucket and prefix.
    pub url: String,
    /// How the bucket is reached: names and values of the command's options. No secrets.
    pub options: BTreeMap<String, String>,
    /// Why it is misconfigured or failed; else empty.
    pub failure: String,
}

const DELETE_DATA: u8 = 1;

impl AssociationRow {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(128);
        row.number(self.root.0);
        row.byte(self.state as u8);
        row.byte(if self.delete_data { DELETE_DATA } else { 0 });
        row.i64(self.created_ns);
        for byte in [self.auto_import.0, self.auto_export.0, self.on_conflict] {
            row.byte(byte);
        }
        row.counted(self.url.as_bytes());
        row.options(&self.options);
        row.counted(self.failure.as_bytes());
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let root = Ino(row.number("root")?);
        let state = AssociationState::ALL.get(usize::from(row.byte()?)).copied().ok_or(RowError::Field("state"))?;
        let flags = row.byte()?;
        if flags & !DELETE_DATA != 0 {
            return Err(RowError::Field("flags"));
        }
        let created_ns = row.i64()?;
        let (auto_import, auto_export) = (EventBits::decode(row.byte()?)?, EventBits::decode(row.byte()?)?);
        let (on_conflict, url) = (row.byte()?, row.text("url")?);
        let (options, failure) = (row.options()?, row.text("failure")?);
        row.end()?;
        let delete_data = flags & DELETE_DATA != 0;
        Ok(AssociationRow { root, state, delete_data, created_ns, auto_import, auto_export, on_conflict, url, options, failure })
    }
}
