//! Stand-in.
use super::{BlockStore, PutDone};
use crate::ids::{BlockId, DeviceId};
use bytes::Bytes;
impl BlockStore {
    /// x
    pub fn put_local(&self, plain: Bytes, place: DeviceId, done: PutDone) { self.put(plain, place, done) }
    /// x
    pub fn keep(&self, _id: &BlockId) {}
    /// x
    pub fn discard(&self, _id: &BlockId, _referenced: bool) {}
    /// x
    pub fn release(&self, _f: u64) {}
    /// x
    pub fn hold(&self, _f: u64) -> bool { true }
    /// x
    pub fn holds_known(&self) {}
    /// x
    pub fn room_for_local(&self) -> u64 { u64::MAX }
}
