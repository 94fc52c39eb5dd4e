//! The one place where a kind of failure becomes an errno.

use forebay_daemon::error::{Error, ErrorKind};
use fuser::Errno;

/// The errno a caller sees for a kind of failure.
pub(crate) fn errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::NotDirectory => Errno::ENOTDIR,
        ErrorKind::IsDirectory => Errno::EISDIR,
        ErrorKind::Stale => Errno::ESTALE,
        ErrorKind::Busy => Errno::EBUSY,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::Invalid => Errno::EINVAL,
        ErrorKind::AccessDenied => Errno::EACCES,
        ErrorKind::NoData => Errno::ENODATA,
        ErrorKind::Range => Errno::ERANGE,
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ErrorKind::BadHandle => Errno::EBADF,
        ErrorKind::NameTooLong => Errno::ENAMETOOLONG,
        ErrorKind::NoSuchData => Errno::ENXIO,
        ErrorKind::Exists => Errno::EEXIST,
        ErrorKind::NotEmpty => Errno::ENOTEMPTY,
        ErrorKind::TooManyLinks => Errno::EMLINK,
        ErrorKind::NotPermitted => Errno::EPERM,
        ErrorKind::TooLarge => Errno::EFBIG,
        ErrorKind::NoSpace => Errno::ENOSPC,
        ErrorKind::OverQuota => Errno::from_i32(libc::EDQUOT),
        ErrorKind::CrossesProjects => Errno::EXDEV,
        ErrorKind::Io => Errno::EIO,
        ErrorKind::ShuttingDown => Errno::from_i32(libc::ESHUTDOWN),
    }
}

/// The errno of a failed operation. Failures of the world outside are logged here, once, with the words that an errno has no
/// room for; everything a caller can cause by itself (a missing name, a small buffer) is not.
pub(crate) fn report(operation: &'static str, error: &Error) -> Errno {
    match error.kind {
        ErrorKind::Io | ErrorKind::AccessDenied | ErrorKind::Stale => tracing::warn!(operation, "{error}"),
        _ => tracing::trace!(operation, "{error}"),
    }
    errno(error.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_errno_its_documentation_names() {
        let table = [
            (ErrorKind::NotFound, libc::ENOENT),
            (ErrorKind::NotDirectory, libc::ENOTDIR),
            (ErrorKind::IsDirectory, libc::EISDIR),
            (ErrorKind::Stale, libc::ESTALE),
            (ErrorKind::ReadOnly, libc::EROFS),
            (ErrorKind::Invalid, libc::EINVAL),
            (ErrorKind::AccessDenied, libc::EACCES),
            (ErrorKind::NoData, libc::ENODATA),
            (ErrorKind::Range, libc::ERANGE),
            (ErrorKind::Unsupported, libc::EOPNOTSUPP),
            (ErrorKind::BadHandle, libc::EBADF),
            (ErrorKind::NameTooLong, libc::ENAMETOOLONG),
            (ErrorKind::NoSuchData, libc::ENXIO),
            (ErrorKind::Exists, libc::EEXIST),
            (ErrorKind::NotEmpty, libc::ENOTEMPTY),
            (ErrorKind::TooManyLinks, libc::EMLINK),
            (ErrorKind::NotPermitted, libc::EPERM),
            (ErrorKind::TooLarge, libc::EFBIG),
            (ErrorKind::NoSpace, libc::ENOSPC),
            (ErrorKind::OverQuota, libc::EDQUOT),
            (ErrorKind::CrossesProjects, libc::EXDEV),
            (ErrorKind::Io, libc::EIO),
            (ErrorKind::ShuttingDown, libc::ESHUTDOWN),
        ];
        for (kind, code) in table {
            assert_eq!(errno(kind).code(), code, "{kind:?}");
        }
    }
}
