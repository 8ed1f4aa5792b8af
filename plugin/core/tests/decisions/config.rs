//! Configurations: what is right is read the same from both encodings, and what is wrong is refused
//! with the path of the field.

use farthing_core::config::{Config, SampledCaching, Target, TenantSource};
use farthing_core::limits::PLUGIN_CONFIG_BYTES_MAX;
use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Value, json};

/// Plain YAML in Envoy's plugin configuration arrives as this.
fn to_struct(fields: &Map<String, Value>) -> Struct {
    let fields = fields
        .iter()
        .map(|(name, value)| (name.clone(), to_value(value)))
        .collect();
    Struct { fields }
}

fn to_value(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_value).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn both(config: &Value) -> [Vec<u8>; 2] {
    [
        config.to_string().into_bytes(),
        to_struct(config.as_object().unwrap()).encode_to_vec(),
    ]
}

/// JSON merge patch (RFC 7396).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            value => merge(&mut into[key], value),
        }
    }
}

fn thresholds(config: &Config) -> &[f64] {
    match &config.virtual_models[0].target {
        Target::Shares { thresholds } => thresholds,
        Target::Value(_) => &[],
    }
}

const FULL: &str = include_str!("../golden/decisions/config.json");

#[test]
fn every_field_is_read_from_both_encodings() {
    let full: Value = serde_json::from_str(FULL).unwrap();
    for bytes in both(&full) {
        let config = Config::parse(&bytes).unwrap();
        assert_eq!(config.models.len(), 3);
        assert_eq!(config.models[1].upstream_model, "qwen-large");
        assert_eq!(
            config.models[0].price.base().input_nanousd_per_mtok,
            20_000_000
        );
        assert_eq!(
            config.models[2].price.base().output_nanousd_per_mtok,
            600_000_000
        );
        assert_eq!(thresholds(&config), [0.3, 0.7]);
        assert_eq!(config.tenant.source, TenantSource::Credential);
        let budget = config.budget.as_ref().unwrap();
        assert_eq!(
            (budget.window_s, budget.limit(None).amount),
            (3600, 5_000_000_000)
        );
        assert_eq!(budget.limit(Some("acme")).amount, 250_000_000);
        let cache = config.cache.as_ref().unwrap();
        assert_eq!(
            (cache.policy.ttl_s, cache.slots, cache.entry_bytes_max),
            (600, 64, 4096)
        );
        assert_eq!(
            (cache.policy.sampled, cache.per_vm_entries),
            (SampledCaching::Always, 0)
        );
        assert_eq!(
            (config.max_tokens.default, config.max_tokens.cap),
            (64, 128)
        );
        assert_eq!(config.passthrough_cluster, "elsewhere");
        assert!(!format!("{config:?}").contains("do-not-show-this"));
    }
}

#[test]
fn defaults_are_filled_in() {
    let config = Config::parse(crate::edge::CONFIG.as_bytes()).unwrap();
    assert_eq!(config.models[0].upstream_model, "small");
    assert_eq!(thresholds(&config), [0.5]);
    assert_eq!(config.passthrough_cluster, "cheap");
    assert!(config.budget.is_none());
    let cache = config.cache.unwrap();
    assert_eq!(
        (cache.policy.ttl_s, cache.policy.sampled),
        (3_600, SampledCaching::Never)
    );
    let mut off: Value = serde_json::from_str(crate::edge::CONFIG).unwrap();
    off["cache"] = json!({"enabled": false});
    assert!(
        Config::parse(off.to_string().as_bytes())
            .unwrap()
            .cache
            .is_none()
    );
}

/// Each case patches the full configuration and is accepted, in both encodings.
#[test]
fn a_right_configuration_is_accepted() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../golden/decisions/config_right.json")).unwrap();
    assert!(cases.len() >= 20);
    for case in &cases {
        let mut config: Value = serde_json::from_str(FULL).unwrap();
        merge(&mut config, &case["patch"]);
        for bytes in both(&config) {
            let refused = Config::parse(&bytes).err();
            assert_eq!(refused, None, "{}", case["what"]);
        }
    }
}

/// Each case patches the full configuration and is refused with that message, in both encodings.
#[test]
fn a_wrong_configuration_is_refused_with_the_path_of_its_field() {
    let cases: Vec<(Value, String)> =
        serde_json::from_str(include_str!("../golden/decisions/config_wrong.json")).unwrap();
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for (patch, expected) in &cases {
        let mut config: Value = serde_json::from_str(FULL).unwrap();
        merge(&mut config, patch);
        for bytes in both(&config) {
            let got = match Config::parse(&bytes) {
                Ok(_) => "accepted".to_owned(),
                Err(error) => error.to_string(),
            };
            // A Struct has no integers: it says 5.0 where the text says 5.
            let got = got.replace("floating point", "integer").replace(".0`", "`");
            // The list of all sections may grow.
            if !got.starts_with(expected.as_str()) {
                wrong.push(format!("{patch}\n  expected {expected}\n       got {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_is_no_configuration_at_all_is_refused() {
    let huge = vec![b' '; PLUGIN_CONFIG_BYTES_MAX + 1];
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    for bytes in [
        b"".as_slice(),
        b"{",
        b"[]",
        b"null",
        b"models: []",
        b"\xff\xfe",
        b"\x0a\xff\xff\xff\xff\x0f",
        br#"{"models":[],"models":[]}"#,
        &huge,
        deep.as_bytes(),
    ] {
        let error = Config::parse(bytes)
            .expect_err("not a configuration")
            .to_string();
        assert!(error.starts_with("configuration: "), "{error}");
    }
    let indented = format!("\n{}", crate::edge::CONFIG);
    assert!(
        Config::parse(indented.as_bytes()).is_ok(),
        "JSON text may begin with a line feed"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = Config::parse(&bytes);
        let mut as_struct = vec![0x0a];
        as_struct.extend(bytes);
        let _ = Config::parse(&as_struct);
    }
}
