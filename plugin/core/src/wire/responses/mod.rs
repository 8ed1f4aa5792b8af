//! `/v1/responses`, OpenAI's newer API: its requests, and its answers as the cache keeps them. The
//! shapes are those of platform.openai.com/docs/api-reference/responses.

mod answer;
mod replay;
mod request;

pub(super) use answer::{ResponseCollector, is_complete};
pub(super) use replay::replay;
pub(super) use request::{is_plain, parse};
