//! `cargo xtask demo`: a small real workload through Envoy, the filter, the backend and two models.
//! Every row of the workload says what must come of it, so the demo is a test as well.

mod answer;
mod bill;
mod ledger;
mod report;
mod setting;
mod workload;

use crate::cli::DemoOptions;
use crate::error::XtaskError;
use crate::machine::Machine;
use crate::signals::Interrupt;
use crate::stack::Stack;
use crate::{build, fetch};
use answer::Answer;
use farthing_host_tests::client;
use report::{Line, Summary};
use std::collections::HashMap;
use std::time::Instant;
use workload::Row;

pub use report::quantile;

/// Fetches, builds, starts, sends, adds up.
pub fn run(options: &DemoOptions, interrupt: &Interrupt) -> Result<(), XtaskError> {
    fetch::everything(interrupt)?;
    build::everything(interrupt)?;
    send(options, interrupt)
}

/// The demo on parts that are there: starts, sends, adds up.
pub fn send(options: &DemoOptions, interrupt: &Interrupt) -> Result<(), XtaskError> {
    let lines = send_all(interrupt)?;
    let summary = Summary::of(&lines);
    summary.print(&Machine::here());
    match &options.json {
        Some(path) => report::write_json(path, &lines, &summary),
        None => Ok(()),
    }
}

/// Runs the workload on a stack of its own; an error names the first row that went wrong.
fn send_all(interrupt: &Interrupt) -> Result<Vec<Line>, XtaskError> {
    let rows = workload::rows()?;
    let started = Instant::now();
    let mut stack = Stack::start(setting::stack_options()?, interrupt)?;
    eprintln!(
        "demo: backend and Envoy serve on {} ({:.1} s)\n",
        stack.address(),
        started.elapsed().as_secs_f64()
    );
    Line::print_headings();
    let prices = setting::prices()?;
    let mut lines = Vec::with_capacity(rows.len());
    let mut texts: HashMap<String, Vec<String>> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        let number = index + 1;
        let wrong = |reason: String| {
            XtaskError::Unexpected(format!("request {number} ({}): {reason}", row.what))
        };
        let (answer, latency_ms) = send_one(&stack, row, interrupt)?;
        let answer = answer.map_err(wrong)?;
        let line = line(&mut stack, row, number, &answer, latency_ms)?;
        line.print();
        bill::check_line(&line, &prices).map_err(wrong)?;
        check(row, &answer, &texts).map_err(wrong)?;
        if let Some(id) = &row.id {
            texts.insert(id.clone(), answer.texts);
        }
        lines.push(line);
    }
    bill::check_sums(&lines, stack.backend.address())?;
    stack.stop()?;
    Ok(lines)
}

/// Sends one row; the answer, or what is malformed about it, and the time to its last byte.
fn send_one(
    stack: &Stack,
    row: &Row,
    interrupt: &Interrupt,
) -> Result<(Result<Answer, String>, f64), XtaskError> {
    let address = stack.address();
    let body = row.bytes()?;
    let authorization = format!("Bearer {}", setting::credential(&row.tenant));
    let path = row.path.clone();
    let own_headers = row.headers.clone();
    let started = Instant::now();
    let response = interrupt.race(move || {
        let mut headers = vec![
            ("content-type", "application/json"),
            ("authorization", authorization.as_str()),
        ];
        headers.extend(
            own_headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        client::request(address, "POST", &path, &headers, &body)
    })?;
    let latency_ms = started.elapsed().as_secs_f64() * 1_000.0;
    let response = response.map_err(XtaskError::io(format!("request \"{}\"", row.what)))?;
    Ok((answer::read(&response), latency_ms))
}

/// What the request did: by its headers, and by the ledger, which also knows what a stream cost.
fn line(
    stack: &mut Stack,
    row: &Row,
    number: usize,
    answer: &Answer,
    latency_ms: f64,
) -> Result<Line, XtaskError> {
    let mut line = Line {
        request: number,
        tenant: row.tenant.clone(),
        what: row.what.clone(),
        status: answer.status,
        source: answer
            .source
            .clone()
            .unwrap_or_else(|| "refused".to_string()),
        model: answer.model.clone(),
        tried: answer.tried.clone(),
        overhead_nanousd: answer.overhead_nanousd,
        prompt_tokens: answer.prompt_tokens.unwrap_or(0),
        completion_tokens: answer.completion_tokens.unwrap_or(0),
        cost_nanousd: 0,
        as_asked_nanousd: 0,
        latency_ms,
    };
    let (Some(_), Some(request_id)) = (&answer.tier, &answer.request_id) else {
        return Ok(line);
    };
    let entry = ledger::entry(&mut stack.envoy, request_id)?;
    line.prompt_tokens = entry.prompt_tokens;
    line.completion_tokens = entry.completion_tokens;
    line.cost_nanousd = entry.cost_nanousd;
    line.as_asked_nanousd = entry.as_asked_nanousd;
    if answer
        .cost_nanousd
        .is_some_and(|cost| cost != entry.cost_nanousd)
    {
        let cost = answer.cost_nanousd.unwrap_or(0);
        return Err(XtaskError::Unexpected(format!(
            "request {number} ({}): its header says {cost} nano-dollars, the ledger {}",
            row.what, entry.cost_nanousd
        )));
    }
    Ok(line)
}

/// Whether what came is what the row says must come.
fn check(row: &Row, answer: &Answer, texts: &HashMap<String, Vec<String>>) -> Result<(), String> {
    let expect = &row.expect;
    if answer.status != expect.status {
        let code = answer.error_code.as_deref().unwrap_or("no error code");
        return Err(format!(
            "status {} ({code}), expected {}",
            answer.status, expect.status
        ));
    }
    same(
        "x-farthing-source",
        answer.source.as_deref(),
        expect.source.as_deref(),
    )?;
    same(
        "x-farthing-model",
        answer.model.as_deref(),
        expect.model.as_deref(),
    )?;
    same(
        "x-farthing-tried",
        Some(answer.tried.as_deref().unwrap_or("none")),
        expect.tried.as_deref(),
    )?;
    same(
        "error.code",
        answer.error_code.as_deref(),
        expect.code.as_deref(),
    )?;
    match &expect.same_answer_as {
        Some(id) if texts.get(id) != Some(&answer.texts) => Err(format!(
            "its answer {:?} is not that of \"{id}\"",
            answer.texts
        )),
        _ => Ok(()),
    }
}

fn same(what: &str, found: Option<&str>, expected: Option<&str>) -> Result<(), String> {
    match expected {
        Some(_) if found != expected => Err(format!(
            "{what} is {}, expected {}",
            found.unwrap_or("absent"),
            expected.unwrap_or_default()
        )),
        _ => Ok(()),
    }
}
