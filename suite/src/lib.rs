//! What `forebay bench` measures: any directory, or a store, the way a person would measure it. Knows nothing of the file system it looks at, so
//! that its figures mean the same on a plain disk, on a peer's mount and on a mount of Forebay.

pub mod ml;
