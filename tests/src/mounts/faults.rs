//! A store that misbehaves.
