//! The vocabularies that this build holds: none, unless it was built with some.

use farthing_core::vocabulary::loading::Embedded;

/// By name.
pub const VOCABULARIES: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
