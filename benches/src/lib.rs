//! Forebay's benches: workloads, one per file, run in alternation over the file system and its peers.
//!
//! - [`harness`]: processes, the store, data, measuring, statistics, reports. Knows no peer and no workload.
//! - [`peer`]: what is compared, behind one trait: the plain disk, a plain client, Forebay, other mounts.
//! - [`workload`]: what is measured, behind one trait.
//! - [`run`]: rounds of A B A B over both; [`options`] and [`preset`] say which, [`target`] judges the outcome.
//!
//! Guarantees: within a round every peer meets the same store, profile and data; a figure is never printed without the
//! configuration it was made with; a peer that fails is reported as failed, never left out in silence; whatever was
//! mounted, started or created is gone at the end, after errors and Ctrl-C too.

pub mod harness;
pub mod options;
pub mod peer;
pub mod preset;
pub mod run;
pub mod target;
pub mod workload;
