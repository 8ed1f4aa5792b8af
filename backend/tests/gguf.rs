//! The GGUF reader against hostile files: every one ends in an error that names the fault, and none
//! in a panic or in an allocation that the file asked for.

mod gguf_writer;

use farthing_backend::model::gguf::Gguf;
use farthing_backend::model::{LoadedModel, ModelOptions};
use gguf_writer::{GgufWriter, Tensor, Value, array, tiny_model};
use proptest::prelude::*;

fn load(bytes: Vec<u8>) -> Result<LoadedModel, String> {
    let options = ModelOptions {
        context_tokens: Some(64),
        kv_tokens: Some(64),
        kv_dtype: farthing_kernels::KvDtype::F16,
    };
    Gguf::from_bytes(bytes)
        .and_then(|file| LoadedModel::from_gguf("tiny", file, 0, options))
        .map_err(|error| error.to_string())
}

/// Applies a change to a valid model and expects an error that contains `expected`.
fn check(expected: &str, change: impl FnOnce(&mut GgufWriter)) {
    let mut file = tiny_model("llama");
    change(&mut file);
    match load(file.bytes()) {
        Ok(_) => panic!("accepted, where '{expected}' was expected"),
        Err(error) => assert!(error.contains(expected), "'{error}' lacks '{expected}'"),
    }
}

/// The tensor that the cases change.
const TENSOR: &str = "output_norm.weight";

#[test]
fn valid_models_load() {
    for architecture in ["llama", "qwen2"] {
        let model = load(tiny_model(architecture).bytes()).expect("valid");
        assert_eq!(architecture, model.info.architecture);
        assert_eq!(
            (64, 256),
            (model.info.context_tokens, model.info.vocab_size)
        );
        assert!(model.info.chat_template.is_none());
    }
    let mut version_2 = tiny_model("llama");
    version_2.version = 2;
    assert!(load(version_2.bytes()).is_ok());
}

#[test]
fn wrong_headers_are_refused() {
    check("does not start with 'GGUF'", |file| file.magic = *b"GGML");
    check("version 1 is", |file| file.version = 1);
    check("version 4 is", |file| file.version = 4);
    check("version 50331648 is", |file| {
        file.version = 3u32.swap_bytes()
    });
    check("tensors are more than", |file| {
        file.tensor_count = Some(u64::MAX)
    });
    check("metadata pairs are more than", |file| {
        file.metadata_count = Some(1 << 63)
    });
    check("", |file| file.metadata_count = Some(3));
    check("", |file| file.tensor_count = Some(1_000));
    check("occurs twice", |file| {
        file.metadata
            .push(("general.architecture".to_owned(), Value::U32(1)));
    });
}

#[test]
fn wrong_metadata_is_refused() {
    let raw = |type_id: u32, bytes: &[u8]| {
        let value = Value::Raw(type_id, bytes.to_vec());
        move |file: &mut GgufWriter| file.set("general.name", value)
    };
    let nested = (0..40).fold(array(4, 1, [0; 4].into_iter()), |inner, _| {
        array(9, 1, inner.into_iter())
    });
    let huge = |count: u64| count.to_le_bytes();
    check("value type 13", raw(13, &[]));
    check("value type 4294967295", raw(u32::MAX, &[]));
    check("2 is no truth value", raw(7, &[2]));
    check("bytes are claimed", raw(8, &huge(1 << 63)));
    check("bytes are claimed", raw(8, &huge(u64::MAX)));
    check("is not UTF-8", raw(8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]));
    for element in [0u32, 4, 8, 9, 10] {
        let mut bytes = element.to_le_bytes().to_vec();
        bytes.extend(huge(u64::MAX / 4));
        check("an array claims", raw(9, &bytes));
    }
    check("nested deeper", raw(9, &nested));
    for alignment in [0, 3, 1 << 31, u32::MAX] {
        check("'general.alignment' is", |file| {
            file.set("general.alignment", Value::U32(alignment));
        });
    }
    check("'general.alignment' is not", |file| {
        file.set("general.alignment", Value::String("32".to_owned()));
    });
}

#[test]
fn wrong_tensors_are_refused() {
    let tensor = |change: fn(&mut Tensor)| move |file: &mut GgufWriter| change(file.tensor(TENSOR));
    check(
        "has 5 dimensions",
        tensor(|tensor| tensor.dims = vec![1; 5]),
    );
    check("has 0 dimensions", tensor(|tensor| tensor.dims = vec![]));
    check(
        "has 4294967295 dimensions",
        tensor(|tensor| tensor.rank = Some(u32::MAX)),
    );
    check(
        "an impossible dimension",
        tensor(|tensor| tensor.dims = vec![1 << 40, 1 << 40]),
    );
    check(
        "an impossible dimension",
        tensor(|tensor| tensor.dims = vec![0]),
    );
    check(
        "an impossible dimension",
        tensor(|tensor| tensor.dims = vec![64, 0]),
    );
    check("cannot hold", tensor(|tensor| tensor.dims = vec![1 << 62]));
    check("ends past", tensor(|tensor| tensor.dims = vec![1 << 50]));
    check("ends past", tensor(|tensor| tensor.offset = Some(1 << 40)));
    check(
        "ends past",
        tensor(|tensor| tensor.offset = Some(u64::MAX - 31)),
    );
    check("not aligned", tensor(|tensor| tensor.offset = Some(1)));
    check(
        "cannot hold",
        tensor(|tensor| (tensor.type_id, tensor.dims) = (8, vec![33])),
    );
    check("GGML type 39", tensor(|tensor| tensor.type_id = 39));
    check("has the shape", tensor(|tensor| tensor.dims = vec![32]));
    check("'output_norm.weight' is missing", |file| {
        file.tensors.retain(|tensor| tensor.name != TENSOR);
    });
    check("occurs twice", |file| {
        let again = file.tensor(TENSOR).clone();
        file.tensors.push(again);
    });
    check("no place in this architecture", |file| {
        file.tensor(TENSOR).name = "output_norm.bias".to_owned();
    });
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    // Two of one layer in the same place, and one that starts within another.
    for (offset, other) in [(0, "blk.0.attn_norm.weight"), (32, TENSOR)] {
        let mut file = tiny_model("llama");
        let first = file.tensors[0].name.clone();
        file.tensor(other).offset = Some(offset);
        let error = load(file.bytes()).err().unwrap_or_default();
        assert!(error.contains("overlap"), "{error}");
        for name in [first.as_str(), other] {
            assert!(error.contains(&format!("'{name}'")), "{error}");
        }
    }
}

#[test]
fn a_tensor_of_unknown_type_matters_only_to_who_needs_it() {
    let mut file = GgufWriter::new();
    let data = vec![0; 64];
    let (name, dims) = ("future".to_owned(), vec![64]);
    file.tensors.push(Tensor {
        name,
        rank: None,
        dims,
        type_id: 99,
        offset: None,
        data,
    });
    let file = Gguf::from_bytes(file.bytes()).expect("the header is valid");
    let error = file
        .tensor("future")
        .err()
        .expect("99 is unknown")
        .to_string();
    assert!(error.contains("GGML type 99"), "{error}");
}

#[test]
fn impossible_shapes_are_refused() {
    let number = |key: &'static str, value: u32| {
        move |file: &mut GgufWriter| file.set(&format!("llama.{key}"), Value::U32(value))
    };
    check("'general.architecture' is missing", |file| {
        file.remove("general.architecture")
    });
    check("'general.architecture' is not a string", |file| {
        file.set("general.architecture", Value::U32(1));
    });
    check("'mamba' is not supported", |file| {
        file.set("general.architecture", Value::String("mamba".to_owned()));
    });
    check("'llama.block_count' is missing", |file| {
        file.remove("llama.block_count")
    });
    check("'llama.block_count' is not a non-negative", |file| {
        file.set("llama.block_count", Value::F32(2.0));
    });
    check("'llama.block_count' is 0", number("block_count", 0));
    check(
        "'llama.block_count' is 4294967295",
        number("block_count", u32::MAX),
    );
    check(
        "blk.2.attn_norm.weight' is missing",
        number("block_count", 3),
    );
    check("no place in this architecture", number("block_count", 1));
    check("the width is", number("embedding_length", 128));
    check("do not divide", number("attention.head_count", 3));
    check("no multiple of 3", number("attention.head_count_kv", 3));
    check("has the shape", number("attention.head_count_kv", 4));
    check("has the shape", number("feed_forward_length", 64));
    check(
        "'llama.rope.dimension_count' is",
        number("rope.dimension_count", 8),
    );
    check("a mixture of experts", number("expert_count", 8));
    check("sliding-window", number("attention.sliding_window", 128));
    check("not above zero", |file| {
        file.set("llama.attention.layer_norm_rms_epsilon", Value::F32(-1.0));
    });
    check("not a finite number", |file| {
        file.set(
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(f32::NAN),
        );
    });
    check("position scaling 'yarn'", |file| {
        file.set("llama.rope.scaling.type", Value::String("yarn".to_owned()));
    });
    check(
        "'tokenizer.ggml.tokens' is not an array of strings",
        |file| {
            file.set("tokenizer.ggml.tokens", Value::I32s(vec![1]));
        },
    );
    check("the tokenizer has 257 tokens", |file| {
        let Some((_, Value::Strings(mut tokens))) = file
            .metadata
            .iter()
            .find(|(key, _)| key == "tokenizer.ggml.tokens")
            .cloned()
        else {
            panic!("the tiny model has tokens")
        };
        tokens.push("extra".to_owned());
        file.set("tokenizer.ggml.tokens", Value::Strings(tokens));
        file.set("tokenizer.ggml.token_type", Value::I32s(vec![1; 257]));
    });
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    // The header of the tiny model, byte by byte, and its data in larger steps.
    let bytes = tiny_model("llama").bytes();
    let cuts = (0..bytes.len()).filter(|&cut| cut < 10_000 || cut % 997 == 0);
    for cut in cuts.chain([bytes.len() - 1]) {
        assert!(
            Gguf::from_bytes(bytes[..cut].to_vec()).is_err(),
            "cut at {cut}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a few changed bytes of the header mean, reading and loading ends.
    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((0..9_000usize, any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, 0..9_000usize),
    ) {
        let mut bytes = tiny_model("qwen2").bytes();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        if let Ok(model) = load(bytes) {
            prop_assert!(model.info.context_tokens <= 64);
        }
    }
}
