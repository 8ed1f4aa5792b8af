//! The backend: what the edge could not answer is answered here, by quantized models under
//! continuous batching. One thread owns models and KV cache; tokio only moves bytes.

pub mod bench;
pub mod calibrate;
pub mod cascade;
pub mod cli;
pub mod config;
pub mod embed;
pub mod engine;
pub mod error;
pub mod labelled;
pub mod liveness;
pub mod metrics;
pub mod model;
pub mod perplexity;
mod picture;
pub mod pre_router;
pub mod provider;
pub mod quantize;
pub mod remote;
pub mod replay;
pub mod semantic;
pub mod server;
pub mod store;
pub mod text;
pub mod vocabulary;
pub mod yes_no;
