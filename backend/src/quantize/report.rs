//! What a quantization brought, for people and as a JSON line.

use std::fmt::Write;

use clap::ValueEnum;
use serde_json::json;

use super::plan::Plan;
use crate::cli::QuantizeArgs;
use crate::perplexity::Perplexity;

/// Sizes of the weights, and perplexities if there was a text.
pub(super) struct Report {
    from: String,
    out: String,
    to: String,
    before: Size,
    after: Size,
    perplexity: Option<(Perplexity, Perplexity)>,
}

#[derive(Clone, Copy)]
struct Size {
    bytes: u64,
    bits_per_weight: f64,
}

const MIB: f64 = (1 << 20) as f64;

// === impl Report ===

impl Report {
    pub(super) fn new(args: &QuantizeArgs, plan: &Plan) -> Report {
        let size = |bytes: u64| Size {
            bytes,
            bits_per_weight: bytes as f64 * 8.0 / plan.weights.max(1) as f64,
        };
        let to = args.to.to_possible_value();
        Report {
            from: args.from.display().to_string(),
            out: args.out.display().to_string(),
            to: to.map_or_else(String::new, |value| value.get_name().to_owned()),
            before: size(plan.bytes_before),
            after: size(plan.bytes_after()),
            perplexity: None,
        }
    }

    pub(super) fn perplexity(&mut self, before: Perplexity, after: Perplexity) {
        self.perplexity = Some((before, after));
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (name, size) in [(&self.from, self.before), (&self.out, self.after)] {
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "{name}: {:.1} MiB of weights, {:.2} bits per weight",
                size.bytes as f64 / MIB,
                size.bits_per_weight
            );
        }
        let change = percent(self.after.bytes as f64, self.before.bytes as f64);
        let _ = writeln!(out, "{}: {change:+.1} % of size", self.to);
        if let Some((before, after)) = &self.perplexity {
            let change = percent(after.value, before.value);
            let _ = writeln!(out, "before: {before}\nafter:  {after}");
            let _ = writeln!(out, "{}: {change:+.2} % of perplexity", self.to);
        }
        out
    }

    pub(super) fn json(&self) -> String {
        let perplexity = |of: fn(&(Perplexity, Perplexity)) -> &Perplexity| {
            self.perplexity.as_ref().map(|both| of(both).value)
        };
        let line = json!({"quantize": self.to, "from": self.from, "out": self.out,
            "bytes_before": self.before.bytes, "bytes_after": self.after.bytes,
            "bits_per_weight_before": self.before.bits_per_weight,
            "bits_per_weight_after": self.after.bits_per_weight,
            "perplexity_before": perplexity(|both| &both.0),
            "perplexity_after": perplexity(|both| &both.1)});
        format!("{line}\n")
    }
}

/// By how many percent `after` differs from `before`.
fn percent(after: f64, before: f64) -> f64 {
    (after / before - 1.0) * 100.0
}
