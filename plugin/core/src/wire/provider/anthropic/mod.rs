//! Anthropic's Messages.

mod answer;
mod events;
mod request;

pub(super) use answer::answer;
pub(super) use events::AnthropicEvents;
pub(super) use request::request;
