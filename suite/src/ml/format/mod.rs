//! The formats of files, as far as a reader has to understand them to find the next sample. A file each, pure; total decoders.

pub(super) mod safetensors;
pub(super) mod tar;
pub(super) mod tfrecord;
