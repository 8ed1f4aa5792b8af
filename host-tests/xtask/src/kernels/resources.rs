//! What kernels take of a card, as the assembler tells it.

use crate::error::XtaskError;
use std::fmt::Write as _;

/// What one kernel takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resources {
    kernel: String,
    /// Of each thread.
    registers: u32,
    /// Of each block, beside what a launch asks for.
    shared_bytes: u32,
    /// Of each thread: arrays that registers cannot hold.
    stack_bytes: u32,
    /// Of each thread, written and read: what did not fit in the registers.
    spill_bytes: u32,
}

/// The table of an architecture's kernels.
pub fn table(architecture: &str, output: &[String]) -> Result<String, XtaskError> {
    let kernels = parse(output);
    if kernels.is_empty() {
        return Err(XtaskError::Unexpected(format!(
            "the assembler names no kernel of {architecture}"
        )));
    }
    let mut text = format!(
        "{architecture:<48} {:>9} {:>7} {:>6} {:>6}\n",
        "registers", "shared", "stack", "spill"
    );
    for kernel in &kernels {
        let flag = if kernel.spill_bytes > 0 {
            " SPILLS"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "{:<48} {:>9} {:>7} {:>6} {:>6}{flag}",
            kernel.kernel,
            kernel.registers,
            kernel.shared_bytes,
            kernel.stack_bytes,
            kernel.spill_bytes
        );
    }
    let spilling = kernels.iter().filter(|kernel| kernel.spill_bytes > 0);
    let _ = writeln!(
        text,
        "{} kernels for {architecture}, {} spill\n",
        kernels.len(),
        spilling.count()
    );
    Ok(text)
}

/// Reads what `ptxas -v` says, in the order of the names.
fn parse(output: &[String]) -> Vec<Resources> {
    let mut kernels: Vec<Resources> = Vec::new();
    // Functions that were not inlined have properties too; they are not kernels.
    let mut of_kernel = false;
    for line in output {
        if let Some(name) = between(line, "Compiling entry function '", "'") {
            kernels.push(Resources {
                kernel: name.to_string(),
                ..Resources::default()
            });
        }
        let Some(kernel) = kernels.last_mut() else {
            continue;
        };
        if let Some((_, name)) = line.split_once("Function properties for ") {
            of_kernel = name.trim() == kernel.kernel;
        } else if line.contains("bytes stack frame") && of_kernel {
            kernel.stack_bytes = before(line, " bytes stack frame");
            kernel.spill_bytes =
                before(line, " bytes spill stores") + before(line, " bytes spill loads");
        } else if line.contains(" registers") && line.contains("Used ") {
            kernel.registers = before(line, " registers");
            kernel.shared_bytes = before(line, " bytes smem");
        }
    }
    kernels.sort_by(|a, b| a.kernel.cmp(&b.kernel));
    kernels
}

fn between<'a>(line: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(start)?;
    rest.split_once(end).map(|(text, _)| text)
}

/// The number that stands before `words`; zero where they are not said.
fn before(line: &str, words: &str) -> u32 {
    let Some((start, _)) = line.split_once(words) else {
        return 0;
    };
    let digits = start.rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Resources, parse, table};

    const OUTPUT: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'world' for 'sm_90a'
ptxas info    : Function properties for world
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 1 barriers, 512 bytes smem, 372 bytes cmem[0]
ptxas info    : Compile time = 48.404 ms
ptxas info    : Compiling entry function 'hello' for 'sm_90a'
ptxas info    : Function properties for hello
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
ptxas info    : Function properties for not_inlined
    64 bytes stack frame, 1 bytes spill stores, 1 bytes spill loads
";

    #[test]
    fn kernels_are_read_from_what_the_assembler_says() {
        let lines: Vec<String> = OUTPUT.lines().map(String::from).collect();
        let expected = [
            Resources {
                kernel: "hello".to_string(),
                registers: 255,
                shared_bytes: 0,
                stack_bytes: 16,
                spill_bytes: 20,
            },
            Resources {
                kernel: "world".to_string(),
                registers: 12,
                shared_bytes: 512,
                stack_bytes: 0,
                spill_bytes: 0,
            },
        ];
        assert_eq!(parse(&lines), expected);
        let text = table("sm_90a", &lines).expect("there are kernels");
        assert!(text.contains("20 SPILLS\n"), "{text}");
        assert!(text.contains("2 kernels for sm_90a, 1 spill"), "{text}");
        assert!(table("sm_90a", &[]).is_err());
    }
}
