//! Real mounts of a bucket on the loopback server.

mod acls;
mod allocated;
mod auto_export;
mod auto_import;
mod consistency;
mod copying;
mod crash;
mod devices;
mod event_queue;
mod export;
mod faults;
mod import;
mod intents;
mod names;
mod power;
mod quota;
mod reads;
mod restart;
mod set_ids;
mod write_faults;
mod writing;
