//! A data set frozen, changed, compared, cloned, exported and mounted elsewhere: what each step costs, by the commands that a person gives.

use super::{Workload, reading};
use crate::harness::data::Dataset;
use crate::harness::error::{At, Error, Result};
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::process;
use crate::peer::forebay::Forebay;
use crate::peer::{Kind, Mounted, Peer, Place, Reach};
use crate::target::{Rule, Target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files that are changed between two snapshots.
const CHANGES: usize = 100;
/// Where exported snapshots go in the bucket.
const EXPORTED: &str = "exported";

/// The whole story.
#[derive(Debug)]
pub struct Snapshots {
    /// The objects.
    pub set: Dataset,
}

impl Workload for Snapshots {
    fn name(&self) -> String {
        "snapshots".to_owned()
    }

    fn settings(&self) -> String {
        format!(
            "names imported first; each step from its command's start to its end; {CHANGES} files written over, renamed and removed between two snapshots"
        )
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn forebay_arguments(&self) -> &'static [&'static str] {
        &["--posix-metadata", "off"]
    }

    fn unit(&self) -> Unit {
        Unit::Seconds
    }

    fn baseline(&self) -> &'static str {
        "forebay"
    }

    fn takes(&self, kind: Kind) -> bool {
        kind == Kind::Mount
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let (Reach::Tree(root), Some(program)) = (peer.reach.clone(), peer.program.clone()) else { return Ok(()) };
        let story = Story { root, program, set: &self.set };
        story.freeze_and_compare(meter)?;
        story.clone_and_look(meter)?;
        story.export_and_mount(meter)
    }

    fn targets(&self) -> Vec<Target> {
        vec![
            Target::new("create", Rule::AtMostSeconds(0.01)),
            Target::new("diff", Rule::AtMostSeconds(1.0)),
            Target::new("clone", Rule::AtMostSeconds(2.0)),
            Target::new("mount", Rule::AtMostSeconds(1.0)),
        ]
    }
}

/// One mount and its commands.
struct Story<'a> {
    root: PathBuf,
    program: PathBuf,
    set: &'a Dataset,
}

impl Story<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }

    /// A command about this mount, measured.
    fn timed(&self, meter: &mut Meter<'_>, series: &'static str, mut command: Command) -> Result<()> {
        command.arg("--mount").arg(&self.root);
        let deadline = meter.deadline();
        meter.measure(series, move || process::run(command, deadline).map(|_| Work::Time))
    }

    fn freeze_and_compare(&self, meter: &mut Meter<'_>) -> Result<()> {
        let mut import = self.command(&["import"]);
        import.arg(&self.root);
        process::run(import, meter.deadline())?;
        self.timed(meter, "create", self.command(&["snapshot", "create", "first"]))?;
        self.change()?;
        self.timed(meter, "create-again", self.command(&["snapshot", "create", "second"]))?;
        let (mut diff, deadline) = (self.command(&["snapshot", "diff", "first", "second", "--mount"]), meter.deadline());
        diff.arg(&self.root);
        meter.measure("diff", move || match process::run(diff, deadline)?.lines().count() {
            found if found >= CHANGES => Ok(Work::Time),
            found => Err(Error::program("snapshot diff", format!("{found} lines for {CHANGES} changes"))),
        })
    }

    /// Changes of three kinds, spread over the tree.
    fn change(&self) -> Result<()> {
        let step = (self.set.objects.len() / CHANGES).max(1);
        for (number, object) in self.set.objects.iter().step_by(step).take(CHANGES).enumerate() {
            let path = self.root.join(&object.key);
            match number % 3 {
                0 => fs::write(&path, b"written over"),
                1 => fs::rename(&path, path.with_extension("renamed")),
                _ => fs::remove_file(&path),
            }
            .at(path.display())?;
        }
        Ok(())
    }

    fn clone_and_look(&self, meter: &mut Meter<'_>) -> Result<()> {
        let copy = self.root.join("copy");
        let (mut clone, deadline) = (self.command(&["snapshot", "clone", "first"]), meter.deadline());
        clone.arg(&copy);
        meter.measure("clone", move || process::run(clone, deadline).map(|_| Work::Time))?;
        // The last object: nothing that is made in order gets to it first.
        let last = self.set.objects.last().map(|object| copy.join(&object.key)).unwrap_or_default();
        let (dir, again) = (last.parent().unwrap_or(&copy).to_owned(), last.clone());
        meter.measure("clone-first-stat", move || fs::metadata(&last).at(last.display()).map(|_| Work::Time))?;
        meter.measure("clone-first-list", move || reading::walk(&dir).map(|_| Work::Time))?;
        meter.measure("clone-first-write", move || fs::write(&again, b"mine").at(again.display()).map(|()| Work::Time))
    }

    /// Sends the second snapshot to the bucket and mounts it with a cache of its own.
    fn export_and_mount(&self, meter: &mut Meter<'_>) -> Result<()> {
        let url = format!("s3://{}/{EXPORTED}", self.set.bucket);
        self.timed(meter, "export", self.command(&["snapshot", "export", "second", &url]))?;
        let site = meter.site();
        let elsewhere = Place::fresh(site, "forebay-elsewhere", &self.set.bucket)?;
        let exported = Place { bucket: format!("{}/{EXPORTED}@second", self.set.bucket), ..elsewhere.clone() };
        let mounted = Forebay { program: self.program.clone(), arguments: Vec::new() }.mount(site, &exported)?;
        meter.note("mount", mounted.mount_seconds);
        let seen = exported.mountpoint.clone();
        // Every third change took a name away.
        let expected = self.set.objects.len() - CHANGES.min(self.set.objects.len()) / 3;
        meter.measure("walk-elsewhere", move || match reading::walk(&seen)? {
            found if found == expected => Ok(Work::Time),
            found => Err(Error::program("the exported snapshot", format!("shows {found} files instead of {expected}"))),
        })?;
        self.same_bytes(&exported.mountpoint)?;
        drop(mounted);
        site.discard(&elsewhere.state);
        site.store.delete_below(&self.set.bucket, EXPORTED).map(drop)
    }

    /// A few files elsewhere are what the snapshot has here.
    fn same_bytes(&self, elsewhere: &Path) -> Result<()> {
        let here = self.root.join(".snapshots/second");
        let step = (self.set.objects.len() / CHANGES).max(1);
        for object in self.set.objects.iter().step_by(step).take(CHANGES).step_by(3) {
            let (one, other) = (here.join(&object.key), elsewhere.join(&object.key));
            if fs::read(&one).at(one.display())? != fs::read(&other).at(other.display())? {
                return Err(Error::WrongData { file: other.display().to_string(), offset: 0 });
            }
        }
        Ok(())
    }
}
