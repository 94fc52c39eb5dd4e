//! Small named values, and what a new store begins with.

use super::engine::{Batch, Durability, Engine, EngineError, Table};
use super::rows::{damaged, epoch_key, epoch_of};
use super::{DefaultAttrs, FileKind, MetaError, MetaStore};
use crate::format::rows::key::{self, Space};
use crate::format::rows::{InodeRow, decode_number, decode_text, encode_number, encode_text};
use crate::ids::{Epoch, Ino};

/// The schema this program writes: tables, keys, and how they hang together. 2 is 1 with what writing needs, 3 is 2 with quotas, 4 is 3
/// with counts of what files allocate and with intents, 5 is 4 with tasks and a log of changes, 6 is 5 with associations and with what people ask for files' data
/// (two flags of inodes, and pins), 7 is 6 with snapshots, 8 is 7 with clones; a store of an older schema becomes one of this as it is, but that what was changed before is entered in the log.
const SCHEMA: u64 = 8;
const WITHOUT_CLONES: u64 = 7;
const WITHOUT_ASSOCIATIONS: u64 = 5;
const WITHOUT_WRITING: u64 = 1;

/// The setting that says which bucket the root of this file system is linked to.
pub const REPOSITORY_SETTING: &str = "repository";

fn schema_key() -> Vec<u8> {
    key::setting(Space::Internal, "schema")
}

/// Checks the schema; writes the first rows of a new store. Returns the current epoch.
pub(super) fn initialise(engine: &dyn Engine, defaults: &DefaultAttrs, now_ns: i64) -> Result<Epoch, MetaError> {
    if let Some(epoch) = existing(engine)? {
        return Ok(epoch);
    }
    let mut batch = Batch::default();
    batch.expect(Table::Settings, schema_key(), None);
    batch.put(Table::Settings, schema_key(), encode_number(SCHEMA));
    batch.put(Table::Settings, epoch_key(), encode_number(Epoch::FIRST.0));
    let root = key::versioned(&key::ino(Ino::ROOT), Epoch::FIRST);
    batch.put(Table::Inodes, root, root_inode(defaults, now_ns).encode());
    match engine.commit(batch, Durability::Durable) {
        Ok(()) | Err(EngineError::Conflict) => Ok(existing(engine)?.unwrap_or(Epoch::FIRST)),
        Err(other) => Err(other.into()),
    }
}

/// The epoch of a store that has been initialised.
fn existing(engine: &dyn Engine) -> Result<Option<Epoch>, MetaError> {
    let view = engine.view();
    let Some(row) = view.get(Table::Settings, &schema_key())? else { return Ok(None) };
    match decode_number(&row).map_err(damaged(Table::Settings))? {
        SCHEMA => epoch_of(&*view),
        older @ WITHOUT_WRITING..=WITHOUT_CLONES => {
            if older < WITHOUT_ASSOCIATIONS {
                super::changes::log_older(engine)?;
            }
            let mut batch = Batch::default();
            batch.expect(Table::Settings, schema_key(), Some(encode_number(older)));
            batch.put(Table::Settings, schema_key(), encode_number(SCHEMA));
            engine.commit(batch, Durability::Durable)?;
            epoch_of(&*view)
        }
        other => Err(MetaError::Damaged {
            table: Table::Settings.name(),
            why: format!(
                "schema {other} is newer than this forebay, which knows schema {SCHEMA}: use a newer forebay, or another cache directory"
            ),
        }),
    }
}

fn root_inode(defaults: &DefaultAttrs, now_ns: i64) -> InodeRow {
    InodeRow::new(FileKind::Directory, defaults.dir_perm, (defaults.uid, defaults.gid), now_ns, None)
}

impl MetaStore {
    /// A small named value (file system identity, settings).
    pub fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, MetaError> {
        let row = self.engine().view().get(Table::Settings, &key::setting(Space::User, name))?;
        row.map(|row| decode_text(&row).map(<[u8]>::to_vec).map_err(damaged(Table::Settings))).transpose()
    }

    /// Sets a small named value.
    pub fn set_setting(&self, name: &str, value: &[u8]) -> Result<(), MetaError> {
        let mut batch = Batch::default();
        batch.put(Table::Settings, key::setting(Space::User, name), encode_text(value));
        Ok(self.engine().commit(batch, Durability::Process)?)
    }
}
