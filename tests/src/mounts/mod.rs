//! Real mounts of a bucket on the loopback server.

mod acls;
mod allocated;
mod associations;
mod auto_export;
mod conflicts;
mod consistency;
mod copying;
mod crash;
mod devices;
mod export;
mod export_faults;
mod faults;
mod fsx_objects;
mod hsm;
mod import;
mod intents;
mod names;
mod power;
mod preload;
mod quota;
mod reads;
mod release;
mod restart;
mod set_ids;
mod write_faults;
mod writing;
