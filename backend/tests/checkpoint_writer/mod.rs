//! Writes small folders as Hugging Face's hub has them, from the same tensors as a small GGUF file,
//! so that each can be held against the other. All of it is written from the formats' descriptions.

// Each test binary uses another part.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use farthing_backend::engine::random::SplitMix64;
use half::{bf16, f16};
use serde_json::{Map, Value as Json, json};

use crate::gguf_writer::{GgufWriter, byte_alphabet};

/// The parts of a folder, any of which a test may change before it is written.
#[derive(Clone)]
pub struct Folder {
    pub config: Json,
    pub tokenizer: Json,
    pub tokenizer_config: Json,
    /// Files of weights by name, each with its tensors.
    pub files: BTreeMap<String, BTreeMap<String, Tensor>>,
}

/// A tensor in row-major order.
#[derive(Clone)]
pub struct Tensor {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// How matrices of 4 bits are packed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Packing {
    /// Zero points are stored one lower, 0 as 15.
    Gptq,
    GptqV2,
    /// As `Gptq`, but groups are scattered over the inputs.
    GptqActOrder,
    Awq,
}

/// Names of a layer's tensors: GGUF's and Hugging Face's.
const NAMES: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
const HEADS: usize = 4;
pub const WEIGHTS: &str = "model.safetensors";

// === impl Folder ===

impl Folder {
    /// The folder of a model of `sized_model`, in F32, F16 or BF16.
    pub fn of(architecture: &str, gguf: &GgufWriter, dtype: &str) -> Folder {
        let mut tensors = BTreeMap::new();
        for tensor in &gguf.tensors {
            let shape: Vec<usize> = tensor.dims.iter().rev().map(|&dim| dim as usize).collect();
            let mut values = f32s(&tensor.data);
            if let Some(head_dim) = head_dim(architecture, &tensor.name, shape[0]) {
                values = halves_apart(&values, shape[0], head_dim);
            }
            let data = encode(dtype, &values);
            let dtype = dtype.to_owned();
            tensors.insert(their_name(&tensor.name), Tensor { dtype, shape, data });
        }
        let dims = |name: &str| {
            &gguf
                .tensors
                .iter()
                .find(|t| t.name == name)
                .expect("there")
                .dims
        };
        let ids = byte_alphabet().into_iter().zip(0..);
        let vocab: Map<String, Json> = ids.map(|(text, id)| (text, json!(id))).collect();
        Folder {
            config: json!({"model_type": architecture, "architectures": ["XForCausalLM"],
                "hidden_size": dims("token_embd.weight")[0],
                "intermediate_size": dims("blk.0.ffn_up.weight")[1],
                "num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": 2,
                "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "max_position_embeddings": 65_536,
                "hidden_act": "silu", "tie_word_embeddings": true, "vocab_size": 256}),
            tokenizer: json!({"model": {"type": "BPE", "vocab": vocab, "merges": []},
                "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}}),
            tokenizer_config: json!({}),
            files: BTreeMap::from([(WEIGHTS.to_owned(), tensors)]),
        }
    }

    pub fn weights(&mut self) -> &mut BTreeMap<String, Tensor> {
        self.files
            .get_mut(WEIGHTS)
            .expect("the test has not moved it")
    }

    /// Replaces the layers' matrices by random 4-bit ones in both: here packed, in the GGUF file as
    /// the f32 values that they stand for.
    pub fn pack(
        &mut self,
        architecture: &str,
        gguf: &mut GgufWriter,
        packing: Packing,
        group: Option<usize>,
        random: &mut SplitMix64,
    ) {
        let method = if packing == Packing::Awq {
            "awq"
        } else {
            "gptq"
        };
        let format = if packing == Packing::GptqV2 {
            "gptq_v2"
        } else {
            "gptq"
        };
        let size = group.map_or(-1, |group| group as i64);
        self.config["quantization_config"] = json!({"quant_method": method, "bits": 4,
            "group_size": size, "checkpoint_format": format, "version": "gemm"});
        for tensor in &mut gguf.tensors {
            let &[cols, rows] = tensor.dims.as_slice() else {
                continue;
            };
            if !tensor.name.starts_with("blk.") {
                continue;
            }
            let layer = Layer::random(packing, rows as usize, cols as usize, group, random);
            let mut values = layer.values();
            if let Some(head_dim) = head_dim(architecture, &tensor.name, layer.rows) {
                values = pairs_side_by_side(&values, layer.rows, head_dim);
            }
            tensor.data = encode("F32", &values);
            let name = their_name(&tensor.name);
            let stem = name.strip_suffix(".weight").expect("a matrix").to_owned();
            let tensors = self.weights();
            tensors.remove(&name);
            for (part, tensor) in layer.parts(packing) {
                tensors.insert(format!("{stem}.{part}"), tensor);
            }
        }
    }

    /// Writes the folder below the target folder.
    pub fn write(&self, name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the target folder is writable");
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.join(name), bytes).expect("the target folder is writable");
        };
        write("config.json", self.config.to_string().as_bytes());
        write("tokenizer.json", self.tokenizer.to_string().as_bytes());
        write(
            "tokenizer_config.json",
            self.tokenizer_config.to_string().as_bytes(),
        );
        for (name, tensors) in &self.files {
            write(name, &safetensors(tensors));
        }
        folder
    }
}

/// A file of these tensors, one after another.
pub fn safetensors(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let mut header = json!({"__metadata__": {"format": "pt"}});
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend(&tensor.data);
        header[name] = json!({"dtype": tensor.dtype, "shape": tensor.shape,
            "data_offsets": [start, data.len()]});
    }
    with_header(header.to_string().as_bytes(), &data)
}

/// A file with this header, whatever it says.
pub fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header, data].concat()
}

/// A random 4-bit matrix: w = scale * (quant - zero).
struct Layer {
    rows: usize,
    cols: usize,
    groups: usize,
    /// `[rows, cols]`, from 0 to 15.
    quants: Vec<u32>,
    /// `[groups, rows]`, from 0 to 15.
    zeros: Vec<u32>,
    scales: Vec<f16>,
    /// The group of each input.
    of_input: Vec<usize>,
}

impl Layer {
    fn random(
        packing: Packing,
        rows: usize,
        cols: usize,
        group: Option<usize>,
        random: &mut SplitMix64,
    ) -> Layer {
        let group = group.unwrap_or(cols);
        let groups = cols / group;
        let mut below = |max: u64| random.next_u64() % max;
        let mut of_input: Vec<usize> = (0..cols).map(|col| col / group).collect();
        if packing == Packing::GptqActOrder {
            for col in (1..cols).rev() {
                of_input.swap(col, below(col as u64 + 1) as usize);
            }
        }
        Layer {
            rows,
            cols,
            groups,
            quants: (0..rows * cols).map(|_| below(16) as u32).collect(),
            zeros: (0..groups * rows).map(|_| below(16) as u32).collect(),
            scales: (0..groups * rows)
                .map(|_| f16::from_f32(0.002 + below(1_000) as f32 * 1e-5))
                .collect(),
            of_input,
        }
    }

    fn values(&self) -> Vec<f32> {
        let value = |at: usize| {
            let (row, col) = (at / self.cols, at % self.cols);
            let group = self.of_input[col] * self.rows + row;
            let steps = self.quants[at] as f32 - self.zeros[group] as f32;
            self.scales[group].to_f32() * steps
        };
        (0..self.rows * self.cols).map(value).collect()
    }

    fn parts(&self, packing: Packing) -> Vec<(&'static str, Tensor)> {
        let (rows, cols, groups) = (self.rows, self.cols, self.groups);
        // AWQ's nibble i is output ORDER[i].
        const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        let quant = |row: usize, col: usize| self.quants[row * cols + col];
        let zero = |group: usize, row: usize| self.zeros[group * rows + row];
        let awq = packing == Packing::Awq;
        let place = |nibble: usize| if awq { ORDER[nibble] } else { nibble };
        let (shape, weights) = if awq {
            let word = |at: usize, n| quant(at % (rows / 8) * 8 + place(n), at / (rows / 8));
            (vec![cols, rows / 8], words(cols * rows / 8, word))
        } else {
            let word = |at: usize, n| quant(at % rows, at / rows * 8 + n);
            (vec![cols / 8, rows], words(cols / 8 * rows, word))
        };
        let lower = u32::from(matches!(packing, Packing::Gptq | Packing::GptqActOrder));
        let zeros = words(groups * rows / 8, |at, n| {
            zero(at / (rows / 8), at % (rows / 8) * 8 + place(n)).wrapping_sub(lower) & 15
        });
        let ints = |shape: Vec<usize>, data| Tensor {
            dtype: "I32".to_owned(),
            shape,
            data,
        };
        let scales = self.scales.iter().flat_map(|scale| scale.to_le_bytes());
        let scales = Tensor {
            dtype: "F16".to_owned(),
            shape: vec![groups, rows],
            data: scales.collect(),
        };
        let mut parts = vec![
            ("qweight", ints(shape, weights)),
            ("qzeros", ints(vec![groups, rows / 8], zeros)),
            ("scales", scales),
        ];
        if !awq {
            let groups = self
                .of_input
                .iter()
                .flat_map(|&group| (group as u32).to_le_bytes());
            parts.push(("g_idx", ints(vec![cols], groups.collect())));
        }
        parts
    }
}

fn words(count: usize, nibble: impl Fn(usize, usize) -> u32) -> Vec<u8> {
    let word = |at| (0..8).fold(0, |word, n| word | (nibble(at, n) << (4 * n)));
    (0..count)
        .flat_map(|at| u32::to_le_bytes(word(at)))
        .collect()
}

fn their_name(ours: &str) -> String {
    match ours {
        "token_embd.weight" => return "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => return "model.norm.weight".to_owned(),
        "output.weight" => return "lm_head.weight".to_owned(),
        _ => {}
    }
    let mut parts = ours.split('.').skip(1);
    let mut next = || parts.next().expect("blk.N.NAME.SUFFIX");
    let (layer, name, suffix) = (next(), next(), next());
    let (_, theirs) = NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a name of a layer");
    format!("model.layers.{layer}.{theirs}.{suffix}")
}

/// Llama's queries and keys have another order of rows.
fn head_dim(architecture: &str, name: &str, rows: usize) -> Option<usize> {
    let heads = if name.contains(".attn_q.") {
        HEADS
    } else {
        HEADS / 2
    };
    let permuted = name.contains(".attn_q.") || name.contains(".attn_k.");
    (architecture == "llama" && permuted).then(|| rows / heads)
}

/// From GGUF's order to Hugging Face's: the even rows of a head, then the odd ones.
fn halves_apart(values: &[f32], rows: usize, head_dim: usize) -> Vec<f32> {
    let width = values.len() / rows;
    let heads = values.chunks(head_dim * width);
    let rows = heads.flat_map(|head| {
        let rows: Vec<&[f32]> = head.chunks(width).collect();
        let even = rows.iter().copied().step_by(2);
        let odd = rows.iter().copied().skip(1).step_by(2);
        even.chain(odd).collect::<Vec<_>>()
    });
    rows.flatten().copied().collect()
}

/// And back.
fn pairs_side_by_side(values: &[f32], rows: usize, head_dim: usize) -> Vec<f32> {
    let width = values.len() / rows;
    let heads = values.chunks(head_dim * width);
    let rows = heads.flat_map(|head| {
        let (first, second) = head.split_at(head.len() / 2);
        let pairs = first.chunks(width).zip(second.chunks(width));
        pairs.flat_map(|(a, b)| [a, b]).collect::<Vec<_>>()
    });
    rows.flatten().copied().collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

pub fn encode(dtype: &str, values: &[f32]) -> Vec<u8> {
    let values = values.iter();
    match dtype {
        "F16" => values
            .flat_map(|&x| f16::from_f32(x).to_le_bytes())
            .collect(),
        "BF16" => values
            .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
            .collect(),
        _ => values.flat_map(|x| x.to_le_bytes()).collect(),
    }
}
