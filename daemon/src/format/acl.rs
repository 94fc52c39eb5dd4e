//! POSIX access control lists in the form that system calls and file systems exchange them in, version 2:
//!
//! ```text
//! 0   4  version (2)
//! 4   8  an entry, as often as there are any:
//!        0  2  tag: 1 owner, 2 user, 4 owning group, 8 group, 16 mask, 32 others
//!        2  2  permissions: 4 read, 2 write, 1 execute
//!        4  4  user or group id; all ones for the other tags
//! ```
//! All little-endian. Entries stand in the order of their tags; users, groups and the mask may be missing, the mask only without users and
//! groups.

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
const NO_ID: u32 = u32::MAX;
const PERM_BITS: u16 = 7;

/// Whom an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The file's owner.
    Owner,
    /// A user, by id.
    User(u32),
    /// The file's group.
    OwningGroup,
    /// A group, by id.
    Group(u32),
    /// The most that users, groups and the owning group can have.
    Mask,
    /// Everybody else.
    Others,
}

/// One entry: who, and read (4), write (2), execute (1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whom it is about.
    pub who: Who,
    /// What they may do.
    pub perm: u16,
}

/// A list that is valid: its entries are in order and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

/// Why bytes are no access control list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// Another version of the format.
    #[error("version {0} of access control lists is not known")]
    Version(u32),
    /// A length or an entry that cannot be, or entries that make no list.
    #[error("not an access control list: {0}")]
    Invalid(&'static str),
}

impl Acl {
    /// A list of these entries.
    pub fn new(entries: Vec<Entry>) -> Result<Self, AclError> {
        check(&entries)?;
        Ok(Acl(entries))
    }

    /// The list in these bytes; `None` for one without entries, which stands for no list.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, AclError> {
        let Some((version, entries)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(AclError::Invalid("too short"));
        };
        match u32::from_le_bytes(*version) {
            VERSION => {}
            other => return Err(AclError::Version(other)),
        }
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(AclError::Invalid("part of an entry"));
        }
        if entries.is_empty() {
            return Ok(None);
        }
        Self::new(entries.iter().map(decode_entry).collect::<Result<_, _>>()?).map(Some)
    }

    /// The list's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.0.len() * ENTRY_BYTES);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for entry in &self.0 {
            let (tag, id) = entry.who.tag_and_id();
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&entry.perm.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Changes what entries allow; whom they are about stays.
    pub fn change(&mut self, mut change: impl FnMut(Who, &mut u16)) {
        for entry in &mut self.0 {
            change(entry.who, &mut entry.perm);
            entry.perm &= PERM_BITS;
        }
    }
}

impl Who {
    fn tag_and_id(self) -> (u16, u32) {
        match self {
            Who::Owner => (1, NO_ID),
            Who::User(id) => (2, id),
            Who::OwningGroup => (4, NO_ID),
            Who::Group(id) => (8, id),
            Who::Mask => (16, NO_ID),
            Who::Others => (32, NO_ID),
        }
    }
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> Result<Entry, AclError> {
    let [tag_low, tag_high, perm_low, perm_high, id @ ..] = *bytes;
    let id = u32::from_le_bytes(id);
    let who = match u16::from_le_bytes([tag_low, tag_high]) {
        1 => Who::Owner,
        2 => Who::User(id),
        4 => Who::OwningGroup,
        8 => Who::Group(id),
        16 => Who::Mask,
        32 => Who::Others,
        _ => return Err(AclError::Invalid("unknown tag")),
    };
    Ok(Entry { who, perm: u16::from_le_bytes([perm_low, perm_high]) })
}

fn check(entries: &[Entry]) -> Result<(), AclError> {
    let rank = |entry: &Entry| entry.who.tag_and_id().0;
    if entries.iter().any(|entry| entry.perm & !PERM_BITS != 0) {
        return Err(AclError::Invalid("unknown permissions"));
    }
    if entries.iter().any(|entry| matches!(entry.who, Who::User(NO_ID) | Who::Group(NO_ID))) {
        return Err(AclError::Invalid("a user or group without an id"));
    }
    if !entries.is_sorted_by_key(rank) {
        return Err(AclError::Invalid("entries out of order"));
    }
    let count = |who: Who| entries.iter().filter(|entry| entry.who == who).count();
    if count(Who::Owner) != 1 || count(Who::OwningGroup) != 1 || count(Who::Others) != 1 || count(Who::Mask) > 1 {
        return Err(AclError::Invalid("owner, group and others are to be there once each, a mask once at most"));
    }
    let named = entries.iter().any(|entry| matches!(entry.who, Who::User(_) | Who::Group(_)));
    if named && count(Who::Mask) == 0 {
        return Err(AclError::Invalid("users or groups without a mask"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(who: Who, perm: u16) -> Entry {
        Entry { who, perm }
    }

    fn example() -> Acl {
        let entries = vec![
            entry(Who::Owner, 6),
            entry(Who::User(1000), 4),
            entry(Who::OwningGroup, 4),
            entry(Who::Group(100), 7),
            entry(Who::Mask, 5),
            entry(Who::Others, 0),
        ];
        Acl::new(entries).expect("valid")
    }

    #[test]
    fn a_list_has_the_bytes_that_linux_gives_it() {
        let bytes: Vec<u8> = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 0xe8, 3, 0, 0],
            &[4, 0, 4, 0, 255, 255, 255, 255],
            &[8, 0, 7, 0, 100, 0, 0, 0],
            &[16, 0, 5, 0, 255, 255, 255, 255],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        assert_eq!(example().encode(), bytes);
        assert_eq!(Acl::decode(&bytes), Ok(Some(example())));
        assert_eq!(Acl::decode(&[2, 0, 0, 0]), Ok(None));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert_eq!(Acl::decode(&[1, 0, 0, 0]), Err(AclError::Version(1)));
        let bytes = example().encode();
        assert!((0..bytes.len()).filter(|len| *len != HEADER_BYTES).all(|len| Acl::decode(&bytes[..len]).is_err()));
        let refused = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = example().0;
            change(&mut entries);
            Acl::new(entries).is_err()
        };
        assert!(refused(&|entries| entries.swap(0, 1)));
        assert!(refused(&|entries| entries.retain(|entry| entry.who != Who::Mask)));
        assert!(refused(&|entries| entries[0].perm = 8));
        assert!(refused(&|entries| entries[1].who = Who::User(NO_ID)));
        assert!(refused(&|entries| entries.insert(5, entries[4])));
        assert!(refused(&|entries| entries.truncate(5)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_list_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(acl)) = Acl::decode(&bytes) {
                prop_assert_eq!(Acl::decode(&acl.encode()), Ok(Some(acl)));
            }
        }
    }
}
