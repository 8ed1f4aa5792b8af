//! Replaying traces over the block pool: what is counted, and what is refused.

use farthing_backend::engine::random::SplitMix64;
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
