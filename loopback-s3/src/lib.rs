//! forebay-loopback-s3
