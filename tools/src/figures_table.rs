//! Figures of data, as text: what is there, what of it is here, and what that takes.

use forebay_daemon::control::figures::{FiguresInfo, SnapshotFiguresInfo};
use forebay_daemon::units::ByteCount;
use std::fmt::Write;

/// Width of the names in the left column.
const NAME_WIDTH: usize = 12;

fn bytes(n: u64) -> ByteCount {
    ByteCount(n)
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x"))
}

/// In one line, for a whole file system.
pub(crate) fn line(info: &FiguresInfo) -> String {
    let f = &info.figures;
    let mut text = format!(
        "{} logical, {} referenced, {} unique, {} stored; dedup {}, compression {}",
        bytes(f.logical_bytes),
        bytes(f.referenced_bytes),
        bytes(f.unique_bytes),
        bytes(f.stored_bytes),
        ratio(info.dedup_ratio),
        ratio(info.compression_ratio)
    );
    if f.copy_bytes > 0 {
        write!(text, "; {} in second copies", bytes(f.copy_bytes)).expect("writing to a string");
    }
    text
}

/// Of a path.
pub(crate) fn of_path(path: &str, info: &FiguresInfo) -> String {
    let files = info.figures.files;
    format!("{path}  {files} file{}\n{}", if files == 1 { "" } else { "s" }, lines(info))
}

/// Of a snapshot, below the line that names it.
pub(crate) fn of_snapshot(info: &SnapshotFiguresInfo) -> String {
    let mut out = lines(&info.seen);
    add(&mut out, "frees", &format!("{} when it is deleted", bytes(info.frees_bytes)));
    out
}

fn lines(info: &FiguresInfo) -> String {
    let f = &info.figures;
    let mut out = String::new();
    add(&mut out, "logical", &bytes(f.logical_bytes).to_string());
    add(&mut out, "referenced", &format!("{} are here", bytes(f.referenced_bytes)));
    add(&mut out, "unique", &format!("{}, dedup {}", bytes(f.unique_bytes), ratio(info.dedup_ratio)));
    add(&mut out, "stored", &format!("{}, compression {}", bytes(f.stored_bytes), ratio(info.compression_ratio)));
    if f.copy_bytes > 0 {
        add(&mut out, "copies", &format!("{} more, of what exists only here", bytes(f.copy_bytes)));
    }
    if let Some(unlisted @ 1..) = f.unlisted_directories {
        add(&mut out, "not listed", &format!("{unlisted} directories, of which only what is known is counted"));
    }
    out
}

fn add(out: &mut String, name: &str, value: &str) {
    writeln!(out, "  {name:<NAME_WIDTH$}{value}").expect("writing to a string");
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_daemon::vfs::Figures;

    fn sample() -> FiguresInfo {
        let figures = Figures {
            files: 3,
            logical_bytes: 8 << 20,
            referenced_bytes: 6 << 20,
            unique_bytes: 4 << 20,
            stored_bytes: 1 << 20,
            ..Figures::default()
        };
        figures.into()
    }

    #[test]
    fn a_file_system_takes_a_line() {
        let expected = "8 MiB logical, 6 MiB referenced, 4 MiB unique, 1 MiB stored; dedup 1.50x, compression 4.00x";
        assert_eq!(line(&sample()), expected);
        let nothing = line(&Figures::default().into());
        assert!(nothing.ends_with("0 B stored; dedup -, compression -"), "{nothing}");
        let twice = FiguresInfo::from(Figures { copy_bytes: 1 << 20, ..sample().figures });
        assert_eq!(line(&twice), format!("{expected}; 1 MiB in second copies"));
    }

    #[test]
    fn a_path_and_a_snapshot_take_a_line_for_each_figure() {
        let figures = Figures { copy_bytes: 1 << 20, unlisted_directories: Some(2), ..sample().figures };
        let expected = "\
/mnt/d  3 files
  logical     8 MiB
  referenced  6 MiB are here
  unique      4 MiB, dedup 1.50x
  stored      1 MiB, compression 4.00x
  copies      1 MiB more, of what exists only here
  not listed  2 directories, of which only what is known is counted
";
        assert_eq!(of_path("/mnt/d", &figures.into()), expected);
        let snapshot = of_snapshot(&SnapshotFiguresInfo { seen: sample(), frees_bytes: 3 << 20 });
        assert!(snapshot.ends_with("compression 4.00x\n  frees       3 MiB when it is deleted\n"), "{snapshot}");
    }
}
