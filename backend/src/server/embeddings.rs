//! `/v1/embeddings`.

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::wire::embeddings::embeddings_list;
use farthing_core::wire::{Usage, parse_embeddings};
use hyper::Response;
use hyper::body::Bytes;

use super::reply::{self, ReplyBody};
use super::router::Call;
use crate::metrics::Operation;

/// Answers one request: one vector for each input, in the order of the inputs.
///
/// # Errors
/// What the request is refused for, or why the model failed.
pub async fn answer(call: Call<'_>, body: Bytes) -> Result<Response<ReplyBody>, ApiError> {
    let request = parse_embeddings(&body)?;
    let embedder = call.state.embedder(&request.model)?;
    let mut measure = call.measure(Operation::Embeddings, &embedder.id, 1);
    let embedded = embedder
        .embed(request.input)
        .await
        .inspect_err(|_| measure.failed())?;
    let prompt_tokens = embedded.tokens as u64;
    check_dimensions(request.dimensions, &embedded.vectors).inspect_err(|_| measure.failed())?;
    measure.completed(Usage {
        prompt_tokens,
        ..Usage::default()
    });
    let bytes = embeddings_list(
        &embedder.id,
        &embedded.vectors,
        request.encoding_format,
        prompt_tokens,
    );
    Ok(reply::from_model(reply::json(bytes), &embedder.id))
}

/// These models are not trained to be cut short: another length is refused, not faked.
fn check_dimensions(wanted: Option<u32>, vectors: &[Vec<f32>]) -> Result<(), ApiError> {
    let made = vectors.first().map_or(0, Vec::len);
    match wanted {
        Some(wanted) if wanted as usize != made => {
            let message = format!("this model's embeddings have {made} dimensions");
            Err(ApiError::new(ErrorKind::InvalidValue, message).param("dimensions"))
        }
        _ => Ok(()),
    }
}
