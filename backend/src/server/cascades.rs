//! The cascades of a running backend: models in their order, what was learned of them, and what has
//! been counted.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_core::money::Nanousd;
use farthing_core::price::Price;
use sha2::{Digest, Sha256};

use super::log;
use super::overhead::Overhead;
use crate::cascade::calibration::CascadeCalibration;
use crate::cascade::choose::{Aim, Worth, choose};
use crate::cascade::plan::Plan;
use crate::cascade::policy::{Money, Policy};
use crate::config::{CascadeConfig, Config};
use crate::embed::EmbedHandle;
use crate::error::BackendError;
use crate::metrics::{Page, escape_label};
use crate::model::ModelInfo;
use crate::pre_router::PreRouter;
use crate::provider::{ProviderModel, Providers};

/// Several models under one name.
pub struct Cascade {
    pub name: String,
    /// From cheap to dear, as in the calibration.
    pub tiers: Vec<TierModel>,
    pub calibration: CascadeCalibration,
    pub money: Money,
    pub plan: Plan,
    /// Whether the first model is worth asking, by the prompt alone.
    pub pre_router: Option<PreRouting>,
    pub counts: Counts,
    /// Tells answers of this calibration from those of another.
    digest: [u8; 32],
}

/// A pre-router with the model that reads prompts for it.
pub struct PreRouting {
    router: PreRouter,
    embedder: EmbedHandle,
}

impl PreRouting {
    /// Loads the router of a configuration.
    ///
    /// # Errors
    /// It cannot be loaded, or was made for another embedding model.
    fn load(path: &Path, embedders: &[EmbedHandle], at: &str) -> Result<PreRouting, BackendError> {
        let wrong = |message: String| BackendError::Config {
            path: format!("{at}.pre_router"),
            message,
        };
        let router = PreRouter::load(path).map_err(|error| wrong(error.to_string()))?;
        let embedder = embedders.first().cloned();
        let embedder = embedder.ok_or_else(|| wrong("an embedding model is needed".to_owned()))?;
        if embedder.width != router.width() {
            let (id, own, made) = (&embedder.id, embedder.width, router.width());
            return Err(wrong(format!(
                "was made for vectors of {made} numbers, and {id} has {own}"
            )));
        }
        Ok(PreRouting { router, embedder })
    }

    /// How likely the cheapest and the dearest model are right; none for a prompt that is unlike
    /// all that is known.
    pub async fn expects(&self, prompt: &str, overhead: &Overhead) -> Option<(f64, f64)> {
        let embedded = self.embedder.embed(vec![prompt.to_owned()]).await.ok()?;
        overhead.embedded(&self.embedder.id, embedded.tokens);
        let gain = self.router.gain(prompt, embedded.vectors.first()?);
        let expected = (f64::from(gain.p_weak_right), f64::from(gain.p_strong_right));
        gain.is_known.then_some(expected)
    }
}

/// Who answers for a tier.
pub enum TierModel {
    Own(Arc<ModelInfo>),
    Provider(Arc<ProviderModel>),
}

/// What has been counted, by tier.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answers that went to clients.
    pub answered: Vec<AtomicU64>,
    /// Whole answers that were not good enough.
    pub escalated: Vec<AtomicU64>,
    /// Answers that were given up after their first tokens.
    pub abandoned: Vec<AtomicU64>,
    /// Models that failed, so that the next was asked.
    pub failed: Vec<AtomicU64>,
    /// What was paid for answers that no client got.
    pub wasted_nanousd: AtomicU64,
    /// Requests whose first model was not asked, by what the pre-router expects.
    pub pre_routed: AtomicU64,
}

impl Counts {
    fn of(tiers: usize) -> Counts {
        let zeros = || (0..tiers).map(|_| AtomicU64::new(0)).collect();
        Counts {
            answered: zeros(),
            escalated: zeros(),
            abandoned: zeros(),
            failed: zeros(),
            wasted_nanousd: AtomicU64::new(0),
            pre_routed: AtomicU64::new(0),
        }
    }

    /// Counts one.
    pub fn count(of: &[AtomicU64], tier: usize) {
        if let Some(counter) = of.get(tier) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

impl TierModel {
    pub fn id(&self) -> &str {
        match self {
            TierModel::Own(model) => &model.id,
            TierModel::Provider(model) => &model.id,
        }
    }
}

impl Cascade {
    /// Loads every cascade of the configuration.
    ///
    /// # Errors
    /// The first that cannot be, by the path of the field that is wrong.
    pub fn load_all(
        config: &Config,
        served: Served<'_>,
    ) -> Result<BTreeMap<String, Arc<Cascade>>, BackendError> {
        let load = |(name, cascade): (&String, &CascadeConfig)| {
            let loaded = Cascade::load(name, cascade, config, served)?;
            Ok((name.clone(), Arc::new(loaded)))
        };
        config.cascades.iter().map(load).collect()
    }

    fn load(
        name: &str,
        cascade: &CascadeConfig,
        config: &Config,
        (own, providers, embedders): Served<'_>,
    ) -> Result<Cascade, BackendError> {
        let at = format!("cascades.{name}");
        let wrong = |field: &str, message: String| BackendError::Config {
            path: format!("{at}.{field}"),
            message,
        };
        let calibration = CascadeCalibration::load(&cascade.calibration)
            .map_err(|error| wrong("calibration", error.to_string()))?;
        let mut tiers = Vec::with_capacity(calibration.tiers.len());
        let mut prices = Vec::with_capacity(calibration.tiers.len());
        for tier in &calibration.tiers {
            let id = &tier.model;
            let own = own.get(id).map(|model| TierModel::Own(Arc::clone(model)));
            let provided = providers.model(id);
            let provided = provided.map(|model| TierModel::Provider(Arc::clone(model)));
            let missing = || {
                let problem = format!("was made for the chat model \"{id}\", which is not there");
                wrong("calibration", problem)
            };
            tiers.push(own.or(provided).ok_or_else(missing)?);
            prices.push(price(config, id)?);
        }
        let worth = cascade.worth_usd.as_ref().map(|usd| usd.0);
        let aim = Aim {
            worth: worth.map_or(Worth::AsOftenRight, Worth::Given),
            max_loss: cascade.max_loss,
        };
        let chosen = choose(&calibration, &prices, aim);
        let mut digest = Sha256::new();
        digest.update(calibration.encode());
        digest.update(chosen.worth.0.to_le_bytes());
        let pre_router = cascade.pre_router.as_ref();
        let pre_router = pre_router.map(|path| PreRouting::load(path, embedders, &at));
        let pre_router = pre_router.transpose()?;
        let loaded = Cascade {
            pre_router,
            name: name.to_owned(),
            counts: Counts::of(tiers.len()),
            tiers,
            money: Money {
                prices,
                worth: chosen.worth,
            },
            plan: chosen.plan.clone(),
            calibration,
            digest: digest.finalize().into(),
        };
        let asked: Vec<&str> = loaded.names(&chosen.plan.tiers);
        let share = |share: f64| format!("{share:.3}");
        let fields: [(&str, &dyn Display); 7] = [
            ("name", &name),
            ("asked", &asked.join(",")),
            ("cost_share", &share(chosen.cost_share)),
            ("accuracy", &share(chosen.accuracy)),
            ("accuracy_dearest", &share(chosen.accuracy_dearest)),
            ("loss_max", &share(chosen.loss_max)),
            ("worth_usd", &chosen.worth),
        ];
        log::event("cascade", &fields);
        Ok(loaded)
    }

    /// What decides for it.
    pub fn policy(&self) -> Policy<'_> {
        Policy {
            calibration: &self.calibration,
            money: &self.money,
            plan: &self.plan,
        }
    }

    /// The ids of tiers.
    pub fn names(&self, tiers: &[usize]) -> Vec<&str> {
        let found = tiers.iter().filter_map(|tier| self.tiers.get(*tier));
        found.map(TierModel::id).collect()
    }

    /// Tells its answers from those of other files under the same name, for the stores.
    pub fn revision(&self, models: &HashMap<String, String>) -> String {
        let mut digest = Sha256::new();
        digest.update(self.digest);
        for tier in &self.tiers {
            digest.update(tier.id());
            digest.update(models.get(tier.id()).map_or("", String::as_str));
        }
        let hash = digest.finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As old as its first model.
    pub fn created_unix_s(&self, provided_since: u64) -> u64 {
        match self.tiers.first() {
            Some(TierModel::Own(model)) => model.created_unix_s,
            _ => provided_since,
        }
    }

    /// What an answer costs.
    pub fn cost(&self, tier: usize, prompt_tokens: u64, completion_tokens: u64) -> Nanousd {
        self.money.cost(tier, prompt_tokens, completion_tokens)
    }
}

/// Models by who serves them: ours by their ids, those of providers, those that embed.
pub type Served<'a> = (
    &'a HashMap<String, Arc<ModelInfo>>,
    &'a Providers,
    &'a [EmbedHandle],
);

/// What a model costs, which a cascade has to know.
fn price(config: &Config, id: &str) -> Result<Price, BackendError> {
    let own = config.models.iter().find(|model| model.id == id);
    let provided = config.provider_models.iter().find(|model| model.id == id);
    let price = own
        .and_then(|model| model.price.as_ref())
        .or_else(|| provided.and_then(|model| model.price.as_ref()));
    let missing = || {
        let own = own.map(|model| model.position);
        let position = own.or(provided.map(|model| model.position()));
        BackendError::Config {
            path: format!("models[{}].price", position.unwrap_or_default()),
            message: "is needed, as a cascade asks the model".to_owned(),
        }
    };
    price.map(|price| price.price()).ok_or_else(missing)
}

/// Writes what is counted of all.
pub fn write_metrics(cascades: &BTreeMap<String, Arc<Cascade>>, page: &mut Page) {
    type Row = (&'static str, &'static str, fn(&Counts) -> &[AtomicU64]);
    type Total = (&'static str, &'static str, fn(&Counts) -> &AtomicU64);
    const ROWS: [Row; 4] = [
        (
            "farthing_cascade_answers_total",
            "Answers of a tier that went to clients.",
            |counts| &counts.answered,
        ),
        (
            "farthing_cascade_escalated_total",
            "Whole answers of a tier that were not good enough.",
            |counts| &counts.escalated,
        ),
        (
            "farthing_cascade_abandoned_total",
            "Answers of a tier that were given up after their first tokens.",
            |counts| &counts.abandoned,
        ),
        (
            "farthing_cascade_failed_total",
            "Failures of a tier, after which the next was asked.",
            |counts| &counts.failed,
        ),
    ];
    if cascades.is_empty() {
        return;
    }
    let label = |cascade: &Cascade| format!("cascade=\"{}\"", escape_label(&cascade.name));
    for (name, help, values) in ROWS {
        page.family(name, "counter", help);
        for cascade in cascades.values() {
            for (tier, value) in cascade.tiers.iter().zip(values(&cascade.counts)) {
                let labels = format!("{},model=\"{}\"", label(cascade), escape_label(tier.id()));
                page.sample(name, &labels, value.load(Relaxed));
            }
        }
    }
    let totals: [Total; 2] = [
        (
            "farthing_cascade_wasted_nanousd_total",
            "Cost of answers that no client got.",
            |counts| &counts.wasted_nanousd,
        ),
        (
            "farthing_cascade_pre_routed_total",
            "Requests that the pre-router sent to the dearest model at once.",
            |counts| &counts.pre_routed,
        ),
    ];
    for (name, help, value) in totals {
        page.family(name, "counter", help);
        for cascade in cascades.values() {
            page.sample(name, &label(cascade), value(&cascade.counts).load(Relaxed));
        }
    }
}
