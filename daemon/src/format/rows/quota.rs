//! Quotas: limits and timers of a user, group or project; what they use; and which inode counts for whom.
//!
//! ```text
//! limits    version  bytes_soft bytes_hard inodes_soft inodes_hard (numbers, 0 = none)
//!           bytes_since:8 inodes_since:8   when usage went over the soft limit, ns since 1970; 0 = it is not
//! usage     version  bytes inodes (numbers)
//! charge    version  uid gid bytes (numbers)  [project (number)]
//! ```

use super::RowError;
use super::wire::{Reader, Writer};
use crate::ids::Ino;

/// What a quota can be for. The number is stored; it never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum QuotaKind {
    /// What a user owns.
    User = 0,
    /// What a group owns.
    Group = 1,
    /// What lies at and below a directory.
    Project = 2,
}

impl QuotaKind {
    /// Every kind.
    pub const ALL: [QuotaKind; 3] = [QuotaKind::User, QuotaKind::Group, QuotaKind::Project];
}

/// Whose a quota is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuotaId {
    /// A user.
    User(u32),
    /// A group.
    Group(u32),
    /// The directory that a project was set on.
    Project(Ino),
}

impl QuotaId {
    /// Its kind.
    pub fn kind(self) -> QuotaKind {
        match self {
            QuotaId::User(_) => QuotaKind::User,
            QuotaId::Group(_) => QuotaKind::Group,
            QuotaId::Project(_) => QuotaKind::Project,
        }
    }

    /// Its number: a user's or group's id, a project's inode.
    pub fn number(self) -> u64 {
        match self {
            QuotaId::User(id) | QuotaId::Group(id) => id.into(),
            QuotaId::Project(ino) => ino.0,
        }
    }

    /// The quota of a kind with a number; `None` for a number that no user or group can have.
    pub fn new(kind: QuotaKind, number: u64) -> Option<Self> {
        Some(match kind {
            QuotaKind::User => QuotaId::User(number.try_into().ok()?),
            QuotaKind::Group => QuotaId::Group(number.try_into().ok()?),
            QuotaKind::Project => QuotaId::Project(Ino(number)),
        })
    }
}

impl std::fmt::Display for QuotaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            QuotaId::User(id) => write!(f, "user {id}"),
            QuotaId::Group(id) => write!(f, "group {id}"),
            QuotaId::Project(ino) => write!(f, "project {}", ino.0),
        }
    }
}

/// A soft and a hard limit; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// May be exceeded for as long as the grace period.
    pub soft: u64,
    /// May not be exceeded.
    pub hard: u64,
}

/// The limits of one quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Of bytes.
    pub bytes: Limit,
    /// Of inodes.
    pub inodes: Limit,
}

impl QuotaLimits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == QuotaLimits::default()
    }
}

/// A quota's row: limits, and since when usage is over the soft ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaRow {
    /// The limits.
    pub limits: QuotaLimits,
    /// Since when more bytes are used than the soft limit; 0 if not, ns since the Unix epoch.
    pub bytes_since_ns: i64,
    /// The same for inodes.
    pub inodes_since_ns: i64,
}

impl QuotaRow {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(57);
        for limit in [self.limits.bytes, self.limits.inodes] {
            row.number(limit.soft);
            row.number(limit.hard);
        }
        row.i64(self.bytes_since_ns);
        row.i64(self.inodes_since_ns);
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let bytes = Limit { soft: row.number("bytes_soft")?, hard: row.number("bytes_hard")? };
        let inodes = Limit { soft: row.number("inodes_soft")?, hard: row.number("inodes_hard")? };
        let (bytes_since_ns, inodes_since_ns) = (row.i64()?, row.i64()?);
        row.end()?;
        Ok(QuotaRow { limits: QuotaLimits { bytes, inodes }, bytes_since_ns, inodes_since_ns })
    }
}

/// What is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Usage {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(21);
        row.number(self.bytes);
        row.number(self.inodes);
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let usage = Usage { bytes: row.number("bytes")?, inodes: row.number("inodes")? };
        row.end()?;
        Ok(usage)
    }
}

/// For whom an inode counts, and with how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes.
    pub bytes: u64,
    /// The directory of its project, if it is in one.
    pub project: Option<Ino>,
}

impl Charge {
    /// Whose quotas it counts for.
    pub fn ids(&self) -> impl Iterator<Item = QuotaId> {
        [Some(QuotaId::User(self.uid)), Some(QuotaId::Group(self.gid)), self.project.map(QuotaId::Project)].into_iter().flatten()
    }

    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(31);
        for number in [self.uid.into(), self.gid.into(), self.bytes] {
            row.number(number);
        }
        if let Some(project) = self.project {
            row.number(project.0);
        }
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let (uid, gid, bytes) = (row.small("uid")?, row.small("gid")?, row.number("bytes")?);
        let project = if row.is_at_end() { None } else { Some(Ino(row.number("project")?)) };
        row.end()?;
        Ok(Charge { uid, gid, bytes, project })
    }
}
