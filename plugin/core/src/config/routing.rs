//! What a virtual model is routed for: shares of its traffic, or what a right answer is worth.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::checks::within;
use super::raw::{Fraction, Usd, WholeNumber};
use super::{ConfigError, VirtualModel};
use crate::base64;
use crate::limits::STICKY_TTL_S_MAX;
use crate::money::Nanousd;
use crate::route::GainCalibration;

/// What decides among the members of a virtual model.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Each member gets a share of the traffic, those that gain most the dearest. Ascending ranks,
    /// one fewer than members: a rank of at least `thresholds[i]` asks for member `i + 1`.
    Shares { thresholds: Vec<f64> },
    /// A right answer is worth this: a dearer member is taken if its gain is worth what it costs.
    Value(Nanousd),
}

impl Target {
    /// The same share for each member.
    pub fn even(members: usize) -> Target {
        Target::Shares {
            thresholds: (1..members).map(|i| i as f64 / members as f64).collect(),
        }
    }
}

/// Routing as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawRouting {
    /// What each virtual model is routed for, by its name. Default: the same share of its traffic
    /// for each member.
    pub targets: BTreeMap<String, RawTarget>,
    /// A calibration of your own, as `farthing calibrate router` prints it. Default: that of this
    /// build, learned from multiple-choice questions of 45 subjects.
    pub calibration: Option<String>,
    /// Whether conversations stay with a model.
    pub sticky: RawSticky,
}

/// Whether a conversation stays with its model while the provider has it in its prompt cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    pub ttl_s: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawSticky {
    /// Is a cheaper model taken only where it saves more than the prompt cache of the one before?
    pub enabled: bool,
    /// How long a provider keeps a prompt that it has read.
    pub ttl_s: WholeNumber,
}

impl Default for RawSticky {
    fn default() -> Self {
        RawSticky {
            enabled: true,
            ttl_s: WholeNumber(300),
        }
    }
}

pub(super) fn sticky(raw: &RawSticky) -> Result<Option<Sticky>, ConfigError> {
    let ttl_s = within("routing.sticky.ttl_s", raw.ttl_s, 1, STICKY_TTL_S_MAX)?;
    Ok(raw.enabled.then_some(Sticky { ttl_s }))
}

/// Either of its fields.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object with `shares` or `value_usd`"
)]
#[derive(Default)]
pub(super) struct RawTarget {
    /// The share of the traffic of each member, from cheap to dear, 1 together. A request that
    /// gains more from a dear model goes to a dearer one.
    pub shares: Option<Vec<Fraction>>,
    /// What a right answer is worth. A dearer member is taken where its chance to be right instead
    /// of wrong is worth more than it costs more, with the completion as long as it may be.
    pub value_usd: Option<Usd>,
}

pub(super) fn calibration(raw: Option<&str>) -> Result<GainCalibration, ConfigError> {
    let path = "routing.calibration";
    let read = match raw {
        None => GainCalibration::embedded(),
        Some(text) => match base64::decode(text) {
            Some(file) => GainCalibration::decode(&file),
            None => return Err(ConfigError::new(path, "is not base64")),
        },
    };
    read.map_err(|error| ConfigError::new(path, error.to_string()))
}

/// Gives virtual models the targets that are written for them.
pub(super) fn set_targets(
    virtual_models: &mut [VirtualModel],
    raw: BTreeMap<String, RawTarget>,
) -> Result<(), ConfigError> {
    for (name, raw) in raw {
        let path = format!("routing.targets.{name}");
        let named = virtual_models.iter_mut().find(|model| model.id == name);
        let Some(model) = named else {
            return Err(ConfigError::new(path, "is not one of `virtual_models`"));
        };
        model.target = match (raw.shares, raw.value_usd) {
            (Some(shares), None) => Target::Shares {
                thresholds: thresholds(&path, &shares, model.members.len())?,
            },
            (None, Some(Usd(value))) if value > Nanousd::MAX => {
                return Err(ConfigError::new(
                    format!("{path}.value_usd"),
                    "is too large",
                ));
            }
            (None, Some(Usd(value))) => Target::Value(value),
            _ => {
                let problem = "must have either `shares` or `value_usd`";
                return Err(ConfigError::new(path, problem));
            }
        };
    }
    Ok(())
}

/// Shares are written with a few decimals, and such fractions do not sum exactly.
const SUM_SLACK: f64 = 1e-6;

fn thresholds(path: &str, shares: &[Fraction], members: usize) -> Result<Vec<f64>, ConfigError> {
    let path = format!("{path}.shares");
    if shares.len() != members {
        let have = shares.len();
        let problem =
            format!("must have one entry for each of its models, not {have} for {members}");
        return Err(ConfigError::new(path, problem));
    }
    for (position, Fraction(share)) in shares.iter().enumerate() {
        if !(0.0..=1.0).contains(share) {
            let problem = format!("must be from 0 to 1, not {share}");
            return Err(ConfigError::new(format!("{path}[{position}]"), problem));
        }
    }
    let sum: f64 = shares.iter().map(|Fraction(share)| share).sum();
    if (sum - 1.0).abs() > SUM_SLACK {
        let problem = format!("must sum to 1, not to {sum}");
        return Err(ConfigError::new(path, problem));
    }
    let mut below = 0.0;
    let mut left = shares.len();
    let thresholds = shares.iter().map(|Fraction(share)| {
        below += share;
        left = left.saturating_sub(1);
        let dearer = shares.iter().rev().take(left);
        // No rank is reached where nothing is left for dearer models, whatever the sum is.
        match dearer.map(|Fraction(share)| *share).sum::<f64>() > 0.0 {
            true => below,
            false => f64::INFINITY,
        }
    });
    Ok(thresholds.take(members.saturating_sub(1)).collect())
}
