//! The forward pass of llama and qwen2 written again, slowly: candle reads and dequantizes the
//! file, and everything is f32. It shares no code with the backend.

// Each test binary uses another part.
#![allow(dead_code)]

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{D, Device, Result, Tensor};

/// A model file that is read one tensor at a time.
struct Reference {
    content: Content,
    file: File,
    architecture: String,
}

impl Reference {
    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        self.content
            .tensor(&mut self.file, name, &Device::Cpu)?
            .dequantize(&Device::Cpu)
    }

    fn number(&self, key: &str) -> f64 {
        let value = &self.content.metadata[&format!("{}.{key}", self.architecture)];
        value
            .to_u32()
            .map(f64::from)
            .or_else(|_| value.to_f32().map(f64::from))
            .expect("a number")
    }

    /// x W^T, plus a bias if the file has one.
    fn project(&mut self, name: &str, x: &Tensor) -> Result<Tensor> {
        let product = x.matmul(&self.tensor(&format!("{name}.weight"))?.t()?)?;
        let bias = format!("{name}.bias");
        if !self.content.tensor_infos.contains_key(&bias) {
            return Ok(product);
        }
        product.broadcast_add(&self.tensor(&bias)?)
    }

    fn norm(&mut self, name: &str, x: &Tensor) -> Result<Tensor> {
        let epsilon = self.number("attention.layer_norm_rms_epsilon");
        let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
        x.broadcast_div(&mean)?.broadcast_mul(&self.tensor(name)?)
    }

    /// Turns `[tokens, heads, head_dim]`: pairs side by side in llama's files, halves apart in
    /// qwen2's.
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, heads, dim) = x.dims3()?;
        let base = self.number("rope.freq_base");
        let mut out = x.flatten_all()?.to_vec1::<f32>()?;
        for (index, head) in out.chunks_exact_mut(dim).enumerate() {
            let position = (index / heads) as f64;
            for pair in 0..dim / 2 {
                let angle = position * base.powf(-2.0 * pair as f64 / dim as f64);
                let (sin, cos) = (angle.sin() as f32, angle.cos() as f32);
                let (i, j) = match self.architecture.as_str() {
                    "llama" => (2 * pair, 2 * pair + 1),
                    _ => (pair, pair + dim / 2),
                };
                (head[i], head[j]) = (head[i] * cos - head[j] * sin, head[i] * sin + head[j] * cos);
            }
        }
        Tensor::from_vec(out, (tokens, heads, dim), &Device::Cpu)
    }

    fn attention(&mut self, layer: &str, x: &Tensor) -> Result<Tensor> {
        let heads = self.number("attention.head_count") as usize;
        let kv_heads = self.number("attention.head_count_kv") as usize;
        let tokens = x.dim(0)?;
        let split = |x: Tensor, heads: usize| x.reshape((tokens, heads, x.dim(1)? / heads));
        let query = split(self.project(&format!("{layer}.attn_q"), x)?, heads)?;
        let key = split(self.project(&format!("{layer}.attn_k"), x)?, kv_heads)?;
        let value = split(self.project(&format!("{layer}.attn_v"), x)?, kv_heads)?;
        let (query, key) = (self.rotate(&query)?, self.rotate(&key)?);
        let scale = 1.0 / (query.dim(2)? as f64).sqrt();
        let hidden = |at: usize| {
            if at % tokens > at / tokens {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        };
        let mask: Vec<f32> = (0..tokens * tokens).map(hidden).collect();
        let mask = Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)?;
        let mut attended = Vec::with_capacity(heads);
        for head in 0..heads {
            let of = |x: &Tensor, head| x.narrow(1, head, 1)?.squeeze(1)?.contiguous();
            let kv_head = head / (heads / kv_heads);
            let scores = of(&query, head)?.matmul(&of(&key, kv_head)?.t()?)?;
            let scores = ((scores * scale)? + &mask)?;
            let weights = scores
                .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
                .exp()?;
            let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
            attended.push(weights.matmul(&of(&value, kv_head)?)?);
        }
        self.project(&format!("{layer}.attn_output"), &Tensor::cat(&attended, 1)?)
    }
}

/// The logits after the last of `tokens`.
pub fn reference_logits(path: &Path, tokens: &[u32]) -> Result<Vec<f32>> {
    let last = tokens.len() - 1;
    reference_rows(path, tokens, last..last + 1)?
        .squeeze(0)?
        .to_vec1()
}

/// Natural logarithms of the likelihoods of the tokens that follow those at `places`.
pub fn reference_likelihoods(
    path: &Path,
    tokens: &[u32],
    places: Range<usize>,
) -> Result<Vec<f64>> {
    let logits = reference_rows(path, tokens, places.clone())?;
    let rows = logits.to_vec2::<f32>()?;
    let likelihood = |(row, place): (&Vec<f32>, usize)| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
        f64::from(row[tokens[place + 1] as usize] - max) - sum.ln()
    };
    Ok(rows.iter().zip(places).map(likelihood).collect())
}

/// The logits after the tokens at `places`, `[places, vocabulary]`.
fn reference_rows(path: &Path, tokens: &[u32], places: Range<usize>) -> Result<Tensor> {
    let mut file = File::open(path)?;
    let content = Content::read(&mut file)?;
    let architecture = content.metadata["general.architecture"]
        .to_string()?
        .clone();
    let mut model = Reference {
        content,
        file,
        architecture,
    };
    let ids = Tensor::new(tokens, &Device::Cpu)?;
    let mut x = model.tensor("token_embd.weight")?.index_select(&ids, 0)?;
    for layer in 0..model.number("block_count") as usize {
        let layer = format!("blk.{layer}");
        let normed = model.norm(&format!("{layer}.attn_norm.weight"), &x)?;
        x = (&x + model.attention(&layer, &normed)?)?;
        let normed = model.norm(&format!("{layer}.ffn_norm.weight"), &x)?;
        let gate = model
            .project(&format!("{layer}.ffn_gate"), &normed)?
            .silu()?;
        let up = model.project(&format!("{layer}.ffn_up"), &normed)?;
        x = (&x + model.project(&format!("{layer}.ffn_down"), &(gate * up)?)?)?;
    }
    let wanted = x.narrow(0, places.start, places.len())?;
    let wanted = model.norm("output_norm.weight", &wanted)?;
    let untied = model.content.tensor_infos.contains_key("output.weight");
    let head = if untied { "output" } else { "token_embd" };
    model.project(head, &wanted)
}
