//! The workspace as cargo sees it: the arrows between its crates, and the licences and sources of everything it stands on.

use crate::fixtures::workspace_root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What each crate of the workspace may depend on; `forebay-tests` may depend on all of them.
const ARROWS: [(&str, &[&str]); 7] = [
    // For its tests only: an S3 client is tried against an S3 server, and the server knows nothing of the daemon.
    ("forebay-daemon", &["forebay-loopback-s3"]),
    ("forebay-loopback-s3", &[]),
    ("forebay-suite", &[]),
    ("forebay-fuse", &["forebay-daemon"]),
    ("forebay", &["forebay-daemon", "forebay-fuse", "forebay-loopback-s3", "forebay-suite"]),
    ("forebay-benches", &["forebay-daemon"]),
    ("forebay-tests", &["forebay-daemon", "forebay-fuse", "forebay-loopback-s3"]),
];

/// Permissive licences, by SPDX name. A package passes when its expression can be met from these alone.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// `cargo metadata` for the platform the tests run on; no other platform's packages are built or shipped.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let rustc = Command::new("rustc").arg("-vV").output().expect("run rustc -vV");
    let version = String::from_utf8(rustc.stdout).expect("rustc prints UTF-8");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc -vV names its host").to_owned();
    let output = Command::new(cargo)
        .current_dir(workspace_root())
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host])
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The packages that are resolved for this platform.
fn resolved(metadata: &Value) -> Vec<&Value> {
    let list = |value: &'static str, of: &'static str| metadata[value][of].as_array();
    let ids: BTreeSet<&str> = list("resolve", "nodes").expect("a resolve graph").iter().map(|node| text(node, "id")).collect();
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().filter(|package| ids.contains(text(package, "id"))).collect()
}

/// Why an expression cannot be met from [`ALLOWED`], if so.
fn licence_breach(expression: &str) -> Option<String> {
    if expression.is_empty() {
        return Some("names no licence".to_owned());
    }
    match spdx::Expression::parse_mode(expression, spdx::ParseMode::LAX) {
        Err(error) => Some(format!("'{expression}' is no SPDX expression: {}", error.reason)),
        Ok(parsed) => {
            let met = parsed.evaluate(|licence| licence.license.id().is_some_and(|id| ALLOWED.contains(&id.name)));
            (!met).then(|| format!("'{expression}' asks for a licence that is not on the list"))
        }
    }
}

/// Crates of the workspace that one of them depends on against [`ARROWS`].
fn arrow_breaches(package: &str, depends_on: &[&str]) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
        return vec![format!("crate `{package}` stands in no row of ARROWS")];
    };
    let is_ours = |name: &&&str| ARROWS.iter().any(|(ours, _)| ours == *name);
    let forbidden = depends_on.iter().filter(is_ours).filter(|name| !allowed.contains(name));
    forbidden.map(|name| format!("crate `{package}` depends on `{name}`")).collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let metadata = metadata();
    let ours: Vec<&Value> = resolved(&metadata).into_iter().filter(|package| package["source"].is_null()).collect();
    assert_eq!(ours.len(), ARROWS.len(), "the workspace's crates are those of ARROWS");
    let breaches: Vec<String> = ours
        .iter()
        .flat_map(|package| {
            let names: Vec<&str> =
                package["dependencies"].as_array().expect("dependencies").iter().map(|d| text(d, "name")).collect();
            arrow_breaches(text(package, "name"), &names)
        })
        .collect();
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn an_arrow_that_turns_back_is_caught() {
    assert_eq!(
        arrow_breaches("forebay-daemon", &["serde", "forebay-fuse"]),
        ["crate `forebay-daemon` depends on `forebay-fuse`"]
    );
    assert_eq!(
        arrow_breaches("forebay-fuse", &["forebay-loopback-s3"]),
        ["crate `forebay-fuse` depends on `forebay-loopback-s3`"]
    );
    assert_eq!(arrow_breaches("forebay-fuse", &["forebay-daemon", "libc"]), [""; 0]);
    assert_eq!(arrow_breaches("forebay-new", &[]), ["crate `forebay-new` stands in no row of ARROWS"]);
}

#[test]
fn every_dependency_is_permissively_licensed() {
    let metadata = metadata();
    let packages = resolved(&metadata);
    assert!(packages.len() > 100, "only {} packages resolved", packages.len());
    let breaches: Vec<String> = packages
        .iter()
        .filter_map(|p| {
            licence_breach(text(p, "license")).map(|why| format!("{} {}: {why}", text(p, "name"), text(p, "version")))
        })
        .collect();
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn every_dependency_comes_from_the_one_registry() {
    let metadata = metadata();
    let elsewhere: Vec<String> = resolved(&metadata)
        .iter()
        .filter(|p| !p["source"].is_null() && !text(p, "source").ends_with("/crates.io-index"))
        .map(|p| format!("{} from {}", text(p, "name"), text(p, "source")))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
}

/// Two versions of a package cost build time and size, no more: told, not refused.
#[test]
fn duplicate_versions_are_named() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in resolved(&metadata) {
        versions.entry(text(package, "name")).or_default().push(text(package, "version"));
    }
    assert!(versions.contains_key("forebay"), "the workspace's own packages are among them");
    for (name, several) in versions.iter().filter(|(_, several)| several.len() > 1) {
        println!("warning: {name} in {} versions: {}", several.len(), several.join(", "));
    }
}

#[test]
fn a_licence_that_is_not_on_the_list_is_caught() {
    for met in
        ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]
    {
        assert_eq!(licence_breach(met), None, "{met}");
    }
    for unmet in ["GPL-3.0-only", "MIT AND AGPL-3.0-only", "LicenseRef-Own", "MPL-2.0", "", "no such thing"] {
        assert!(licence_breach(unmet).is_some(), "{unmet}");
    }
}
