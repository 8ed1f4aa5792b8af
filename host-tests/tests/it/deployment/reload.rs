//! Configurations that change while Envoy serves: a wrong one is refused with the path of its field
//! and the one before keeps serving; a right one takes over. One Envoy meets them all, through a
//! listener that it reads from a file (LDS).

use super::certificates::folder;
use super::production_edge::stat;
use crate::abi::golden::{merge, table};
use crate::envoy::bodies::{chat, completion};
use crate::envoy::edge::{PATIENCE, wait_until};
use farthing_host_tests::client;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::stub::StubUpstream;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const ACCEPTED: &str = "listener_manager.lds.update_success";
const REFUSED: &str = "listener_manager.lds.update_rejected";
/// What every right configuration has: a model that the upstream of this test serves.
const MODEL: &str = "small";

struct Reloading {
    envoy: Envoy,
    /// The listener of `minimal.yaml`, whose plugin configuration changes.
    listener: Value,
    file: PathBuf,
    _upstream: StubUpstream,
}

impl Reloading {
    fn start() -> Reloading {
        let upstream = StubUpstream::start(|_| completion("served")).expect("a free port");
        let mut config = EnvoyConfig::shipped("minimal.yaml").expect("a configuration");
        config
            .set_upstream("backend", upstream.address())
            .expect("cluster backend");
        let listener = config
            .at("/static_resources/listeners/0")
            .expect("a listener")
            .clone();
        let listener = serde_json::to_value(listener).expect("a listener is JSON");
        let file = folder("lds").join("listeners.json");
        // The models of the tables are on clusters of these names.
        let clusters = config.at("/static_resources/clusters").expect("clusters");
        let clusters = clusters.as_sequence_mut().expect("a list");
        for name in ["cheap", "dear"] {
            let mut cluster = clusters[0].clone();
            cluster["name"] = name.into();
            cluster["load_assignment"]["cluster_name"] = name.into();
            clusters.push(cluster);
        }
        let lds = json!({"lds_config": {"path_config_source": {"path": file}}});
        let lds = serde_yaml_ng::to_value(lds).expect("JSON is YAML");
        config.set_dynamic_resources(lds).expect("a bootstrap");
        write(&file, listener.clone(), &table("config.json"));
        let envoy = Envoy::start(&config, &EnvoyOptions::new(1));
        Reloading {
            envoy: envoy.unwrap_or_else(|error| panic!("{error}")),
            listener,
            file,
            _upstream: upstream,
        }
    }

    fn stat(&self, name: &str) -> u64 {
        stat(&self.envoy, name)
    }

    /// Puts a configuration into the file, and waits until Envoy has counted it.
    #[track_caller]
    fn put(&self, plugin: &Value, counted: &str) {
        let before = self.stat(counted);
        write(&self.file, self.listener.clone(), plugin);
        let goal = format!("{counted} counts {plugin}");
        wait_until(&goal, || self.stat(counted) > before);
    }

    /// The listener that serves.
    fn active(&self) -> String {
        let path = "/config_dump?resource=dynamic_listeners&mask=name,active_state";
        client::get(self.envoy.admin_address(), path)
            .expect("an answer")
            .text()
    }

    /// What the filter has said since a position of the log.
    fn said(&self, from: usize) -> String {
        let log = self.envoy.log();
        log.get(from..).unwrap_or_default().to_string()
    }

    #[track_caller]
    fn check_serves(&self, after: &str) {
        let key = [
            ("authorization", "Bearer reload"),
            ("cache-control", "no-cache"),
        ];
        let body = chat(MODEL, "does it serve?").to_string();
        let path = "/v1/chat/completions";
        let answer = client::post_json(self.envoy.address(), path, &key, &body);
        let answer = answer.unwrap_or_else(|error| panic!("after {after}: {error}"));
        assert_eq!(answer.status, 200, "after {after}: {}", answer.text());
    }
}

/// Replaces the file by another one, which is what Envoy watches for.
fn write(file: &PathBuf, mut listener: Value, plugin: &Value) {
    let filter = "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    let config = listener.pointer_mut(filter).expect("the filter");
    config["configuration"]["value"] = plugin.clone();
    let kind = "type.googleapis.com/envoy.config.listener.v3.Listener";
    listener["@type"] = kind.into();
    let resources = json!({"resources": [listener]});
    let next = file.with_extension("next");
    fs::write(&next, resources.to_string()).expect("a file");
    fs::rename(&next, file).expect("a moved file");
}

fn patched(patch: &Value) -> Value {
    let mut config = table("config.json");
    merge(&mut config, patch);
    config
}

#[test]
fn a_wrong_configuration_leaves_the_one_before_and_a_right_one_takes_over() {
    let reloading = Reloading::start();
    reloading.check_serves("the start");
    let wrong: Vec<(Value, String)> =
        serde_json::from_value(table("config_wrong.json")).expect("pairs of patch and message");
    assert!(wrong.len() >= 60);
    for (patch, expected) in &wrong {
        let logged = reloading.envoy.log().len();
        reloading.put(&patched(patch), REFUSED);
        let (path, _) = expected.split_once(": ").expect("a path");
        let named = format!("configuration refused: {path}: ");
        wait_until(&format!("{PATIENCE:?} are enough to log {named}"), || {
            reloading.said(logged).contains(&named)
        });
        reloading.check_serves(path);
    }
    let right = table("config_right.json");
    let right = right.as_array().expect("a list");
    assert!(right.len() >= 20);
    for case in right {
        // A configuration that Envoy already has is no update, so each has a mark of its own.
        let mut config = patched(&case["patch"]);
        let mark = format!("mark-{}", reloading.stat(ACCEPTED));
        config["passthrough_cluster"] = mark.as_str().into();
        reloading.put(&config, ACCEPTED);
        wait_until("the listener is the new one", || {
            reloading.active().contains(&mark)
        });
    }
    assert_eq!(reloading.stat(REFUSED), wrong.len() as u64);
}
