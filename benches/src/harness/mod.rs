//! What every bench stands on.

pub mod cleanup;
pub mod data;
pub mod error;
pub mod http;
pub mod meter;
pub mod process;
pub mod report;
pub mod site;
pub mod stats;
pub mod store;
pub mod system;
