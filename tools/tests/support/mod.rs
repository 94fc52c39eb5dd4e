//! What tests of running daemons ask them.

use serde_json::Value;
use std::process::Command;

/// What `forebay status --json MOUNT` says of that one mount.
pub fn status(command: &mut Command) -> Value {
    let out = command.output().unwrap();
    let all: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    all[0].clone()
}

/// The most memory that the daemon of a status ever had resident, in bytes.
pub fn peak_resident(status: &Value) -> u64 {
    let kernel = std::fs::read_to_string(format!("/proc/{}/status", status["pid"])).unwrap();
    let peak = kernel.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")).unwrap();
    peak.trim().parse::<u64>().unwrap() << 10
}
