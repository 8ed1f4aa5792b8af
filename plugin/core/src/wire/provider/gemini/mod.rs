//! Google's Gemini.

mod answer;
mod candidate;
mod events;
mod request;

pub(super) use answer::answer;
pub(super) use events::GeminiEvents;
pub(super) use request::request;
