//! The server over HTTP, as any client sees it.

mod auth;
mod client;
mod conditions;
mod faults;
mod keys;
mod listing;
mod multipart;
mod objects;
mod observer;
mod sample;
mod versions;
