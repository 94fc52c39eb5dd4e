//! The plain client as a sender: files of the plain disk to the store, in PUTs and multipart uploads over kept-alive connections, with nothing else done. What
//! the store and the cores give to someone who needs no file system: the measure for exports.

use super::plain_client::Session;
use crate::harness::data::for_each_parallel;
use crate::harness::error::{At, Error, Result};
use crate::harness::http::Client;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of a part.
const PART: u64 = 8 << 20;

impl Session {
    /// A directory on the plain disk, for files to be sent.
    pub fn directory(&self) -> &Path {
        &self.state
    }

    /// Sends files whole, each as `PREFIX/NAME`.
    pub fn send_whole(&self, files: &[PathBuf], prefix: &str) -> Result<()> {
        let groups: Vec<&[PathBuf]> = files.chunks(files.len().div_ceil(self.connections).max(1)).collect();
        for_each_parallel(&groups, self.connections, |group| {
            let mut client = Client::connect(self.store)?;
            group.iter().try_for_each(|file| {
                let bytes = std::fs::read(file).at(file.display())?;
                client.put_bytes(&self.path(prefix, file), &bytes).map(drop)
            })
        })
    }

    /// Sends files in parts, all of them at once.
    pub fn send_in_parts(&self, files: &[PathBuf], prefix: &str) -> Result<()> {
        let mut client = Client::connect(self.store)?;
        let mut uploads = Vec::new();
        for file in files {
            let path = self.path(prefix, file);
            let answer = client.post(&format!("{path}?uploads"), "")?;
            let id = answer.split_once("<UploadId>").and_then(|(_, rest)| Some(rest.split_once("</UploadId>")?.0.to_owned()));
            let id = id.ok_or_else(|| Error::Http { request: format!("POST {path}?uploads"), why: answer })?;
            let opened = File::open(file).at(file.display())?;
            let size = opened.metadata().at(file.display())?.len();
            uploads.push((path, id, opened, size));
        }
        let parts: Vec<(usize, u64)> = uploads
            .iter()
            .enumerate()
            .flat_map(|(which, upload)| (0..upload.3.div_ceil(PART)).map(move |part| (which, part)))
            .collect();
        let etags: Mutex<Vec<(usize, u64, String)>> = Mutex::default();
        let idle: Mutex<Vec<(Client, Vec<u8>)>> = Mutex::default();
        for_each_parallel(&parts, self.connections, |(which, part)| {
            let (path, id, file, size) = &uploads[*which];
            let held = idle.lock().expect("no holder panics").pop();
            let (mut client, mut bytes) = match held {
                Some(held) => held,
                None => (Client::connect(self.store)?, vec![0; PART as usize]),
            };
            let len = PART.min(size - part * PART) as usize;
            file.read_exact_at(&mut bytes[..len], part * PART).at(path)?;
            let etag = client.put_bytes(&format!("{path}?partNumber={}&uploadId={id}", part + 1), &bytes[..len])?;
            etags.lock().expect("no holder panics").push((*which, *part, etag));
            idle.lock().expect("no holder panics").push((client, bytes));
            Ok(())
        })?;
        let mut etags = etags.into_inner().expect("no holder panics");
        etags.sort();
        for (which, (path, id, ..)) in uploads.iter().enumerate() {
            let part = |(_, part, etag): &(usize, u64, String)| {
                format!("<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>", part + 1)
            };
            let parts: String = etags.iter().filter(|(of, ..)| *of == which).map(part).collect();
            let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
            client.post(&format!("{path}?uploadId={id}"), &body)?;
        }
        Ok(())
    }

    fn path(&self, prefix: &str, file: &Path) -> String {
        format!("/{}/{prefix}/{}", self.bucket, file.file_name().unwrap_or_default().to_string_lossy())
    }
}
