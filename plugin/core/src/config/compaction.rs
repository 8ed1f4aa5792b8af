//! What may be taken out of a request on its way to the model.

use serde::Deserialize;

use crate::compaction::Whitespace;

/// For all routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionConfig {
    /// Repeated system text, null fields and white space between JSON values go.
    Enabled,
    /// Every request travels with all that it came with.
    Disabled,
}

/// As it is written at the top.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawCompaction {
    /// Do repeated system text, null fields and white space between JSON values go?
    pub enabled: bool,
}

impl Default for RawCompaction {
    fn default() -> Self {
        RawCompaction { enabled: true }
    }
}

/// As it is written in a route.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawRouteCompaction {
    /// Fold white space in what users wrote, outside code, quotations and tables.
    pub fold_whitespace: bool,
}

pub(super) fn compaction(raw: RawCompaction) -> CompactionConfig {
    match raw.enabled {
        true => CompactionConfig::Enabled,
        false => CompactionConfig::Disabled,
    }
}

pub(super) fn whitespace(raw: RawRouteCompaction) -> Whitespace {
    match raw.fold_whitespace {
        true => Whitespace::Fold,
        false => Whitespace::Keep,
    }
}
