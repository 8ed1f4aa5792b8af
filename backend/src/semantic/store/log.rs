//! The file of the embedded store: records one after the other, each with its length and checksum.
//! Whatever was written before the process was killed is there; of a record that was not written
//! to its end, or that has rotted, nothing but itself is lost, for the next one is found by its
//! mark.

use ciborium::{from_reader, into_writer};
use farthing_core::limits::SEMANTIC_FRAME_BYTES_MAX;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Record, RecordId};
use crate::semantic::scope::RouteKey;

/// What a file begins with: its format and the version of it.
pub(super) const FILE_MAGIC: [u8; 8] = *b"FSC\x001\r\n\x1a";

/// What every record begins with: bytes that no text in UTF-8 has.
const MARK: [u8; 4] = [0xf5, 0xfe, 0xc1, 0xff];

/// Mark, length, checksum.
const HEAD_BYTES: usize = 4 + 4 + 8;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Event {
    Put(Record),
    Removed(RecordId),
    Samples { route: RouteKey, samples: Vec<u8> },
}

/// What could not be read of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Places where something else was than a whole record.
    pub places: u64,
    /// Bytes of them together.
    pub bytes: u64,
}

/// An event as it is written; nothing of one that is too long to be read back.
pub(super) fn frame(event: &Event) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEAD_BYTES];
    into_writer(event, &mut frame).ok()?;
    let length = frame.len() - HEAD_BYTES;
    if length > SEMANTIC_FRAME_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(length).ok()?.to_le_bytes();
    let checksum = checksum(length, frame.get(HEAD_BYTES..)?);
    frame[..4].copy_from_slice(&MARK);
    frame[4..8].copy_from_slice(&length);
    frame[8..HEAD_BYTES].copy_from_slice(&checksum);
    Some(frame)
}

/// An event by itself: what a file of it alone would be.
pub(super) fn seal(event: &Event) -> Option<Vec<u8>> {
    Some([FILE_MAGIC.as_slice(), &frame(event)?].concat())
}

/// What was sealed; nothing if it is not exactly that.
pub(super) fn open(sealed: &[u8]) -> Option<Event> {
    let (event, rest) = first(sealed.strip_prefix(&FILE_MAGIC)?)?;
    rest.is_empty().then_some(event)
}

/// Everything of a file behind its magic that can be read, in order, and what could not.
pub(super) fn scan(mut bytes: &[u8], mut take: impl FnMut(Event)) -> Damage {
    let mut damage = Damage::default();
    while !bytes.is_empty() {
        if let Some((event, rest)) = first(bytes) {
            take(event);
            bytes = rest;
            continue;
        }
        let next = next_frame(bytes);
        damage.places += 1;
        damage.bytes += next as u64;
        bytes = &bytes[next..];
    }
    damage
}

/// Where the next whole record begins after the first byte; the end if there is none.
fn next_frame(bytes: &[u8]) -> usize {
    let marks = bytes.windows(MARK.len()).enumerate().skip(1);
    let mut starts = marks
        .filter(|(_, window)| *window == MARK)
        .map(|(at, _)| at);
    let is_whole = |at: &usize| first(&bytes[*at..]).is_some();
    starts.find(is_whole).unwrap_or(bytes.len())
}

/// The record at the beginning of `bytes`, if a whole one is there, and what follows it.
fn first(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let length_bytes: [u8; 4] = head.get(4..8)?.try_into().ok()?;
    let length = u32::from_le_bytes(length_bytes) as usize;
    if head.get(..4)? != MARK || length > SEMANTIC_FRAME_BYTES_MAX {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length)?;
    if head.get(8..)? != checksum(length_bytes, body) {
        return None;
    }
    Some((from_reader(body).ok()?, rest))
}

/// Against rot and torn writes; whoever can write to the file can write what they like anyway.
fn checksum(length: [u8; 4], body: &[u8]) -> [u8; 8] {
    let mut digest = Sha256::new();
    digest.update(length);
    digest.update(body);
    let hash: [u8; 32] = digest.finalize().into();
    let mut short = [0; 8];
    short.copy_from_slice(&hash[..8]);
    short
}
