//! Model files that want to do harm: known attacks by name, then a hundred thousand mutated GGUF
//! files and more than ten thousand mutated safetensors. None may panic, and none may make the
//! reader allocate more than a small multiple of its own size, which a counting allocator sees.

mod checkpoint_writer;
mod gguf_writer;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use checkpoint_writer::{Folder, WEIGHTS, safetensors, with_header};
use farthing_backend::engine::random::SplitMix64;
use farthing_backend::model::gguf::Gguf;
use farthing_backend::model::{LoadedModel, ModelOptions, load_model};
use gguf_writer::{GgufWriter, Tensor, Value, array, sized_model};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What is allocated belongs to one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const GGUF_FILES: u64 = 100_000;
/// A third of them is left as it is, so that some are accepted.
const SAFETENSORS_FILES: u64 = 16_000;
const SEED: u64 = 20_261_129;
/// What reading may allocate: for each byte of the file, and whatever the file is.
const BYTES_PER_BYTE: usize = 16;
const BYTES_IN_ANY_CASE: usize = 4 << 20;

const OPTIONS: ModelOptions = ModelOptions {
    context_tokens: Some(64),
    kv_tokens: Some(64),
    kv_dtype: farthing_kernels::KvDtype::F16,
};
/// Numbers at which counts, lengths and shapes go wrong.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    31,
    33,
    255,
    65_536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 60,
    1 << 61,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 31,
    u64::MAX - 7,
    u64::MAX,
];

fn load(bytes: Vec<u8>) -> Result<LoadedModel, String> {
    Gguf::from_bytes(bytes)
        .and_then(|file| LoadedModel::from_gguf("hostile", file, 0, OPTIONS))
        .map_err(|error| error.to_string())
}

/// Reads one file of so many bytes; returns whether it was accepted. `which` finds it again.
#[track_caller]
fn read(which: &str, bytes: usize, read: impl FnOnce() -> Result<LoadedModel, String>) -> bool {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let result = catch_unwind(AssertUnwindSafe(read));
    let most = ALLOCATED.peak_usage().saturating_sub(before);
    let allowed = bytes * BYTES_PER_BYTE + BYTES_IN_ANY_CASE;
    assert!(
        most <= allowed,
        "{which}: {most} bytes allocated for a file of {bytes}"
    );
    match result {
        Ok(result) => result.is_ok(),
        Err(_) => panic!("{which}: the reader panicked"),
    }
}

fn small(architecture: &str) -> GgufWriter {
    sized_model(architecture, 32, 32)
}

fn one_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

type Change = fn(&mut GgufWriter);

/// What each attack did to another reader, as a file for ours, and what ours says.
const ATTACKS: [(&str, &str, Change); 16] = [
    // llama.cpp took the product of the dimensions without looking for overflow.
    (
        "CVE-2024-21802: product of dimensions wraps round",
        "impossible dimension",
        |file| {
            first(file).dims = vec![1 << 40, 1 << 40];
        },
    ),
    (
        "CVE-2024-21802: more dimensions than there is room for",
        "4294967295 dimensions",
        |file| {
            first(file).rank = Some(u32::MAX);
        },
    ),
    ("CVE-2024-21802: five dimensions", "5 dimensions", |file| {
        first(file).dims = vec![1; 5]
    }),
    // llama.cpp allocated for as many pairs or tensors as the header said.
    (
        "CVE-2024-23605: pairs without end",
        "metadata pairs are more",
        |file| {
            file.metadata_count = Some(u64::MAX / 48 + 2);
        },
    ),
    (
        "CVE-2024-23605: tensors without end",
        "tensors are more",
        |file| {
            file.tensor_count = Some(u64::MAX / 64 + 2);
        },
    ),
    (
        "CVE-2024-23605: a string of 2^63 bytes",
        "bytes are claimed",
        |file| {
            file.set(
                "general.name",
                Value::Raw(8, (1u64 << 63).to_le_bytes().to_vec()),
            );
        },
    ),
    (
        "CVE-2024-23605: a string of 2^64 - 1 bytes, and one for its end",
        "bytes are claimed",
        |file| {
            file.set(
                "general.name",
                Value::Raw(8, u64::MAX.to_le_bytes().to_vec()),
            );
        },
    ),
    (
        "CVE-2024-23605: an array of 2^61 numbers",
        "an array claims",
        |file| {
            file.set(
                "general.name",
                Value::Raw(9, array(10, 1 << 61, [].into_iter())),
            );
        },
    ),
    // llama.cpp added up padded sizes until the sum wrapped round; the first fix missed some.
    (
        "CVE-2025-53630: sizes that add up to more than 2^64",
        "ends past",
        |file| {
            for tensor in &mut file.tensors {
                tensor.dims = vec![1 << 60];
            }
        },
    ),
    // The check of the number of tensors left room for the memory of all to wrap round.
    (
        "CVE-2026-27940 (GHSA-3p4r-fq3f-q74v): tensors whose descriptions overflow",
        "tensors are more",
        |file| file.tensor_count = Some(u64::MAX / 368 + 1),
    ),
    // A tensor of exabytes whose bytes wrap round to a few, which are then allocated.
    (
        "CVE-2026-33298: 2^62 + 32 weights of four bytes",
        "cannot hold",
        |file| first(file).dims = vec![32, (1 << 57) + 1],
    ),
    (
        "CVE-2026-33298: an offset near 2^64, and an end near 0",
        "ends past",
        |file| first(file).offset = Some(u64::MAX - 31),
    ),
    // Ollama read as many bytes as a tensor claimed, past the file's end, and gave them away.
    (
        "CVE-2026-7482: a tensor that ends past the file",
        "ends past",
        |file| {
            first(file).dims = vec![32, 1 << 20];
        },
    ),
    (
        "CVE-2026-7482: a tensor that starts past the file",
        "ends past",
        |file| {
            first(file).offset = Some(1 << 40);
        },
    ),
    ("an alignment of 2^31", "'general.alignment' is", |file| {
        file.set("general.alignment", Value::U32(1 << 31));
    }),
    ("a dimension of zero", "impossible dimension", |file| {
        first(file).dims = vec![32, 0]
    }),
];

fn first(file: &mut GgufWriter) -> &mut Tensor {
    &mut file.tensors[0]
}

#[test]
fn known_attacks_are_refused() {
    let _alone = one_at_a_time();
    for (name, reason, change) in ATTACKS {
        let mut file = small("llama");
        change(&mut file);
        let bytes = file.bytes();
        let mut said = String::new();
        let accepted = read(name, bytes.len(), || {
            load(bytes.clone()).inspect_err(|error| said.clone_from(error))
        });
        assert!(!accepted, "{name}: accepted");
        assert!(said.contains(reason), "{name}: '{said}' lacks '{reason}'");
    }
}

/// Tiny tensors over one region would make much memory of a small file.
#[test]
fn a_region_cannot_be_used_twice() {
    let _alone = one_at_a_time();
    let mut file = small("llama");
    let again = file.tensors[0].clone();
    for copy in 0..1_000 {
        let name = format!("blk.{copy}.attn_q.weight");
        let offset = Some(0);
        file.tensors.push(Tensor {
            name,
            offset,
            data: Vec::new(),
            ..again.clone()
        });
    }
    let bytes = file.bytes();
    assert!(!read("copies", bytes.len(), || load(bytes.clone())));
}

#[test]
fn mutated_gguf_files_end_in_an_error_or_a_model() {
    let _alone = one_at_a_time();
    println!("seed {SEED}");
    let whole = [small("llama"), small("qwen2")];
    let (mut accepted, mut refused) = (0u64, 0u64);
    for number in 0..GGUF_FILES {
        let random = &mut SplitMix64::new(SEED + number);
        let mut file = whole[(number % 2) as usize].clone();
        for _ in 0..1 + below(random, 3) {
            mutate(&mut file, random);
        }
        let mut bytes = file.bytes();
        mutate_bytes(&mut bytes, random);
        let which = format!("seed {SEED}, file {number}");
        let length = bytes.len();
        if read(&which, length, || load(bytes)) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    println!("{accepted} accepted, {refused} refused");
    // Neither kind alone would show anything.
    assert!(accepted > GGUF_FILES / 200 && refused > GGUF_FILES / 2);
}

fn below(random: &mut SplitMix64, max: usize) -> usize {
    (random.next_u64() % max.max(1) as u64) as usize
}

fn edge(random: &mut SplitMix64) -> u64 {
    EDGES[below(random, EDGES.len())]
}

/// Changes one field of the file.
fn mutate(file: &mut GgufWriter, random: &mut SplitMix64) {
    let tensor = below(random, file.tensors.len());
    let pair = below(random, file.metadata.len());
    match below(random, 18) {
        0 => file.version = edge(random) as u32,
        1 => file.tensor_count = Some(edge(random)),
        2 => file.metadata_count = Some(edge(random)),
        3 => file.tensors[tensor].rank = Some(edge(random) as u32),
        4 => {
            let dim = below(random, file.tensors[tensor].dims.len());
            if let Some(dim) = file.tensors[tensor].dims.get_mut(dim) {
                *dim = edge(random);
            }
        }
        5 => file.tensors[tensor].dims = (0..below(random, 6)).map(|_| edge(random)).collect(),
        6 => file.tensors[tensor].type_id = below(random, 42) as u32,
        7 => file.tensors[tensor].offset = Some(edge(random)),
        8 => file.tensors[tensor].offset = Some(32 * below(random, 2_000) as u64),
        9 => {
            let again = file.tensors[tensor].clone();
            file.tensors.push(again);
        }
        10 => drop(file.tensors.remove(tensor)),
        11 => {
            let other = below(random, file.tensors.len());
            file.tensors[tensor].name = file.tensors[other].name.clone();
        }
        12 => file.set("general.alignment", Value::U32(edge(random) as u32)),
        13 => file.metadata[pair].1 = Value::U32(edge(random) as u32),
        14 => file.metadata[pair].1 = Value::F32(f32::from_bits(random.next_u64() as u32)),
        15 => {
            let kind = below(random, 14) as u32;
            let mut bytes = edge(random).to_le_bytes().to_vec();
            bytes.extend(edge(random).to_le_bytes());
            file.metadata[pair].1 = Value::Raw(kind, bytes);
        }
        16 => {
            let (element, count) = (below(random, 14) as u32, edge(random) as usize);
            let value = Value::Raw(9, array(element, count, [0; 24].into_iter()));
            file.metadata[pair].1 = value;
        }
        _ => {
            let again = file.metadata[pair].clone();
            file.metadata.push(again);
        }
    }
    if file.tensors.is_empty() {
        file.tensors.extend(small("llama").tensors);
    }
}

/// Sometimes changes bytes of the header, sometimes cuts the file.
fn mutate_bytes(bytes: &mut Vec<u8>, random: &mut SplitMix64) {
    const HEADER_BYTES: usize = 6_000;
    for _ in 0..below(random, 6).saturating_sub(3) {
        let at = below(random, HEADER_BYTES.min(bytes.len()));
        bytes[at] = random.next_u64() as u8;
    }
    if below(random, 8) == 0 {
        let at = below(random, HEADER_BYTES.min(bytes.len()) - 8);
        let edge = edge(random).to_le_bytes();
        bytes[at..at + 8].copy_from_slice(&edge);
    }
    if below(random, 10) == 0 {
        let length = below(random, bytes.len());
        bytes.truncate(length);
    }
}

/// A folder whose weights are rewritten for every case.
fn folder(name: &str) -> (Folder, std::path::PathBuf) {
    let folder = Folder::of("llama", &small("llama"), "F16");
    let path = folder.write(name);
    (folder, path)
}

#[track_caller]
fn read_folder(which: &str, path: &Path, weights: &[u8]) -> (bool, String) {
    std::fs::write(path.join(WEIGHTS), weights).expect("the target folder is writable");
    let mut said = String::new();
    let accepted = read(which, weights.len(), || {
        load_model("hostile", path, OPTIONS)
            .map_err(|error| error.to_string())
            .inspect_err(|error| said.clone_from(error))
    });
    (accepted, said)
}

#[test]
fn hostile_safetensors_are_refused() {
    let _alone = one_at_a_time();
    let (_, path) = folder("hostile-safetensors");
    let tensor = |shape: &str, offsets: &str| {
        format!(
            r#"{{"model.norm.weight":{{"dtype":"U8","shape":{shape},"data_offsets":{offsets}}}}}"#
        )
    };
    // The sum of these overflows 64 bits, which panics in version 0.8.0 of the safetensors crate.
    let large = (1u64 << 61) - 1;
    let eight = (0..8u64).map(|at| {
        let (start, end) = (at * large, (at + 1) * large);
        format!(r#""t{at}":{{"dtype":"U8","shape":[{large}],"data_offsets":[{start},{end}]}}"#)
    });
    let eight = format!("{{{}}}", eight.collect::<Vec<_>>().join(","));
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let entry = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let twice = format!(r#"{{"a":{entry},"a":{entry}}}"#);
    let overlap = format!(r#"{{"a":{entry},"b":{entry}}}"#);
    for (name, header, reason) in [
        ("offsets that overflow", eight.as_str(), "lies from"),
        ("past the end", &tensor("[9]", "[0,9]"), "lies from 0 to 9"),
        ("backwards", &tensor("[2]", "[3,1]"), "lies from 3 to 1"),
        (
            "an impossible shape",
            &tensor("[4294967296,4294967296]", "[0,0]"),
            "impossible shape",
        ),
        (
            "another size",
            &tensor("[3]", "[0,2]"),
            "its shape asks for 3",
        ),
        (
            "many dimensions",
            &tensor("[1,1,1,1,1,1,1,1,1]", "[0,1]"),
            "9 dimensions",
        ),
        ("negative", &tensor("[-1]", "[0,1]"), "the header is not"),
        (
            "no number",
            &tensor("[1e400]", "[0,1]"),
            "the header is not",
        ),
        ("deeply nested", &deep, "the header is not"),
        ("twice", &twice, "occurs twice"),
        ("overlapping", &overlap, "overlap"),
        ("no object", "[]", "the header is not"),
        ("nothing", "", "the header is not"),
    ] {
        let (accepted, said) = read_folder(name, &path, &with_header(header.as_bytes(), &[0; 4]));
        assert!(
            !accepted && said.contains(reason),
            "{name}: '{said}' lacks '{reason}'"
        );
    }
    for (name, bytes) in [
        ("empty", &[][..]),
        ("seven bytes", &[0; 7]),
        ("a header of 2^64 - 1 bytes", &[0xff; 64]),
        (
            "a header longer than the file",
            &[65, 0, 0, 0, 0, 0, 0, 0, b'{', b'}'],
        ),
    ] {
        let (accepted, said) = read_folder(name, &path, bytes);
        assert!(!accepted && said.contains(WEIGHTS), "{name}: '{said}'");
    }
}

#[test]
fn mutated_safetensors_end_in_an_error_or_a_model() {
    let _alone = one_at_a_time();
    println!("seed {SEED}");
    let (mut folder, path) = folder("mutated-safetensors");
    let tensors: BTreeMap<_, _> = folder.weights().clone();
    let whole = safetensors(&tensors);
    let header_bytes = u64::from_le_bytes(*whole.first_chunk().expect("a header")) as usize;
    let (mut accepted, mut refused) = (0u64, 0u64);
    for number in 0..SAFETENSORS_FILES {
        let random = &mut SplitMix64::new(SEED + number);
        let mut header = whole[8..8 + header_bytes].to_vec();
        for _ in 0..below(random, 3) {
            mutate_header(&mut header, random);
        }
        let mut bytes = with_header(&header, &whole[8 + header_bytes..]);
        match below(random, 10) {
            0 => bytes[..8].copy_from_slice(&edge(random).to_le_bytes()),
            1 => {
                let length = below(random, bytes.len());
                bytes.truncate(length);
            }
            _ => {}
        }
        let which = format!("seed {SEED}, file {number}");
        if read_folder(&which, &path, &bytes).0 {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > SAFETENSORS_FILES / 200 && refused > SAFETENSORS_FILES / 2);
}

/// Replaces a number or a word of the JSON, or a byte of it, or repeats a part.
fn mutate_header(header: &mut Vec<u8>, random: &mut SplitMix64) {
    let length = header.len();
    let from = below(random, length);
    let digits = |at: usize, header: &[u8]| header[at].is_ascii_digit();
    match below(random, 6) {
        0..=2 => {
            let Some(start) = (from..length).find(|&at| digits(at, header)) else {
                return;
            };
            let end = (start..length)
                .find(|&at| !digits(at, header))
                .unwrap_or(length);
            let number = if below(random, 2) == 0 {
                edge(random)
            } else {
                random.next_u64() >> 50
            };
            header.splice(start..end, number.to_string().into_bytes());
        }
        3 => header[from] = random.next_u64() as u8,
        4 => {
            let words = [
                &b"F32"[..],
                b"BF16",
                b"I32",
                b"F64",
                b"U8",
                b"X",
                b"q_proj",
                b"k_proj",
            ];
            let word = words[below(random, words.len())];
            let end = (from + word.len()).min(length);
            header[from..end].copy_from_slice(&word[..end - from]);
        }
        _ => {
            let end = (from + below(random, 120)).min(length);
            let part = header[from..end].to_vec();
            header.splice(end..end, part);
        }
    }
}
