//! From a request line to the route that answers, and around it what all routes share: the
//! request's identity, its status count, its log line.

use std::sync::Arc;
use std::time::Instant;

use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits;
use farthing_core::vocabulary::loading::VOCABULARIES_PATH;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response};

use super::identity::{Identity, REQUEST_ID};
use super::measure::{Measure, Subject};
use super::overhead::Overhead;
use super::reply::{self, ReplyBody};
use super::{State, body, embeddings, generate, health, log, models};
use crate::metrics::Operation;

/// What a path and a method lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Generate(Operation),
    Embeddings,
    Models,
    Model(&'a str),
    Vocabulary(&'a str),
    Healthz,
    Readyz,
    Metrics,
    /// The path answers these methods only.
    WrongMethod(&'static str),
    Unknown,
}

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

/// Paths are compared as they are: no decoding, no folding of slashes, so no spelling slips past a
/// rule that a proxy before us holds for the plain one.
fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let (found, allowed) = match path {
        "/v1/chat/completions" => (Route::Generate(Operation::Chat), POST),
        "/v1/completions" => (Route::Generate(Operation::TextCompletion), POST),
        "/v1/embeddings" => (Route::Embeddings, POST),
        "/v1/models" => (Route::Models, GET),
        "/healthz" => (Route::Healthz, GET),
        "/readyz" => (Route::Readyz, GET),
        "/metrics" => (Route::Metrics, GET),
        _ => {
            let below = |parent| path.strip_prefix(parent).filter(|id| !id.is_empty());
            match (below("/v1/models/"), below(VOCABULARIES_PATH)) {
                (Some(id), _) => (Route::Model(id), GET),
                (_, Some(name)) => (Route::Vocabulary(name), GET),
                (None, None) => return Route::Unknown,
            }
        }
    };
    let fits = match *method {
        Method::GET | Method::HEAD => allowed == GET,
        Method::POST => allowed == POST,
        _ => false,
    };
    if fits {
        found
    } else {
        Route::WrongMethod(allowed)
    }
}

/// Answers one request. Never fails: what goes wrong is an answer too.
pub async fn answer(state: Arc<State>, request: Request<Incoming>) -> Response<ReplyBody> {
    let arrived = Instant::now();
    let (head, incoming) = request.into_parts();
    let identity = Identity::read(&head.headers, &state.salts);
    let chunked = head.headers.contains_key(TRANSFER_ENCODING);
    let overhead = Overhead::of(&state.overheads, identity.tenant);
    let answered = match check_head(&head.headers) {
        Err(error) => Err(error),
        Ok(()) => {
            let call = Call {
                state: &state,
                headers: &head.headers,
                identity: &identity,
                arrived,
                overhead: &overhead,
            };
            call.dispatch(route(&head.method, head.uri.path()), incoming)
                .await
        }
    };
    let mut response = answered.unwrap_or_else(|error| reply::error(&error));
    if chunked {
        // hyper lets `transfer-encoding` win over a `content-length` beside it and hides the
        // latter. Where the proxy before us read the other one, the two of us disagree on where
        // the next request starts; closing leaves no next request to smuggle.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(id) = &identity.request_id {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    let status = response.status().as_u16();
    state.metrics.count_status(status);
    if status >= 400 {
        let elapsed_ms = arrived.elapsed().as_millis();
        let fields: [(&str, &dyn std::fmt::Display); 3] = [
            ("request_id", &identity.log_id()),
            ("status", &status),
            ("elapsed_ms", &elapsed_ms),
        ];
        log::event("refused", &fields);
    }
    response
}

/// hyper's own limits answer without a body; ours are half of them and answer in our shape.
fn check_head(headers: &HeaderMap) -> Result<(), ApiError> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if headers.len() <= limits::HTTP_HEADERS_MAX && bytes <= limits::HTTP_HEAD_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "at most {} headers of {} bytes together are allowed",
        limits::HTTP_HEADERS_MAX,
        limits::HTTP_HEAD_BYTES_MAX
    );
    Err(ApiError::new(ErrorKind::HeadersTooLarge, message))
}

/// One request on its way to its route.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Everything the server holds.
    pub state: &'a Arc<State>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// Whose request it is.
    pub identity: &'a Identity,
    /// When its headers were complete.
    pub arrived: Instant,
    /// What it costs besides its answer.
    pub overhead: &'a Overhead,
}

impl Call<'_> {
    /// Starts measuring the answer of `model`, which makes `choices` answers side by side.
    pub fn measure(self, operation: Operation, model: &str, choices: usize) -> Measure {
        let (model, request_id) = (model.to_owned(), self.identity.log_id().to_owned());
        let subject = Subject {
            operation,
            model,
            request_id,
            choices,
        };
        Measure::new(&self.state.metrics, subject, self.arrived)
    }

    /// One line for an answer that nothing was measured of: it was kept.
    pub fn log_stored(self, operation: Operation, model: &str) {
        let fields: [(&str, &dyn std::fmt::Display); 5] = [
            ("request_id", &self.identity.log_id()),
            ("operation", &operation.as_str()),
            ("model", &model),
            ("outcome", &"stored"),
            ("elapsed_ms", &self.arrived.elapsed().as_millis()),
        ];
        log::event("request", &fields);
    }

    async fn dispatch(
        self,
        route: Route<'_>,
        incoming: Incoming,
    ) -> Result<Response<ReplyBody>, ApiError> {
        match route {
            Route::Generate(operation) => {
                let bytes = body::read(self.headers, incoming, &self.state.config.http).await?;
                generate::answer(self, operation, bytes).await
            }
            Route::Embeddings => {
                let bytes = body::read(self.headers, incoming, &self.state.config.http).await?;
                embeddings::answer(self, bytes).await
            }
            Route::Models => Ok(models::list(self.state)),
            Route::Model(id) => models::one(self.state, id),
            Route::Vocabulary(name) => self.state.vocabularies.answer(name, self.headers),
            Route::Healthz => Ok(health::live()),
            Route::Readyz => health::ready(self.state),
            Route::Metrics => Ok(health::metrics(self.state)),
            Route::WrongMethod(allowed) => {
                let message = format!("this path answers {allowed}");
                let error = ApiError::new(ErrorKind::MethodNotAllowed, message);
                let mut response = reply::error(&error);
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static(allowed));
                Ok(response)
            }
            Route::Unknown => Err(ApiError::new(
                ErrorKind::NotFound,
                "there is nothing at this path",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: Method, path: &str, expected: Route<'_>) {
        assert_eq!(route(&method, path), expected, "{method} {path}");
    }

    #[test]
    fn paths_lead_to_routes() {
        check(
            Method::POST,
            "/v1/chat/completions",
            Route::Generate(Operation::Chat),
        );
        check(
            Method::POST,
            "/v1/completions",
            Route::Generate(Operation::TextCompletion),
        );
        check(Method::POST, "/v1/embeddings", Route::Embeddings);
        check(Method::GET, "/v1/models", Route::Models);
        check(Method::GET, "/v1/models/a/b", Route::Model("a/b"));
        let vocabulary = "/farthing/v1/vocabularies/o200k_base";
        check(Method::GET, vocabulary, Route::Vocabulary("o200k_base"));
        check(Method::HEAD, "/healthz", Route::Healthz);
        check(Method::GET, "/readyz", Route::Readyz);
        check(Method::GET, "/metrics", Route::Metrics);
    }

    #[test]
    fn wrong_methods_name_the_right_ones() {
        check(
            Method::GET,
            "/v1/chat/completions",
            Route::WrongMethod(POST),
        );
        check(Method::DELETE, "/v1/models", Route::WrongMethod(GET));
        check(Method::POST, "/metrics", Route::WrongMethod(GET));
        check(Method::CONNECT, "/healthz", Route::WrongMethod(GET));
    }

    #[test]
    fn other_spellings_lead_nowhere() {
        for path in [
            "/",
            "//v1/models",
            "/v1/models/",
            "/farthing/v1/vocabularies/",
            "/v1/%6dodels",
            "/V1/models",
            "/v1/x/../models",
        ] {
            check(Method::GET, path, Route::Unknown);
        }
    }
}
