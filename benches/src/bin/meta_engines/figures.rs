//! Named figures, their table, and those the kernel knows: disk space and resident memory.

use crate::Outcome;
use std::collections::BTreeMap;
use std::path::Path;

/// Figures by name, in the order they were set.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    /// Sets a figure.
    pub fn set(&mut self, name: &str, value: f64) {
        self.0.push((name.to_owned(), value));
    }

    /// A figure.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| *value)
    }

    /// Adds figures under a heading.
    pub fn join(&mut self, heading: &str, other: Figures) {
        self.0.extend(other.0.into_iter().map(|(name, value)| (format!("{heading}: {name}"), value)));
    }

    /// As one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("names and numbers are JSON")
    }

    /// From one line.
    pub fn from_json(text: &str) -> Outcome<Self> {
        Ok(Figures(serde_json::from_str(text.trim())?))
    }
}

/// A Markdown table, one column per set of figures.
pub fn table(columns: &[(String, Figures)]) -> String {
    let Some((_, first)) = columns.first() else { return String::new() };
    let head: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let mut lines = vec![format!("| | {} |", head.join(" | ")), format!("| --- |{}", " ---: |".repeat(columns.len()))];
    for (name, _) in &first.0 {
        let cells: Vec<String> = columns.iter().map(|(_, f)| f.get(name).map_or("-".into(), print)).collect();
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    }
    lines.join("\n")
}

fn print(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Space allocated below a directory, in MiB.
pub fn disk_mib(dir: &Path) -> Outcome<f64> {
    use std::os::unix::fs::MetadataExt;
    let mut blocks = 0;
    let mut left = vec![dir.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = std::fs::symlink_metadata(&path)?;
        blocks += meta.blocks();
        if meta.is_dir() {
            for entry in std::fs::read_dir(path)? {
                left.push(entry?.path());
            }
        }
    }
    Ok(blocks as f64 * 512.0 / (1 << 20) as f64)
}

/// CPU time of this process, all threads, user and system, in ms. What other processes take does not show in it.
pub fn cpu_ms() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is writable and as large as the kernel expects; on success it is filled in.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), 0, "getrusage takes no bad arguments here");
        usage.assume_init()
    };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}

/// Adds the process's peak resident memory, and what of its present one is not mapped files.
pub fn add_memory(figures: &mut Figures) -> Outcome<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib: BTreeMap<&str, f64> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(name, value)| Some((name, value.trim().strip_suffix(" kB")?.parse().ok()?)))
        .collect();
    for (field, name) in [("VmHWM", "peak RSS MiB"), ("RssAnon", "anonymous RSS at the end MiB")] {
        figures.set(name, kib.get(field).copied().unwrap_or(f64::NAN) / 1024.0);
    }
    Ok(())
}
