//! Users and groups by name, as the system knows them: local files, LDAP, whatever it asks.

use forebay_daemon::control::quota::Kind;
use std::ffi::{CStr, CString};

/// Bytes for one answer of the system.
const ANSWER: usize = 64 << 10;

/// The id of a user or group that is given by name or number.
pub(crate) fn id_of(kind: Kind, text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| by_name(kind, text))
}

fn by_name(kind: Kind, name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut buffer = vec![0; ANSWER];
    if kind == Kind::Group {
        // SAFETY: an all-zero `group` is valid; the call writes it and the buffer, whose length it is told.
        let mut group: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is to something that lives until after the call.
        unsafe { libc::getgrnam_r(name.as_ptr(), &mut group, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        return (!found.is_null()).then_some(group.gr_gid);
    }
    // SAFETY: as above, of a `passwd`.
    let mut user: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: as above.
    unsafe { libc::getpwnam_r(name.as_ptr(), &mut user, buffer.as_mut_ptr(), buffer.len(), &mut found) };
    (!found.is_null()).then_some(user.pw_uid)
}

/// The name of a user or group; its number where it has none.
pub(crate) fn name_of(kind: Kind, id: u64) -> String {
    u32::try_from(id).ok().and_then(|id| by_id(kind, id)).unwrap_or_else(|| id.to_string())
}

fn by_id(kind: Kind, id: u32) -> Option<String> {
    let mut buffer = vec![0; ANSWER];
    let name = if kind == Kind::Group {
        // SAFETY: as in `by_name`.
        let mut group: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `by_name`.
        unsafe { libc::getgrgid_r(id, &mut group, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        (!found.is_null()).then_some(group.gr_name)
    } else {
        // SAFETY: as in `by_name`.
        let mut user: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `by_name`.
        unsafe { libc::getpwuid_r(id, &mut user, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        (!found.is_null()).then_some(user.pw_name)
    }?;
    // SAFETY: the call succeeded, so the name is a C string in the buffer, which is still there.
    Some(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_both_understood() {
        for kind in [Kind::User, Kind::Group] {
            assert_eq!((id_of(kind, "root"), id_of(kind, "12345"), id_of(kind, "no such name")), (Some(0), Some(12345), None));
            assert_eq!((name_of(kind, 0), name_of(kind, 3_999_999_999)), ("root".into(), "3999999999".into()));
        }
    }
}
