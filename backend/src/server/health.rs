//! `/healthz`, `/readyz` and `/metrics`.

use farthing_core::error::{ApiError, ErrorKind};
use hyper::Response;

use super::State;
use super::cascades;
use super::reply::{self, ReplyBody};
use crate::engine::ModelMetrics;
use crate::metrics::{Page, escape_label};

/// The process runs and answers.
pub fn live() -> Response<ReplyBody> {
    reply::full(200, "text/plain; charset=utf-8", b"ok\n".to_vec())
}

/// The models are loaded (else nothing would listen) and their threads take requests.
///
/// # Errors
/// `Unavailable` once the model thread or that of an embedding model is gone.
pub fn ready(state: &State) -> Result<Response<ReplyBody>, ApiError> {
    match state.stopped_worker() {
        Some(worker) => {
            let message = format!("{worker} has stopped");
            Err(ApiError::new(ErrorKind::Unavailable, message))
        }
        None => {
            let text = b"ready\n".to_vec();
            Ok(reply::full(200, "text/plain; charset=utf-8", text))
        }
    }
}

/// One number of the engine: name, type, help, and where it stands.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    fn(&ModelMetrics) -> u64,
);

const ENGINE_ROWS: [Row; 14] = [
    (
        "farthing_engine_running",
        "gauge",
        "Sequences in every step.",
        |of| of.running,
    ),
    (
        "farthing_engine_waiting",
        "gauge",
        "Sequences that wait for a place.",
        |of| of.waiting,
    ),
    (
        "farthing_engine_blocks_used",
        "gauge",
        "KV blocks in use.",
        |of| of.blocks_used,
    ),
    (
        "farthing_engine_blocks_total",
        "gauge",
        "KV blocks in all.",
        |of| of.blocks_total,
    ),
    (
        "farthing_engine_steps_total",
        "counter",
        "Forward passes.",
        |of| of.steps,
    ),
    (
        "farthing_engine_computed_tokens_total",
        "counter",
        "Tokens computed.",
        |of| of.computed_tokens,
    ),
    (
        "farthing_engine_generated_tokens_total",
        "counter",
        "Tokens sampled.",
        |of| of.generated_tokens,
    ),
    (
        "farthing_engine_draft_tokens_total",
        "counter",
        "Tokens proposed.",
        |of| of.draft_tokens,
    ),
    (
        "farthing_engine_accepted_tokens_total",
        "counter",
        "Proposed tokens that were right.",
        |of| of.accepted_tokens,
    ),
    (
        "farthing_engine_prefix_hit_tokens_total",
        "counter",
        "Prompt tokens not computed.",
        |of| of.cached_tokens,
    ),
    (
        "farthing_engine_preemptions_total",
        "counter",
        "Sequences started again.",
        |of| of.preemptions,
    ),
    (
        "farthing_engine_finished_total",
        "counter",
        "Requests answered.",
        |of| of.finished,
    ),
    (
        "farthing_engine_aborted_total",
        "counter",
        "Requests whose client left.",
        |of| of.aborted,
    ),
    (
        "farthing_engine_failed_total",
        "counter",
        "Requests that we failed.",
        |of| of.failed,
    ),
];

/// Everything that is counted.
pub fn metrics(state: &State) -> Response<ReplyBody> {
    let mut page = Page::default();
    let engine = state.engine.snapshot();
    page.family(
        "farthing_engine_queued",
        "gauge",
        "Requests accepted and not yet started.",
    );
    page.sample("farthing_engine_queued", "", engine.queued);
    for (name, kind, help, value) in ENGINE_ROWS {
        page.family(name, kind, help);
        for model in &engine.models {
            let labels = format!("model=\"{}\"", escape_label(&model.model));
            page.sample(name, &labels, value(model));
        }
    }
    for (name, kind, help, value) in state.store.iter().flat_map(|store| store.counts().rows()) {
        page.family(name, kind, help);
        page.sample(name, "", value);
    }
    for (name, kind, help, value) in state.redis.iter().flat_map(|redis| redis.rows()) {
        page.family(name, kind, help);
        page.sample(name, "", value);
    }
    state.providers.write_metrics(&mut page);
    cascades::write_metrics(&state.cascades, &mut page);
    state.overheads.write_metrics(&mut page);
    let semantic = state
        .semantic
        .iter()
        .flat_map(|semantic| semantic.cache.rows());
    for (name, kind, help, value) in semantic {
        page.family(name, kind, help);
        page.sample(name, "", value);
    }
    state.metrics.write(&mut page);
    reply::full(
        200,
        "text/plain; version=0.0.4; charset=utf-8",
        page.into_string().into_bytes(),
    )
}
