//! A stream of server-sent events: however its bytes are cut on their way, every reader comes to
//! the same result.

#![no_main]

use farthing_core::wire::meter::StreamMeter;
use farthing_core::wire::sse::{SseDecoder, SseEvent};
use farthing_core::wire::{
    Completed, Endpoint, StreamCollector, Usage, UsageEvent, UsageStripper, replay_sse,
};
use libfuzzer_sys::fuzz_target;

/// Streams that are cut at every byte; longer ones are cut where the input says.
const CUT_EVERYWHERE_BYTES: usize = 96;

/// What the readers make of a stream.
#[derive(Debug, PartialEq)]
struct Read {
    events: Vec<Option<Vec<u8>>>,
    completed: Option<Completed>,
    stripped: Vec<u8>,
    stripped_usage: Option<Usage>,
    metered_usage: Option<Usage>,
    is_done: bool,
}

fuzz_target!(|input: &[u8]| {
    let Some(([choice, first, second], stream)) = input.split_first_chunk() else {
        return;
    };
    let endpoint = Endpoint::ALL[usize::from(*choice) % Endpoint::ALL.len()];
    let whole = read(endpoint, [stream]);
    if stream.len() <= CUT_EVERYWHERE_BYTES {
        for at in 0..=stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(read(endpoint, [head, tail]), whole, "cut at {at}");
        }
    }
    for size in [1, usize::from(*first) + 1, usize::from(*second) * 16 + 1] {
        let cut = read(endpoint, stream.chunks(size));
        assert_eq!(cut, whole, "cut every {size} bytes");
    }
    if let Some(completed) = &whole.completed {
        let replayed = replay_sse(completed, UsageEvent::Include);
        let again = read(endpoint, [replayed.as_slice()]).completed;
        assert!(again.is_some(), "a replay is complete");
    }
});

fn read<'a>(endpoint: Endpoint, pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut decoder = SseDecoder::default();
    let mut collector = StreamCollector::new(endpoint);
    let mut stripper = UsageStripper::default();
    let mut meter = StreamMeter::new(endpoint);
    let (mut events, mut stripped) = (Vec::new(), Vec::new());
    for piece in pieces {
        decoder.push(piece, |event| {
            events.push(match event {
                SseEvent::Data(data) => Some(data.to_vec()),
                SseEvent::TooLong => None,
            });
        });
        collector.push(piece);
        stripper.push(piece, &mut stripped);
        meter.push(piece);
    }
    stripper.finish(&mut stripped);
    Read {
        events,
        completed: collector.finish(),
        stripped,
        stripped_usage: stripper.usage(),
        metered_usage: meter.usage(),
        is_done: meter.is_done(),
    }
}
