//! The emulator's C++ (`launch.cpp`).

use crate::Buffer;
use farthing_kernels::cuda::{CudaError, Launch};
use std::ffi::{CStr, CString, c_char};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A kernel's argument: its kind (`registry.h` has the letters), its bits, and its buffer.
pub(crate) struct Argument<'a> {
    pub kind: u8,
    pub value: u64,
    pub buffer: Option<&'a Buffer>,
}

impl<'a> Argument<'a> {
    pub fn pointer(buffer: &'a Buffer, offset: usize) -> Argument<'a> {
        Argument {
            kind: b'p',
            value: buffer.address().wrapping_add(offset as u64),
            buffer: Some(buffer),
        }
    }
}

/// Memory that a launch may touch, and the argument it is from.
#[repr(C)]
struct Range {
    start: usize,
    bytes: usize,
    argument: u32,
}

#[repr(C)]
struct Request {
    kernel: *const c_char,
    grid: [u32; 3],
    threads: u32,
    shared_bytes: u32,
    argument_count: u32,
    kinds: *const c_char,
    values: *const u64,
    ranges: *const Range,
    range_count: u32,
}

unsafe extern "C" {
    fn farthing_emulator_launch(
        request: *const Request,
        error: *mut c_char,
        size: usize,
        place: *mut u64,
    ) -> u32;
}

/// The C++ side has one device.
static DEVICE: Mutex<()> = Mutex::new(());

/// Runs a kernel to its end.
pub(crate) fn launch(launch: &Launch, arguments: &[Argument<'_>]) -> Result<(), CudaError> {
    let no_kernel = || CudaError::NoKernel {
        kernel: launch.kernel.into(),
    };
    let kernel = CString::new(launch.kernel).map_err(|_| no_kernel())?;
    let mut kinds: Vec<u8> = arguments.iter().map(|argument| argument.kind).collect();
    kinds.push(0);
    let values: Vec<u64> = arguments.iter().map(|argument| argument.value).collect();
    let buffers = arguments.iter().enumerate();
    let ranges: Vec<Range> = buffers
        .filter_map(|(index, argument)| Some((index, argument.buffer?)))
        .map(|(index, buffer)| Range {
            start: buffer.address() as usize,
            bytes: buffer.len(),
            argument: index as u32,
        })
        .collect();
    let request = Request {
        kernel: kernel.as_ptr(),
        grid: launch.grid,
        threads: launch.threads,
        shared_bytes: launch.shared_bytes,
        argument_count: arguments.len() as u32,
        kinds: kinds.as_ptr().cast(),
        values: values.as_ptr(),
        ranges: ranges.as_ptr(),
        range_count: ranges.len() as u32,
    };
    let (mut error, mut place) = ([0u8; 1024], 0);
    let one_at_a_time = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the request's pointers outlive the call, the strings end with 0 and the lengths are
    // those of the vectors; the lock keeps others out. Buffers are made of cells, so they may be
    // written; what is outside them is not, for every access is checked (memory.cpp).
    let outcome = unsafe {
        farthing_emulator_launch(
            &request,
            error.as_mut_ptr().cast(),
            error.len(),
            &raw mut place,
        )
    };
    drop(one_at_a_time);
    match outcome {
        0 => Ok(()),
        1 => Err(no_kernel()),
        _ => {
            let reason = CStr::from_bytes_until_nul(&error).unwrap_or_default();
            Err(CudaError::Driver {
                action: format!("run {}", launch.kernel),
                reason: format!("{}{}", reason.to_string_lossy(), line_of(place)),
            })
        }
    }
}

/// The line of a kernel at this place in the program, if there is one and binutils can tell.
fn line_of(place: u64) -> String {
    let program = std::env::current_exe().ok().filter(|_| place != 0);
    let line = program.and_then(|program| {
        // The call that comes back to this place.
        let mut command = Command::new("addr2line");
        command
            .arg("-e")
            .arg(program)
            .arg("-is")
            .arg(format!("{:#x}", place - 1));
        command.output().ok()
    });
    let text = line.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    // The innermost first, then what it was inlined into.
    let text = text.unwrap_or_default();
    let ours = |line: &&str| !line.contains("??") && !line.contains("registry.h");
    let lines: Vec<&str> = text.lines().filter(ours).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!(" [{}]", lines.join(", in "))
    }
}
