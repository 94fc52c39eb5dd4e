//! Where a file's blocks go: stripe layouts (pure maths), the array of devices, and each device's health.

mod array;
mod health;
pub mod layout;
mod prober;

pub use array::{DeviceArray, DeviceReport};
pub use layout::{BadLayout, Layout};
pub use prober::Prober;
