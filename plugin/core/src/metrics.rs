//! The filter's counters and gauges: a fixed list plus four for each configured model, because the
//! host has no labels and keeps every name for ever.

use crate::config::{Config, ModelIndex};
use crate::ledger::Source;

/// One counter or gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Requests to the two endpoints we judge.
    Requests,
    Hits,
    /// Requests that waited for an identical one.
    SingleFlightWaits,
    /// Hits among them: the others went upstream after all, or their clients left.
    SingleFlightHits,
    Misses,
    /// Judged and not looked up: the request is not cacheable, or its client said `no-cache`, in
    /// which case the fresh answer may still be stored.
    Bypasses,
    /// Requests to other paths, and nearly all while the self-check has failed.
    Passthrough,
    /// Answered with an error by the filter itself, budget refusals aside.
    Rejected,
    BudgetExhausted,
    /// Set aside when requests were admitted: what became of it, the four below say.
    BudgetReservedNanousd,
    /// Of what was set aside: what requests cost, within it.
    BudgetSettledNanousd,
    /// Of what was set aside: what requests did not cost.
    BudgetRefundedNanousd,
    /// Of what was set aside: what was still so when its window had ended.
    BudgetExpiredNanousd,
    /// What requests cost beyond what was set aside for them.
    BudgetOverrunNanousd,
    /// The same for budgets in tokens.
    BudgetReservedTokens,
    BudgetSettledTokens,
    BudgetRefundedTokens,
    BudgetExpiredTokens,
    BudgetOverrunTokens,
    /// Requests that a budget running low moved to a cheaper model.
    BudgetMoved,
    PromptTokens,
    CompletionTokens,
    CostNanousd,
    /// The sum of the five below.
    SavedNanousd,
    /// Prompt tokens that compaction took out, estimated.
    CompactedTokens,
    SavedByCache,
    SavedByRoute,
    SavedByCap,
    SavedByCompaction,
    SavedBySingleFlight,
    /// What `SavedByCache` owes to each level.
    SavedByEdgeCache,
    SavedByResponseStore,
    SavedBySemanticCache,
    /// What requests cost more than as asked, where a split sent them to a dearer model.
    LostNanousd,
    /// Requests to models whose price is the configured default.
    PriceDefault,
    UpstreamErrors,
    /// Streams that ended before their answer did.
    Aborts,
    /// Requests settled from an estimate because no usage came back.
    UsageEstimated,
    /// Prompts counted by their model's vocabulary, and those estimated.
    PromptsCounted,
    PromptsEstimated,
    /// Counted prompts of which the upstream says another number: a model names the wrong
    /// vocabulary, or its upstream adds to prompts.
    PromptsMiscounted,
    /// Reservations that could not be settled because other workers kept writing.
    SettleContended,
    /// Gauge: 1 while the start-up self-check has failed, 0 again once a body proves it wrong.
    SelfCheckFailed,
    /// Gauge: vocabularies that this worker has loaded.
    VocabulariesLoaded,
    ModelRequests(ModelIndex),
    ModelPromptTokens(ModelIndex),
    ModelCompletionTokens(ModelIndex),
    ModelCostNanousd(ModelIndex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// What the shell registers with the host at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub metric: Metric,
    pub name: String,
    pub kind: Kind,
}

const FIXED: [(Metric, &str, Kind); 44] = [
    (Metric::Requests, "farthing_requests_total", Kind::Counter),
    (Metric::Hits, "farthing_hits_total", Kind::Counter),
    (
        Metric::SingleFlightWaits,
        "farthing_single_flight_waits_total",
        Kind::Counter,
    ),
    (
        Metric::SingleFlightHits,
        "farthing_single_flight_hits_total",
        Kind::Counter,
    ),
    (Metric::Misses, "farthing_misses_total", Kind::Counter),
    (Metric::Bypasses, "farthing_bypasses_total", Kind::Counter),
    (
        Metric::Passthrough,
        "farthing_passthrough_total",
        Kind::Counter,
    ),
    (Metric::Rejected, "farthing_rejected_total", Kind::Counter),
    (
        Metric::BudgetExhausted,
        "farthing_budget_exhausted_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetReservedNanousd,
        "farthing_budget_reserved_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetSettledNanousd,
        "farthing_budget_settled_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetRefundedNanousd,
        "farthing_budget_refunded_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetExpiredNanousd,
        "farthing_budget_expired_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetOverrunNanousd,
        "farthing_budget_overrun_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetReservedTokens,
        "farthing_budget_reserved_tokens_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetSettledTokens,
        "farthing_budget_settled_tokens_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetRefundedTokens,
        "farthing_budget_refunded_tokens_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetExpiredTokens,
        "farthing_budget_expired_tokens_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetOverrunTokens,
        "farthing_budget_overrun_tokens_total",
        Kind::Counter,
    ),
    (
        Metric::BudgetMoved,
        "farthing_budget_moved_total",
        Kind::Counter,
    ),
    (
        Metric::PromptTokens,
        "farthing_prompt_tokens_total",
        Kind::Counter,
    ),
    (
        Metric::CompletionTokens,
        "farthing_completion_tokens_total",
        Kind::Counter,
    ),
    (
        Metric::CostNanousd,
        "farthing_cost_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::SavedNanousd,
        "farthing_saved_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::CompactedTokens,
        "farthing_compacted_tokens_total",
        Kind::Counter,
    ),
    (
        Metric::SavedByCache,
        "farthing_saved_by_cache_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::SavedByRoute,
        "farthing_saved_by_route_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::SavedByCap,
        "farthing_saved_by_cap_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::SavedByCompaction,
        "farthing_saved_by_compaction_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::SavedBySingleFlight,
        "farthing_saved_by_single_flight_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::SavedByEdgeCache,
        "farthing_saved_by_edge_cache_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::SavedByResponseStore,
        "farthing_saved_by_response_store_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::SavedBySemanticCache,
        "farthing_saved_by_semantic_cache_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::LostNanousd,
        "farthing_lost_nanousd_total",
        Kind::Counter,
    ),
    (
        Metric::PriceDefault,
        "farthing_price_default_total",
        Kind::Counter,
    ),
    (
        Metric::UpstreamErrors,
        "farthing_upstream_errors_total",
        Kind::Counter,
    ),
    (Metric::Aborts, "farthing_aborts_total", Kind::Counter),
    (
        Metric::UsageEstimated,
        "farthing_usage_estimated_total",
        Kind::Counter,
    ),
    (
        Metric::SettleContended,
        "farthing_settle_contended_total",
        Kind::Counter,
    ),
    (
        Metric::PromptsCounted,
        "farthing_prompts_counted_total",
        Kind::Counter,
    ),
    (
        Metric::PromptsEstimated,
        "farthing_prompts_estimated_total",
        Kind::Counter,
    ),
    (
        Metric::PromptsMiscounted,
        "farthing_prompts_miscounted_total",
        Kind::Counter,
    ),
    (
        Metric::VocabulariesLoaded,
        "farthing_vocabularies_loaded",
        Kind::Gauge,
    ),
    (
        Metric::SelfCheckFailed,
        "farthing_self_check_failed",
        Kind::Gauge,
    ),
];

const PER_MODEL: usize = 4;

impl Metric {
    /// In the order of [`crate::ledger::SavedBy::parts`].
    pub(crate) const SAVED_BY: [Metric; 5] = [
        Metric::SavedByCache,
        Metric::SavedByRoute,
        Metric::SavedByCap,
        Metric::SavedByCompaction,
        Metric::SavedBySingleFlight,
    ];

    /// The counter of what one level of the cache saved.
    pub(crate) fn saved_by_level(source: Source) -> Option<Metric> {
        match source {
            Source::EdgeCache => Some(Metric::SavedByEdgeCache),
            Source::ResponseStore => Some(Metric::SavedByResponseStore),
            Source::SemanticCache => Some(Metric::SavedBySemanticCache),
            Source::Model | Source::Provider | Source::Refused => None,
        }
    }

    /// Position in [`definitions`]: the shell keeps the host's ids in a list of that order.
    pub fn index(self) -> usize {
        let per_model = |model: ModelIndex, offset: usize| {
            FIXED
                .len()
                .saturating_add(model.0.saturating_mul(PER_MODEL))
                .saturating_add(offset)
        };
        match self {
            Metric::ModelRequests(model) => per_model(model, 0),
            Metric::ModelPromptTokens(model) => per_model(model, 1),
            Metric::ModelCompletionTokens(model) => per_model(model, 2),
            Metric::ModelCostNanousd(model) => per_model(model, 3),
            fixed => FIXED
                .iter()
                .position(|(metric, _, _)| *metric == fixed)
                .unwrap_or(usize::MAX),
        }
    }
}

/// A model's id as a part of metric names: other characters than letters and digits become `_`, so
/// two ids may meet in one suffix, which the configuration refuses.
pub(crate) fn model_suffix(id: &str) -> String {
    let letter_or_digit = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    id.chars().map(letter_or_digit).collect()
}

/// Every metric of this configuration, in [`Metric::index`] order. Names are valid in Prometheus.
pub fn definitions(config: &Config) -> Vec<Definition> {
    let fixed = FIXED.iter().map(|(metric, name, kind)| Definition {
        metric: *metric,
        name: (*name).to_owned(),
        kind: *kind,
    });
    let models = config
        .models
        .iter()
        .enumerate()
        .flat_map(|(position, model)| {
            let index = ModelIndex(position);
            let suffix = model_suffix(&model.id);
            [
                (Metric::ModelRequests(index), "requests"),
                (Metric::ModelPromptTokens(index), "prompt_tokens"),
                (Metric::ModelCompletionTokens(index), "completion_tokens"),
                (Metric::ModelCostNanousd(index), "cost_nanousd"),
            ]
            .map(|(metric, what)| Definition {
                metric,
                name: format!("farthing_model_{suffix}_{what}_total"),
                kind: Kind::Counter,
            })
        });
    fixed.chain(models).collect()
}
