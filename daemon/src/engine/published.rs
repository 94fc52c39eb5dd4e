//! Mounting an exported snapshot: its manifest is read once, into the metadata of an empty cache. From then on the cache is of that manifest, and of no other.
//!
//! The setting [`PUBLISHED_SETTING`] is not there in a new store, empty while the manifest is being entered, and says in the end which it was: so what was interrupted begins anew.

use super::StartError;
use crate::config::Settings;
use crate::format::manifest::{Decoder, ManifestError, manifest_key};
use crate::format::text;
use crate::meta::{MetaError, MetaStore, PUBLISHED_SETTING};
use crate::repository::{GetRequest, Pin, Repository, StoreError, Urgency};
use futures::StreamExt;

const BEGUN: &[u8] = b"";

/// A manifest in the bucket.
pub(super) struct Manifest {
    name: Vec<u8>,
    key: String,
    pin: Pin,
    /// For messages.
    shown: String,
}

/// How far a store has come with a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Nothing was read.
    New,
    /// Somebody began, and did not come to the end.
    Begun,
    /// It is all there.
    Loaded,
}

fn metadata(error: MetaError) -> StartError {
    StartError(format!("metadata: {error}"))
}

impl Manifest {
    /// Finds the manifest of the snapshot that the settings name, if they name one.
    pub(super) async fn find(settings: &Settings, prefix: &str, repository: &Repository) -> Result<Option<Self>, StartError> {
        let Some(name) = &settings.snapshot else { return Ok(None) };
        let (name, url) = (text::decode(name), settings.repository.url.trim_end_matches('/'));
        let key = manifest_key(prefix, &name);
        let head = repository.head(&key, Urgency::Demand).await.map_err(|error| match error {
            StoreError::NotFound { .. } => StartError(format!(
                "there is no exported snapshot '{}' at {url}; if the '@' is part of a prefix, end that with a slash",
                text::encode(&name)
            )),
            error => StartError(error.to_string()),
        })?;
        let shown = format!("the manifest '{key}' of {}", settings.source());
        Ok(Some(Manifest { name, key, pin: head.pin, shown }))
    }

    /// How far a store has come with it.
    ///
    /// # Errors
    /// If what the store has is of another manifest.
    pub(super) fn stand(&self, meta: &MetaStore, settings: &Settings) -> Result<Stand, StartError> {
        let Some(of) = meta.setting(PUBLISHED_SETTING).map_err(metadata)? else { return Ok(Stand::New) };
        let of = String::from_utf8_lossy(&of);
        match of.split_once(' ') {
            None => Ok(Stand::Begun),
            Some((_, etag)) if etag == self.pin.etag => Ok(Stand::Loaded),
            Some(_) => Err(StartError(format!(
                "{} was replaced since cache directory {} was made of it; give it a --cache of its own",
                self.shown,
                settings.cache_dirs[0].display()
            ))),
        }
    }

    /// Reads it into a store that has nothing yet.
    pub(super) async fn load(&self, meta: &MetaStore, repository: &Repository) -> Result<(), StartError> {
        meta.set_setting(PUBLISHED_SETTING, BEGUN).map_err(metadata)?;
        let unread = |error: StoreError| StartError(format!("{} could not be read: {error}", self.shown));
        let unusable = |error: ManifestError| {
            StartError(format!("{} cannot be used: {error}; export the snapshot again, to another prefix", self.shown))
        };
        let request = GetRequest { key: self.key.clone(), range: None, pin: Some(self.pin.clone()) };
        let mut body = repository.fetch(request, Urgency::Demand).await.map_err(unread)?.body;
        let (mut decoder, mut tree) = (Decoder::new(), meta.enter_published());
        while let Some(piece) = body.next().await {
            for entry in decoder.feed(&piece.map_err(unread)?).map_err(unusable)? {
                tree.entry(entry).map_err(metadata)?;
            }
        }
        if let Some(header) = decoder.header().filter(|header| header.name != self.name) {
            return Err(StartError(format!("{} is of a snapshot '{}'", self.shown, text::encode(&header.name))));
        }
        let end = decoder.end().map_err(unusable)?;
        let digest = blake3::Hash::from_bytes(end.digest).to_hex();
        tree.finish(format!("{digest} {}", self.pin.etag).as_bytes()).map_err(metadata)?;
        tracing::info!(entries = end.entries, %digest, "read {}", self.shown);
        Ok(())
    }
}
