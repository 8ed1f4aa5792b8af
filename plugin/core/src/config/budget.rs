//! What each tenant may spend in each window, in dollars or in tokens.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::checks::{count, within};
use super::raw::{Fraction, Usd, WholeNumber};
use super::{ConfigError, TenantConfig, TenantSource};
use crate::budget::{Limit, Low, Unit};
use crate::limits::{
    BUDGET_LOW_PRICE_MAX, BUDGET_WINDOW_S_MAX, NAMED_TENANTS_MAX, TENANT_BYTES_MAX,
};
use crate::money::Nanousd;
use crate::tenant;

/// The budgets of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetConfig {
    pub window_s: u32,
    /// For tenants without a limit of their own.
    pub default: Limit,
    pub tenants: Vec<(String, Limit)>,
    /// None: no shadow price; a budget lets requests go where they want until it refuses them.
    pub low: Option<Low>,
}

impl BudgetConfig {
    /// What a tenant of that name may spend in one window.
    pub fn limit(&self, name: Option<&str>) -> Limit {
        self.tenants
            .iter()
            .find(|(tenant, _)| Some(tenant.as_str()) == name)
            .map_or(self.default, |(_, limit)| *limit)
    }
}

/// Budgets as they are written: `usd` or `tokens`, for each tenant that has no limit of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawBudget {
    /// How long a window is.
    pub window_s: WholeNumber,
    /// For each tenant that has no amount of its own: this or `tokens`.
    pub usd: Option<Usd>,
    /// The same in tokens of prompt and completion.
    pub tokens: Option<WholeNumber>,
    /// Amounts of single tenants, by name.
    #[serde(default)]
    pub tenants: BTreeMap<String, RawLimit>,
    /// Moves requests to cheaper models before anything is refused. Default: nothing changes until
    /// the budget is spent.
    pub low: Option<RawLow>,
}

/// `{usd: 0.25}` or `{tokens: 1000}`; a plain amount is dollars.
#[derive(Clone, Copy, Default)]
pub(super) struct RawLimit {
    usd: Option<Usd>,
    tokens: Option<WholeNumber>,
}

/// When a budget runs low: the share of it that is left then, and the strength of its shadow price.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub(super) struct RawLow {
    /// The share of the budget that is left when it begins.
    pub share: Fraction,
    /// Strength: with a share `r` of the budget and `w` of the window left, a dear model must gain
    /// `1 + price * (1 + w) * (share / r - 1)` times as much as usual.
    pub price: Fraction,
}

impl Default for RawLow {
    fn default() -> Self {
        RawLow {
            share: Fraction(0.2),
            price: Fraction(1.0),
        }
    }
}

/// Checks the budgets of a configuration.
pub(super) fn budget(raw: RawBudget, tenant: &TenantConfig) -> Result<BudgetConfig, ConfigError> {
    count("budget.tenants", raw.tenants.len(), NAMED_TENANTS_MAX)?;
    let default = RawLimit {
        usd: raw.usd,
        tokens: raw.tokens,
    };
    let default = limit("budget", default)?;
    let mut tenants = Vec::with_capacity(raw.tenants.len());
    for (name, raw) in raw.tenants {
        let path = format!("budget.tenants.{name}");
        let named = tenant.names.iter().any(|named| named.name == name);
        match &tenant.source {
            TenantSource::Credential if !named => {
                return Err(ConfigError::new(path, "is not one of `tenant.names`"));
            }
            TenantSource::Header(_) if !tenant::is_tenant_name(&name) => {
                let problem = format!("must be 1 to {TENANT_BYTES_MAX} bytes of visible text");
                return Err(ConfigError::new(path, problem));
            }
            _ => tenants.push((name, limit(&path, raw)?)),
        }
    }
    Ok(BudgetConfig {
        window_s: within("budget.window_s", raw.window_s, 1, BUDGET_WINDOW_S_MAX)?,
        default,
        tenants,
        low: raw.low.map(low).transpose()?,
    })
}

fn limit(path: &str, raw: RawLimit) -> Result<Limit, ConfigError> {
    match (raw.usd, raw.tokens) {
        (Some(Usd(amount)), None) if amount > Nanousd::MAX => {
            Err(ConfigError::new(format!("{path}.usd"), "is too large"))
        }
        (Some(Usd(amount)), None) => Ok(Limit {
            unit: Unit::Nanousd,
            amount: amount.0,
        }),
        (None, Some(tokens)) => Ok(Limit {
            unit: Unit::Tokens,
            amount: tokens.0,
        }),
        _ => Err(ConfigError::new(path, "must have either `usd` or `tokens`")),
    }
}

fn low(raw: RawLow) -> Result<Low, ConfigError> {
    let within = |field: &str, Fraction(value): Fraction, max: f64| {
        if value > 0.0 && value <= max {
            return Ok(value);
        }
        let problem = format!("must be above 0 and at most {max}, not {value}");
        Err(ConfigError::new(format!("budget.low.{field}"), problem))
    };
    Ok(Low {
        share: within("share", raw.share, 1.0)?,
        price: within("price", raw.price, BUDGET_LOW_PRICE_MAX)?,
    })
}

impl<'de> Deserialize<'de> for RawLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawLimitVisitor)
    }
}

struct RawLimitVisitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct RawLimitFields {
    usd: Option<Usd>,
    tokens: Option<WholeNumber>,
}

impl RawLimitVisitor {
    fn usd<E: de::Error>(text: &str) -> Result<RawLimit, E> {
        let usd = Nanousd::parse_usd(text).map_err(E::custom)?;
        Ok(RawLimit {
            usd: Some(Usd(usd)),
            tokens: None,
        })
    }
}

impl<'de> Visitor<'de> for RawLimitVisitor {
    type Value = RawLimit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dollars, or an object with `usd` or `tokens`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawLimit, A::Error> {
        let fields = RawLimitFields::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RawLimit {
            usd: fields.usd,
            tokens: fields.tokens,
        })
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<RawLimit, E> {
        RawLimitVisitor::usd(&value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<RawLimit, E> {
        RawLimitVisitor::usd(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawLimit, E> {
        RawLimitVisitor::usd(&value.to_string())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<RawLimit, E> {
        RawLimitVisitor::usd(value)
    }
}
