//! What callbacks come with: the store and the time, and whether there is more to come.

use super::Flow;
use crate::store::SharedStore;

const NS_PER_S: u64 = 1_000_000_000;

/// What a callback may look at besides its own bytes.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    pub store: &'a dyn SharedStore,
    pub now_unix_ns: u64,
}

impl Env<'_> {
    pub fn now_unix_s(&self) -> u64 {
        self.now_unix_ns / NS_PER_S
    }
}

/// Is this the last part of the message?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfStream {
    Yes,
    No,
}

/// What a response body callback is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyNeed {
    /// Hand the bytes over.
    Bytes,
    /// Answer the host with this; no bytes are needed.
    Nothing(Flow),
}
