//! `config.json` of Hugging Face's llama and qwen2
//! (transformers, `configuration_llama.py` and `configuration_qwen2.py`), and GPTQ's and AWQ's
//! `quantization_config` in it. A variant that the forward pass would compute wrongly is refused by
//! the name of its field.

use farthing_core::limits;
use serde::Deserialize;
use serde_json::Value;

use super::int4::{Int4Format, Packing};
use crate::error::BackendError;

/// What the file says, checked.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    pub(super) model_type: String,
    pub(super) hidden_size: u32,
    pub(super) intermediate_size: u32,
    pub(super) num_hidden_layers: u32,
    pub(super) num_attention_heads: u32,
    pub(super) num_key_value_heads: Option<u32>,
    pub(super) head_dim: Option<u32>,
    pub(super) rms_norm_eps: f32,
    pub(super) max_position_embeddings: u32,
    rope_theta: Option<f32>,
    /// Newer files have `rope_theta` in here, with the scaling.
    rope_parameters: Option<Rope>,
    rope_scaling: Option<Rope>,
    #[serde(default)]
    pub(super) tie_word_embeddings: bool,
    hidden_act: Option<String>,
    #[serde(default)]
    use_sliding_window: bool,
    partial_rotary_factor: Option<f64>,
    pub(super) bos_token_id: Option<TokenIds>,
    pub(super) eos_token_id: Option<TokenIds>,
    quantization_config: Option<Quantization>,
}

/// One token, or several of which the first counts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum TokenIds {
    One(u32),
    Several(Vec<u32>),
}

#[derive(Debug, Deserialize)]
struct Rope {
    rope_type: Option<String>,
    /// Its name before, which files that were written anew have beside it.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f32>,
}

#[derive(Debug, Deserialize)]
struct Quantization {
    quant_method: String,
    bits: Option<u32>,
    w_bit: Option<u32>,
    group_size: Option<i64>,
    q_group_size: Option<i64>,
    /// AutoAWQ's `gemm` or `gemv`.
    version: Option<Value>,
    /// GPTQModel's `gptq` or `gptq_v2`.
    checkpoint_format: Option<String>,
}

// === impl Config ===

impl Config {
    pub(super) fn parse(json: &[u8]) -> Result<Config, BackendError> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let config: Config = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| wrong(&format!("{}: {}", error.path(), error.inner())))?;
        config.refuse_variants()?;
        config.check_counts()?;
        Ok(config)
    }

    /// The base of the rotary angles, if the file says.
    pub(super) fn rope_base(&self) -> Option<f32> {
        let within = self
            .rope_parameters
            .as_ref()
            .and_then(|rope| rope.rope_theta);
        self.rope_theta.or(within)
    }

    /// How its 4-bit matrices are held, if it has any.
    pub(super) fn int4(&self) -> Result<Option<Int4Format>, BackendError> {
        let Some(quantization) = &self.quantization_config else {
            return Ok(None);
        };
        quantization.format().map(Some)
    }

    /// Numbers that no model has, by the names that they have in this file.
    fn check_counts(&self) -> Result<(), BackendError> {
        let heads_max = limits::MODEL_HEADS_MAX;
        let kv_heads = self.num_key_value_heads.unwrap_or(1);
        for (field, value, max) in [
            (
                "num_hidden_layers",
                self.num_hidden_layers,
                limits::MODEL_LAYERS_MAX,
            ),
            ("hidden_size", self.hidden_size, limits::MODEL_WIDTH_MAX),
            (
                "intermediate_size",
                self.intermediate_size,
                limits::MODEL_WIDTH_MAX,
            ),
            ("num_attention_heads", self.num_attention_heads, heads_max),
            ("num_key_value_heads", kv_heads, heads_max),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                limits::MODEL_CONTEXT_TOKENS_MAX,
            ),
        ] {
            if !(1..=max).contains(&(value as usize)) {
                return Err(wrong(&format!(
                    "{field}: {value} is not within 1 and {max}"
                )));
            }
        }
        for (field, value) in [
            ("rope_theta", self.rope_base().unwrap_or(1.0)),
            ("rms_norm_eps", self.rms_norm_eps),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(wrong(&format!("{field}: {value} is no number above 0")));
            }
        }
        Ok(())
    }

    fn refuse_variants(&self) -> Result<(), BackendError> {
        if !matches!(self.model_type.as_str(), "llama" | "qwen2") {
            return Err(BackendError::Model(format!(
                "the architecture '{:.32}' is not supported; llama and qwen2 are",
                self.model_type
            )));
        }
        for (field, rope) in [
            ("rope_scaling", &self.rope_scaling),
            ("rope_parameters", &self.rope_parameters),
        ] {
            let kinds = rope.iter().flat_map(|rope| [&rope.rope_type, &rope.kind]);
            if let Some(kind) = kinds.flatten().find(|kind| *kind != "default") {
                return Err(refused(&format!("position scaling '{kind:.32}' ({field})")));
            }
        }
        if let Some(act) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(refused(&format!("the activation '{act:.32}' (hidden_act)")));
        }
        if self.use_sliding_window {
            return Err(refused("sliding-window attention (use_sliding_window)"));
        }
        if self
            .partial_rotary_factor
            .is_some_and(|factor| factor != 1.0)
        {
            return Err(refused("rotating a part of a head (partial_rotary_factor)"));
        }
        Ok(())
    }
}

// === impl TokenIds ===

impl TokenIds {
    pub(super) fn first(&self) -> Option<u32> {
        match self {
            TokenIds::One(id) => Some(*id),
            TokenIds::Several(ids) => ids.first().copied(),
        }
    }
}

// === impl Quantization ===

impl Quantization {
    fn format(&self) -> Result<Int4Format, BackendError> {
        let bits = self.bits.or(self.w_bit).unwrap_or(4);
        if bits != 4 {
            return Err(refused(&format!("{bits} bits (quantization_config.bits)")));
        }
        let packing = match self.quant_method.as_str() {
            "gptq" => match self.checkpoint_format.as_deref() {
                None | Some("gptq") => Packing::Gptq { zero_offset: 1 },
                Some("gptq_v2") => Packing::Gptq { zero_offset: 0 },
                Some(other) => {
                    let field = "quantization_config.checkpoint_format";
                    return Err(refused(&format!("'{other:.32}' ({field})")));
                }
            },
            "awq" => {
                let version = self.version.as_ref().and_then(Value::as_str);
                let gemm = version.is_none_or(|version| version.eq_ignore_ascii_case("gemm"));
                if !gemm {
                    let version = version.unwrap_or_default();
                    let field = "quantization_config.version";
                    return Err(refused(&format!("AWQ '{version:.32}' ({field})")));
                }
                Packing::Awq
            }
            other => {
                let field = "quantization_config.quant_method";
                return Err(refused(&format!("'{other:.32}' ({field})")));
            }
        };
        let group = self.group_size.or(self.q_group_size).unwrap_or(128);
        let group = match group {
            -1 => None,
            1..=limits::CHECKPOINT_GROUP_MAX => Some(group as usize),
            _ => {
                let field = "quantization_config.group_size";
                return Err(refused(&format!("a group of {group} ({field})")));
            }
        };
        Ok(Int4Format { packing, group })
    }
}

fn wrong(what: &str) -> BackendError {
    BackendError::Checkpoint(format!("config.json: {what}"))
}

fn refused(what: &str) -> BackendError {
    BackendError::Model(format!("config.json: {what} is not supported"))
}
