//! Envoy with the filter between our client and scripted upstreams. A prompt decides what its
//! upstream answers, so that tests can share one Envoy and still run side by side.

use super::bodies::completion;
use farthing_host_tests::client::{self, Response};
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::prometheus;
use farthing_host_tests::stub::{Answer, Recorded, StubUpstream};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Model of the configuration's cheap tier, on cluster `backend`.
pub const SMALL: &str = "smollm2-135m-instruct";
/// Model of its dear tier, on cluster `large`.
pub const LARGE: &str = "qwen2.5-coder-0.5b-instruct";
/// Budget of the credential `tenant-limited`: a few requests of [`chat`].
pub const LIMITED_NANOUSD: u64 = 10_000;
/// Budget of the credential `tenant-refunded`: one request of [`chat`] at a time.
pub const REFUNDED_NANOUSD: u64 = 3_000;
/// Price of the cheap tier in the shipped configurations.
pub const SMALL_INPUT_NANOUSD: u64 = 20;
pub const SMALL_OUTPUT_NANOUSD: u64 = 40;
/// How long a fact that another process makes true may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

type Answers = Arc<Mutex<HashMap<String, Answer>>>;

/// Envoy and its upstreams.
pub struct Edge {
    pub envoy: Envoy,
    pub small: StubUpstream,
    pub large: StubUpstream,
    answers: Answers,
}

impl Edge {
    /// Starts two upstreams, and Envoy with `change`s of the shipped demo configuration.
    pub fn start(workers: u32, change: impl FnOnce(&mut EnvoyConfig)) -> Edge {
        let answers = Answers::default();
        let upstream = || {
            let answers = Arc::clone(&answers);
            StubUpstream::start(move |request| scripted(&answers, request)).expect("a free port")
        };
        let (small, large) = (upstream(), upstream());
        let mut config = two_clusters(&small, &large);
        change(&mut config);
        let envoy = Envoy::start(&config, &EnvoyOptions::new(workers));
        let envoy = envoy.unwrap_or_else(|error| panic!("{error}"));
        Edge {
            envoy,
            small,
            large,
            answers,
        }
    }

    /// The Envoy of all tests that need no configuration of their own: two workers.
    pub fn shared() -> &'static Edge {
        static SHARED: OnceLock<Edge> = OnceLock::new();
        // It is never dropped; its leash ends it with this process.
        SHARED.get_or_init(|| {
            Edge::start(2, |config| {
                for (field, value) in [("budget", shared_budget()), ("tenant", shared_tenant())] {
                    config
                        .set_plugin_field(field, yaml(value))
                        .expect("a plugin configuration");
                }
            })
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.envoy.address()
    }

    /// From now on a request with this prompt is answered so.
    pub fn script(&self, prompt: &str, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(prompt.to_string(), answer);
    }

    /// A chat request of a tenant.
    pub fn ask(&self, tenant: &str, body: &Value) -> Response {
        self.ask_with(tenant, body, &[])
    }

    /// A chat request of a tenant with further headers.
    pub fn ask_with(&self, tenant: &str, body: &Value, headers: &[(&str, &str)]) -> Response {
        self.post("/v1/chat/completions", tenant, body, headers)
    }

    /// A request of a tenant to any endpoint.
    pub fn post(
        &self,
        path: &str,
        tenant: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Response {
        let credential = format!("Bearer {tenant}");
        let mut all = vec![("authorization", credential.as_str())];
        all.extend_from_slice(headers);
        client::post_json(self.address(), path, &all, &body.to_string()).expect("Envoy answers")
    }

    /// The sum of a metric over all workers; 0 while it has not been counted.
    pub fn metric(&self, name: &str) -> u64 {
        let stats = self.envoy.stats().expect("the admin interface answers");
        prometheus::sum(&stats, name, "").map_or(0, |value| value as u64)
    }

    /// Waits until a metric has reached a value.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, at_least: u64) {
        wait_until(&format!("{name} >= {at_least}"), || {
            self.metric(name) >= at_least
        });
    }

    /// What both upstreams saw of requests with this prompt.
    pub fn seen(&self, prompt: &str) -> Vec<Recorded> {
        let requests = self
            .small
            .requests()
            .into_iter()
            .chain(self.large.requests());
        requests
            .filter(|request| prompt_of(request) == prompt)
            .collect()
    }
}

/// Looks until something has become true.
#[track_caller]
pub fn wait_until(goal: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {goal}");
        std::thread::sleep(farthing_host_tests::process::POLL);
    }
}

/// JSON as the YAML of a configuration.
pub fn yaml(value: Value) -> serde_yaml_ng::Value {
    serde_yaml_ng::to_value(value).expect("JSON is YAML")
}

/// Gives the credentials `tenant-limited` and `tenant-refunded` names, for their small budgets.
fn shared_tenant() -> Value {
    json!({"source": "credential", "names": [
        {"name": "limited",
         "credential_sha256": "83bdf70fc4bc97a3e3b1f7ff9505558d319b239ede53b25a2c07fb3420e42079"},
        {"name": "refunded",
         "credential_sha256": "be29ef811157c1616585920215ac24c7b8ccf1349d19e1df9811a025002de646"},
    ]})
}

fn shared_budget() -> Value {
    // As text: Envoy's YAML has no other way to say a fraction.
    let usd = |nanousd: u64| format!("0.{nanousd:09}");
    json!({"window_s": 86_400, "usd": 100, "tenants":
        {"limited": usd(LIMITED_NANOUSD), "refunded": usd(REFUNDED_NANOUSD)}})
}

fn prompt_of(request: &Recorded) -> String {
    let json = request.json();
    let places = ["/messages/0/content", "/input", "/input/0"];
    let content = places
        .iter()
        .find_map(|place| json.pointer(place).and_then(Value::as_str));
    content.unwrap_or_default().to_string()
}

fn scripted(answers: &Answers, request: &Recorded) -> Answer {
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    match answers.get(&prompt_of(request)) {
        Some(answer) => answer.clone(),
        None => completion("unscripted"),
    }
}

/// The demo configuration with its second model on an upstream of its own.
fn two_clusters(small: &StubUpstream, large: &StubUpstream) -> EnvoyConfig {
    let mut config = EnvoyConfig::shipped("demo.yaml").unwrap_or_else(|error| panic!("{error}"));
    config
        .set_upstream("backend", small.address())
        .expect("cluster backend");
    let clusters = config.at("/static_resources/clusters").expect("clusters");
    let clusters = clusters.as_sequence_mut().expect("clusters are a list");
    let mut second = clusters[0].clone();
    second["name"] = "large".into();
    second["load_assignment"]["cluster_name"] = "large".into();
    clusters.push(second);
    config
        .set_upstream("large", large.address())
        .expect("cluster large");
    let plugin = config
        .plugin_configuration()
        .expect("a plugin configuration");
    plugin["models"][1]["cluster"] = "large".into();
    config
}
