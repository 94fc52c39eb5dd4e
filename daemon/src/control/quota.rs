//! Quotas, as they go over the control socket.

use crate::meta::{Graces, Limit, QuotaId, QuotaKind, QuotaLimits, QuotaState};
use crate::vfs::ShownQuota;
use serde::{Deserialize, Serialize};

/// Whose a quota is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A user's.
    User,
    /// A group's.
    Group,
    /// A directory tree's.
    Project,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::User, Kind::Group, Kind::Project];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Group => "group",
            Kind::Project => "project",
        }
    }
}

impl From<QuotaKind> for Kind {
    fn from(kind: QuotaKind) -> Self {
        match kind {
            QuotaKind::User => Kind::User,
            QuotaKind::Group => Kind::Group,
            QuotaKind::Project => Kind::Project,
        }
    }
}

impl From<Kind> for QuotaKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::User => QuotaKind::User,
            Kind::Group => QuotaKind::Group,
            Kind::Project => QuotaKind::Project,
        }
    }
}

/// How a soft limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Not exceeded, or there is none.
    Within,
    /// Exceeded, and that is allowed for a while.
    Grace,
    /// Exceeded for too long: it counts as a hard one.
    Expired,
}

/// What is used of something, and what may be; limits of 0 are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Used.
    pub used: u64,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
    /// How the soft limit stands.
    pub standing: Standing,
    /// Until when it may be exceeded, in seconds since the Unix epoch.
    pub grace_until: Option<i64>,
}

/// One quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaInfo {
    /// Whose.
    pub kind: Kind,
    /// The user's or group's id, or the inode of the project's directory.
    pub id: u64,
    /// The project's directory below the mount.
    pub path: Option<String>,
    /// Bytes.
    pub bytes: Amount,
    /// Inodes.
    pub inodes: Amount,
}

/// The grace periods of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraceInfo {
    /// Of which kind.
    pub kind: Kind,
    /// For bytes, in seconds.
    pub bytes_seconds: u64,
    /// For inodes, in seconds.
    pub inodes_seconds: u64,
}

/// Every quota of a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaReport {
    /// Whoever uses something or has limits.
    pub quotas: Vec<QuotaInfo>,
    /// The grace periods.
    pub graces: Vec<GraceInfo>,
    /// Whether what was here before the first limit is still being counted.
    pub counting: bool,
}

/// Limits to set; what is not given stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaRequest {
    /// Whose.
    pub kind: Kind,
    /// The user's or group's id; of a project the path says which.
    pub id: u64,
    /// Soft limit of bytes; 0 is none.
    pub bytes_soft: Option<u64>,
    /// Hard limit of bytes.
    pub bytes_hard: Option<u64>,
    /// Soft limit of inodes.
    pub inodes_soft: Option<u64>,
    /// Hard limit of inodes.
    pub inodes_hard: Option<u64>,
}

impl QuotaRequest {
    /// Changes limits as asked.
    pub fn apply(&self, limits: &mut QuotaLimits) {
        let set = |limit: &mut Limit, soft: Option<u64>, hard: Option<u64>| {
            limit.soft = soft.unwrap_or(limit.soft);
            limit.hard = hard.unwrap_or(limit.hard);
        };
        set(&mut limits.bytes, self.bytes_soft, self.bytes_hard);
        set(&mut limits.inodes, self.inodes_soft, self.inodes_hard);
    }
}

impl GraceInfo {
    /// The grace periods of a kind.
    pub fn new(kind: Kind, graces: Graces) -> Self {
        GraceInfo { kind, bytes_seconds: graces.bytes_s, inodes_seconds: graces.inodes_s }
    }

    /// The periods.
    pub fn graces(&self) -> Graces {
        Graces { bytes_s: self.bytes_seconds, inodes_s: self.inodes_seconds }
    }
}

fn amount(used: u64, limit: Limit, state: QuotaState) -> Amount {
    let (standing, grace_until) = match state {
        QuotaState::Within => (Standing::Within, None),
        QuotaState::GraceUntil(at_ns) => (Standing::Grace, Some(at_ns / 1_000_000_000)),
        QuotaState::Expired => (Standing::Expired, None),
    };
    Amount { used, soft: limit.soft, hard: limit.hard, standing, grace_until }
}

impl From<ShownQuota> for QuotaInfo {
    fn from(shown: ShownQuota) -> Self {
        let quota = shown.quota;
        let id: QuotaId = quota.id;
        QuotaInfo {
            kind: id.kind().into(),
            id: id.number(),
            path: shown.path.map(|path| String::from_utf8_lossy(&path).into_owned()),
            bytes: amount(quota.used.bytes, quota.limits.bytes, quota.bytes),
            inodes: amount(quota.used.inodes, quota.limits.inodes, quota.inodes),
        }
    }
}
