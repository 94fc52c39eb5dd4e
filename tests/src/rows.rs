//! The import rows of `daemon`, as the table in `daemon/src/lib.rs` states them.
//!
//! The rule, for code compiled outside tests:
//!
//! 1. A module imports only modules of lower rows, and itself.
//! 2. Within row 0, `io` and `format` import the leaf vocabulary; of the vocabulary, everyone imports [`FREE`], and nothing else.
//! 3. [`ROOT`] is the composition root: it imports everything, and no module imports it.
//! 4. Every module stands in the table, and everything in the table is a module.

use crate::fixtures::workspace_root;
use imports::{Crate, Import, scan};
use std::collections::BTreeMap;

mod imports;

/// The composition root, which stands above the table.
const ROOT: &str = "engine";
/// The modules of row 0 that are no leaf vocabulary: they stand on it.
const ABOVE_LEAVES: [&str; 2] = ["io", "format"];
/// What leaves import of each other.
const FREE: [&str; 3] = ["ids", "units", "error"];

/// Reads the `| row | modules |` table out of a crate root's `//!` head.
fn table(lib_rs: &str) -> BTreeMap<String, u8> {
    let mut rows = BTreeMap::new();
    for line in lib_rs.lines().filter_map(|line| line.strip_prefix("//! |")) {
        let mut cells = line.split('|').map(str::trim);
        let (Some(Ok(row)), Some(modules)) = (cells.next().map(str::parse::<u8>), cells.next()) else { continue };
        rows.extend(modules.split(',').map(|name| (name.trim().trim_matches('`').to_owned(), row)));
    }
    rows
}

/// Whether the rule allows an import between two modules of the table.
fn allowed(rows: &BTreeMap<String, u8>, import: &Import) -> bool {
    if import.from.is_empty() || import.from == ROOT {
        return true;
    }
    let (Some(&from), Some(&to)) = (rows.get(&import.from), rows.get(&import.to)) else { return false };
    let leaf = |name: &str| !ABOVE_LEAVES.contains(&name);
    let within_leaves = from == 0 && leaf(&import.to) && (!leaf(&import.from) || FREE.contains(&import.to.as_str()));
    to < from || (to == 0 && within_leaves)
}

/// Every breach of the rule, in words.
fn breaches(rows: &BTreeMap<String, u8>, found: &Crate) -> Vec<String> {
    let stray = found.modules.iter().filter(|m| *m != ROOT && !rows.contains_key(*m));
    let missing = rows.keys().filter(|m| !found.modules.contains(*m));
    let mut all: Vec<String> =
        stray.map(|m| format!("module `{m}` stands in no row of the table in daemon/src/lib.rs")).collect();
    all.extend(missing.map(|m| format!("the table names `{m}`, which is no module")));
    all.extend(found.imports.iter().filter(|i| !allowed(rows, i)).map(|i| {
        let row = |name: &str| rows.get(name).map_or("no row".to_owned(), |row| format!("row {row}"));
        let (from, to) = (row(&i.from), row(&i.to));
        format!("daemon/src/{}: `{}` ({from}) imports `{}` ({to})", i.file.display(), i.from, i.to)
    }));
    all
}

#[test]
fn daemon_modules_import_only_lower_rows() {
    let src = workspace_root().join("daemon/src");
    let rows = table(&std::fs::read_to_string(src.join("lib.rs")).expect("daemon/src/lib.rs"));
    let found = scan(&src).expect("scan daemon/src");
    assert!(rows.len() > 10 && found.imports.len() > 10, "the table or the scan came out nearly empty: {rows:?}, {found:?}");
    let breaches = breaches(&rows, &found);
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BTreeMap<String, u8> {
        table(
            "//! | row | modules |\n//! | --- | --- |\n//! | 2 | `meta`, `block` |\n//! | 1 | `codec` |\n//! | 0 | `io`, `ids`, `clock` |\n",
        )
    }

    fn import(from: &str, to: &str) -> Import {
        Import { from: from.into(), to: to.into(), file: "x.rs".into() }
    }

    #[test]
    fn the_table_is_read_from_the_head() {
        let rows: Vec<(String, u8)> = sample().into_iter().collect();
        let expected = [("block", 2), ("clock", 0), ("codec", 1), ("ids", 0), ("io", 0), ("meta", 2)];
        assert_eq!(rows, expected.map(|(name, row)| (name.to_owned(), row)));
    }

    #[test]
    fn the_rule_tells_allowed_from_forbidden() {
        let rows = sample();
        for (from, to) in [("meta", "codec"), ("meta", "io"), ("io", "clock"), ("clock", "ids"), ("engine", "meta"), ("", "meta")]
        {
            assert!(allowed(&rows, &import(from, to)), "{from} -> {to} is allowed");
        }
        for (from, to) in
            [("codec", "meta"), ("meta", "block"), ("clock", "io"), ("ids", "clock"), ("meta", "engine"), ("meta", "unlisted")]
        {
            assert!(!allowed(&rows, &import(from, to)), "{from} -> {to} is forbidden");
        }
    }

    #[test]
    fn a_breach_in_the_sources_is_reported_with_its_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = [
            ("lib.rs", "pub mod meta;\npub mod codec;\npub mod stray;\n"),
            ("meta.rs", "use crate::codec::Frame;\n"),
            ("codec.rs", "use crate::meta::Engine;\n"),
            ("stray.rs", ""),
        ];
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("write the file");
        }
        let rows = table("//! | 2 | `meta`, `gone` |\n//! | 1 | `codec` |\n");
        assert_eq!(
            breaches(&rows, &scan(dir.path()).expect("scan")),
            [
                "module `stray` stands in no row of the table in daemon/src/lib.rs",
                "the table names `gone`, which is no module",
                "daemon/src/codec.rs: `codec` (row 1) imports `meta` (row 2)",
            ]
        );
    }
}
