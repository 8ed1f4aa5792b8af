//! Text on its way into a model and out of it: tokenizer and chat template, both from the model
//! file itself; then bytes back to text, and stop strings.
//!
//! In: [`ChatTemplate::render`] turns messages into a prompt, [`Tokenizer::encode_chat`] into
//! tokens. Out: [`Tokenizer::token_bytes`] → [`Detokenizer`] → [`StopMatcher`] → the client.
//! [`GrammarCompiler`] says which tokens may come, for answers that must have a form.

mod calendar;
mod chat_template;
mod control_marks;
mod detokenizer;
mod framing;
mod gguf_source;
mod grammar;
mod hugging_face_source;
mod stop;
mod template_functions;
mod template_values;
mod tokenizer;

pub use chat_template::{ChatPrompt, ChatTemplate, GenerationPrompt, no_chat_template};
pub use control_marks::MarkedText;
pub use detokenizer::Detokenizer;
pub use farthing_core::bpe::Specials;
pub use framing::vocabulary_file;
pub use grammar::{Grammar, GrammarCompiler, TokenMask};
pub use stop::{StopMatcher, StopState};
pub use tokenizer::{Tokenizer, TokenizerSource};
