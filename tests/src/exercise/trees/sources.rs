//! Trees that look like somebody's sources, the same for the same seed.

use super::programs::Step;
use crate::exercise::content;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Writes a tree of `files` files, some of them executable, some empty, one hard link and one symbolic link; files of an
/// earlier seed are overwritten.
pub fn write(root: &Path, seed: u64, files: usize) -> Step<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let said = |error: std::io::Error| format!("{}: {error}", root.display());
    for number in 0..files {
        let folder = root.join(format!("module{}", number % 9)).join(["", "tests", "deep/deeper"][number % 3]);
        std::fs::create_dir_all(&folder).map_err(said)?;
        let length = [0, 13, 700, 4096, 20_000, 150_000][rng.random_range(0..6)];
        let path = folder.join(format!("file{number}.rs"));
        std::fs::write(&path, content::bytes(seed, 1000 * number as u64, length)).map_err(said)?;
        let mode = if number % 7 == 0 { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).map_err(said)?;
    }
    link(root).map_err(said)
}

fn link(root: &Path) -> std::io::Result<()> {
    let (hard, soft) = (root.join("hard"), root.join("soft"));
    for name in [&hard, &soft] {
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::hard_link(root.join("module0/file0.rs"), hard)?;
    symlink("module0/file0.rs", soft)
}

/// Writes a crate named `made` of `modules` modules, whose program says [`crate_says`].
pub fn write_crate(root: &Path, seed: u64, modules: usize) -> Step<()> {
    let said = |error: std::io::Error| format!("{}: {error}", root.display());
    let source = root.join("src");
    std::fs::create_dir_all(&source).map_err(said)?;
    // A workspace of its own, wherever it lies.
    let manifest = "[package]\nname = \"made\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n";
    std::fs::write(root.join("Cargo.toml"), manifest).map_err(said)?;
    let mut main = String::new();
    for module in 0..modules {
        let text = format!("pub fn value() -> u64 {{\n    {}\n}}\n", value(seed, module));
        std::fs::write(source.join(format!("m{module}.rs")), text).map_err(said)?;
        main += &format!("mod m{module};\n");
    }
    let sum: Vec<String> = (0..modules).map(|module| format!("m{module}::value()")).collect();
    main += &format!("fn main() {{\n    println!(\"{{}}\", {});\n}}\n", sum.join(" + "));
    std::fs::write(source.join("main.rs"), main).map_err(said)
}

/// What the crate's program prints.
pub fn crate_says(seed: u64, modules: usize) -> String {
    (0..modules).map(|module| value(seed, module)).sum::<u64>().to_string()
}

fn value(seed: u64, module: usize) -> u64 {
    (seed + 1) * (module as u64 + 3)
}
