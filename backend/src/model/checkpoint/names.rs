//! Hugging Face's names of llama's and qwen2's tensors, and GGUF's for the same
//! (llama.cpp, `gguf-py/gguf/tensor_mapping.py`).

/// What a tensor of a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// A whole tensor, under GGUF's name.
    Whole(String),
    /// A part of a 4-bit matrix, under GGUF's name of the matrix.
    Part(String, Part),
    /// A bias that the architecture has not: it may only be zero, as some quantizers write it.
    Zero,
    /// What is computed here and need not be read.
    Unused,
}

/// A tensor of a 4-bit matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Weights,
    Zeros,
    Scales,
    /// Which group each input belongs to.
    Groups,
}

/// The matrices of a layer.
const MATRICES: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Which tensor this is; `None` for one that these architectures have not.
pub(super) fn role(name: &str) -> Option<Role> {
    let whole = |name: &str| Some(Role::Whole(name.to_owned()));
    match name {
        "model.embed_tokens.weight" => return whole("token_embd.weight"),
        "model.norm.weight" => return whole("output_norm.weight"),
        "lm_head.weight" => return whole("output.weight"),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    match rest {
        "input_layernorm.weight" => return whole(&format!("blk.{layer}.attn_norm.weight")),
        "post_attention_layernorm.weight" => {
            return whole(&format!("blk.{layer}.ffn_norm.weight"));
        }
        "self_attn.rotary_emb.inv_freq" => return Some(Role::Unused),
        _ => {}
    }
    let (theirs, suffix) = rest.rsplit_once('.')?;
    let (_, ours) = MATRICES.iter().find(|(name, _)| *name == theirs)?;
    let part = |part| Some(Role::Part(format!("blk.{layer}.{ours}.weight"), part));
    match suffix {
        "weight" => whole(&format!("blk.{layer}.{ours}.weight")),
        "bias" if matches!(*ours, "attn_q" | "attn_k" | "attn_v") => {
            whole(&format!("blk.{layer}.{ours}.bias"))
        }
        "bias" => Some(Role::Zero),
        "qweight" => part(Part::Weights),
        "qzeros" => part(Part::Zeros),
        "scales" => part(Part::Scales),
        "g_idx" => part(Part::Groups),
        _ => None,
    }
}
