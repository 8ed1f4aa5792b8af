//! The emulator itself: what it computes, and what it refuses.

use farthing_cuda_emulator::{Buffer, Emulator};
use farthing_kernels::cuda::{Arg, CudaError, Device, Launch};
use half::f16;

/// One block of a kernel of `selftest.cu`.
fn one_block(kernel: &'static str, threads: u32) -> Launch {
    Launch {
        kernel,
        grid: [1, 1, 1],
        threads,
        shared_bytes: 0,
    }
}

fn run(
    device: &mut Emulator,
    launch: Launch,
    arguments: &[Arg<'_, Buffer>],
) -> Result<(), CudaError> {
    // SAFETY: the emulator checks the arguments and every access; wrong ones are what is tested.
    unsafe { device.launch(&launch, arguments) }
}

fn upload<T>(device: &mut Emulator, values: &[T], bytes: fn(&T) -> Vec<u8>) -> Buffer {
    let bytes: Vec<u8> = values.iter().flat_map(bytes).collect();
    device.upload(&bytes).expect("memory")
}

fn upload_words(device: &mut Emulator, values: &[u32]) -> Buffer {
    upload(device, values, |x| x.to_le_bytes().to_vec())
}

fn upload_halves(device: &mut Emulator, values: &[u16]) -> Buffer {
    upload(device, values, |x| x.to_le_bytes().to_vec())
}

fn words(device: &mut Emulator, buffer: &Buffer) -> Vec<u32> {
    let bytes = device.download(buffer).expect("memory");
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|word| u32::from_le_bytes(*word)).collect()
}

/// Bits without a pattern.
fn noise(count: usize, seed: u32) -> Vec<u32> {
    let mut state = seed;
    let step = |_| {
        state = state.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
        state ^ (state >> 15)
    };
    (0..count).map(step).collect()
}

/// Every product and sum of these is exact, so that a wrong place shows.
fn small_integers(count: usize, seed: u32) -> Vec<f32> {
    let bits = noise(count, seed);
    bits.iter().map(|bits| (bits % 17) as f32 - 8.0).collect()
}

fn halves(values: &[f32]) -> Vec<u16> {
    let halves = values.iter().map(|x| f16::from_f32(*x).to_bits());
    halves.collect()
}

/// The error that a kernel ends with; fails if there is none.
#[track_caller]
fn refusal(outcome: Result<(), CudaError>) -> String {
    match outcome {
        Err(CudaError::Driver { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocks_of_every_size_sum() {
    let mut device = Emulator::default();
    for threads in [32, 96, 256, 1024] {
        let values: Vec<f32> = (0..5000u16).map(f32::from).collect();
        let input = upload(&mut device, &values, |x| x.to_le_bytes().to_vec());
        let out = device.filled(12, 0xff).expect("memory");
        let mut launch = one_block("selftest_sum", threads);
        launch.grid = [3, 1, 1];
        let arguments = [Arg::Buffer(&input), Arg::Buffer(&out), Arg::U32(5000)];
        run(&mut device, launch, &arguments).expect("a sum");
        let expected = values.iter().sum::<f32>();
        for word in words(&mut device, &out) {
            assert_eq!(f32::from_bits(word), expected, "{threads} threads");
        }
    }
}

#[test]
fn lanes_exchange_values() {
    let mut device = Emulator::default();
    let values = noise(32, 1);
    let input = upload_words(&mut device, &values);
    let out = device.filled(96 * 4, 0xff).expect("memory");
    let arguments = [Arg::Buffer(&input), Arg::Buffer(&out)];
    run(&mut device, one_block("selftest_lanes", 32), &arguments).expect("an exchange");
    let out = words(&mut device, &out);
    let votes = (0..32).fold(0, |votes, lane| votes | (values[lane] & 1) << lane);
    for lane in 0..32 {
        assert_eq!(out[lane], values[(lane + 1) % 32], "shuffle, lane {lane}");
        assert_eq!(out[32 + lane], values[lane ^ 5], "shuffle_xor, lane {lane}");
        assert_eq!(out[64 + lane], votes, "ballot, lane {lane}");
    }
}

#[test]
fn tensor_cores_multiply() {
    let mut device = Emulator::default();
    let (a, b) = (small_integers(256, 2), small_integers(128, 3));
    let [left, right] = [&a, &b].map(|values| upload_halves(&mut device, &halves(values)));
    for load in [0, 1] {
        let out = device.filled(128 * 4, 0xff).expect("memory");
        let arguments = [
            Arg::Buffer(&left),
            Arg::Buffer(&right),
            Arg::Buffer(&out),
            Arg::U32(load),
        ];
        run(&mut device, one_block("selftest_multiply", 32), &arguments).expect("a product");
        let out = words(&mut device, &out);
        for (row, column) in (0..16).flat_map(|row| (0..8).map(move |column| (row, column))) {
            let sum: f32 = (0..16).map(|k| a[row * 16 + k] * b[column * 16 + k]).sum();
            let got = f32::from_bits(out[row * 8 + column]);
            assert_eq!(
                got, sum,
                "row {row}, column {column}, load_matrices: {load}"
            );
        }
    }
}

#[test]
fn warpgroups_multiply_with_shared_memory() {
    let mut device = Emulator::default();
    let (a, b) = (small_integers(64 * 16, 8), small_integers(128 * 16, 9));
    let [left, right] = [&a, &b].map(|values| upload_halves(&mut device, &halves(values)));
    for (kernel, columns) in [("selftest_group64", 64), ("selftest_group128", 128)] {
        for skip in 0..4 {
            let out = device.filled(64 * columns * 4, 0xff).expect("memory");
            let mut launch = one_block(kernel, 128);
            launch.shared_bytes = (columns * 128 + 1024) as u32;
            let arguments = [
                Arg::Buffer(&left),
                Arg::Buffer(&right),
                Arg::Buffer(&out),
                Arg::U32(skip),
            ];
            let outcome = run(&mut device, launch, &arguments);
            if let Some(words) = ["", "without a fence_tensor_reads", "without a group_fence"]
                .get(skip as usize)
                .filter(|words| !words.is_empty())
            {
                let reason = refusal(outcome);
                assert!(reason.contains(words), "{reason}");
                continue;
            }
            outcome.expect("a product");
            for (index, word) in words(&mut device, &out).into_iter().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let sum: f32 = (0..16).map(|k| a[row * 16 + k] * b[column * 16 + k]).sum();
                // Without a wait the sums have not come.
                let expected = if skip == 3 { 0.0 } else { sum };
                assert_eq!(f32::from_bits(word), expected, "{kernel}, {row}, {column}");
            }
        }
    }
}

#[test]
fn matrices_are_loaded_transposed() {
    let mut device = Emulator::default();
    let values: Vec<u16> = (0..256).collect();
    let input = upload_halves(&mut device, &values);
    let out = device.filled(128 * 4, 0xff).expect("memory");
    let arguments = [Arg::Buffer(&input), Arg::Buffer(&out)];
    run(&mut device, one_block("selftest_transpose", 32), &arguments).expect("a load");
    let out = words(&mut device, &out);
    for (matrix, lane) in (0..4).flat_map(|matrix| (0..32).map(move |lane| (matrix, lane))) {
        let (row, column) = (lane % 4 * 2, lane / 4);
        let low = matrix * 64 + row * 8 + column;
        let pair = low as u32 | (low as u32 + 8) << 16;
        assert_eq!(
            out[matrix * 32 + lane],
            pair,
            "matrix {matrix}, lane {lane}"
        );
    }
}

#[test]
fn copies_come_when_they_are_waited_for() {
    let mut device = Emulator::default();
    let values = noise(128 * 4, 4);
    let input = upload_words(&mut device, &values);
    for waits in [0, 1, 2] {
        let out = device.filled(128 * 16, 0).expect("memory");
        let mut launch = one_block("selftest_copy", 64);
        launch.shared_bytes = 128 * 16;
        let arguments = [Arg::Buffer(&input), Arg::Buffer(&out), Arg::U32(waits)];
        run(&mut device, launch, &arguments).expect("a copy");
        let out = words(&mut device, &out);
        for (index, word) in out.iter().enumerate() {
            let (group, id) = (index / 256, 63 - index / 4 % 64);
            let expected = if group as u32 >= waits {
                u32::MAX
            } else if group == 1 && id % 2 == 1 {
                0
            } else {
                values[group * 256 + id * 4 + index % 4]
            };
            assert_eq!(*word, expected, "word {index} after {waits} waits");
        }
    }
}

/// An operation on three numbers that does not round to f16.
type Exact = fn(f64, f64, f64) -> f64;

/// `f` on both halves of each word.
fn on_halves(a: u32, b: u32, c: u32, f: Exact) -> [f64; 2] {
    let half = |bits: u32, shift: u32| f16::from_bits((bits >> shift) as u16).to_f64();
    [0, 16].map(|shift| f(half(a, shift), half(b, shift), half(c, shift)))
}

#[test]
fn halves_are_rounded_once() {
    let mut device = Emulator::default();
    let count = 20_000;
    let mut inputs = [5, 6, 7].map(|seed| noise(count, seed));
    // Ties and sums that one rounding to f64 cannot hold.
    inputs[0][0] = 0x7bff_3c01;
    inputs[1][0] = 0x7bff_3c01;
    inputs[2][0] = 0x0001_0001;
    let buffers = inputs
        .each_ref()
        .map(|words| upload_words(&mut device, words));
    let out = device.filled(count * 7 * 4, 0xff).expect("memory");
    let mut launch = one_block("selftest_half", 256);
    launch.grid = [count.div_ceil(256) as u32, 1, 1];
    let [a, b, c] = &buffers;
    let arguments = [
        Arg::Buffer(a),
        Arg::Buffer(b),
        Arg::Buffer(c),
        Arg::Buffer(&out),
        Arg::U32(count as u32),
    ];
    run(&mut device, launch, &arguments).expect("arithmetic");
    let out = words(&mut device, &out);
    let operations: [(&str, Exact); 4] = [
        ("add", |a, b, _| a + b),
        ("sub", |a, b, _| a - b),
        ("mul", |a, b, _| a * b),
        ("fma", |a, b, c| a.mul_add(b, c)),
    ];
    for i in 0..count {
        let [a, b, c] = inputs.each_ref().map(|words| words[i]);
        for (operation, (name, f)) in operations.iter().enumerate() {
            let exact = on_halves(a, b, c, *f);
            for (shift, exact) in [0, 16].into_iter().zip(exact) {
                let got = f16::from_bits((out[operation * count + i] >> shift) as u16);
                let expected = f16::from_f64(exact);
                let same = got == expected || got.is_nan() && expected.is_nan();
                assert!(same, "{name} of {a:x}, {b:x}, {c:x}: {got} for {expected}");
            }
        }
        let narrowed = f16::from_bits(out[4 * count + i] as u16);
        let limited = f16::from_f32(f32::from_bits(a).clamp(-65504.0, 65504.0));
        assert!(
            narrowed == limited || narrowed.is_nan() && limited.is_nan(),
            "{a:x}"
        );
        let widened = f32::from_bits(out[5 * count + i]);
        let exact = f16::from_bits(a as u16).to_f32();
        assert!(
            widened == exact || widened.is_nan() && exact.is_nan(),
            "{a:x}"
        );
        assert_eq!(out[6 * count + i], permuted(a, b, c), "{a:x} {b:x} {c:x}");
    }
}

fn permuted(low: u32, high: u32, selector: u32) -> u32 {
    let bytes = [low.to_le_bytes(), high.to_le_bytes()].concat();
    let chosen = [0, 4, 8, 12].map(|shift| {
        let nibble = (selector >> shift) as usize;
        let byte = bytes[nibble & 7];
        if nibble & 8 == 0 {
            byte
        } else {
            (byte as i8 >> 7) as u8
        }
    });
    u32::from_le_bytes(chosen)
}

#[test]
fn the_last_block_sees_what_the_others_wrote() {
    let mut device = Emulator::default();
    let parts = device.filled(40, 0xff).expect("memory");
    let counter = device.filled(4, 0).expect("memory");
    let out = device.filled(4, 0).expect("memory");
    let mut launch = one_block("selftest_last_block", 32);
    launch.grid = [10, 1, 1];
    let arguments = [&parts, &counter, &out].map(Arg::Buffer);
    run(&mut device, launch, &arguments).expect("a sum");
    assert_eq!(words(&mut device, &out), [55]);
}

#[test]
fn divergence_is_an_error() {
    let mut device = Emulator::default();
    let out = device.filled(64 * 4, 0).expect("memory");
    let block = run(&mut device, one_block("selftest_divergent_block", 64), &[]);
    let reason = refusal(block);
    assert!(reason.contains("divergent barrier"), "{reason}");
    assert!(
        reason.contains("63 (first 0) wait at sync_block"),
        "{reason}"
    );
    assert!(reason.contains("1 (first 7) have returned"), "{reason}");
    let out = [Arg::Buffer(&out)];
    let warp = run(&mut device, one_block("selftest_divergent_warp", 64), &out);
    let reason = refusal(warp);
    assert!(reason.contains("came to ballot while"), "{reason}");
    let early = run(&mut device, one_block("selftest_early_return", 64), &out);
    let reason = refusal(early);
    assert!(
        reason.contains("8 (first 32) wait at shuffle_xor"),
        "{reason}"
    );
}

#[test]
fn races_are_errors() {
    let mut device = Emulator::default();
    let out = device.filled(64 * 4, 0).expect("memory");
    // Lanes apart, barrier (0 none, 1 warp, 2 block), writes again (1 without a barrier, 2 with).
    let cases = [
        (0, 0, 1, true),
        (1, 0, 0, false),
        (1, 1, 0, false),
        (32, 1, 0, false),
        (32, 2, 0, true),
        (1, 2, 1, false),
        (32, 2, 1, false),
        (32, 2, 2, true),
    ];
    for (by, barrier, again, ordered) in cases {
        let [by, barrier, again] = [by, barrier, again].map(Arg::U32);
        let arguments = [Arg::Buffer(&out), by, barrier, again];
        let outcome = run(&mut device, one_block("selftest_race", 64), &arguments);
        if ordered {
            outcome.expect("order");
        } else {
            let reason = refusal(outcome);
            assert!(reason.contains("race: it "), "{reason}");
        }
    }
}

#[test]
fn what_does_not_end_is_an_error() {
    let mut device = Emulator::default();
    let flag = device.filled(4, 0).expect("memory");
    let arguments = [Arg::Buffer(&flag), Arg::Buffer(&flag)];
    let outcome = run(&mut device, one_block("selftest_endless", 32), &arguments);
    let reason = refusal(outcome);
    assert!(reason.contains("it does not end"), "{reason}");
}

#[test]
fn what_is_outside_a_buffer_cannot_be_reached() {
    let mut device = Emulator::default();
    let out = device.filled(40, 0).expect("memory");
    let launch = one_block("selftest_write", 32);
    run(&mut device, launch, &[Arg::Buffer(&out), Arg::U64(9)]).expect("the last element");
    for (offset, place) in [
        (10, "offset 40"),
        (1000, "offset 4000"),
        (u64::MAX, "offset -4"),
    ] {
        let outcome = run(&mut device, launch, &[Arg::Buffer(&out), Arg::U64(offset)]);
        let reason = refusal(outcome);
        assert!(
            reason.contains("selftest_write") && reason.contains("thread 3"),
            "{reason}"
        );
        assert!(
            reason.contains("write of 4 bytes") && reason.contains(place),
            "{reason}"
        );
    }
    let outcome = run(&mut device, launch, &[Arg::Null, Arg::U64(1)]);
    let reason = refusal(outcome);
    assert!(reason.contains("null pointer"), "{reason}");
    let mut launch = one_block("selftest_shared_write", 32);
    launch.shared_bytes = 64;
    run(&mut device, launch, &[Arg::Buffer(&out), Arg::U32(15)]).expect("the last element");
    let outcome = run(&mut device, launch, &[Arg::Buffer(&out), Arg::U32(16)]);
    let reason = refusal(outcome);
    assert!(reason.contains("at 64 of the block's 64 bytes"), "{reason}");
}

#[test]
fn sixteen_bytes_are_aligned() {
    let mut device = Emulator::default();
    let input = device.filled(64, 3).expect("memory");
    let out = device.filled(32 * 16, 0).expect("memory");
    let mut launch = one_block("selftest_quad", 32);
    launch.shared_bytes = 32 * 16;
    for way in 0..3 {
        for (offset, word) in [(48, ""), (8, "misaligned"), (64, "offset 64")] {
            let arguments = [
                Arg::Buffer(&input),
                Arg::Buffer(&out),
                Arg::U32(offset),
                Arg::U32(way),
            ];
            let outcome = run(&mut device, launch, &arguments);
            if word.is_empty() {
                outcome.expect("aligned");
            } else {
                let reason = refusal(outcome);
                assert!(
                    reason.contains(word),
                    "way {way}, offset {offset}: {reason}"
                );
            }
        }
    }
}

#[test]
fn launches_are_checked() {
    let mut device = Emulator::default();
    let out = device.filled(64, 0).expect("memory");
    let launch = one_block("selftest_write", 32);
    let unknown = run(&mut device, one_block("selftest_nothing", 32), &[]);
    let kernel = "selftest_nothing".into();
    assert_eq!(unknown, Err(CudaError::NoKernel { kernel }));
    let swapped = run(&mut device, launch, &[Arg::U64(0), Arg::Buffer(&out)]);
    assert!(refusal(swapped).contains(r#"takes arguments "pl" and was given "lp""#));
    let good = [Arg::Buffer(&out), Arg::U64(0)];
    type Change = fn(&mut Launch);
    let changes: [(&str, Change); 5] = [
        ("0 threads", |launch| launch.threads = 0),
        ("33 threads", |launch| launch.threads = 33),
        ("multiples of 32 up to 32", |launch| launch.threads = 64),
        ("70000", |launch| launch.grid[1] = 70_000),
        ("shared memory", |launch| launch.shared_bytes = 1 << 20),
    ];
    for (words, change) in changes {
        let mut wrong = launch;
        change(&mut wrong);
        let reason = refusal(run(&mut device, wrong, &good));
        assert!(reason.contains(words), "{reason}");
    }
    run(&mut device, launch, &good).expect("a launch after those that failed");
}
