//! A split of the traffic of a route among models, to compare them.

use serde::Deserialize;

use super::checks::{count, header_value};
use super::raw::Fraction;
use super::{ConfigError, RawConfig};
use crate::limits::SPLIT_ARMS_MAX;

/// Percentages are kept in hundredths.
pub const SPLIT_PARTS: u32 = 10_000;

/// Who goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub by: SplitBy,
    /// Never empty; together they have all of [`SPLIT_PARTS`].
    pub arms: Vec<Arm>,
}

/// What stays in its arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    Conversation,
    Tenant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Stands in the ledger.
    pub name: String,
    /// A model, or a virtual one.
    pub model: String,
    /// Of [`SPLIT_PARTS`].
    pub parts: u32,
}

impl Split {
    /// The arm in which this part of the traffic is.
    pub fn arm(&self, part: u32) -> Option<&Arm> {
        let mut below = 0_u32;
        self.arms.iter().find(|arm| {
            below = below.saturating_add(arm.parts);
            part < below
        })
    }
}

/// A split as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawSplit {
    /// What stays in its arm.
    pub by: SplitBy,
    /// Its arms, 100 percent together.
    pub arms: Vec<RawArm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawArm {
    /// Stands in the ledger.
    pub name: String,
    /// The model that is asked instead, which may be a virtual one. Savings count against what the
    /// client asked for.
    pub model: String,
    /// Its part of the traffic, to the hundredth.
    pub percent: Fraction,
}

/// Checks the split of the route at `path`.
pub(super) fn split(path: &str, raw: RawSplit, config: &RawConfig) -> Result<Split, ConfigError> {
    let path = format!("{path}.split.arms");
    count(&path, raw.arms.len(), SPLIT_ARMS_MAX)?;
    let mut arms: Vec<Arm> = Vec::with_capacity(raw.arms.len());
    for (position, raw) in raw.arms.into_iter().enumerate() {
        let path = |field: &str| format!("{path}[{position}].{field}");
        let name = header_value(path("name"), raw.name)?;
        if arms.iter().any(|arm| arm.name == name) {
            let problem = format!("is the name of an earlier arm, \"{name}\"");
            return Err(ConfigError::new(path("name"), problem));
        }
        if !config.names_model(&raw.model) {
            let problem = format!("`{}` is not one of `models` or `virtual_models`", raw.model);
            return Err(ConfigError::new(path("model"), problem));
        }
        let model = raw.model;
        let parts = parts(raw.percent).ok_or_else(|| {
            let problem = "must be from 0 to 100, to the hundredth";
            ConfigError::new(path("percent"), problem)
        })?;
        arms.push(Arm { name, model, parts });
    }
    let sum: u32 = arms.iter().map(|arm| arm.parts).sum();
    if sum != SPLIT_PARTS {
        let sum = f64::from(sum) / f64::from(SPLIT_PARTS / 100);
        let problem = format!("must have 100 percent together, not {sum}");
        return Err(ConfigError::new(path, problem));
    }
    Ok(Split { by: raw.by, arms })
}

fn parts(Fraction(percent): Fraction) -> Option<u32> {
    let parts = percent * f64::from(SPLIT_PARTS / 100);
    let whole = parts.round();
    let fits = (0.0..=f64::from(SPLIT_PARTS)).contains(&whole) && (parts - whole).abs() < 1e-6;
    fits.then_some(whole as u32)
}
