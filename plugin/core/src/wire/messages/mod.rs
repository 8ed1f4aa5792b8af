//! `/v1/messages`, Anthropic's API: its requests, and its answers as the cache keeps them. The
//! shapes are those of docs.anthropic.com/en/api/messages.

mod answer;
mod replay;
mod request;

pub(super) use answer::{MessageCollector, is_complete};
pub(super) use replay::replay;
pub(super) use request::parse;
