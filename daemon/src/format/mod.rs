//! format

pub mod rows;
