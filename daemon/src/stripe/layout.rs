//! Stripe layouts, as Lustre has them: count, size and first device of a file, inherited from its directory.

/// How a file's bytes are spread over devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    /// Devices the file is spread over; 0 means all of them.
    pub stripe_count: u8,
    /// Bytes on one device before the next takes over; a multiple of the block size.
    pub stripe_size: u64,
}
