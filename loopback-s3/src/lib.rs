//! An S3 server inside the process, on 127.0.0.1: what `forebay quickstart` and all tests talk to.
//!
//! The protocol (routing, XML, SigV4) is the `s3s` crate's; the semantics are this crate's:
//!
//! | module | owns |
//! | --- | --- |
//! | `server` | listener, connections, the [`Server`] handle |
//! | `front` | what happens to a request before and after `s3s` |
//! | `faults` | which requests go wrong, and how; `shaped` and `line` carry it out |
//! | `xml` | control characters in keys |
//! | `observe` | counters and a log of requests |
//! | `sample` | the data set of `forebay quickstart` |
//! | `auth` | credentials and anonymous access |
//! | `api` | each S3 operation over the store |
//! | `stream` | bodies of replies |
//! | `store` | buckets, objects, versions, uploads, listings; no HTTP |

mod api;
mod auth;
mod config;
mod faults;
mod front;
mod line;
mod observe;
pub mod sample;
mod server;
mod shaped;
mod store;
mod stream;
mod xml;

pub use config::{Credentials, EtagKind, LoopbackConfig, Spill};
pub use faults::{Fault, Faults, Rule};
pub use observe::{Observer, Op, RequestRecord};
pub use server::{LoopbackS3, Server};
pub use store::{
    Body, BucketHandle, Deletion, Etag, Object, ObjectHeaders, Refusal, Revision, Texture, UnixMs, VersionId, Versioning,
};
