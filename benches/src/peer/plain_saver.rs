//! The plain client as a saver: objects of the store onto the plain disk, in ranged GETs over kept-alive connections, with nothing else done. The measure for preloads.

use super::plain_client::{RANGE, Session};
use crate::harness::data::{Dataset, for_each_parallel};
use crate::harness::error::{At, Result};
use crate::harness::http::Client;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

impl Session {
    /// Saves large objects as files of `dir`, synced at the end.
    pub fn save_ranges(&self, set: &Dataset, dir: &Path) -> Result<()> {
        let mut files = Vec::new();
        for object in &set.objects {
            let path = dir.join(object.key.replace('/', "_"));
            let file = File::create(&path).at(path.display())?;
            file.set_len(object.bytes).at(path.display())?;
            files.push((file, object));
        }
        let ranges: Vec<(usize, u64)> = files
            .iter()
            .enumerate()
            .flat_map(|(which, (_, object))| (0..object.bytes.div_ceil(RANGE)).map(move |range| (which, range * RANGE)))
            .collect();
        let idle: Mutex<Vec<(Client, Vec<u8>)>> = Mutex::default();
        for_each_parallel(&ranges, self.connections, |(which, from)| {
            let (file, object) = &files[*which];
            let held = idle.lock().expect("no holder panics").pop();
            let (mut client, mut bytes) = match held {
                Some(held) => held,
                None => (Client::connect(self.store)?, vec![0; RANGE as usize]),
            };
            let len = RANGE.min(object.bytes - from) as usize;
            client.get_range(&format!("/{}/{}", self.bucket, object.key), *from, &mut bytes[..len])?;
            file.write_all_at(&bytes[..len], *from).at(&object.key)?;
            idle.lock().expect("no holder panics").push((client, bytes));
            Ok(())
        })?;
        files.iter().try_for_each(|(file, object)| file.sync_data().at(&object.key))
    }
}
