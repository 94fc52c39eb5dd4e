//! Whether whoever asks belongs to a group. FUSE tells a caller's own group only; the others are in `/proc`, where the caller stands still
//! as long as its request is not answered.

use fuser::Request;

/// Whether the caller belongs to a group, or may do what its members may. One that cannot be seen from here (another PID namespace) has its
/// own group only.
pub(crate) fn belongs(req: &Request, gid: u32) -> bool {
    req.uid() == 0 || req.gid() == gid || further_groups(req.pid()).contains(&gid)
}

fn further_groups(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
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
