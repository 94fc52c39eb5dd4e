//! Keys. Versioned tables end in the inverted epoch; `*_prefix` is the key without it.
//!
//! ```text
//! inode, symlink, listing   ino:8                     !epoch:8
//! dirent                    parent:8 name 00          !epoch:8     names hold no 00, so 00 ends them and keeps their order
//! file map                  ino:8 chunk:8             !epoch:8
//! xattr                     ino:8 name 00             !epoch:8
//! further name              ino:8 parent:8 name 00    !epoch:8
//! whiteout                  parent:8 name 00          !epoch:8
//! reference                 fingerprint:8
//! orphan                    ino:8
//! hidden key                dir:8 object key
//! quota                     kind:1 number:8           kind 0 = user, 1 = group, 2 = project
//! usage                     kind:1 number:8 shard:1
//! charge                    ino:8
//! intent                    ino:8 place:8
//! change                    ino:8
//! doomed                    association:4 object key
//! upload                    ino:8 object key
//! task                      id:8
//! association               id:4
//! snapshot                  name                      or, while it is being deleted, 00 epoch:8
//! rewritten                 epoch:8 table:1 key prefix
//! setting                   space:1 name              space 0 = the store's own, 1 = its users'
//! ```

use super::{QuotaId, QuotaKind};
use crate::format::located;
use crate::ids::{AssociationId, Epoch, Ino};

/// Bytes of the inverted epoch at the end of a versioned key.
pub const EPOCH_BYTES: usize = 8;

/// The longest name a directory entry can have, in bytes.
pub const NAME_MAX: usize = 255;

/// Whether bytes can be a directory entry's name: 1 to 255 bytes without NUL and `/`.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

/// A versioned key: a prefix and its epoch, inverted.
pub fn versioned(prefix: &[u8], epoch: Epoch) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + EPOCH_BYTES);
    key.extend_from_slice(prefix);
    key.extend_from_slice(&(!epoch.0).to_be_bytes());
    key
}

/// The prefix and epoch of a versioned key; `None` if it is too short to be one.
pub fn split_versioned(key: &[u8]) -> Option<(&[u8], Epoch)> {
    let (prefix, epoch) = key.split_last_chunk::<EPOCH_BYTES>()?;
    Some((prefix, Epoch(!u64::from_be_bytes(*epoch))))
}

/// The key prefix of an inode's rows (inode, symlink target, listing state), and the key of its orphan row.
pub fn ino(ino: Ino) -> [u8; 8] {
    ino.0.to_be_bytes()
}

/// The inode number at the head of a key; `None` if the key is too short.
pub fn leading_ino(key: &[u8]) -> Option<Ino> {
    key.first_chunk::<8>().map(|bytes| Ino(u64::from_be_bytes(*bytes)))
}

/// The key prefix of a directory entry.
pub fn dirent(parent: Ino, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + name.len() + 1 + EPOCH_BYTES);
    key.extend_from_slice(&parent.0.to_be_bytes());
    key.extend_from_slice(name);
    key.push(0);
    key
}

/// The first key of all entries of a directory whose names are `from` or greater. A bound may be a name and a NUL, which is the
/// smallest string after the name though itself none.
pub fn dirents_from(parent: Ino, from: &[u8]) -> Vec<u8> {
    if let Some(name) = from.strip_suffix(&[0]) {
        // The name's own key ends in a NUL and an epoch: as plain bytes this bound would come before it.
        return dirents_after(parent, name);
    }
    [&parent.0.to_be_bytes(), from].concat()
}

/// The first key of all entries of a directory whose names are greater than `after`.
pub fn dirents_after(parent: Ino, after: &[u8]) -> Vec<u8> {
    // Above every epoch of `after` (its terminator is 00) and at or below every longer name (whose next byte is not 00).
    [&parent.0.to_be_bytes(), after, &[1]].concat()
}

/// The name in the prefix of a directory entry's key; `None` if it is not one.
pub fn dirent_name(prefix: &[u8]) -> Option<&[u8]> {
    prefix.get(8..)?.strip_suffix(&[0]).filter(|name| is_name(name))
}

/// Whether bytes can be an extended attribute's name: 1 to 255 bytes without NUL.
pub fn is_attribute(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && !name.contains(&0)
}

/// The key prefix of an extended attribute.
pub fn xattr(ino: Ino, name: &[u8]) -> Vec<u8> {
    [&ino.0.to_be_bytes(), name, &[0]].concat()
}

/// The attribute's name in the prefix of its key; `None` if it is not one.
pub fn xattr_name(prefix: &[u8]) -> Option<&[u8]> {
    prefix.get(8..)?.strip_suffix(&[0]).filter(|name| is_attribute(name))
}

/// The key prefix of a further name of a file with hard links.
pub fn further_name(ino: Ino, parent: Ino, name: &[u8]) -> Vec<u8> {
    [&ino.0.to_be_bytes()[..], &parent.0.to_be_bytes(), name, &[0]].concat()
}

/// Directory and name in the prefix of a further name's key; `None` if it is not one.
pub fn split_further_name(prefix: &[u8]) -> Option<(Ino, &[u8])> {
    let rest = prefix.get(8..)?;
    Some((leading_ino(rest)?, dirent_name(rest)?))
}

/// The key of an intent, by its place in the file's log.
pub fn intent(ino: Ino, place: u64) -> [u8; 16] {
    chunk(ino, place)
}

/// File and place in an intent's key; `None` if it is not one.
pub fn split_intent(key: &[u8]) -> Option<(Ino, u64)> {
    let (ino, place) = key.split_first_chunk::<8>()?;
    Some((Ino(u64::from_be_bytes(*ino)), u64::from_be_bytes(place.try_into().ok()?)))
}

/// The key of a doomed object's row; `object_key` is located.
pub fn doomed(object_key: &str) -> Vec<u8> {
    let (association, bare) = located::split(object_key);
    [&association.0.to_be_bytes(), bare.as_bytes()].concat()
}

/// The located object key in a doomed object's row key; `None` if it is not one.
pub fn split_doomed(key: &[u8]) -> Option<String> {
    let (association, bare) = key.split_first_chunk::<4>()?;
    Some(located::locate(AssociationId(u32::from_be_bytes(*association)), std::str::from_utf8(bare).ok()?))
}

/// The key of an association.
pub fn association(id: AssociationId) -> [u8; 4] {
    id.0.to_be_bytes()
}

/// The association in a key; `None` if it is not one.
pub fn split_association(key: &[u8]) -> Option<AssociationId> {
    key.try_into().ok().map(|bytes| AssociationId(u32::from_be_bytes(bytes)))
}

/// The key of a write under way.
pub fn upload(ino: Ino, object_key: &str) -> Vec<u8> {
    [&ino.0.to_be_bytes(), object_key.as_bytes()].concat()
}

/// Inode and object key in the key of a write under way; `None` if it is not one.
pub fn split_upload(key: &[u8]) -> Option<(Ino, &str)> {
    Some((leading_ino(key)?, std::str::from_utf8(key.get(8..)?).ok()?))
}

/// The key of a block's reference count.
pub fn reference(fingerprint: u64) -> [u8; 8] {
    fingerprint.to_be_bytes()
}

/// The fingerprint in the key of a reference count; `None` if it is not one.
pub fn referenced(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// The key prefix of a file map's row.
pub fn chunk(ino: Ino, chunk: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&ino.0.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// The key of a hidden key's row.
pub fn hidden(dir: Ino, object_key: &str) -> Vec<u8> {
    [&dir.0.to_be_bytes(), object_key.as_bytes()].concat()
}

/// The object key in a hidden key's row key; `None` if it is not one.
pub fn hidden_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(8..)?).ok()
}

/// The key of a quota's limits.
pub fn quota(id: QuotaId) -> [u8; 9] {
    let mut key = [id.kind() as u8; 9];
    key[1..].copy_from_slice(&id.number().to_be_bytes());
    key
}

/// Whose limits a key is of; `None` if it is not one.
pub fn split_quota(key: &[u8]) -> Option<QuotaId> {
    let (kind, number) = key.split_first()?;
    let kind = QuotaKind::ALL.into_iter().find(|known| *known as u8 == *kind)?;
    QuotaId::new(kind, u64::from_be_bytes(number.try_into().ok()?))
}

/// The key of a part of what is used.
pub fn usage(id: QuotaId, shard: u8) -> [u8; 10] {
    let mut key = [shard; 10];
    key[..9].copy_from_slice(&quota(id));
    key
}

/// Whose usage a key is of; `None` if it is not one.
pub fn split_usage(key: &[u8]) -> Option<QuotaId> {
    let (_, quota) = key.split_last()?;
    split_quota(quota)
}

/// The key of a task.
pub fn task(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}

/// The task in a key; `None` if it is not one.
pub fn split_task(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// The key of a snapshot that is being deleted: no name, since names have no NUL.
pub fn deleted_snapshot(epoch: Epoch) -> [u8; 9] {
    let mut key = [0; 9];
    key[1..].copy_from_slice(&epoch.0.to_be_bytes());
    key
}

/// The key of what was written in an epoch over older rows.
pub fn rewritten(epoch: Epoch, table: u8, prefix: &[u8]) -> Vec<u8> {
    [&epoch.0.to_be_bytes()[..], &[table], prefix].concat()
}

/// Epoch, table and key prefix in such a key; `None` if it is not one.
pub fn split_rewritten(key: &[u8]) -> Option<(Epoch, u8, &[u8])> {
    let (epoch, rest) = key.split_first_chunk::<8>()?;
    let (table, prefix) = rest.split_first()?;
    Some((Epoch(u64::from_be_bytes(*epoch)), *table, prefix))
}

/// The key of what a file has become in a clone, by the clone's root.
pub fn twin(root: Ino, file: Ino) -> [u8; 16] {
    chunk(root, file.0)
}

/// What keys of the borrowers of an object begin with.
pub fn borrowers(object_key: &str) -> Vec<u8> {
    [doomed(object_key), vec![0]].concat()
}

/// The key of a file that borrows an object.
pub fn borrower(object_key: &str, ino: Ino) -> Vec<u8> {
    [borrowers(object_key), ino.0.to_be_bytes().to_vec()].concat()
}

/// The file in the key of a borrower of this object; `None` if it is of another.
pub fn split_borrower(key: &[u8], object_key: &str) -> Option<Ino> {
    let ino: [u8; 8] = key.strip_prefix(borrowers(object_key).as_slice())?.try_into().ok()?;
    Some(Ino(u64::from_be_bytes(ino)))
}

/// Whose a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The store's own bookkeeping.
    Internal = 0,
    /// Set through the store's interface.
    User = 1,
}

/// The key of a setting.
pub fn setting(space: Space, name: &str) -> Vec<u8> {
    [&[space as u8], name.as_bytes()].concat()
}

/// The first key after all that begin with `prefix`; `None` if there is no end.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
