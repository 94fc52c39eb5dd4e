//! The control API: HTTP + JSON over a unix socket, one socket per mount.

pub mod types;
