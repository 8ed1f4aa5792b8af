//! What `/metrics` counts about requests. Label values are fixed at start (models, operations,
//! statuses), so no request can grow the table. Names follow OpenTelemetry's GenAI conventions in
//! Prometheus spelling.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use farthing_core::wire::Usage;

/// What a request asks for: `gen_ai.operation.name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    TextCompletion,
    /// `/v1/embeddings`.
    Embeddings,
}

impl Operation {
    const ALL: [Operation; 3] = [
        Operation::Chat,
        Operation::TextCompletion,
        Operation::Embeddings,
    ];

    /// The value of `gen_ai.operation.name`.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Chat => "chat",
            Operation::TextCompletion => "text_completion",
            Operation::Embeddings => "embeddings",
        }
    }
}

/// Upper bounds in seconds: OpenTelemetry's advice for `gen_ai.server.request.duration` and
/// `time_to_first_token`, thinned.
const SECONDS_BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 81.92,
];

/// A histogram of durations with fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; SECONDS_BOUNDS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(index) = SECONDS_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[index].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(duration_us, Relaxed);
    }

    /// Writes its samples; `labels` as of [`Page::sample`].
    pub fn write(&self, page: &mut Page, name: &str, labels: &str) {
        let mut cumulative = 0;
        for (bucket, bound) in self.buckets.iter().zip(SECONDS_BOUNDS) {
            cumulative += bucket.load(Relaxed);
            page.sample(
                &format!("{name}_bucket"),
                &format!("{labels},le=\"{bound}\""),
                cumulative,
            );
        }
        let count = self.count.load(Relaxed).max(cumulative);
        page.sample(
            &format!("{name}_bucket"),
            &format!("{labels},le=\"+Inf\""),
            count,
        );
        page.sample(
            &format!("{name}_sum"),
            labels,
            self.sum_us.load(Relaxed) as f64 / 1e6,
        );
        page.sample(&format!("{name}_count"), labels, count);
    }
}

/// Everything counted for one operation on one model.
#[derive(Debug, Default)]
pub struct ModelOperation {
    /// From the request's arrival to its last byte, or to its client's leaving.
    pub request_duration: Histogram,
    /// From the request's arrival to its first token.
    pub time_to_first_token: Histogram,
    /// Mean over one request's tokens after the first.
    pub time_per_output_token: Histogram,
    input_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

impl ModelOperation {
    /// Adds the tokens of one request.
    pub fn add_usage(&self, usage: Usage) {
        self.input_tokens.fetch_add(usage.prompt_tokens, Relaxed);
        self.cached_tokens.fetch_add(usage.cached_tokens, Relaxed);
        self.output_tokens
            .fetch_add(usage.completion_tokens, Relaxed);
    }
}

/// Statuses that this server answers; anything else is counted under the last.
const STATUSES: [u16; 14] = [
    200, 400, 404, 405, 408, 413, 415, 429, 431, 500, 502, 503, 504, 0,
];

/// One histogram family: name, help, and where it stands.
type HistogramRow = (
    &'static str,
    &'static str,
    fn(&ModelOperation) -> &Histogram,
);

/// The registry.
#[derive(Debug)]
pub struct Metrics {
    models: Vec<(String, [ModelOperation; Operation::ALL.len()])>,
    statuses: [AtomicU64; STATUSES.len()],
}

impl Metrics {
    /// A registry for these models, all zero.
    pub fn new(models: impl IntoIterator<Item = String>) -> Metrics {
        let models = models
            .into_iter()
            .map(|id| (id, Default::default()))
            .collect();
        Metrics {
            models,
            statuses: Default::default(),
        }
    }

    /// The counters of one operation on one served model.
    pub fn model(&self, id: &str, operation: Operation) -> Option<&ModelOperation> {
        let (_, operations) = self.models.iter().find(|(model, _)| model == id)?;
        operations.get(operation as usize)
    }

    /// Counts one answered request.
    pub fn count_status(&self, status: u16) {
        let last = STATUSES.len() - 1;
        let index = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or(last);
        self.statuses[index].fetch_add(1, Relaxed);
    }

    /// Writes the request metrics.
    pub fn write(&self, page: &mut Page) {
        page.family(
            "farthing_http_requests_total",
            "counter",
            "Answered requests by status.",
        );
        for (status, count) in STATUSES.iter().zip(&self.statuses) {
            let labels = match status {
                0 => "http_response_status_code=\"other\"".to_owned(),
                status => format!("http_response_status_code=\"{status}\""),
            };
            page.sample("farthing_http_requests_total", &labels, count.load(Relaxed));
        }
        self.write_tokens(page);
        let histograms: [HistogramRow; 3] = [
            (
                "gen_ai_server_request_duration_seconds",
                "Time to the last byte.",
                |of| &of.request_duration,
            ),
            (
                "gen_ai_server_time_to_first_token_seconds",
                "Time to the first token.",
                |of| &of.time_to_first_token,
            ),
            (
                "gen_ai_server_time_per_output_token_seconds",
                "Mean time of a later token.",
                |of| &of.time_per_output_token,
            ),
        ];
        for (name, help, histogram) in histograms {
            page.family(name, "histogram", help);
            self.each(|labels, counters| histogram(counters).write(page, name, labels));
        }
    }

    fn write_tokens(&self, page: &mut Page) {
        let name = "gen_ai_client_token_usage_total";
        page.family(
            name,
            "counter",
            "Tokens by type; cached ones are among the input.",
        );
        self.each(|labels, counters| {
            let types = [
                ("input", &counters.input_tokens),
                ("input_cached", &counters.cached_tokens),
                ("output", &counters.output_tokens),
            ];
            for (kind, count) in types {
                let labels = format!("{labels},gen_ai_token_type=\"{kind}\"");
                page.sample(name, &labels, count.load(Relaxed));
            }
        });
    }

    /// Visits what has been used at least once: a chat model never embeds.
    fn each(&self, mut visit: impl FnMut(&str, &ModelOperation)) {
        for (id, operations) in &self.models {
            for operation in Operation::ALL {
                let counters = &operations[operation as usize];
                if counters.request_duration.count.load(Relaxed) > 0 {
                    let id = escape_label(id);
                    let name = operation.as_str();
                    let labels =
                        format!("gen_ai_operation_name=\"{name}\",gen_ai_response_model=\"{id}\"");
                    visit(&labels, counters);
                }
            }
        }
    }
}

/// A page in Prometheus' text format
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Opens a family: every sample of it follows.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0
            .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One sample; `labels` without braces, its values escaped by [`escape_label`].
    pub fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        match labels {
            "" => self.0.push_str(&format!("{name} {value}\n")),
            labels => self.0.push_str(&format!("{name}{{{labels}}} {value}\n")),
        }
    }

    /// The finished page.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Escapes a label value as the text format wants it.
pub fn escape_label(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_escaped() {
        let metrics = Metrics::new(["m\"1".to_owned()]);
        let counters = metrics
            .model("m\"1", Operation::Chat)
            .expect("the model is registered");
        for duration_ms in [4, 30, 30, 100_000] {
            counters
                .request_duration
                .observe(Duration::from_millis(duration_ms));
        }
        counters.add_usage(Usage {
            prompt_tokens: 7,
            completion_tokens: 2,
            cached_tokens: 3,
            ..Usage::default()
        });
        let mut page = Page::default();
        metrics.write(&mut page);
        let text = page.into_string();
        let labels = r#"gen_ai_operation_name="chat",gen_ai_response_model="m\"1""#;
        for expected in [
            format!("gen_ai_server_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1\n"),
            format!("gen_ai_server_request_duration_seconds_bucket{{{labels},le=\"0.04\"}} 3\n"),
            format!("gen_ai_server_request_duration_seconds_bucket{{{labels},le=\"81.92\"}} 3\n"),
            format!("gen_ai_server_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 4\n"),
            format!("gen_ai_server_request_duration_seconds_sum{{{labels}}} 100.064\n"),
            format!("gen_ai_client_token_usage_total{{{labels},gen_ai_token_type=\"input\"}} 7\n"),
        ] {
            assert!(
                text.contains(&expected),
                "{expected} is missing from\n{text}"
            );
        }
    }

    #[test]
    fn an_unknown_status_is_counted_as_other() {
        let metrics = Metrics::new([]);
        metrics.count_status(200);
        metrics.count_status(777);
        let mut page = Page::default();
        metrics.write(&mut page);
        let text = page.into_string();
        assert!(text.contains("{http_response_status_code=\"200\"} 1\n"));
        assert!(text.contains("{http_response_status_code=\"other\"} 1\n"));
    }
}
