//! The CUDA sources as one text for a compiler that sees no files, and the chips that they are
//! compiled for.

use super::CudaError;
use std::fmt::Write as _;

/// The file that includes every other.
const ROOT: &str = "all.cu";
/// What only the emulator of `host-tests/gpu` includes, where it defines `FARTHING_EMULATOR`.
const EMULATOR: &str = "emulator.h";

/// Every source by the name that others include it by.
const FILES: &[(&str, &str)] = &[
    (ROOT, include_str!("all.cu")),
    ("copy.cu", include_str!("copy.cu")),
    ("decode_attention.cu", include_str!("decode_attention.cu")),
    ("dequantize.cu", include_str!("dequantize.cu")),
    ("embedding.cu", include_str!("embedding.cu")),
    ("gemm.cuh", include_str!("gemm.cuh")),
    ("gemm_hopper.cu", include_str!("gemm_hopper.cu")),
    ("gemm_large.cu", include_str!("gemm_large.cu")),
    ("gemm_small.cu", include_str!("gemm_small.cu")),
    ("gemv.cu", include_str!("gemv.cu")),
    ("gemv.cuh", include_str!("gemv.cuh")),
    ("intrinsics.cuh", include_str!("intrinsics.cuh")),
    ("kv_layout.cuh", include_str!("kv_layout.cuh")),
    ("online_softmax.cuh", include_str!("online_softmax.cuh")),
    ("prefill_attention.cu", include_str!("prefill_attention.cu")),
    ("rms_norm.cu", include_str!("rms_norm.cu")),
    ("rope_kv.cu", include_str!("rope_kv.cu")),
    ("sample.cu", include_str!("sample.cu")),
    ("sample_row.cuh", include_str!("sample_row.cuh")),
    ("sample_select.cuh", include_str!("sample_select.cuh")),
    ("spans.cuh", include_str!("spans.cuh")),
    ("store_sums.cu", include_str!("store_sums.cu")),
    ("swiglu.cu", include_str!("swiglu.cu")),
    ("weights.cuh", include_str!("weights.cuh")),
];

/// What the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Compute capability 8.0 and 8.6.
    Ampere,
    /// 8.9.
    Ada,
    /// 9.0, with the instructions that only it has.
    Hopper,
    /// 10.0 and later: an intermediate language that the driver translates.
    Later,
}

impl Target {
    pub const ALL: [Target; 4] = [Target::Ampere, Target::Ada, Target::Hopper, Target::Later];

    /// What runs on a card of this compute capability, if anything does.
    pub fn of_capability(capability: (u32, u32)) -> Option<Target> {
        match capability {
            (0..=7, _) => None,
            (8, 9) => Some(Target::Ada),
            (8, _) => Some(Target::Ampere),
            (9, 0) => Some(Target::Hopper),
            _ => Some(Target::Later),
        }
    }

    /// The architecture as compilers name it.
    pub fn architecture(self) -> &'static str {
        match self {
            Target::Ampere => "sm_80",
            Target::Ada => "sm_89",
            Target::Hopper => "sm_90a",
            Target::Later => "compute_80",
        }
    }

    /// Whether a compiler makes machine code for it, not the intermediate language.
    pub fn is_machine_code(self) -> bool {
        self != Target::Later
    }

    /// How NVRTC is called; its other defaults are nvcc's.
    pub fn options(self) -> [String; 2] {
        [
            format!("--gpu-architecture={}", self.architecture()),
            "--std=c++17".to_string(),
        ]
    }
}

/// Every source in one text, each once, in the order in which they include each other.
///
/// # Errors
/// A source includes what is not among them.
pub fn flattened() -> Result<String, CudaError> {
    flatten(ROOT, FILES).map_err(|missing| CudaError::Compile {
        target: "any card".to_string(),
        log: format!("there is no source named {missing}"),
    })
}

/// `root` with what it includes in place; the name of a file that is included and not there.
fn flatten(root: &str, files: &[(&str, &str)]) -> Result<String, String> {
    let mut text = String::new();
    include(root, files, &mut Vec::new(), &mut text)?;
    Ok(text)
}

fn include<'a>(
    name: &str,
    files: &[(&'a str, &str)],
    seen: &mut Vec<&'a str>,
    text: &mut String,
) -> Result<(), String> {
    let found = files.iter().find(|(file, _)| *file == name);
    let (name, source) = found.ok_or_else(|| name.to_string())?;
    if seen.contains(name) {
        return Ok(());
    }
    seen.push(name);
    line_directive(text, 1, name);
    for (index, line) in source.lines().enumerate() {
        if let Some(included) = included(line).filter(|included| *included != EMULATOR) {
            include(included, files, seen, text)?;
            line_directive(text, index + 2, name);
        } else if line.trim() == "#pragma once" {
            // Each is here once, and a compiler warns of this outside of a header.
            text.push('\n');
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(())
}

/// The file between the quotes of an `#include`.
fn included(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("#include")?;
    rest.trim_start()
        .strip_prefix('"')?
        .split_once('"')
        .map(|(name, _)| name)
}

/// Tells the compiler where the next line is from, so that its messages say so too.
fn line_directive(text: &mut String, line: usize, name: &str) {
    let _ = writeln!(text, "#line {line} \"{name}\"");
}

#[cfg(test)]
mod tests {
    use super::{FILES, ROOT, Target, flatten, flattened};
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_source_of_the_folder_is_compiled() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda");
        let flat = flattened().expect("every include is there");
        let mut count = 0;
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let name = entry.expect("a readable entry").file_name();
            let name = name.to_string_lossy().into_owned();
            if !name.ends_with(".cu") && !name.ends_with(".cuh") {
                continue;
            }
            count += 1;
            assert!(
                FILES.iter().any(|(file, _)| *file == name),
                "{name} is not in FILES of sources.rs"
            );
            assert!(
                flat.contains(&format!("#line 1 \"{name}\"")),
                "{name} is not included by {ROOT}"
            );
        }
        assert_eq!(count, FILES.len(), "FILES names one twice");
    }

    #[test]
    fn includes_are_put_in_place_once() {
        let files = [
            ("a.cu", "#include \"b.cuh\"\n#include \"c.cuh\"\nint a;\n"),
            (
                "b.cuh",
                "#pragma once\n  # define B\n #include \"c.cuh\"\nint b;",
            ),
            ("c.cuh", "int c; // not #include \"d.cuh\"\n"),
        ];
        let expected = "#line 1 \"a.cu\"\n\
            #line 1 \"b.cuh\"\n\n  # define B\n\
            #line 1 \"c.cuh\"\nint c; // not #include \"d.cuh\"\n\
            #line 4 \"b.cuh\"\nint b;\n\
            #line 2 \"a.cu\"\n#line 3 \"a.cu\"\nint a;\n";
        assert_eq!(flatten("a.cu", &files).as_deref(), Ok(expected));
    }

    #[test]
    fn an_include_of_nothing_is_named() {
        let files = [("a.cu", "#include \"gone.cuh\"\n")];
        assert_eq!(flatten("a.cu", &files), Err("gone.cuh".to_string()));
    }

    #[test]
    fn every_card_from_8_0_on_has_a_target() {
        let cases = [
            ((7, 5), None),
            ((8, 0), Some("sm_80")),
            ((8, 6), Some("sm_80")),
            ((8, 9), Some("sm_89")),
            ((9, 0), Some("sm_90a")),
            ((10, 0), Some("compute_80")),
            ((12, 1), Some("compute_80")),
        ];
        for (capability, expected) in cases {
            let target = Target::of_capability(capability);
            assert_eq!(target.map(Target::architecture), expected, "{capability:?}");
        }
    }
}
