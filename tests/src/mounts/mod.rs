//! Real mounts of a bucket on the loopback server.

mod consistency;
mod crash;
mod devices;
mod faults;
mod names;
mod quota;
mod reads;
mod restart;
mod writing;
