//! What a configuration can say of providers, and what is refused by its path.

use farthing_backend::cli::ServeArgs;
use farthing_backend::config::Config;

const MODEL: &str = "models: [{id: m, provider: p}]\n";

fn parse(yaml: &str) -> Result<Config, String> {
    let parsed = Config::parse(yaml, &ServeArgs::default());
    parsed.map_err(|error| error.to_string())
}

#[track_caller]
fn check_refused(yaml: &str, expected: &str) {
    let error = parse(yaml).expect_err(yaml);
    // Behind the path there may be more of where it is.
    let (path, reason) = expected.split_once(": ").expect("a path");
    let named = error.contains(&format!("{path}: "));
    assert!(
        named && error.contains(reason),
        "{error:?} lacks {expected:?}"
    );
}

/// A provider with this beside its name and API.
#[track_caller]
fn check_provider(more: &str, expected: &str) {
    let yaml = format!("providers: [{{name: p, api: openai{more}}}]\n{MODEL}");
    check_refused(&yaml, expected);
}

#[test]
fn wrong_providers_are_refused_with_their_path() {
    check_provider(
        ", key: {file: a, env: B}",
        "providers[0].key: a key is in one place",
    );
    check_provider(", key: {}", "providers[0].key: ");
    check_provider(", key: {env: 'A=B'}", "providers[0].key: ");
    check_provider(", key: sk-abc", "providers[0].key: ");
    check_provider(", keys: {env: A}", "providers[0].keys: unknown field");
    check_provider(
        ", base_url: api.openai.com",
        "providers[0].base_url: must begin",
    );
    check_provider(
        ", base_url: 'ftp://a/'",
        "providers[0].base_url: must begin",
    );
    check_provider(
        ", base_url: 'https://a b/'",
        "providers[0].base_url: must be",
    );
    check_provider(
        ", base_url: 'https://u:canary@a/'",
        "providers[0].base_url: must name a host",
    );
    check_provider(
        ", base_url: 'https://a/v1?key=x'",
        "providers[0].base_url: ",
    );
    check_provider(", base_url: 'https://a/v1#x'", "providers[0].base_url: ");
    check_provider(
        ", base_url: 'http://example.com/v1'",
        "providers[0].base_url: sends keys",
    );
    check_provider(", base_url: 'https://a/', tls: off", "providers[0].tls: ");
    check_provider(", tls: false", "providers[0].tls: ");
    check_provider(
        ", base_url: 'http://[::1]:1/', ca_file: x",
        "providers[0].ca_file: ",
    );
    check_refused(
        &format!("providers: [{{name: p}}]\n{MODEL}"),
        "providers[0]: missing field",
    );
    check_refused(
        &format!("providers: [{{name: p, api: cohere}}]\n{MODEL}"),
        "providers[0].api: ",
    );
    check_refused(
        &format!("providers: [{{name: p q, api: openai}}]\n{MODEL}"),
        "providers[0].name: ",
    );
    let two = "[{name: p, api: openai}, {name: p, api: gemini}]";
    check_refused(&format!("providers: {two}\n{MODEL}"), "providers[1].name: ");
}

#[test]
fn timeouts_retries_and_breakers_have_bounds() {
    check_provider(
        ", connect_timeout_ms: 0",
        "providers[0].connect_timeout_ms: ",
    );
    check_provider(
        ", idle_timeout_ms: 3600001",
        "providers[0].idle_timeout_ms: 3600001 is over",
    );
    check_provider(
        ", retries: {attempts: 11}",
        "providers[0].retries.attempts: 11 is over 10",
    );
    check_provider(
        ", retries: {tries: 1}",
        "providers[0].retries.tries: unknown field",
    );
    check_provider(
        ", retries: {budget_percent: 101}",
        "providers[0].retries.budget_percent: ",
    );
    check_provider(
        ", breaker: {requests_min: 0}",
        "providers[0].breaker.requests_min: ",
    );
    check_provider(
        ", breaker: {requests_min: 1025}",
        "providers[0].breaker.requests_min: ",
    );
    check_provider(
        ", breaker: {open_ms: 2000, open_max_ms: 1000}",
        "providers[0].breaker.open_max_ms: ",
    );
}

#[track_caller]
fn check_models(models: &str, expected: &str) {
    let yaml = format!("providers: [{{name: p, api: openai}}]\nmodels: {models}\n");
    check_refused(&yaml, expected);
}

#[test]
fn wrong_models_of_providers_are_refused_with_their_path() {
    check_models(
        "[{id: m, provider: q}]",
        "models[0].provider: no provider \"q\"",
    );
    check_models(
        "[{id: m, provider: p, path: x}]",
        "models[0]: a model has a path, or a provider",
    );
    check_models("[{id: m}]", "models[0]: a model has a path, or a provider");
    check_models("[{id: m m, provider: p}]", "models[0].id: ");
    for field in [
        "kv_tokens: 1",
        "kv_dtype: f16",
        "weight: 1",
        "draft_model: m",
    ] {
        let name = field.split(':').next().expect("a name");
        check_models(
            &format!("[{{id: m, provider: p, {field}}}]"),
            &format!("models[0].{name}: "),
        );
    }
    for name in ["''", "'a b'", "'a?b'", "'../x'", "'a//b'", "'a%2fb'"] {
        check_models(
            &format!("[{{id: m, provider: p, upstream_model: {name}}}]"),
            "models[0].upstream_model: ",
        );
    }
    check_models(
        "[{id: m, provider: p}, {id: m, provider: p}]",
        "models[1].id: ",
    );
    let fallbacks =
        |list: &str| format!("[{{id: m, provider: p, fallbacks: {list}}}, {{id: n, provider: p}}]");
    check_models(
        &fallbacks("[x]"),
        "models[0].fallbacks[0]: no chat model \"x\"",
    );
    check_models(&fallbacks("[m]"), "models[0].fallbacks[0]: ");
    check_models(&fallbacks("[n, n]"), "models[0].fallbacks[1]: ");
    check_models(
        "[{id: m, provider: p, max_tokens_field: tokens}]",
        "models[0].max_tokens_field: ",
    );
    check_models(
        "[{id: m, provider: p}]\nvirtual_models: {m: [m]}",
        "virtual_models.m: a model has this id",
    );
}

#[test]
fn what_is_printed_is_read_back_and_has_no_key() {
    let yaml = "
providers:
- {name: a, api: anthropic, key: {env: A_KEY}}
- {name: g, api: gemini, key: {file: /run/secrets/g}, retries: {attempts: 0}}
- {name: o, api: openai, base_url: 'http://10.0.0.1:8000/v1/', tls: off}
models:
- {id: one, provider: a, upstream_model: claude-x, context_tokens: 200000, fallbacks: [two, three]}
- {id: two, provider: g}
- {id: three, provider: o, max_tokens_field: max_completion_tokens}
virtual_models: {best: [one, two]}
";
    let config = parse(yaml).expect("a configuration");
    assert!(config.models.is_empty());
    assert!(
        !config.virtual_models.contains_key("auto"),
        "what costs money is named"
    );
    assert_eq!(
        config.providers[0].base_url().with("/x"),
        "https://api.anthropic.com/v1/x"
    );
    assert_eq!(
        config.providers[2].base_url().with("/x"),
        "http://10.0.0.1:8000/v1/x"
    );
    assert_eq!(config.provider_models[1].upstream_model, "two");
    let printed = config.to_yaml();
    let again = parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.providers, config.providers);
    assert_eq!(again.provider_models, config.provider_models);
    for loopback in [
        "http://127.0.0.1:1",
        "http://localhost",
        "http://[::1]:8/v1",
    ] {
        let yaml =
            format!("providers: [{{name: p, api: openai, base_url: '{loopback}'}}]\n{MODEL}");
        parse(&yaml).unwrap_or_else(|error| panic!("{error}"));
    }
}
