//! Reading a request's body: JSON, not compressed, within a size and a time.

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits::REQUEST_BODY_BYTES_MAX;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use crate::config::HttpConfig;

/// Reads the whole body.
///
/// # Errors
/// `UnsupportedEncoding`, `UnsupportedMediaType`, `BodyTooLarge` (before reading where the length
/// is declared), `RequestTimeout`, and `InvalidValue` for a body that is cut or badly chunked.
pub async fn read(
    headers: &HeaderMap,
    incoming: Incoming,
    http: &HttpConfig,
) -> Result<Bytes, ApiError> {
    check_headers(headers)?;
    let declared_max = u64::try_from(REQUEST_BODY_BYTES_MAX).unwrap_or(u64::MAX);
    if incoming.size_hint().lower() > declared_max {
        return Err(too_large());
    }
    let collecting = Limited::new(incoming, REQUEST_BODY_BYTES_MAX).collect();
    match tokio::time::timeout(http.body_timeout(), collecting).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::new(
            ErrorKind::InvalidValue,
            "the body is cut or malformed",
        )),
        Err(_) => {
            let message = format!("the body did not arrive within {} ms", http.body_timeout_ms);
            Err(ApiError::new(ErrorKind::RequestTimeout, message))
        }
    }
}

/// A body we would misread is refused by its headers, before a byte of it is read.
fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    for value in headers.get_all(CONTENT_ENCODING) {
        if !value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"identity")
        {
            let message = "compressed bodies are not accepted; send JSON without content-encoding";
            return Err(ApiError::new(ErrorKind::UnsupportedEncoding, message));
        }
    }
    for value in headers.get_all(CONTENT_TYPE) {
        let media_type = value
            .as_bytes()
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        if !media_type
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
        {
            let message = "the content-type must be application/json";
            return Err(ApiError::new(ErrorKind::UnsupportedMediaType, message));
        }
    }
    Ok(())
}

fn too_large() -> ApiError {
    let message = format!("the body is larger than {REQUEST_BODY_BYTES_MAX} bytes");
    ApiError::new(ErrorKind::BodyTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], expected: Option<ErrorKind>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, hyper::header::HeaderValue::from_static(value));
        }
        assert_eq!(
            check_headers(&map).err().map(|error| error.kind),
            expected,
            "{headers:?}"
        );
    }

    #[test]
    fn headers_decide_before_the_body_is_read() {
        check(&[], None);
        check(&[("content-type", "application/json")], None);
        check(
            &[("content-type", "Application/JSON ; charset=utf-8")],
            None,
        );
        check(&[("content-encoding", "identity")], None);
        check(
            &[("content-type", "text/plain")],
            Some(ErrorKind::UnsupportedMediaType),
        );
        check(
            &[("content-type", "application/jsonx")],
            Some(ErrorKind::UnsupportedMediaType),
        );
        check(
            &[("content-type", "")],
            Some(ErrorKind::UnsupportedMediaType),
        );
        check(
            &[("content-encoding", "gzip")],
            Some(ErrorKind::UnsupportedEncoding),
        );
        check(
            &[("content-encoding", "identity, br")],
            Some(ErrorKind::UnsupportedEncoding),
        );
        let twice = [
            ("content-encoding", "identity"),
            ("content-encoding", "gzip"),
        ];
        check(&twice, Some(ErrorKind::UnsupportedEncoding));
    }
}
