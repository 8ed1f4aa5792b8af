//! Replaying traces over the block pool: what is counted, and what is refused.

use farthing_backend::engine::random::SplitMix64;
use farthing_backend::replay::azure;
use farthing_backend::replay::coalesce::{Experiment, StepCost, simulate};
use farthing_backend::replay::measure::PrefixHits;
use farthing_backend::replay::mooncake::{Request, parse};

fn requests(ids: &[&[u32]]) -> Vec<Request> {
    let request = |ids: &&[u32]| Request {
        hash_ids: ids.to_vec(),
    };
    ids.iter().map(request).collect()
}

#[test]
fn hits_are_counted_from_the_beginning_of_a_prompt_only() {
    let trace = requests(&[
        &[0, 1, 2],
        &[0, 1, 3],
        &[4, 1, 2],
        &[0, 1, 2, 5],
        &[0, 1, 3],
    ]);
    let hits = PrefixHits::measure(&trace, 100);
    assert_eq!((hits.requests, hits.asked), (5, 16));
    assert_eq!((hits.pool, hits.lru, hits.unbounded), (8, 8, 8));
    assert_eq!(hits.share(hits.pool), 0.5);
    // Three blocks hold one prompt at a time, and of a longer one its beginning.
    let hits = PrefixHits::measure(&trace, 3);
    assert_eq!(hits.lru, 2 + 2);
    assert_eq!(PrefixHits::measure(&trace, 1).lru, 1 + 1);
}

#[test]
fn prefixes_that_many_share_survive_what_comes_once() {
    let mut random = SplitMix64::new(3);
    let mut once = 1_000_000;
    let trace: Vec<_> = (0..3_000)
        .map(|_| {
            let family = (random.next_u64() % 20) as u32 * 10;
            let tail = random.next_u64() % 40;
            let ids = (0..4).map(|at| family + at).chain((0..tail).map(|_| {
                once += 1;
                once
            }));
            Request {
                hash_ids: ids.collect(),
            }
        })
        .collect();
    for blocks in [100, 200, 400] {
        let hits = PrefixHits::measure(&trace, blocks);
        println!("{blocks}: {hits:?}");
        assert!(
            hits.pool > hits.lru && hits.pool <= hits.unbounded,
            "{hits:?}"
        );
    }
}

#[test]
fn a_trace_is_read_by_its_lines() {
    let line = r#"{"timestamp": 0, "input_length": 1, "output_length": 2, "hash_ids": [7, 8]}"#;
    let trace = parse(&format!("{line}\n\n{line}\n")).expect("a trace");
    assert_eq!(trace, requests(&[&[7, 8], &[7, 8]]));
    for (text, expected) in [
        (String::new(), "no request"),
        (format!("{line}\nnot json"), "line 2: "),
        ("{}".to_owned(), "line 1: missing field `hash_ids`"),
        (r#"{"hash_ids": [-1]}"#.to_owned(), "line 1: invalid value"),
        (
            format!(r#"{{"hash_ids": [{}0]}}"#, "0,".repeat(1 << 16)),
            "over 65536 blocks",
        ),
    ] {
        let error = parse(&text).expect_err("no trace");
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}

/// Requests at a steady pace.
fn steady(count: usize, every_us: u64) -> Vec<azure::Request> {
    (0..count as u64)
        .map(|index| azure::Request {
            arrival_us: index * every_us,
            prompt_tokens: 20 + (index * 7 % 40) as usize,
            generated_tokens: 1 + (index * 5 % 30) as usize,
        })
        .collect()
}

#[test]
fn holding_requests_back_only_makes_them_wait() {
    let trace = steady(400, 40_000);
    let tokens: usize = trace.iter().map(|request| request.generated_tokens).sum();
    let run = |speed, window_us| {
        simulate(
            &trace,
            &Experiment {
                speed,
                window_us,
                cost: StepCost {
                    step_us: 2_000.0,
                    prefill_token_us: 50.0,
                    decode_token_us: 100.0,
                },
                step_tokens: 128,
                running_max: 32,
            },
        )
    };
    for speed in [1.0, 4.0] {
        let none = run(speed, None);
        assert_eq!(none.generated_tokens, tokens);
        for window_us in [20_000, 50_000, 100_000] {
            let held = run(speed, Some(window_us));
            assert_eq!(held.generated_tokens, tokens);
            let more_ms = held.first_token_ms_p50 - none.first_token_ms_p50;
            assert!(more_ms > 0.0, "{speed} x, {window_us} us: {more_ms}");
            // Answers end later, too; what starting together saves of steps is printed.
            assert!(held.answer_ms_p50 > none.answer_ms_p50, "{held:?} {none:?}");
            let saved = 1.0 - held.busy_us_per_token / none.busy_us_per_token;
            println!("{speed} x, {window_us} us: {saved} of the computing time saved");
        }
    }
    // One request alone takes its prompt's step and one for each further token.
    let alone = simulate(
        &trace[..1],
        &Experiment {
            speed: 1.0,
            window_us: Some(30_000),
            cost: StepCost {
                step_us: 1_000.0,
                prefill_token_us: 100.0,
                decode_token_us: 10.0,
            },
            step_tokens: 128,
            running_max: 1,
        },
    );
    assert_eq!(alone.first_token_ms_p50, 30.0 + 1.0 + 20.0 * 0.1);
}

#[test]
fn traces_of_arrivals_are_read_or_refused_by_line() {
    let head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    let text = format!("{head}2023-11-16 23:59:59.5,374,44\n2023-11-17 00:00:01.25,396,0\n");
    let requests = azure::parse(&text).expect("a trace");
    assert_eq!(requests[1].arrival_us, 1_750_000);
    assert_eq!(
        (requests[0].prompt_tokens, requests[1].generated_tokens),
        (374, 1)
    );
    for (lines, expected) in [
        ("", "no request"),
        ("noon,1,1\n", "line 2: TIMESTAMP"),
        ("2023-11-16 24:00:00,1,1\n", "line 2: TIMESTAMP"),
        ("2023-11-16 10:00:00,0,1\n", "line 2: ContextTokens is 0"),
        ("2023-11-16 10:00:00,1,9999999\n", "line 2: 10000000 tokens"),
        ("2023-11-16 10:00:00,many,1\n", "line 2"),
        (
            "\n\n2023-11-16 10:00:00,0,1\n",
            "line 4: ContextTokens is 0",
        ),
        (
            "2023-11-16 10:00:01,1,1\n2023-11-16 10:00:00,1,1\n",
            "line 3: it came before",
        ),
    ] {
        let error = azure::parse(&format!("{head}{lines}")).expect_err(lines);
        assert!(error.contains(expected), "{lines:?}: {error}");
    }
}
