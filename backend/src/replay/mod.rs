//! `farthing replay`: what a pool of blocks would have saved on a recorded trace. [`mooncake`]
//! reads a trace, [`measure`] replays it, both purely; here the file is read and the result is
//! said.

pub mod measure;
pub mod mooncake;

use std::fs;
use std::io::{self, Read, Write};

use farthing_core::limits::REPLAY_BYTES_MAX;
use serde_json::json;

use crate::cli::ReplayMooncakeArgs;
use crate::error::BackendError;
use measure::PrefixHits;

/// `farthing replay mooncake`: replays a trace at each size of the pool that is asked for.
///
/// # Errors
/// The file cannot be read or is not such a trace, by its line; the result cannot be printed.
pub fn replay_mooncake(args: &ReplayMooncakeArgs) -> Result<(), BackendError> {
    let name = args.file.display().to_string();
    let failed = |source| BackendError::Io {
        what: name.clone(),
        source,
    };
    let mut text = String::new();
    let file = fs::File::open(&args.file).map_err(failed)?;
    let mut bounded = file.take(REPLAY_BYTES_MAX + 1);
    let bytes = bounded.read_to_string(&mut text).map_err(failed)?;
    if bytes as u64 > REPLAY_BYTES_MAX {
        let problem = format!("the file has over {REPLAY_BYTES_MAX} bytes");
        return Err(BackendError::Trace(format!("{name}: {problem}")));
    }
    let requests = mooncake::parse(&text)
        .map_err(|problem| BackendError::Trace(format!("{name}: {problem}")))?;
    let mut out = io::stdout().lock();
    for blocks in &args.blocks {
        let hits = PrefixHits::measure(&requests, blocks.get());
        let said = if args.json {
            report_json(&mut out, blocks.get(), &hits)
        } else {
            report(&mut out, blocks.get(), &hits)
        };
        said.map_err(|source| BackendError::Io {
            what: "standard output".to_owned(),
            source,
        })?;
    }
    Ok(())
}

fn report(out: &mut impl Write, blocks: usize, hits: &PrefixHits) -> io::Result<()> {
    let percent = |count| 100.0 * hits.share(count);
    writeln!(
        out,
        "{blocks} blocks, {} requests of {} blocks: {:.2} % hit, plain LRU {:.2} %, unbounded {:.2} %",
        hits.requests,
        hits.asked,
        percent(hits.pool),
        percent(hits.lru),
        percent(hits.unbounded)
    )
}

fn report_json(out: &mut impl Write, blocks: usize, hits: &PrefixHits) -> io::Result<()> {
    let line = json!({"replay": "mooncake", "metric": "prefix_hit_share", "blocks": blocks,
        "value": hits.share(hits.pool), "baseline": "lru", "baseline_value": hits.share(hits.lru),
        "unbounded": hits.share(hits.unbounded), "requests": hits.requests,
        "asked_blocks": hits.asked, "hit_blocks": hits.pool});
    writeln!(out, "{line}")
}
