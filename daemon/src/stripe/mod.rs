//! Where a file's blocks go: stripe layouts (pure maths), the array of devices, and each device's health.
pub mod layout;
pub use layout::Layout;

use crate::ids::DeviceId;
use crate::io::{Device, IoError};
use std::sync::Arc;

/// The devices of one file system, in formatting order, with their health.
pub struct DeviceArray;

#[allow(unused_variables, reason = "signatures agreed before the bodies")]
impl DeviceArray {
    /// An array of devices, all in service.
    pub fn new(devices: Vec<Arc<dyn Device>>) -> Arc<Self> {
        todo!("helper A")
    }
    /// How many devices there are, in service or not.
    pub fn count(&self) -> usize {
        todo!("helper A")
    }
    /// A device, whatever its health.
    pub fn device(&self, id: DeviceId) -> &Arc<dyn Device> {
        todo!("helper A")
    }
    /// Whether a device is in service.
    pub fn in_service(&self, id: DeviceId) -> bool {
        todo!("helper A")
    }
    /// Counts a failed request; takes the device out of service when it fails too often.
    pub fn record_error(&self, id: DeviceId, error: &IoError) {
        todo!("helper A")
    }
    /// Counts a served request.
    pub fn record_ok(&self, id: DeviceId) {
        todo!("helper A")
    }
    /// Where the block at `byte_offset` of a file goes: by its layout, weighted by capacity, passing over devices out of service.
    /// `file_seed` (the inode number) spreads the first devices of files.
    pub fn place(&self, layout: Layout, file_seed: u64, byte_offset: u64) -> DeviceId {
        todo!("helper A")
    }
}
