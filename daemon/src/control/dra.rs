//! Data repository associations, as they go over the control socket.

use super::server::{Target, parameter};
use super::task::{decode_path, encode_path};
use super::types::{ApiError, ApiErrorKind};
use crate::config::{AutoExport, OnConflict, RepositorySettings};
use crate::meta::EventBits;
use crate::task::watch::AutoImportStatus;
use crate::vfs::{AssociationChange, AssociationView, NewAssociation};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Something that happens to a file or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Event {
    /// It was made.
    New,
    /// Its content or attributes were changed.
    Changed,
    /// It was deleted.
    Deleted,
}

/// A set of events as bits.
pub fn bits(events: &[Event]) -> EventBits {
    EventBits::new(events.contains(&Event::New), events.contains(&Event::Changed), events.contains(&Event::Deleted))
}

fn events(bits: EventBits) -> Vec<Event> {
    [Event::New, Event::Changed, Event::Deleted]
        .into_iter()
        .zip(bits.parts())
        .filter(|(_, is_in)| *is_in)
        .map(|(event, _)| event)
        .collect()
}

/// An association to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssociationOrder {
    /// The directory below the root, encoded as paths of tasks are.
    pub path: String,
    /// The bucket and prefix.
    pub url: String,
    /// How the bucket is reached: names and values of the command's options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// What is imported by itself.
    #[serde(default)]
    pub auto_import: Vec<Event>,
    /// What is exported by itself.
    #[serde(default)]
    pub auto_export: Vec<Event>,
    /// What automatic export does about conflicts.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

impl AssociationOrder {
    /// What is asked for.
    pub fn request(self, deadline: Duration) -> NewAssociation {
        let settings = RepositorySettings::from_options(&self.url, &self.options, deadline);
        let known = settings.options();
        let has = |event| self.auto_export.contains(&event);
        let (new, changed, deleted) = (has(Event::New), has(Event::Changed), has(Event::Deleted));
        NewAssociation {
            path: decode_path(&self.path),
            auto_import: bits(&self.auto_import),
            auto_export: AutoExport { new, changed, deleted, on_conflict: self.on_conflict },
            further: self.options.into_iter().filter(|(name, _)| !known.contains_key(name)).collect(),
            settings,
        }
    }
}

/// What an association is changed to; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssociationUpdate {
    /// What is imported by itself.
    pub auto_import: Option<Vec<Event>>,
    /// What is exported by itself.
    pub auto_export: Option<Vec<Event>>,
    /// What automatic export does about conflicts.
    pub on_conflict: Option<OnConflict>,
}

impl From<AssociationUpdate> for AssociationChange {
    fn from(update: AssociationUpdate) -> Self {
        AssociationChange {
            auto_import: update.auto_import.as_deref().map(bits),
            auto_export: update.auto_export.as_deref().map(bits),
            on_conflict: update.on_conflict,
        }
    }
}

/// An association.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssociationInfo {
    /// `dra-N`.
    pub id: String,
    /// Its directory below the root, with a slash before it, encoded as paths of tasks are.
    pub path: String,
    /// The bucket and prefix.
    pub url: String,
    /// How the bucket is reached.
    pub options: BTreeMap<String, String>,
    /// `CREATING`, `AVAILABLE`, `MISCONFIGURED`, `UPDATING`, `DELETING`, `FAILED`.
    pub lifecycle: String,
    /// Why it is misconfigured or failed.
    pub failure: Option<String>,
    /// When it was made, seconds since the Unix epoch.
    pub created: f64,
    /// What is imported by itself.
    pub auto_import: Vec<Event>,
    /// What is exported by itself.
    pub auto_export: Vec<Event>,
    /// What automatic export does about conflicts.
    pub on_conflict: OnConflict,
    /// While it is deleted: files seen to so far.
    pub deleted_files: u64,
    /// How automatic import is doing, where there is any.
    #[serde(default)]
    pub auto_import_status: Option<AutoImportStatus>,
}

impl From<AssociationView> for AssociationInfo {
    fn from(view: AssociationView) -> Self {
        AssociationInfo {
            id: view.id.to_string(),
            path: format!("/{}", encode_path(&view.path)),
            url: view.url,
            options: view.options,
            lifecycle: view.state.name().into(),
            failure: Some(view.failure).filter(|failure| !failure.is_empty()),
            created: view.created_ns as f64 / 1e9,
            auto_import: events(view.auto_import),
            auto_export: events(view.auto_export),
            on_conflict: view.on_conflict,
            deleted_files: view.deleted_files,
            auto_import_status: None,
        }
    }
}

pub(super) async fn create(
    State(target): Target,
    body: Result<Json<AssociationOrder>, JsonRejection>,
) -> Result<Json<AssociationInfo>, ApiError> {
    let Json(order) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.create_association(order).await.map(Json)
}

pub(super) async fn list(State(target): Target) -> Result<Json<Vec<AssociationInfo>>, ApiError> {
    target.associations().await.map(Json)
}

pub(super) async fn show(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<AssociationInfo>, ApiError> {
    target.association(&path_of(query.as_deref())?).await.map(Json)
}

pub(super) async fn update(
    State(target): Target,
    RawQuery(query): RawQuery,
    body: Result<Json<AssociationUpdate>, JsonRejection>,
) -> Result<Json<AssociationInfo>, ApiError> {
    let path = path_of(query.as_deref())?;
    let Json(update) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.update_association(&path, update).await.map(Json)
}

pub(super) async fn delete(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<AssociationInfo>, ApiError> {
    let delete_data = parameter(query.as_deref(), "delete_data").is_some_and(|value| value == b"true");
    target.delete_association(&path_of(query.as_deref())?, delete_data).await.map(Json)
}

fn path_of(query: Option<&str>) -> Result<Vec<u8>, ApiError> {
    parameter(query, "path").ok_or_else(|| ApiError::new(ApiErrorKind::Invalid, "'path' is missing"))
}
