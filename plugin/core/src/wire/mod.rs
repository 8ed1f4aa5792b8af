//! The only place that knows JSON shapes: bytes to typed requests, answers to bytes, and streams.
//!
//! Requests: [`json`] reads bytes into an ordered tree that no two parsers can read differently,
//! [`request`] turns the tree into types ([`chat`], [`completions`], [`sampling`] hold the parts;
//! `/v1/responses` and `/v1/messages` have folders of their own), [`answer_form`] is what an answer
//! must look like, [`compact`] finds its texts and
//! [`rewrite`] changes what the upstream must read differently.
//!
//! Answers: [`response`] and [`stream`] write them, [`completed`] reads a whole one back for the
//! cache, [`collect`] rebuilds one from a stream, [`replay`] sends it again.
//!
//! Streams: [`sse`] cuts bytes into events, [`strip`] takes out the usage event that the client did
//! not ask for, [`meter`] watches them go by, [`passing`] does all that with one, and reads no
//! event twice that is like those before it.
//!
//! Other providers: [`provider`] writes requests in their words and reads what they answer.

mod alike;
pub mod answer_form;
pub mod chat;
pub mod collect;
pub mod compact;
pub mod completed;
pub mod completions;
pub mod embeddings;
mod endpoint;
mod fields;
pub mod images;
pub mod json;
pub mod logprobs;
mod messages;
pub mod meter;
pub mod models;
mod parts;
pub mod passing;
pub mod provider;
pub mod replay;
pub mod request;
pub mod response;
mod responses;
pub mod rewrite;
pub mod sampling;
pub mod sse;
pub mod stream;
pub mod strip;
pub mod usage;

pub use answer_form::{AnswerForm, Form};
pub use chat::{Message, Role};
pub use collect::StreamCollector;
pub use completed::{Completed, parse_completed};
pub use completions::Prompt;
pub use embeddings::{EmbeddingsRequest, EncodingFormat, parse_embeddings};
pub use endpoint::Endpoint;
pub use images::{ImageSource, Images};
pub(crate) use json::scan::is_same;
pub use json::{Json, Number};
pub use logprobs::{TokenConfidence, TokenLogprob};
pub use passing::{More, PassingStream};
pub use replay::{UsageEvent, replay_json, replay_sse};
pub use request::{PromptExtent, Request, Reuse, parse};
pub use response::{AnswerHead, Choice, FinishReason};
pub use sampling::Sampling;
pub use strip::UsageStripper;
pub use usage::Usage;

/// Serialises one of our own plain structs.
///
/// It cannot fail: memory does not refuse a write, and no struct of ours has a map with keys that
/// are not strings. Should that ever change, an empty body is still better than a trap in the host.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
