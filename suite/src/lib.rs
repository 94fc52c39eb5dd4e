//! What `forebay bench` measures: any directory, or a store, the way a person would measure it. Knows nothing of the file system it looks at, so
//! that its figures mean the same on a plain disk, on a peer's mount and on a mount of Forebay.
//!
//! | module | owns |
//! | --- | --- |
//! | `plan` | what is to be measured, and how much of it |
//! | `run` | rounds, in which the targets alternate |
//! | `dir`, `store` | the two kinds of target, a file for each group of rows |
//! | `meter`, `stats` | threads against the clock; percentiles, medians, ratios |
//! | `ml` | what training jobs do, with emulated accelerators |
//! | `data`, `order` | bytes that nobody can compress or store once; blocks in a random order |
//! | `row`, `report` | what was measured, as a table, as JSON and as a page |
//! | `system` | the machine: memory, file systems, the page cache |

mod data;
pub mod dir;
pub mod error;
mod meter;
pub mod ml;
mod order;
pub mod plan;
pub mod report;
pub mod row;
pub mod run;
pub mod stats;
pub mod stop;
pub mod store;
pub mod system;
pub mod units;
