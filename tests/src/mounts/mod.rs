//! Real mounts of a bucket on the loopback server.

mod acls;
mod consistency;
mod copying;
mod crash;
mod devices;
mod faults;
mod intents;
mod names;
mod power;
mod quota;
mod reads;
mod restart;
mod write_faults;
mod writing;
