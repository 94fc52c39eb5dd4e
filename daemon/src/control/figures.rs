//! Figures of data, as they go over the control socket.

use super::client::{Client, ClientError};
use super::server::{Target, parameter};
use super::snapshot::name_of;
use super::types::ApiError;
use crate::vfs::{Figures, SnapshotFigures};
use axum::Json;
use axum::extract::{RawQuery, State};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long counting may take: a hundred million files.
const DEADLINE: Duration = Duration::from_secs(600);

/// Figures of some files, and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FiguresInfo {
    /// What was counted.
    #[serde(flatten)]
    pub figures: Figures,
    /// Referenced to unique bytes: how often a block that is here is used. None where nothing is here.
    pub dedup_ratio: Option<f64>,
    /// Unique to stored bytes. None where nothing is here.
    pub compression_ratio: Option<f64>,
}

/// Figures of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotFiguresInfo {
    /// Of what is seen in it.
    #[serde(flatten)]
    pub seen: FiguresInfo,
    /// Device bytes that are held for it alone: what its deletion lets go of.
    pub frees_bytes: u64,
}

fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
}

impl From<Figures> for FiguresInfo {
    fn from(figures: Figures) -> Self {
        FiguresInfo {
            dedup_ratio: ratio(figures.referenced_bytes, figures.unique_bytes),
            compression_ratio: ratio(figures.unique_bytes, figures.stored_bytes),
            figures,
        }
    }
}

impl From<SnapshotFigures> for SnapshotFiguresInfo {
    fn from(figures: SnapshotFigures) -> Self {
        SnapshotFiguresInfo { seen: figures.seen.into(), frees_bytes: figures.frees_bytes }
    }
}

impl Client {
    /// Figures of the file system.
    pub fn figures(&self) -> Result<FiguresInfo, ClientError> {
        self.call_within(DEADLINE, Method::GET, "/v1/figures", ())
    }

    /// Figures of what is at and below a path, counted now.
    pub fn figures_of(&self, path: &[u8]) -> Result<FiguresInfo, ClientError> {
        let uri = format!("/v1/figures?path={}", percent_encode(path, NON_ALPHANUMERIC));
        self.call_within(DEADLINE, Method::GET, &uri, ())
    }

    /// Figures of a snapshot, counted now.
    pub fn snapshot_figures(&self, name: &[u8]) -> Result<SnapshotFiguresInfo, ClientError> {
        let uri = format!("/v1/snapshot/figures?name={}", percent_encode(name, NON_ALPHANUMERIC));
        self.call_within(DEADLINE, Method::GET, &uri, ())
    }
}

pub(super) async fn show(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<FiguresInfo>, ApiError> {
    let path = parameter(query.as_deref(), "path");
    target.figures(path.as_deref()).await.map(Json)
}

pub(super) async fn of_snapshot(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<SnapshotFiguresInfo>, ApiError> {
    target.snapshot_figures(&name_of(query.as_deref())?).await.map(Json)
}
