//! From the tensors of a folder's files to those of the model, each checked against the others.

use super::config::Config;
use super::int4::{self, BLOCK, Int4Format, NIBBLES};
use super::names::{self, Part, Role};
use super::permute::PairsSideBySide;
use super::safetensors::Element;
use super::{Data, Found, Int4Source, Parts, Place, Source, wrong};
use crate::error::BackendError;
use crate::model::mapped::Bytes;
use farthing_kernels::Dtype;
use std::collections::HashMap;

// === impl Parts ===

impl Parts {
    /// Takes in one tensor of a file.
    pub(super) fn add(
        &mut self,
        name: &str,
        found: Found,
        file: &[u8],
    ) -> Result<(), BackendError> {
        let Some(role) = names::role(name) else {
            return Err(BackendError::Model(format!(
                "the tensor '{name}' has no place in this architecture; the model is a variant"
            )));
        };
        let before = match role {
            Role::Unused => None,
            Role::Zero => {
                if file[found.1.place.clone()].iter().any(|&byte| byte != 0) {
                    let what = "is a bias that this architecture has not";
                    return Err(BackendError::Model(format!("the tensor '{name}' {what}")));
                }
                None
            }
            Role::Whole(ours) => self.whole.insert(ours, found),
            Role::Part(ours, part) => self.int4.entry(ours).or_default().insert(part, found),
        };
        match before {
            None => Ok(()),
            Some(_) => Err(wrong(format!("the tensor '{name}' occurs twice"))),
        }
    }

    /// Everything under its name in GGUF.
    pub(super) fn sources(self, config: &Config) -> Result<HashMap<String, Source>, BackendError> {
        let format = config.int4()?;
        let mut sources = HashMap::with_capacity(self.whole.len() + self.int4.len());
        for (name, found) in self.whole {
            let source = whole(&name, &found, config)?;
            sources.insert(name, source);
        }
        for (name, parts) in self.int4 {
            let what = "has 4-bit parts, but config.json has no quantization_config";
            let format = format.ok_or_else(|| wrong(format!("the tensor '{name}' {what}")))?;
            let source = matrix(&name, parts, format, config)
                .map_err(|what| wrong(format!("the tensor '{name}' {what}")))?;
            if sources.insert(name.clone(), source).is_some() {
                return Err(wrong(format!(
                    "the tensor '{name}' is there whole and in 4 bits"
                )));
            }
        }
        Ok(sources)
    }
}

fn whole(name: &str, (shard, entry): &Found, config: &Config) -> Result<Source, BackendError> {
    let dtype = match entry.element {
        Element::F32 => Dtype::F32,
        Element::F16 => Dtype::F16,
        Element::BF16 => Dtype::BF16,
        other => {
            return Err(wrong(format!(
                "the tensor '{name}' has elements of {other:?}"
            )));
        }
    };
    if entry.place.is_empty() || entry.shape.is_empty() {
        return Err(wrong(format!("the tensor '{name}' is empty")));
    }
    let dims: Vec<usize> = entry.shape.iter().rev().copied().collect();
    let rows = dims.last().copied().unwrap_or_default();
    let data = Data::Whole {
        dtype,
        place: Place {
            shard: *shard,
            bytes: entry.place.clone(),
        },
    };
    let order =
        order(name, rows, config).map_err(|what| wrong(format!("the tensor '{name}' {what}")))?;
    Ok(Source { dims, order, data })
}

fn matrix(
    name: &str,
    mut parts: HashMap<Part, Found>,
    format: Int4Format,
    config: &Config,
) -> Result<Source, String> {
    let mut take = |part: Part| parts.remove(&part);
    let weights = take(Part::Weights).ok_or("has no qweight")?;
    let zeros = take(Part::Zeros).ok_or("has no qzeros")?;
    let scales = take(Part::Scales).ok_or("has no scales")?;
    let groups = take(Part::Groups);
    let (rows, cols) = outputs_and_inputs(format, &weights.1.shape)?;
    let group = format.group.unwrap_or(cols);
    if !group.is_multiple_of(BLOCK) || !cols.is_multiple_of(group) {
        return Err(format!(
            "has groups of {group}, no multiple of {BLOCK} that divides {cols} inputs"
        ));
    }
    let count = cols / group;
    for (part, found, shape) in [
        ("qweight", &weights, None),
        ("qzeros", &zeros, Some([count, rows / NIBBLES])),
    ] {
        if found.1.element != Element::I32 {
            return Err(format!("has a {part} of {:?}, not I32", found.1.element));
        }
        if shape.is_some_and(|shape| found.1.shape != shape) {
            return Err(format!(
                "has a {part} of the shape {:?}, not {shape:?}",
                found.1.shape
            ));
        }
    }
    if scales.1.shape != [count, rows] {
        return Err(format!("has scales of the shape {:?}", scales.1.shape));
    }
    let scale_element = scales.1.element;
    if !matches!(scale_element, Element::F32 | Element::F16 | Element::BF16) {
        return Err(format!("has scales of {scale_element:?}"));
    }
    if let Some((_, groups)) = &groups
        && (groups.element != Element::I32 || groups.shape != [cols])
    {
        return Err(format!(
            "has a g_idx of {:?} {:?}",
            groups.element, groups.shape
        ));
    }
    let place = |(shard, entry): Found| Place {
        shard,
        bytes: entry.place,
    };
    Ok(Source {
        dims: vec![cols, rows],
        order: order(name, rows, config)?,
        data: Data::Int4(Int4Source {
            format,
            group,
            weights: place(weights),
            zeros: place(zeros),
            scales: place(scales),
            scale_element,
            groups: groups.map(place),
        }),
    })
}

/// The shape of the matrix that a `qweight` of this shape packs.
fn outputs_and_inputs(format: Int4Format, shape: &[usize]) -> Result<(usize, usize), String> {
    let (rows, cols) = match (format.packing, shape) {
        (int4::Packing::Gptq { .. }, &[words, rows]) => (Some(rows), words.checked_mul(NIBBLES)),
        (int4::Packing::Awq, &[cols, words]) => (words.checked_mul(NIBBLES), Some(cols)),
        _ => return Err(format!("has a qweight of the shape {shape:?}")),
    };
    let (rows, cols) = rows.zip(cols).ok_or("has an impossible shape")?;
    if rows == 0 || cols == 0 || !rows.is_multiple_of(NIBBLES) || !cols.is_multiple_of(BLOCK) {
        return Err(format!(
            "has {rows} outputs and {cols} inputs, not multiples of {NIBBLES} and {BLOCK}"
        ));
    }
    Ok((rows, cols))
}

/// Drops the groups of matrices whose inputs lie in order, as they nearly always do: then they say
/// nothing.
pub(super) fn drop_groups_in_order(sources: &mut HashMap<String, Source>, shards: &[Bytes]) {
    for source in sources.values_mut() {
        if let Data::Int4(int4) = &mut source.data
            && let Some(place) = &int4.groups
            && int4::in_order(&shards[place.shard][place.bytes.clone()], int4.group)
        {
            int4.groups = None;
        }
    }
}

/// Llama's queries and keys, and their biases, are held with rotary pairs side by side.
fn order(name: &str, rows: usize, config: &Config) -> Result<Option<PairsSideBySide>, String> {
    let kv_heads = config
        .num_key_value_heads
        .unwrap_or(config.num_attention_heads);
    let of = |which: &str| {
        let tensor = name.rsplit_once(which).map(|(_, suffix)| suffix);
        matches!(tensor, Some(".weight" | ".bias"))
    };
    let heads = match config.model_type.as_str() {
        "llama" if of(".attn_q") => config.num_attention_heads,
        "llama" if of(".attn_k") => kv_heads,
        _ => return Ok(None),
    } as usize;
    let head_dim = rows.checked_div(heads).unwrap_or_default();
    if head_dim == 0 || head_dim * heads != rows || !head_dim.is_multiple_of(2) {
        return Err(format!(
            "has {rows} outputs, which are not {heads} even heads"
        ));
    }
    Ok(Some(PairsSideBySide { head_dim }))
}
