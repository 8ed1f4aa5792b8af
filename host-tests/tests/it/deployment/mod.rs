//! What is shipped to run in production: every file of `envoy/` is read by what it is for, and what
//! Envoy runs is run by Envoy.

mod access_log;
mod certificates;
mod istio;
mod kubernetes;
mod monitoring;
mod production;
mod production_edge;
mod production_upstreams;
mod providers;
mod reload;
mod tls;

use farthing_host_tests::paths;
use std::collections::BTreeSet;

/// Every file that is shipped, and the tests that are about it.
const SHIPPED: [(&str, &str); 11] = [
    (
        "CONFIGURATION.md",
        "the_reference_is_what_the_types_say, in xtask",
    ),
    (
        "demo.yaml",
        "envoy::configurations, and every test of envoy",
    ),
    ("grafana.json", "deployment::monitoring"),
    ("istio.yaml", "deployment::istio"),
    ("kubernetes.yaml", "deployment::kubernetes"),
    ("kustomization.yaml", "deployment::kubernetes"),
    ("minimal.yaml", "envoy::configurations"),
    ("production.yaml", "deployment::production"),
    ("prometheus-rules.yaml", "deployment::monitoring"),
    ("prometheus.yaml", "deployment::kubernetes"),
    ("providers.yaml", "deployment::providers"),
];

#[test]
fn every_shipped_file_has_its_tests() {
    let entries = std::fs::read_dir(paths::envoy_config("")).expect("the folder");
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let files: BTreeSet<String> = files
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let tested: BTreeSet<String> = SHIPPED.iter().map(|(file, _)| file.to_string()).collect();
    assert_eq!(files, tested);
}
