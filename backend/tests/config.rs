//! The configuration: what is refused, with which path, and what the defaults are.

use std::path::PathBuf;

use farthing_backend::cli::ServeArgs;
use farthing_backend::config::{Config, ModelKind, Place};

/// A folder with two files that look like models and one folder that does.
fn models_dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(dir.join("embedder")).expect("the target folder is writable");
    let files = [
        ("large.gguf", 20),
        ("small.gguf", 10),
        ("embedder/model.safetensors", 5),
    ];
    for (file, bytes) in files {
        std::fs::write(dir.join(file), vec![0; bytes]).expect("the target folder is writable");
    }
    std::fs::write(dir.join("notes.txt"), "not a model").expect("the target folder is writable");
    dir
}

fn parse(yaml: &str, dir: &str) -> Result<Config, String> {
    let args = ServeArgs {
        models: Some(models_dir(dir)),
        ..ServeArgs::default()
    };
    Config::parse(yaml, &args).map_err(|error| error.to_string())
}

/// `expected` is how the error must go on from the path of the field.
#[track_caller]
fn check_refused(yaml: &str, expected: &str) {
    let error = parse(yaml, "refused").expect_err("this is not a configuration");
    assert!(error.contains(expected), "{error:?} lacks {expected:?}");
}

#[test]
fn wrong_fields_are_refused_with_their_path() {
    check_refused("lisen: 1", "unknown field `lisen`");
    check_refused("listen: nowhere", "listen: ");
    check_refused("threads: 0", "threads: ");
    check_refused("threads: -1", "threads: ");
    check_refused("queue_max: many", "queue_max: ");
    check_refused("decode_latency_ms: 0", "decode_latency_ms: ");
    let weightless = "models: [{id: a, path: small.gguf, weight: 0}]";
    check_refused(weightless, "models[0].weight: ");
    let heavy = "models: [{id: a, path: small.gguf, weight: 101}]";
    check_refused(heavy, "models[0].weight: 101 is over 100");
    check_refused("http: {header_timeout_ms: 0}", "http.header_timeout_ms: ");
    check_refused("http: {timeout: 1}", "http.timeout: ");
    check_refused("models: [{id: a}]", "models[0]: ");
    check_refused(
        "models: [{id: a, path: small.gguf, size: 1}]",
        "models[0].size: ",
    );
    check_refused(
        "models: [{id: a, path: gone.gguf}]",
        "models[0].path: no such file",
    );
    check_refused("models: [{id: '', path: small.gguf}]", "models[0].id: ");
    check_refused("models: [{id: a b, path: small.gguf}]", "models[0].id: ");
    let twice = "models: [{id: a, path: small.gguf}, {id: a, path: large.gguf}]";
    check_refused(twice, "models[1].id: ");
    let zero = "models: [{id: a, path: small.gguf, context_tokens: 0}]";
    check_refused(zero, "models[0].context_tokens: ");
    check_refused(
        "virtual_models: {auto: []}",
        "virtual_models.auto: names no model",
    );
    check_refused(
        "virtual_models: {auto: [small, huge]}",
        "virtual_models.auto[1]: no chat model",
    );
    check_refused(
        "virtual_models: {auto: [embedder]}",
        "virtual_models.auto[0]: no chat model",
    );
    check_refused("virtual_models: {small: [large]}", "virtual_models.small: ");
    check_refused("response_store: {}", "response_store: missing field `path`");
    check_refused("response_store: {path: ''}", "response_store.path: ");
    check_refused(
        "response_store: {path: a, bytes: 1}",
        "response_store.bytes: ",
    );
    check_refused(
        "response_store: {path: a, bytes_max: 1048575}",
        "response_store.bytes_max: ",
    );
    check_refused(
        "response_store: {path: a, bytes_max: 1099511627777}",
        "response_store.bytes_max: ",
    );
    check_refused(
        "response_store: {path: a, ttl_s: 0}",
        "response_store.ttl_s: ",
    );
    check_refused(
        "response_store: {path: a, ttl_s: 2592001}",
        "response_store.ttl_s: ",
    );
    check_refused("listen: [", "");
}

#[test]
fn wrong_prices_and_cascades_are_refused_with_their_path() {
    let price = |price: &str| format!("models: [{{id: a, path: small.gguf, price: {price}}}]");
    let at = "models[0].price";
    check_refused(&price("{}"), &format!("{at}.input_usd_per_mtok: is needed"));
    check_refused(
        &price("{input_usd_per_mtok: 1}"),
        &format!("{at}.output_usd_per_mtok: is needed"),
    );
    check_refused(
        &price("{input_usd_per_mtok: -1}"),
        &format!("{at}.input_usd_per_mtok: "),
    );
    check_refused(&price("{input: 1}"), &format!("{at}.input: "));
    check_refused(&price("{catalogue: no-such}"), &format!("{at}.catalogue: "));
    check_refused(
        &price("{catalogue: gpt-4o, input_usd_per_mtok: 1}"),
        &format!("{at}.input_usd_per_mtok: is the catalogue's to say"),
    );
    let cascade = |name: &str, fields: &str| format!("cascades: {{{name}: {{{fields}}}}}");
    let known = "calibration: a.cascade, worth_usd: 0.01";
    check_refused(
        &cascade("auto", "worth_usd: 1"),
        "cascades.auto: missing field `calibration`",
    );
    check_refused(
        &cascade("auto", &format!("{known}, tiers: []")),
        "cascades.auto.tiers: ",
    );
    check_refused(
        &cascade("auto", "calibration: a.cascade, worth_usd: 0"),
        "cascades.auto.worth_usd: must be above 0",
    );
    check_refused(
        &cascade("auto", "calibration: a.cascade, worth_usd: much"),
        "cascades.auto.worth_usd: ",
    );
    for share in ["0", "0.5", "-1", "2", ".nan"] {
        check_refused(
            &cascade("auto", &format!("{known}, max_loss: {share}")),
            "cascades.auto.max_loss: ",
        );
    }
    check_refused(
        &cascade("small", known),
        "cascades.small: a model has this name already",
    );
    let twice = format!(
        "{}\nvirtual_models: {{auto: [small]}}",
        cascade("auto", known)
    );
    check_refused(&twice, "cascades.auto: a model has this name already");
    check_refused(&cascade("'a b'", known), "cascades.a b: ");
}

#[test]
fn a_cascade_takes_the_place_of_the_model_that_is_made_by_itself() {
    let yaml = "
models:
- {id: a, path: small.gguf, price: {input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.40}}
- {id: b, path: large.gguf, price: {catalogue: gpt-4o}}
cascades:
  auto: {calibration: a.cascade, worth_usd: 0.002, max_loss: 0.01}
  thrifty: {calibration: a.cascade}
";
    let config = parse(yaml, "cascade").expect("a configuration");
    assert_eq!(config.cascades["thrifty"].worth_usd, None);
    assert!(config.virtual_models.is_empty());
    let printed = config.to_yaml();
    let again = Config::parse(&printed, &ServeArgs::default()).expect("it reads back");
    assert_eq!(again.cascades, config.cascades);
    assert_eq!(again.models, config.models);
}

#[test]
fn what_is_in_redis_needs_one_and_no_file() {
    let with = |store: &str| format!("redis: {{url: 'redis://cache:6379/2'}}\n{store}");
    check_refused("response_store: {in: redis}", "response_store.in: ");
    check_refused(
        "semantic_cache: {max_wrong: 0.01, in: redis}",
        "semantic_cache.in: ",
    );
    check_refused("response_store: {in: memory}", "response_store.in: ");
    for (store, path) in [
        (
            "response_store: {in: redis, path: a}",
            "response_store.path: ",
        ),
        (
            "response_store: {in: redis, bytes_max: 2000000}",
            "response_store.bytes_max: ",
        ),
        (
            "response_store: {in: redis, ttl_s: 0}",
            "response_store.ttl_s: ",
        ),
        (
            "semantic_cache: {max_wrong: 0.1, in: redis, path: a}",
            "semantic_cache.path: ",
        ),
        (
            "semantic_cache: {max_wrong: 0.5, in: redis}",
            "semantic_cache.max_wrong: ",
        ),
        (
            "semantic_cache: {max_wrong: 0.1, in: redis, index: a}",
            "semantic_cache.index: ",
        ),
    ] {
        check_refused(&with(store), path);
    }
}

#[test]
fn wrong_fields_of_redis_are_refused_with_their_path() {
    for (fields, path) in [
        ("", "redis: missing field `url`"),
        ("url: 'redis://a', db: 1", "redis.db: "),
        ("url: 'redis://a', password: secret", "redis.password: "),
        (
            "url: 'redis://a', password: {file: a, env: A}",
            "redis.password: ",
        ),
        ("url: 'redis://a', user: me", "redis.user: "),
        (
            "url: 'redis://a', user: 'a b', password: {env: A}",
            "redis.user: ",
        ),
        ("url: 'redis://a', prefix: ''", "redis.prefix: "),
        ("url: 'redis://a', prefix: 'a*'", "redis.prefix: "),
        ("url: 'redis://a', timeout_ms: 0", "redis.timeout_ms: "),
        ("url: 'redis://a', timeout_ms: 1001", "redis.timeout_ms: "),
        ("url: 'redis://a', ca_file: a.pem", "redis.ca_file: "),
    ] {
        check_refused(&format!("redis: {{{fields}}}"), path);
    }
    for url in ["a", "http://a", "redis://", "redis://a:b", "redis://a:"] {
        check_refused(
            &format!("redis: {{url: '{url}'}}"),
            "redis.url: redis: must be",
        );
    }
    check_refused(
        "redis: {url: 'redis://a/1024'}",
        "redis.url: redis: its path",
    );
    check_refused("redis: {url: 'unix://a'}", "redis.url: redis: must be unix");
    let secret = "redis: {url: 'redis://:hunter2@a'}";
    check_refused(secret, "redis.url: redis: must name no user");
    assert!(
        !parse(secret, "refused")
            .expect_err("refused")
            .contains("hunter2")
    );
}

#[test]
fn redis_is_read_back_as_it_is_written() {
    let yaml = "redis: {url: 'rediss://[::1]/3', user: me, password: {env: REDIS_PASSWORD}, \
                ca_file: ca.pem, prefix: blue, timeout_ms: 20}\n\
                response_store: {in: redis, ttl_s: 60}\n\
                semantic_cache: {in: redis, max_wrong: 0.02}\n";
    let config = parse(yaml, "in-redis").expect("it is one");
    let store = config.response_store.as_ref().expect("a store");
    assert_eq!(store.place, Place::Redis);
    let redis = config.redis.as_ref().expect("it is named");
    assert_eq!(redis.url.to_string(), "rediss://[::1]:6379/3");
    assert_eq!(redis.timeout().as_millis(), 20);
    let printed = config.to_yaml();
    let again = parse(&printed, "in-redis").expect("it reads back what it writes");
    assert_eq!(again.to_yaml(), printed);
    let plain = parse("redis: {url: 'unix:///run/redis.sock'}", "in-redis").expect("it is one");
    let redis = plain.redis.expect("it is named");
    assert_eq!(
        (redis.prefix.as_str(), redis.timeout_ms.get()),
        ("farthing", 50)
    );
    assert_eq!(redis.url.to_string(), "unix:///run/redis.sock");
}

#[test]
fn numbers_have_upper_bounds() {
    for (field, max) in [
        ("threads", 256u64),
        ("queue_max", 1 << 14),
        ("running_max", 1_024),
        ("step_tokens", 1 << 14),
        ("decode_latency_ms", 60_000),
        ("max_tokens_default", 1 << 20),
    ] {
        let yaml = |value| format!("{field}: {value}");
        assert!(parse(&yaml(max), "bounds").is_ok(), "{field}: {max}");
        check_refused(
            &yaml(max + 1),
            &format!("{field}: {} is over {max}", max + 1),
        );
    }
    for (field, max) in [
        ("connections_max", 1u64 << 16),
        ("header_timeout_ms", 3_600_000),
        ("body_timeout_ms", 3_600_000),
        ("write_stall_ms", 3_600_000),
        ("drain_timeout_ms", 3_600_000),
    ] {
        let yaml = |value| format!("http: {{{field}: {value}}}");
        assert!(parse(&yaml(max), "bounds").is_ok(), "{field}: {max}");
        check_refused(
            &yaml(max + 1),
            &format!("http.{field}: {} is over {max}", max + 1),
        );
    }
    check_refused(&format!("queue_max: {}", u64::MAX), "queue_max: ");
}

#[test]
fn models_are_found_small_ones_first_embedders_last() {
    let config = parse("", "found").expect("an empty file is a configuration");
    let found: Vec<_> = config
        .models
        .iter()
        .map(|m| (m.id.as_str(), m.kind))
        .collect();
    let expected = [
        ("small", ModelKind::Chat),
        ("large", ModelKind::Chat),
        ("embedder", ModelKind::Embedding),
    ];
    assert_eq!(found, expected);
    assert_eq!(config.virtual_models["auto"], ["small", "large"]);
}

#[test]
fn no_models_are_an_error() {
    let error = Config::parse("", &ServeArgs::default()).expect_err("there is nothing to serve");
    assert!(error.to_string().contains("--models"), "{error}");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let args = ServeArgs {
        models: Some(models_dir("wins")),
        listen: Some(([127, 0, 0, 1], 9).into()),
        threads: std::num::NonZeroUsize::new(3),
        ..ServeArgs::default()
    };
    let yaml = "{listen: '127.0.0.1:7', threads: 1, models_dir: /nowhere, queue_max: 5}";
    let config = Config::parse(yaml, &args).expect("the file is a configuration");
    assert_eq!(config.listen.port(), 9);
    assert_eq!((config.threads.get(), config.queue_max.get()), (3, 5));
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let config = parse("http: {connections_max: 7}", "printed").expect("a configuration");
    let printed = config.to_yaml();
    let again = Config::parse(&printed, &ServeArgs::default()).expect("it prints configurations");
    assert_eq!(again.to_yaml(), printed);
    for field in [
        "listen",
        "threads",
        "queue_max",
        "header_timeout_ms",
        "max_tokens_default",
    ] {
        assert!(printed.contains(field), "{field} is missing from {printed}");
    }
}

#[test]
fn guessing_ahead_is_on_and_may_be_turned_off() {
    use farthing_backend::engine::{LookupUse, Speculation};
    let of = |yaml: &str| parse(yaml, "speculative").map(|config| config.engine().speculation);
    assert_eq!(of(""), Ok(Speculation::default()));
    assert_eq!(of("").map(|of| of.lookup), Ok(LookupUse::On));
    let off = Speculation {
        tokens_max: 0,
        lookup: LookupUse::Off,
    };
    assert_eq!(of("speculative: {lookup: false, tokens: 0}"), Ok(off));
    let yaml = "models: [{id: a, path: large.gguf, draft_model: b}, {id: b, path: small.gguf}]";
    let config = parse(yaml, "speculative").expect("b may guess for a");
    assert_eq!(config.models[0].draft_model.as_deref(), Some("b"));
    let again = parse(&config.to_yaml(), "speculative").expect("it reads back what it writes");
    assert_eq!(again.models, config.models);
}

#[test]
fn wrong_wishes_to_guess_ahead_are_refused() {
    check_refused(
        "speculative: {tokens: 17}",
        "speculative.tokens: 17 is over 16",
    );
    check_refused("speculative: {lookup: 1}", "speculative.lookup: ");
    check_refused(
        "models: [{id: a, path: small.gguf, draft_model: b}]",
        "models[0].draft_model: no chat model \"b\"",
    );
    check_refused(
        "models: [{id: a, path: small.gguf, draft_model: b}, {id: b, path: embedder}]",
        "models[0].draft_model: no chat model \"b\"",
    );
    check_refused(
        "models: [{id: a, path: embedder, draft_model: a}]",
        "models[0].draft_model: only chat models have one",
    );
}
