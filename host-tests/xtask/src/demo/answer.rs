//! What a client sees of a response: the same words and numbers, streamed or not.

use farthing_host_tests::client::Response;
use serde_json::Value;

/// A response, read.
#[derive(Default)]
pub struct Answer {
    pub status: u16,
    /// `x-farthing-source`; absent for errors.
    pub source: Option<String>,
    pub model: Option<String>,
    /// `x-farthing-tried`: the models of a cascade that were asked in vain.
    pub tried: Option<String>,
    /// `x-farthing-wasted-usd`: what the backend spent besides the answer.
    pub overhead_nanousd: u64,
    /// `x-farthing-tier`: the filter judged the request, so that its ledger knows it.
    pub tier: Option<String>,
    pub request_id: Option<String>,
    /// Of the headers, which a streamed response sends before the cost is known.
    pub cost_nanousd: Option<u64>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub error_code: Option<String>,
    /// The generated text of every choice, in order of their index.
    pub texts: Vec<String>,
}

/// Reads a response; an error says what is malformed about it.
pub fn read(response: &Response) -> Result<Answer, String> {
    let text = |name: &str| response.header(name).map(str::to_string);
    let money = |name: &str| response.header(name).map(nanousd).transpose();
    let mut answer = Answer {
        status: response.status,
        source: text("x-farthing-source"),
        model: text("x-farthing-model"),
        tried: text("x-farthing-tried"),
        overhead_nanousd: money("x-farthing-wasted-usd")?.unwrap_or(0),
        tier: text("x-farthing-tier"),
        request_id: text("x-farthing-request-id"),
        cost_nanousd: money("x-farthing-cost-usd")?,
        ..Answer::default()
    };
    let content_type = response.header("content-type").unwrap_or_default();
    if content_type.starts_with("text/event-stream") {
        read_events(&response.text(), &mut answer)?;
    } else {
        let json = serde_json::from_slice(&response.body)
            .map_err(|error| format!("the body is not JSON: {error}"))?;
        read_object(&json, &mut answer);
    }
    Ok(answer)
}

/// Server-sent events: each an object of its own, and `[DONE]` at the end.
fn read_events(body: &str, answer: &mut Answer) -> Result<(), String> {
    let mut done = false;
    for event in body.split("\n\n").filter(|event| !event.trim().is_empty()) {
        let data = event
            .strip_prefix("data: ")
            .ok_or_else(|| format!("odd event {event:?}"))?;
        if done {
            return Err("events follow [DONE]".to_string());
        }
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let json = serde_json::from_str(data)
            .map_err(|error| format!("an event is not JSON: {error}: {data:?}"))?;
        read_object(&json, answer);
    }
    if done {
        Ok(())
    } else {
        Err("the stream ends without [DONE]".to_string())
    }
}

fn read_object(json: &Value, answer: &mut Answer) {
    let usage = &json["usage"];
    answer.prompt_tokens = usage["prompt_tokens"].as_u64().or(answer.prompt_tokens);
    answer.completion_tokens = usage["completion_tokens"]
        .as_u64()
        .or(answer.completion_tokens);
    if let Some(code) = json["error"]["code"].as_str() {
        answer.error_code = Some(code.to_string());
    }
    for choice in json["choices"].as_array().into_iter().flatten() {
        let index = choice["index"]
            .as_u64()
            .and_then(|index| usize::try_from(index).ok());
        let index = index.unwrap_or(0).min(CHOICES_MAX - 1);
        if answer.texts.len() <= index {
            answer.texts.resize(index + 1, String::new());
        }
        let pieces = [
            &choice["message"]["content"],
            &choice["delta"]["content"],
            &choice["text"],
        ];
        for piece in pieces.into_iter().filter_map(Value::as_str) {
            answer.texts[index].push_str(piece);
        }
    }
}

/// The API's own limit of `n`.
const CHOICES_MAX: usize = 8;

/// Dollars with at most nine decimals, as nano-dollars.
fn nanousd(usd: &str) -> Result<u64, String> {
    let odd = || format!("odd amount {usd:?}");
    let (whole, fraction) = usd.split_once('.').unwrap_or((usd, ""));
    if fraction.len() > 9 {
        return Err(odd());
    }
    let digits = format!("{whole}{fraction:0<9}");
    digits.parse().map_err(|_| odd())
}

#[cfg(test)]
mod tests {
    use super::{nanousd, read_events};

    #[test]
    fn dollars_become_nano_dollars() {
        for (usd, expected) in [
            ("0", Some(0)),
            ("0.000001520", Some(1_520)),
            ("1.5", Some(1_500_000_000)),
            ("12", Some(12_000_000_000)),
            ("-1", None),
            ("0.0000000001", None),
            ("a lot", None),
        ] {
            assert_eq!(nanousd(usd).ok(), expected, "{usd}");
        }
    }

    #[test]
    fn a_stream_must_end_with_done_and_nothing_after_it() {
        let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
        let done = "data: [DONE]\n\n";
        for (body, good) in [
            (format!("{event}{event}{done}"), true),
            (event.to_string(), false),
            (format!("{done}{event}"), false),
            (format!("data: {{\n\n{done}"), false),
        ] {
            let mut answer = super::Answer::default();
            assert_eq!(read_events(&body, &mut answer).is_ok(), good, "{body}");
        }
    }
}
