//! What the tenant's budget says of a request that no cache answers: which shadow price it is
//! routed under, and whether its cost can be set aside.

use super::{Asked, Caller, Effect, Env};
use crate::budget::{
    self, Account, Enforcement, Pressure, Refusal, Reservation, Reserved, Settled, Standing, Unit,
    Window,
};
use crate::config::{BudgetConfig, Config, ModelIndex, Policy};
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metric;
use crate::money::Nanousd;
use crate::route::Route;
use crate::tenant::Tenant;

/// The budget of one request's tenant. Without configured budgets everything is admitted.
pub(super) struct Admission {
    standing: Option<Standing>,
    enforcement: Enforcement,
    /// In the order in which to try them: what is moved to a cheaper model is not refused.
    pressures: Vec<Pressure>,
    /// Seconds until the next window.
    retry_after_s: u32,
}

/// What a request may take at most, in each unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    nanousd: Nanousd,
    tokens: u64,
}

impl Need {
    /// The prompt's upper bound and every completion token that may be generated, at the price of
    /// the chosen model.
    pub(super) fn of(
        config: &Config,
        route: &Route,
        asked: &Asked,
        prompt_tokens_max: u64,
    ) -> Need {
        let completion = u64::from(route.max_tokens).saturating_mul(asked.answers);
        let service = asked.service_tier;
        let cost_max = |index: ModelIndex| {
            let model = config.model(index)?;
            Some(model.price.cost_max(service, prompt_tokens_max, completion))
        };
        Need {
            nanousd: cost_max(route.model).unwrap_or(Nanousd::ZERO),
            tokens: prompt_tokens_max.saturating_add(completion),
        }
    }

    fn amount(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Nanousd => self.nanousd.0,
            Unit::Tokens => self.tokens,
        }
    }
}

impl Admission {
    pub(super) fn read(
        caller: &Caller,
        config: &Config,
        env: &Env<'_>,
        asked: &Asked,
    ) -> Admission {
        let Some(budget) = &config.budget else {
            return Admission {
                standing: None,
                enforcement: Enforcement::Refuse,
                pressures: vec![Pressure::NONE],
                retry_after_s: 0,
            };
        };
        let now_unix_s = env.now_unix_s();
        let window = Window::at(now_unix_s, budget.window_s);
        let name = caller.tenant.name();
        let account = account(config, budget, &caller.tenant);
        let standing = budget::read(env.store, window, account, budget.limit(name));
        let pressures = match &budget.low {
            None => vec![Pressure::NONE],
            Some(low) => vec![standing.pressure(low, now_unix_s), Pressure::MAX],
        };
        let route = config.find_route(asked.endpoint, &asked.model, name);
        let acts = route.is_none_or(|route| route.acts(Policy::Budget));
        Admission {
            standing: Some(standing),
            enforcement: match acts {
                true => Enforcement::Refuse,
                false => Enforcement::Watch,
            },
            pressures,
            retry_after_s: window.remaining_s(now_unix_s),
        }
    }

    /// Does the budget only say what it would do?
    pub(super) fn is_watched(&self) -> bool {
        self.enforcement == Enforcement::Watch
    }

    pub(super) fn pressures(&self) -> Vec<Pressure> {
        self.pressures.clone()
    }

    /// Would it be admitted?
    pub(super) fn covers(&self, need: &Need) -> bool {
        let covered = |standing: &Standing| standing.covers(need.amount(standing.unit()));
        self.standing.as_ref().is_none_or(covered)
    }

    /// Sets aside what the request needs. `None` where no budgets are configured.
    pub(super) fn reserve(
        &mut self,
        env: &Env<'_>,
        need: &Need,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<Reservation>, Refusal> {
        let Some(standing) = &mut self.standing else {
            return Ok(None);
        };
        let amount = need.amount(standing.unit());
        let reserved = standing.reserve(env.store, amount, self.enforcement)?;
        let Reserved {
            reservation,
            expired,
        } = reserved;
        let flows = [
            (reserved_metric(reservation.unit()), amount),
            (Metric::BudgetExpiredNanousd, expired.nanousd),
            (Metric::BudgetExpiredTokens, expired.tokens),
        ];
        count(&flows, effects);
        Ok(Some(reservation))
    }

    pub(super) fn refusal(&self, refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::Exhausted => {
                let message = "the budget of this window does not cover this request";
                ApiError::new(ErrorKind::BudgetExhausted, message).retry_after_s(self.retry_after_s)
            }
            Refusal::Contended => {
                ApiError::new(ErrorKind::Unavailable, refusal.to_string()).retry_after_s(1)
            }
        }
    }
}

/// Settles a reservation to what the request took, and counts what became of it.
pub(super) fn settle(
    reservation: Reservation,
    env: &Env<'_>,
    cost: Nanousd,
    tokens: u64,
    effects: &mut Vec<Effect>,
) -> Settled {
    let unit = reservation.unit();
    let took = Need {
        nanousd: cost,
        tokens,
    };
    let outcome = reservation.settle(env.store, took.amount(unit));
    if let Settled::InTime {
        settled,
        refunded,
        overrun,
    } = outcome
    {
        let metrics = match unit {
            Unit::Nanousd => [
                Metric::BudgetSettledNanousd,
                Metric::BudgetRefundedNanousd,
                Metric::BudgetOverrunNanousd,
            ],
            Unit::Tokens => [
                Metric::BudgetSettledTokens,
                Metric::BudgetRefundedTokens,
                Metric::BudgetOverrunTokens,
            ],
        };
        let [a, b, c] = metrics;
        count(&[(a, settled), (b, refunded), (c, overrun)], effects);
    }
    outcome
}

fn reserved_metric(unit: Unit) -> Metric {
    match unit {
        Unit::Nanousd => Metric::BudgetReservedNanousd,
        Unit::Tokens => Metric::BudgetReservedTokens,
    }
}

fn count(flows: &[(Metric, u64)], effects: &mut Vec<Effect>) {
    let moved = flows.iter().filter(|(_, amount)| *amount > 0);
    effects.extend(moved.map(|&(metric, amount)| Effect::Count { metric, amount }));
}

/// A tenant has a record of its own if the configuration names it: a name alone, from a header, may
/// be one of any number.
fn account(config: &Config, budget: &BudgetConfig, tenant: &Tenant) -> Account {
    let configured = |name: &str| {
        budget.tenants.iter().any(|(tenant, _)| tenant == name)
            || config.tenant.names.iter().any(|named| named.name == name)
    };
    match tenant {
        Tenant::Known { id, name } if !name.as_deref().is_some_and(configured) => {
            Account::Table(*id)
        }
        _ => Account::Fixed(tenant.id()),
    }
}
