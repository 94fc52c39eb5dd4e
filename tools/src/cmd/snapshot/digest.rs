//! `forebay snapshot digest`: of a snapshot by its daemon, or of any directory here. What it is of: `forebay_daemon::format::digest`.

use crate::cli_data::SnapshotDigestArgs;
use crate::cmd;
use crate::error::CliError;
use crate::places;
use forebay_daemon::control::diff::DigestInfo;
use forebay_daemon::format::digest::{Digest, DirectoryHasher, FileHasher};
use forebay_daemon::format::rows::FileKind;
use forebay_daemon::units::ByteCount;
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

pub(super) fn run(args: &SnapshotDigestArgs, json: bool) -> Result<(), CliError> {
    let expected = args.check.as_deref().map(str::parse::<Digest>).transpose();
    let expected =
        expected.map_err(|error| CliError::usage(format!("--check '{}': {error}", args.check.as_deref().unwrap_or_default())))?;
    let (of, info) = match (&args.name, &args.directory) {
        (_, Some(directory)) => (format!("directory '{}'", directory.display()), of_directory(directory)?),
        (Some(name), None) => (format!("snapshot '{}'", name.display()), of_snapshot(name, args)?),
        (None, None) => return Err(CliError::usage("give the name of a snapshot, or --directory")),
    };
    let digest = info.digest.as_deref().unwrap_or_default();
    if let Some(expected) = expected.map(|expected| expected.to_string()).filter(|expected| expected != digest) {
        return Err(CliError::words(format!("{of} has the digest {digest}, and not {expected}")));
    }
    if json {
        return cmd::print_json(&info);
    }
    cmd::print(digest);
    Ok(())
}

fn of_snapshot(name: &OsStr, args: &SnapshotDigestArgs) -> Result<DigestInfo, CliError> {
    let client = places::daemon_of_maybe(args.of.mount.as_deref())?;
    // Drawn on a terminal only.
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}").map_err(CliError::failed)?);
    let mut show = |info: &DigestInfo| {
        bar.set_message(format!("{} names, {}", info.entries, ByteCount(info.bytes)));
        bar.tick();
    };
    let digest = client.digest_snapshot(name.as_bytes(), &mut show);
    bar.finish_and_clear();
    digest.map_err(CliError::failed)
}

fn of_directory(directory: &Path) -> Result<DigestInfo, CliError> {
    let mut walk = Walk::default();
    let digest = walk.directory(directory)?;
    Ok(DigestInfo { digest: Some(digest.to_string()), entries: walk.entries, bytes: walk.bytes })
}

/// A directory being read.
#[derive(Default)]
struct Walk {
    entries: u64,
    bytes: u64,
}

impl Walk {
    fn directory(&mut self, path: &Path) -> Result<Digest, CliError> {
        let entries = std::fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name().into_vec())).collect::<std::io::Result<Vec<_>>>()
        });
        let mut names = entries.map_err(|error| failed(path, &error))?;
        names.sort_unstable();
        let mut hasher = DirectoryHasher::default();
        for name in names {
            let path = path.join(OsStr::from_bytes(&name));
            let metadata = std::fs::symlink_metadata(&path).map_err(|error| failed(&path, &error))?;
            let kind = kind_of(metadata.file_type())
                .ok_or_else(|| CliError::words(format!("'{}': an unknown kind of file", path.display())))?;
            let digest = match kind {
                FileKind::Directory => self.directory(&path)?,
                FileKind::File => self.file(&path).map_err(|error| failed(&path, &error))?,
                FileKind::Symlink => {
                    let target = std::fs::read_link(&path).map_err(|error| failed(&path, &error))?;
                    Digest::of(target.as_os_str().as_bytes())
                }
                FileKind::CharDevice | FileKind::BlockDevice => {
                    Digest::of_device(libc::major(metadata.rdev()), libc::minor(metadata.rdev()))
                }
                FileKind::Fifo | FileKind::Socket => Digest::of(b""),
            };
            self.entries += 1;
            hasher.entry(kind, (metadata.mode() & 0o7777) as u16, &name, &digest);
        }
        Ok(hasher.finish())
    }

    fn file(&mut self, path: &Path) -> std::io::Result<Digest> {
        let (mut file, mut hasher, mut piece) = (std::fs::File::open(path)?, FileHasher::default(), vec![0; PIECE]);
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(read) => {
                    hasher.update(&piece[..read]);
                    self.bytes += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn kind_of(kind: std::fs::FileType) -> Option<FileKind> {
    let kinds = [
        (kind.is_file(), FileKind::File),
        (kind.is_dir(), FileKind::Directory),
        (kind.is_symlink(), FileKind::Symlink),
        (kind.is_fifo(), FileKind::Fifo),
        (kind.is_socket(), FileKind::Socket),
        (kind.is_char_device(), FileKind::CharDevice),
        (kind.is_block_device(), FileKind::BlockDevice),
    ];
    kinds.into_iter().find_map(|(is_it, kind)| is_it.then_some(kind))
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::words(format!("'{}': {error}", path.display()))
}
