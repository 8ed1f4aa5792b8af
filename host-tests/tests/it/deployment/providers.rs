//! `envoy/providers.yaml` with real Envoy between our client and providers over TLS: who is asked,
//! with which key, and who learns of it.

use super::certificates::{Authority, folder};
use super::tls::{Asked, Provider};
use crate::envoy::bodies::chat;
use crate::envoy::edge::wait_until;
use farthing_host_tests::client::{self, Response};
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::{http, paths};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A client of the shipped file, and one that it does not know.
const CLIENT_KEY: &str = "replace-this-key-of-team-a";
const OTHER_CLIENT_KEY: &str = "replace-this-key-of-team-b";
const UNKNOWN_KEY: &str = "canary-of-nobody-3f1c";

/// Cluster, name on its certificate, a model on it, and the header that takes its key.
const PROVIDERS: [(&str, &str, &str, &str); 3] = [
    ("openai", "api.openai.com", "gpt-4.1-mini", "authorization"),
    (
        "anthropic",
        "api.anthropic.com",
        "claude-haiku-4-5",
        "x-api-key",
    ),
    (
        "gemini",
        "generativelanguage.googleapis.com",
        "gemini-2.5-flash-lite",
        "authorization",
    ),
];

struct Edge {
    envoy: Envoy,
    providers: [Provider; 3],
}

impl Edge {
    /// Starts providers with certificates for what `name_of` makes of their names.
    fn start(name_of: impl Fn(&str) -> String) -> Edge {
        let authority = Authority::new();
        let answer = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1,
            "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "from afar"}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}});
        let providers = PROVIDERS.map(|(_, name, _, _)| {
            Provider::start(authority.certify(&[&name_of(name)]), &answer.to_string())
        });
        let config = configuration(&providers, &authority.write());
        Envoy::validate(&config).unwrap_or_else(|error| panic!("{error}"));
        let envoy = Envoy::start(&config, &EnvoyOptions::new(1));
        let envoy = envoy.unwrap_or_else(|error| panic!("{error}"));
        Edge { envoy, providers }
    }

    fn ask(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        client::post_json(self.envoy.address(), path, headers, &body.to_string())
            .expect("Envoy answers")
    }

    /// What the provider at this position was asked last.
    fn last(&self, position: usize) -> Asked {
        let asked = self.providers[position].asked();
        asked.last().expect("the provider was asked").clone()
    }
}

fn provider_key(cluster: &str) -> String {
    format!("canary-key-of-{cluster}-90ce")
}

/// The shipped file with the addresses and the files of this test.
fn configuration(providers: &[Provider; 3], authority: &Path) -> EnvoyConfig {
    let mut config = EnvoyConfig::shipped("providers.yaml").unwrap_or_else(|e| panic!("{e}"));
    for (position, (cluster, ..)) in PROVIDERS.into_iter().enumerate() {
        config
            .set_upstream(cluster, providers[position].address)
            .expect("the provider's cluster");
        let path = format!("/static_resources/clusters/{position}");
        let found = config.at(&path).expect("a cluster");
        let tls = &mut found["transport_socket"]["typed_config"]["common_tls_context"];
        tls["validation_context"]["trusted_ca"]["filename"] = text(authority);
        let options = &mut found["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        let filters = options["http_filters"].as_sequence_mut().expect("filters");
        let injector = filters
            .iter_mut()
            .find(|filter| filter["name"] == "envoy.filters.http.credential_injector");
        let generic =
            &mut injector.expect("an injector")["typed_config"]["credential"]["typed_config"];
        generic["credential"]["sds_config"]["path_config_source"]["path"] =
            text(&shipped_secret(cluster));
    }
    config
}

/// The shipped description of a key, with a key that only this test knows.
fn shipped_secret(cluster: &str) -> std::path::PathBuf {
    let keys = folder("keys");
    fs::write(keys.join(cluster), format!("{}\n", provider_key(cluster))).expect("a file");
    let shipped = paths::envoy_config(&format!("secrets/{cluster}_key.yaml"));
    let description = fs::read_to_string(shipped).expect("the description");
    let description = description.replace("/etc/farthing/keys", &keys.display().to_string());
    let file = folder("secret").join("key.yaml");
    fs::write(&file, description).expect("a file");
    file
}

fn text(path: &Path) -> serde_yaml_ng::Value {
    path.display().to_string().into()
}

#[test]
fn a_provider_gets_its_own_key_and_nothing_of_the_client() {
    let edge = Edge::start(str::to_string);
    for (position, (cluster, name, model, header)) in PROVIDERS.into_iter().enumerate() {
        let bearer = format!("Bearer {CLIENT_KEY}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("cookie", "session=canary-cookie"),
            ("x-client", "team-b"),
            ("x-farthing-cluster", "anthropic"),
        ];
        let answer = edge.ask("/v1/chat/completions", &headers, &chat(model, cluster));
        assert_eq!(answer.status, 200, "{cluster}: {}", answer.text());
        assert_eq!(answer.header("x-farthing-model"), Some(model));
        let Asked {
            request,
            server_name,
        } = edge.last(position);
        assert_eq!(server_name.as_deref(), Some(name), "SNI of {cluster}");
        assert_eq!(request.header("host"), Some(name));
        let path = match cluster {
            "gemini" => "/v1beta/openai/chat/completions",
            _ => "/v1/chat/completions",
        };
        assert_eq!(request.path, path);
        let scheme = if header == "authorization" {
            "Bearer "
        } else {
            ""
        };
        let key = format!("{scheme}{}", provider_key(cluster));
        assert_eq!(request.header(header), Some(key.as_str()), "{cluster}");
        check_nothing_of_the_client(&request.headers, cluster);
        let version = request.header("anthropic-version").is_some();
        assert_eq!(
            version,
            cluster == "anthropic",
            "anthropic-version at {cluster}"
        );
    }
    // The client's name is who its key says, whatever it calls itself: another one misses.
    let key = [("x-api-key", CLIENT_KEY), ("x-client", "team-b")];
    let again = edge.ask(
        "/v1/chat/completions",
        &key,
        &chat("gpt-4.1-mini", "openai"),
    );
    assert_eq!(again.header("x-farthing-source"), Some("edge-cache"));
    let other = [("x-api-key", OTHER_CLIENT_KEY), ("x-client", "team-a")];
    let other = edge.ask(
        "/v1/chat/completions",
        &other,
        &chat("gpt-4.1-mini", "openai"),
    );
    assert_eq!(other.header("x-farthing-source"), Some("model"));

    check_strangers(&edge);
    check_secrecy(&edge);
}

fn check_nothing_of_the_client(headers: &http::Headers, cluster: &str) {
    for (name, value) in headers {
        let ours = name.starts_with("x-farthing-") || name == "x-client" || name == "cookie";
        assert!(!ours, "{cluster} was told {name}");
        for secret in [CLIENT_KEY, "canary-cookie", "team-a", "team-b"] {
            assert!(
                !value.contains(secret),
                "{cluster} was told {secret} in {name}"
            );
        }
    }
    let keys = ["authorization", "x-api-key"].map(|name| {
        headers
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .count()
    });
    assert_eq!(
        keys.iter().sum::<usize>(),
        1,
        "{cluster} got another key too: {headers:?}"
    );
}

/// Who has no key of ours spends nothing of ours, and no path leads around the filter.
fn check_strangers(edge: &Edge) {
    let asked = || {
        edge.providers
            .iter()
            .map(|provider| provider.asked().len())
            .sum::<usize>()
    };
    let before = asked();
    let body = chat("gpt-4.1-mini", "stranger");
    let bearer = format!("Bearer {UNKNOWN_KEY}");
    let named = [("x-client", "team-a"), ("x-farthing-cluster", "openai")];
    for headers in [&[][..], &[("authorization", bearer.as_str())], &named] {
        assert_eq!(
            edge.ask("/v1/chat/completions", headers, &body).status,
            401,
            "{headers:?}"
        );
    }
    let known = [("x-api-key", CLIENT_KEY), ("x-farthing-cluster", "openai")];
    for path in [
        "/v1/models",
        "/v1/files",
        "/v1/fine_tuning/jobs",
        "/v1/x/../files",
        "/",
    ] {
        let answer = edge.ask(path, &known, &json!({}));
        assert!(answer.status >= 400, "{path}: {}", answer.status);
    }
    assert_eq!(asked(), before, "a provider was asked");
}

/// Keys are in no log, no metric and no dump of the configuration.
fn check_secrecy(edge: &Edge) {
    let admin = edge.envoy.admin_address();
    let page = |path: &str| client::get(admin, path).expect("an answer").text();
    let told = [
        edge.envoy.log(),
        page("/config_dump"),
        page("/stats/prometheus"),
        page("/clusters"),
    ];
    let keys = PROVIDERS.map(|(cluster, ..)| provider_key(cluster));
    for secret in keys.iter().map(String::as_str).chain([UNKNOWN_KEY]) {
        for text in &told {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is told");
        }
    }
    for line in told[0].lines() {
        assert!(
            !line.contains(CLIENT_KEY),
            "the log tells a client's key: {line}"
        );
    }
}

#[test]
fn a_server_with_another_name_gets_no_key() {
    let edge = Edge::start(|name| format!("not-{name}"));
    for (cluster, _, model, _) in PROVIDERS {
        let key = [("x-api-key", CLIENT_KEY)];
        let answer = edge.ask("/v1/chat/completions", &key, &chat(model, cluster));
        assert_eq!(answer.status, 503, "{cluster}: {}", answer.text());
    }
    for provider in &edge.providers {
        assert!(provider.asked().is_empty());
    }
    wait_until("the access log says why, three times", || {
        edge.envoy.log().matches("_SAN_matcher").count() >= PROVIDERS.len()
    });
}
