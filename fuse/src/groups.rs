//! Who it is that asks. FUSE tells a caller's user and its own group only; its other groups and its capabilities are in `/proc`, where the caller
//! stands still as long as its request is not answered.

use fuser::Request;

/// The capability to keep set-ID bits of a file that is changed.
const CAP_FSETID: u32 = 4;

/// Whether the caller belongs to a group, or may do what its members may. One that cannot be seen from here (another PID namespace) has its
/// own group only.
pub(crate) fn belongs(req: &Request, gid: u32) -> bool {
    req.uid() == 0 || req.gid() == gid || further_groups(req.pid()).contains(&gid)
}

/// Whether the caller may change a file and leave it its set-ID bits. Of one that cannot be seen from here only root may; of one in a user namespace
/// of its own the capabilities say nothing.
pub(crate) fn keeps_set_ids(req: &Request) -> bool {
    let (ours, theirs) = (user_namespace("self"), user_namespace(&req.pid().to_string()));
    match field(req.pid(), "CapEff:").and_then(|caps| u64::from_str_radix(&caps, 16).ok()) {
        Some(caps) => caps >> CAP_FSETID & 1 == 1 && (ours == theirs || theirs.is_none()),
        None => req.uid() == 0,
    }
}

fn user_namespace(process: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/user")).ok()
}

fn field(pid: u32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

fn further_groups(pid: u32) -> Vec<u32> {
    let groups = field(pid, "Groups:").unwrap_or_default();
    groups.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_process_are_found_and_of_one_that_is_not_there_none() {
        let mine: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut found = further_groups(std::process::id());
        found.sort_unstable();
        let mut expected = mine;
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert!(further_groups(0).is_empty());
    }
}
