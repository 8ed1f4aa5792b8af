//! Writes small GGUF files, right or wrong: the format's fields in order, any of which a test may
//! replace. Also a whole tiny model, so that the engine can be tested without a real one.

// Each test binary uses another part.
#![allow(dead_code)]

use farthing_backend::engine::random::SplitMix64;

/// A file that is put together field by field.
#[derive(Clone)]
pub struct GgufWriter {
    pub magic: [u8; 4],
    pub version: u32,
    /// Overrides of the counts in the header.
    pub tensor_count: Option<u64>,
    pub metadata_count: Option<u64>,
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
}

#[derive(Clone)]
pub enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    I32s(Vec<i32>),
    /// A value type and the bytes after it, whatever they are.
    Raw(u32, Vec<u8>),
}

#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub rank: Option<u32>,
    pub dims: Vec<u64>,
    pub type_id: u32,
    pub offset: Option<u64>,
    pub data: Vec<u8>,
}

impl GgufWriter {
    pub fn new() -> GgufWriter {
        GgufWriter {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            metadata_count: None,
            metadata: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
        }
    }

    /// Adds or replaces a metadata value.
    pub fn set(&mut self, key: &str, value: Value) {
        self.metadata.retain(|(known, _)| known != key);
        self.metadata.push((key.to_owned(), value));
    }

    pub fn remove(&mut self, key: &str) {
        self.metadata.retain(|(known, _)| known != key);
    }

    /// Adds an f32 tensor of random numbers within -0.5 and 0.5, moved by `mean`.
    pub fn random_tensor(&mut self, name: &str, dims: &[u64], mean: f32, random: &mut SplitMix64) {
        let count: u64 = dims.iter().product();
        let value = |_| (random.unit() as f32 - 0.5 + mean).to_le_bytes();
        let data = (0..count).flat_map(value).collect();
        let (name, dims) = (name.to_owned(), dims.to_vec());
        self.tensors.push(Tensor {
            name,
            rank: None,
            dims,
            type_id: 0,
            offset: None,
            data,
        });
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.name == name)
            .expect("the test names it right")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(
            self.tensor_count
                .unwrap_or(self.tensors.len() as u64)
                .to_le_bytes(),
        );
        out.extend(
            self.metadata_count
                .unwrap_or(self.metadata.len() as u64)
                .to_le_bytes(),
        );
        for (key, value) in &self.metadata {
            string(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            string(&mut out, &tensor.name);
            out.extend(
                tensor
                    .rank
                    .unwrap_or(tensor.dims.len() as u32)
                    .to_le_bytes(),
            );
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(self.alignment) as u64;
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        let (type_id, bytes) = match self {
            Value::U32(value) => (4, value.to_le_bytes().to_vec()),
            Value::F32(value) => (6, value.to_le_bytes().to_vec()),
            Value::Bool(value) => (7, vec![u8::from(*value)]),
            Value::String(text) => (8, string_bytes(text)),
            Value::Strings(texts) => (
                9,
                array(
                    8,
                    texts.len(),
                    texts.iter().flat_map(|text| string_bytes(text)),
                ),
            ),
            Value::I32s(numbers) => (
                9,
                array(
                    5,
                    numbers.len(),
                    numbers.iter().flat_map(|number| number.to_le_bytes()),
                ),
            ),
            Value::Raw(type_id, bytes) => (*type_id, bytes.clone()),
        };
        out.extend(u32::to_le_bytes(type_id));
        out.extend(bytes);
    }
}

/// The bytes of an array after its value type.
pub fn array(element: u32, count: usize, elements: impl Iterator<Item = u8>) -> Vec<u8> {
    let head = element
        .to_le_bytes()
        .into_iter()
        .chain((count as u64).to_le_bytes());
    head.chain(elements).collect()
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(string_bytes(text));
}

fn string_bytes(text: &str) -> Vec<u8> {
    (text.len() as u64)
        .to_le_bytes()
        .into_iter()
        .chain(text.bytes())
        .collect()
}

/// A model of 2 layers with random weights and a vocabulary of the 256 bytes. It has no token that
/// ends an answer, so it goes on until it is stopped.
pub fn tiny_model(architecture: &str) -> GgufWriter {
    sized_model(architecture, 64, 96)
}

/// The same with other widths: of the hidden state, which half of is that of keys and values, and
/// of the feed-forward layers.
pub fn sized_model(architecture: &str, width: u64, feed_forward: u64) -> GgufWriter {
    let kv_width = width / 2;
    let mut file = GgufWriter::new();
    file.set(
        "general.architecture",
        Value::String(architecture.to_owned()),
    );
    for (key, value) in [
        ("block_count", 2),
        ("context_length", 65_536),
        ("embedding_length", width as u32),
        ("feed_forward_length", feed_forward as u32),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ] {
        file.set(&format!("{architecture}.{key}"), Value::U32(value));
    }
    file.set(
        &format!("{architecture}.attention.layer_norm_rms_epsilon"),
        Value::F32(1e-5),
    );
    file.set("tokenizer.ggml.model", Value::String("gpt2".to_owned()));
    file.set("tokenizer.ggml.pre", Value::String("default".to_owned()));
    file.set("tokenizer.ggml.tokens", Value::Strings(byte_alphabet()));
    file.set("tokenizer.ggml.merges", Value::Strings(Vec::new()));
    file.set("tokenizer.ggml.token_type", Value::I32s(vec![1; 256]));
    let random = &mut SplitMix64::new(1);
    file.random_tensor("token_embd.weight", &[width, 256], 0.0, random);
    file.random_tensor("output_norm.weight", &[width], 1.0, random);
    for layer in 0..2 {
        for (name, dims, mean) in [
            ("attn_norm.weight", &[width][..], 1.0),
            ("attn_q.weight", &[width, width], 0.0),
            ("attn_k.weight", &[width, kv_width], 0.0),
            ("attn_v.weight", &[width, kv_width], 0.0),
            ("attn_output.weight", &[width, width], 0.0),
            ("ffn_norm.weight", &[width], 1.0),
            ("ffn_gate.weight", &[width, feed_forward], 0.0),
            ("ffn_up.weight", &[width, feed_forward], 0.0),
            ("ffn_down.weight", &[feed_forward, width], 0.0),
        ] {
            file.random_tensor(&format!("blk.{layer}.{name}"), dims, mean, random);
        }
        if architecture == "qwen2" {
            for (name, len) in [("q", width), ("k", kv_width), ("v", kv_width)] {
                let name = format!("blk.{layer}.attn_{name}.bias");
                file.random_tensor(&name, &[len], 0.0, random);
            }
        }
    }
    file
}

/// The printable characters that GPT-2 writes the 256 bytes with, in order of the bytes.
pub fn byte_alphabet() -> Vec<String> {
    let mut next = 256;
    let character = |byte: u32| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => byte,
        _ => {
            next += 1;
            next - 1
        }
    };
    let character = (0..256).map(character);
    character
        .map(|code| char::from_u32(code).expect("below 512").to_string())
        .collect()
}
