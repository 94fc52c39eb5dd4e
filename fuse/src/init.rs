//! What Forebay asks of the kernel at INIT.

use fuser::{InitFlags, KernelConfig};

/// Largest request, in bytes. The kernel clamps it to `/proc/sys/fs/fuse/max_pages_limit` pages (256 by default, which is just
/// this); 16 MiB requests gained nothing where they were measured, and every device thread's buffer has this size.
pub(crate) const MAX_REQUEST_BYTES: u32 = 1 << 20;

/// Background requests (read-ahead, asynchronous direct I/O) under way at once: with the kernel's 16, 4 KiB random reads at
/// queue depth 128 got half of their rate.
const MAX_BACKGROUND: u16 = 256;
/// Beyond this many the kernel holds back read-ahead. High, because our devices are what should be kept busy.
const CONGESTION_THRESHOLD: u16 = 240;

/// Capabilities wanted, each asked for only where the kernel offers it. `DONT_MASK` goes with `POSIX_ACL`: a directory's default list takes
/// the place of the umask, so who knows the lists has to apply it. `HANDLE_KILLPRIV_V2`: without it the kernel asks for `security.capability`
/// before each write; with it set-ID bits are ours to clear (`dispatch::setattr` and `write`).
///
/// Not among them, on purpose: `AUTO_INVAL_DATA` (the kernel would drop pages whenever a time stamp looks new; we invalidate
/// exactly what changed, hence `EXPLICIT_INVAL_DATA`), `NO_OPEN_SUPPORT` (a handle pins an object's version, so opens must reach
/// us), `WRITEBACK_CACHE` (excludes passthrough, and more: decision 0011), `SETXATTR_EXT` (fuser does not parse what it adds).
const WANTED: [InitFlags; 12] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// The wanted capabilities among those offered.
fn chosen(offered: InitFlags) -> InitFlags {
    WANTED.into_iter().filter(|flag| offered.contains(*flag)).fold(InitFlags::empty(), InitFlags::union)
}

/// Configures the connection.
pub(crate) fn negotiate(config: &mut KernelConfig) {
    let chosen = chosen(config.capabilities());
    config.add_capabilities(chosen).expect("only offered capabilities were chosen");
    config.set_max_write(MAX_REQUEST_BYTES).expect("1 MiB is within fuser's limit of 16 MiB");
    config.set_max_background(MAX_BACKGROUND).expect("not zero");
    config.set_congestion_threshold(CONGESTION_THRESHOLD).expect("not zero");
    tracing::debug!(?chosen, max_pages_limit = ?max_pages_limit(), "FUSE connection negotiated");
}

/// The kernel's bound on a request, in pages, where it has one (Linux 6.13 and later). Only for the log: 257 or more would
/// spare unaligned 1 MiB buffers a second request, but raising a limit of the whole machine is its owner's decision.
fn max_pages_limit() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/fs/fuse/max_pages_limit").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offered_capabilities_are_asked_for() {
        let offered = InitFlags::FUSE_ASYNC_DIO | InitFlags::FUSE_WRITEBACK_CACHE | InitFlags::FUSE_MAX_PAGES;
        assert_eq!(chosen(offered), InitFlags::FUSE_ASYNC_DIO | InitFlags::FUSE_MAX_PAGES);
    }

    #[test]
    fn a_kernel_that_offers_all_gets_nothing_that_excludes_us() {
        let all = chosen(InitFlags::all());
        for unwanted in [
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_WRITEBACK_CACHE,
            InitFlags::FUSE_SETXATTR_EXT,
        ] {
            assert!(!all.intersects(unwanted), "{unwanted:?}");
        }
        assert_eq!(all.bits().count_ones() as usize, WANTED.len());
    }
}
