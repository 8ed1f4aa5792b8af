//! Folders with safetensors: plain ones answer exactly as the GGUF file with the same weights,
//! 4-bit ones of GPTQ and AWQ as a forward pass in f32 on the weights that they stand for, and what
//! is wrong with one is refused by name.

mod checkpoint_writer;
mod gguf_writer;
mod reference_forward;
mod similarity;

use std::path::{Path, PathBuf};

use checkpoint_writer::{Folder, Packing, Tensor, WEIGHTS};
use farthing_backend::cli::ServeArgs;
use farthing_backend::config::{Config, ModelKind};
use farthing_backend::engine::random::SplitMix64;
use farthing_backend::model::{Batch, Logits, ModelFile, ModelOptions, load_model};
use farthing_kernels::{ThreadPool, dequantize_row};
use gguf_writer::{GgufWriter, Value, sized_model, tiny_model};
use reference_forward::reference_logits;
use serde_json::json;
use similarity::cosine;

const TOKENS: [u32; 12] = [84, 104, 101, 32, 108, 111, 99, 107, 45, 107, 101, 101];

fn logits(path: &Path) -> Vec<f32> {
    let options = ModelOptions {
        context_tokens: Some(64),
        kv_tokens: Some(64),
        kv_dtype: farthing_kernels::KvDtype::F16,
    };
    let mut model = load_model("tiny", path, options).unwrap_or_else(|error| panic!("{error}"));
    let mut work = model.decoder.workspace(TOKENS.len(), 1);
    let mut batch = Batch::default();
    batch.push(&TOKENS, 0, &[0], Logits::Last);
    let pool = ThreadPool::new(1);
    let logits = model
        .decoder
        .forward(&pool, &batch, &mut model.cache, &mut work);
    logits.expect("it fits").to_vec()
}

fn write_gguf(name: &str, gguf: &GgufWriter) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, gguf.bytes()).expect("the target folder is writable");
    path
}

#[test]
fn plain_folders_answer_as_their_gguf_files() {
    for architecture in ["llama", "qwen2"] {
        for (dtype, type_id) in [("F32", 0), ("F16", 1), ("BF16", 30)] {
            let gguf = tiny_model(architecture);
            let mut folder = Folder::of(architecture, &gguf, dtype);
            // In two files, as large models are.
            let mut first = folder.files.remove(WEIGHTS).expect("there");
            let second = first.split_off("model.layers.1");
            folder
                .files
                .insert("model-00001-of-00002.safetensors".to_owned(), first);
            folder
                .files
                .insert("model-00002-of-00002.safetensors".to_owned(), second);
            let mut gguf = gguf;
            for tensor in &mut gguf.tensors {
                let (words, _) = tensor.data.as_chunks::<4>();
                let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
                tensor.data = checkpoint_writer::encode(dtype, &values);
                tensor.type_id = type_id;
            }
            let name = format!("plain-{architecture}-{dtype}");
            let theirs = logits(&write_gguf(&format!("{name}.gguf"), &gguf));
            assert_eq!(logits(&folder.write(&name)), theirs, "{name}");
        }
    }
}

/// A head of its own, and a rotation that is said twice.
#[test]
fn folders_with_a_head_answer_as_their_gguf_files() {
    let mut gguf = tiny_model("llama");
    let random = &mut SplitMix64::new(9);
    let width = gguf.tensors[0].dims[0];
    gguf.random_tensor("output.weight", &[width, 256], 0.0, random);
    let mut folder = Folder::of("llama", &gguf, "F32");
    folder.config["tie_word_embeddings"] = json!(false);
    folder.config["rope_scaling"] = json!({"rope_type": "default", "type": "default"});
    let theirs = logits(&write_gguf("untied.gguf", &gguf));
    assert_eq!(logits(&folder.write("untied")), theirs);
    // The head that a file has beside a tied one is not looked at.
    folder.config["tie_word_embeddings"] = json!(true);
    assert_ne!(logits(&folder.write("tied")), theirs);
}

#[test]
fn four_bit_folders_answer_as_what_they_stand_for() {
    for seed in 1..3 {
        for architecture in ["llama", "qwen2"] {
            for packing in [
                Packing::Gptq,
                Packing::GptqV2,
                Packing::GptqActOrder,
                Packing::Awq,
            ] {
                for group in [Some(32), Some(64), Some(128), None] {
                    let random = &mut SplitMix64::new(seed);
                    let mut gguf = sized_model(architecture, 128, 256);
                    let base = format!("{architecture}.rope.freq_base");
                    gguf.set(&base, Value::F32(10_000.0));
                    let mut folder = Folder::of(architecture, &gguf, "F16");
                    folder.pack(architecture, &mut gguf, packing, group, random);
                    let name = format!("packed-{seed}-{architecture}-{packing:?}-{group:?}");
                    let file = write_gguf(&format!("{name}.gguf"), &gguf);
                    let folder = folder.write(&name);
                    check_values(&folder, &gguf, packing);
                    let theirs = reference_logits(&file, &TOKENS).expect("candle reads it");
                    let cosine = cosine(&logits(&folder), &theirs);
                    println!("{name}: cosine {cosine:.6}");
                    assert!(cosine > 0.99, "{name}: {cosine}");
                }
            }
        }
    }
}

/// Every weight is what it stands for: up to the rounding of a minimum to f16 where groups lie
/// together, of a weight to 8 bits where they are scattered.
#[track_caller]
fn check_values(folder: &Path, gguf: &GgufWriter, packing: Packing) {
    let opened = ModelFile::open(folder).unwrap_or_else(|error| panic!("{error}"));
    for expected in &gguf.tensors {
        let tensor = opened
            .tensor(&expected.name)
            .unwrap_or_else(|error| panic!("{error}"));
        let (words, _) = expected.data.as_chunks::<4>();
        let mut values = vec![0.0; words.len()];
        dequantize_row(tensor.dtype, &tensor.bytes, &mut values).expect("whole blocks");
        let expected_values = words.iter().map(|word| f32::from_le_bytes(*word));
        for (at, (value, expected_value)) in values.iter().zip(expected_values).enumerate() {
            // Scales are 0.012 at most, so weights 0.2.
            let bound = match packing {
                Packing::GptqActOrder => 0.2 / 127.0,
                _ => 0.2 / 1_024.0,
            };
            // What is not packed is held in F16.
            let bound = bound + expected_value.abs() / 2_048.0;
            let off = (value - expected_value).abs();
            let name = &expected.name;
            assert!(
                off <= bound,
                "{name} [{at}]: {value} where {expected_value} was meant"
            );
        }
    }
}

/// Loads a folder that has been changed, which must be refused with these words.
#[track_caller]
fn check(reason: &str, change: impl FnOnce(&mut Folder)) {
    let mut gguf = sized_model("llama", 128, 256);
    let mut folder = Folder::of("llama", &gguf, "F16");
    let random = &mut SplitMix64::new(1);
    folder.pack("llama", &mut gguf, Packing::Gptq, Some(64), random);
    change(&mut folder);
    let name = format!(
        "refused-{:x}",
        reason
            .bytes()
            .fold(7u64, |h, b| h * 31 % 99_991 + u64::from(b))
    );
    let path = folder.write(&name);
    match load_model("tiny", &path, ModelOptions::default()) {
        Ok(_) => panic!("accepted, where '{reason}' was expected"),
        Err(error) => assert!(
            error.to_string().contains(reason),
            "'{error}' lacks '{reason}'"
        ),
    }
}

#[test]
fn wrong_configurations_are_refused() {
    let field = |name: &'static str, value: serde_json::Value| {
        move |folder: &mut Folder| folder.config[name] = value
    };
    let quantization = |name: &'static str, value: serde_json::Value| {
        move |folder: &mut Folder| folder.config["quantization_config"][name] = value
    };
    check(
        "'mistral' is not supported",
        field("model_type", json!("mistral")),
    );
    check("has the shape", field("intermediate_size", json!(64)));
    check(
        "blk.2.attn_norm.weight' is missing",
        field("num_hidden_layers", json!(3)),
    );
    check("no place", field("num_hidden_layers", json!(1)));
    check(
        "position scaling 'llama3'",
        field("rope_scaling", json!({"rope_type": "llama3"})),
    );
    check(
        "position scaling 'yarn'",
        field("rope_parameters", json!({"type": "yarn"})),
    );
    check(
        "position scaling 'yarn'",
        field("rope_scaling", json!({"rope_type": "yarn", "type": "yarn"})),
    );
    check(
        "lm_head.weight is missing",
        field("tie_word_embeddings", json!(false)),
    );
    check("'gelu'", field("hidden_act", json!("gelu")));
    check(
        "use_sliding_window",
        field("use_sliding_window", json!(true)),
    );
    check(
        "partial_rotary_factor",
        field("partial_rotary_factor", json!(0.5)),
    );
    check("8 bits", quantization("bits", json!(8)));
    check(
        "'squeezellm'",
        quantization("quant_method", json!("squeezellm")),
    );
    check(
        "'marlin'",
        quantization("checkpoint_format", json!("marlin")),
    );
    check("a group of 0", quantization("group_size", json!(0)));
    check("groups of 48", quantization("group_size", json!(48)));
    check("groups of 16", quantization("group_size", json!(16)));
    check("qzeros of the shape", quantization("group_size", json!(32)));
    check(
        "no quantization_config",
        field("quantization_config", json!(null)),
    );
    check("AWQ 'gemv'", |folder| {
        folder.config["quantization_config"]["quant_method"] = json!("awq");
        folder.config["quantization_config"]["version"] = json!("gemv");
    });
}

#[test]
fn impossible_numbers_are_refused() {
    let field = |name: &'static str, value: serde_json::Value| {
        move |folder: &mut Folder| folder.config[name] = value
    };
    check("hidden_size", field("hidden_size", json!("wide")));
    check("hidden_size", field("hidden_size", json!(-1)));
    check(
        "num_attention_heads: 0 ",
        field("num_attention_heads", json!(0)),
    );
    check("hidden_size: 0 ", field("hidden_size", json!(0)));
    check("rope_theta: 0 is ", field("rope_theta", json!(0.0)));
    check("rope_theta: ", field("rope_theta", json!(1e39)));
    check("not 3 even heads", field("num_attention_heads", json!(3)));
    check(
        "num_hidden_layers: 4000000000 ",
        field("num_hidden_layers", json!(4_000_000_000u32)),
    );
}

#[test]
fn wrong_tensors_are_refused() {
    let stem = "model.layers.0.self_attn.k_proj";
    let tensor = |name: String, change: fn(&mut Tensor)| {
        move |folder: &mut Folder| change(folder.weights().get_mut(&name).expect("there"))
    };
    let named = |suffix: &str| format!("{stem}.{suffix}");
    let removed = |name: String| {
        move |folder: &mut Folder| drop(folder.weights().remove(&name).expect("there"))
    };
    check("has no qzeros", removed(named("qzeros")));
    check("has no scales", removed(named("scales")));
    check("has no qweight", removed(named("qweight")));
    check(
        "has a qweight of F16",
        tensor(named("qweight"), |t| {
            (t.dtype, t.shape[0]) = ("F16".to_owned(), t.shape[0] * 2);
        }),
    );
    check(
        "has a qweight of the shape",
        tensor(named("qweight"), |t| t.shape.insert(0, 1)),
    );
    check(
        "has scales of",
        tensor(named("scales"), |t| t.dtype = "I16".to_owned()),
    );
    check(
        "scales of the shape",
        tensor(named("scales"), |t| t.shape = vec![t.shape[1], t.shape[0]]),
    );
    check(
        "does not fit f16",
        tensor(named("scales"), |t| t.data[..2].copy_from_slice(&[0, 0x7c])),
    );
    check(
        "has a g_idx of",
        tensor(named("g_idx"), |t| t.shape.push(1)),
    );
    check(
        "g_idx puts input 5 into group",
        tensor(named("g_idx"), |t| t.data[20] = 200),
    );
}

/// Tensors that contradict each other, or belong to another model.
#[test]
fn wrong_sets_of_tensors_are_refused() {
    check("whole and in 4 bits", |folder| {
        let (dtype, shape) = ("F16".to_owned(), vec![64, 128]);
        let data = vec![0; 64 * 128 * 2];
        let name = "model.layers.0.self_attn.k_proj.weight".to_owned();
        folder.weights().insert(name, Tensor { dtype, shape, data });
    });
    check("is missing or no matrix", |folder| {
        folder.weights().remove("model.embed_tokens.weight");
    });
    check(
        "'model.layers.0.mlp.experts.weight' has no place",
        |folder| {
            let norm = folder.weights()["model.norm.weight"].clone();
            folder
                .weights()
                .insert("model.layers.0.mlp.experts.weight".to_owned(), norm);
        },
    );
    check("is a bias that this architecture has not", |folder| {
        let norm = folder.weights()["model.norm.weight"].clone();
        folder
            .weights()
            .insert("model.layers.0.mlp.down_proj.bias".to_owned(), norm);
    });
    check("occurs twice", |folder| {
        let tensors = folder.files.remove(WEIGHTS).expect("there");
        folder
            .files
            .insert("a.safetensors".to_owned(), tensors.clone());
        folder.files.insert("b.safetensors".to_owned(), tensors);
    });
    check("no *.safetensors", |folder| folder.files.clear());
    check(
        "the tokenizer has 256 tokens and the embedding 255",
        |folder| {
            let embedding = folder
                .weights()
                .get_mut("model.embed_tokens.weight")
                .expect("there");
            embedding.shape[0] = 255;
            embedding.data.truncate(255 * 128 * 2);
        },
    );
    check("its model is \"Unigram\"", |folder| {
        folder.tokenizer["model"]["type"] = json!("Unigram");
    });
}

/// What quantizers write though it says nothing does not stand in the way.
#[test]
fn zero_biases_and_unused_tensors_are_let_pass() {
    let gguf = tiny_model("llama");
    let mut folder = Folder::of("llama", &gguf, "F16");
    let expected = logits(&folder.write("without-zeros"));
    let (dtype, shape, data) = ("F16".to_owned(), vec![64], vec![0; 128]);
    let zeros = Tensor { dtype, shape, data };
    for name in ["self_attn.o_proj.bias", "self_attn.rotary_emb.inv_freq"] {
        folder
            .weights()
            .insert(format!("model.layers.0.{name}"), zeros.clone());
    }
    folder.weights().insert("lm_head.weight".to_owned(), zeros);
    assert_eq!(logits(&folder.write("with-zeros")), expected);
}

/// The tokens that begin and end a text, and the template, are where each folder has them.
#[test]
fn the_tokenizer_is_read_with_what_belongs_to_it() {
    let gguf = tiny_model("qwen2");
    let mut folder = Folder::of("qwen2", &gguf, "F16");
    folder.config["bos_token_id"] = json!(5);
    folder.config["eos_token_id"] = json!([7, 8]);
    folder.tokenizer_config = json!({"bos_token": {"content": "A"}, "add_bos_token": true,
        "chat_template": [{"name": "tools", "template": "x"},
            {"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"}]});
    let path = folder.write("tokens");
    let model = load_model("tiny", &path, ModelOptions::default()).expect("valid");
    let tokenizer = &model.info.tokenizer;
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(65), Some(7)));
    assert_eq!(tokenizer.prompt_start(), Some(65));
    assert!(model.info.chat_template.is_some());
    let by_itself = "chat_template.jinja";
    std::fs::write(path.join(by_itself), "{{ unclosed").expect("the target folder is writable");
    let error = load_model("tiny", &path, ModelOptions::default())
        .err()
        .expect("refused");
    assert!(error.to_string().contains("chat template"), "{error}");
}

#[test]
fn a_folder_serves_what_its_configuration_says() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kinds");
    let _ = std::fs::remove_dir_all(&folder);
    let chat = Folder::of("llama", &tiny_model("llama"), "F16");
    chat.write("kinds/chat");
    let mut embedder = chat.clone();
    embedder.config = json!({"model_type": "bert", "architectures": ["BertModel"]});
    embedder.write("kinds/embedder");
    let mut other = chat;
    other.files.clear();
    other.write("kinds/no-weights");
    let args = ServeArgs {
        models: Some(folder.clone()),
        ..ServeArgs::default()
    };
    let kinds = |config: &Config| -> Vec<(String, ModelKind)> {
        config
            .models
            .iter()
            .map(|model| (model.id.clone(), model.kind))
            .collect()
    };
    let expected = [
        ("chat", ModelKind::Chat),
        ("embedder", ModelKind::Embedding),
    ];
    let expected = expected.map(|(id, kind)| (id.to_owned(), kind));
    assert_eq!(kinds(&Config::parse("", &args).expect("valid")), expected);
    let listed = "models: [{id: chat, path: chat}, {id: embedder, path: embedder}]";
    assert_eq!(
        kinds(&Config::parse(listed, &args).expect("valid")),
        expected
    );
}

/// The engine runs a folder as it runs a file.
#[test]
fn a_folder_is_served() {
    let folder = Folder::of("qwen2", &tiny_model("qwen2"), "BF16").write("served");
    let arguments = "--prompt-tokens 20 --generate-tokens 4 --sequences 2 --repetitions 1";
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(["bench", "--model"])
        .arg(folder)
        .args(arguments.split_whitespace())
        .output()
        .expect("farthing runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("decode_tokens_per_s"), "{output:?}");
}
