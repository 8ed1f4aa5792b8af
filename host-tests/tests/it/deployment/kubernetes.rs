//! `envoy/kubernetes.yaml` and `envoy/kustomization.yaml` without a cluster: what refers to
//! something finds it, and what a pod must say is said.

use farthing_host_tests::paths;
use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};
use std::collections::BTreeSet;
use std::fs;

/// The kinds of the file, and the versions of Kubernetes' API that have them.
const KINDS: [(&str, &str); 5] = [
    ("Namespace", "v1"),
    ("Service", "v1"),
    ("Deployment", "apps/v1"),
    ("PodDisruptionBudget", "policy/v1"),
    ("NetworkPolicy", "networking.k8s.io/v1"),
];

fn read(file_name: &str) -> String {
    fs::read_to_string(paths::envoy_config(file_name)).expect("the file")
}

fn resources() -> Vec<Value> {
    let text = read("kubernetes.yaml");
    let documents = Deserializer::from_str(&text).map(Value::deserialize);
    documents.collect::<Result<_, _>>().expect("YAML")
}

fn of_kind(kind: &str) -> Vec<Value> {
    resources()
        .into_iter()
        .filter(|resource| resource["kind"] == kind)
        .collect()
}

fn kustomization() -> Value {
    serde_yaml_ng::from_str(&read("kustomization.yaml")).expect("YAML")
}

fn list(value: &Value) -> Vec<Value> {
    value.as_sequence().cloned().unwrap_or_default()
}

/// The text at a field of each entry of a list.
fn each(entries: &Value, field: &str) -> BTreeSet<String> {
    let texts = list(entries).into_iter().filter_map(|entry| {
        let text = entry[field].as_str()?;
        Some(text.to_string())
    });
    texts.collect()
}

/// What the edge's shell runs before the edge ends.
pub fn pre_stop() -> String {
    let edge = deployment("farthing-edge");
    let container = &edge["spec"]["template"]["spec"]["containers"][0];
    let command = &container["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(command[0], "bash");
    command[2].as_str().expect("a script").to_string()
}

fn deployment(name: &str) -> Value {
    let found = of_kind("Deployment")
        .into_iter()
        .find(|it| it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no Deployment {name}"))
}

#[test]
fn every_resource_is_of_a_known_kind_and_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for resource in resources() {
        let kind = resource["kind"].as_str().expect("a kind").to_string();
        let version = resource["apiVersion"].as_str().expect("a version");
        assert!(
            KINDS.contains(&(kind.as_str(), version)),
            "{kind} of {version}"
        );
        let name = resource["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_string();
        assert!(
            names.insert((kind.clone(), name.clone())),
            "{kind} {name} twice"
        );
    }
    assert_eq!(kustomization()["resources"][0], "kubernetes.yaml");
}

#[test]
fn what_selects_pods_finds_them() {
    let deployments = of_kind("Deployment");
    let finds = |selector: &Value| {
        let fits = |deployment: &&Value| {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            let wanted = selector.as_mapping().expect("labels");
            !wanted.is_empty() && wanted.iter().all(|(name, value)| labels[name] == *value)
        };
        deployments.iter().find(fits).cloned()
    };
    for deployment in &deployments {
        let selector = &deployment["spec"]["selector"]["matchLabels"];
        let found = finds(selector).expect("its own pods");
        assert_eq!(found["metadata"]["name"], deployment["metadata"]["name"]);
    }
    for budget in of_kind("PodDisruptionBudget") {
        assert!(
            finds(&budget["spec"]["selector"]["matchLabels"]).is_some(),
            "{budget:?}"
        );
    }
    let policy = &of_kind("NetworkPolicy")[0]["spec"];
    assert!(finds(&policy["podSelector"]["matchLabels"]).is_some());
    let from = &policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"];
    assert!(finds(from).is_some());
    for service in of_kind("Service") {
        let spec = &service["spec"];
        let pods = finds(&spec["selector"]).unwrap_or_else(|| panic!("{service:?}"));
        let ports = &pods["spec"]["template"]["spec"]["containers"][0]["ports"];
        for port in list(&spec["ports"]) {
            let target = port["targetPort"].as_str().expect("a name");
            assert!(
                each(ports, "name").contains(target),
                "{target} of {service:?}"
            );
        }
    }
}

#[test]
fn every_pod_is_confined_probed_and_bounded() {
    for deployment in of_kind("Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        assert_eq!(pod["automountServiceAccountToken"], false);
        let containers = list(&pod["containers"]);
        for container in containers.iter().chain(&list(&pod["initContainers"])) {
            let name = container["name"].as_str().expect("a name");
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{name}");
            for bound in ["requests", "limits"] {
                let memory = &container["resources"][bound]["memory"];
                assert!(memory.is_string(), "memory {bound} of {name}");
            }
            let image = container["image"].as_str().expect("an image");
            let known = each(&kustomization()["images"], "name");
            assert!(known.contains(image), "no version for {image}");
            let volumes = each(&pod["volumes"], "name");
            for mounted in each(&container["volumeMounts"], "name") {
                assert!(volumes.contains(&mounted), "{name} mounts {mounted}");
            }
        }
        for container in containers {
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                let port = container[probe]["httpGet"]["port"].as_str().expect(probe);
                assert!(
                    each(&container["ports"], "name").contains(port),
                    "{probe} at {port}"
                );
            }
        }
    }
}

/// Every file that `production.yaml` names is in a folder that the pod mounts.
#[test]
fn the_edge_finds_its_files_and_its_upstream() {
    let production = read("production.yaml");
    let edge = deployment("farthing-edge");
    let pod = &edge["spec"]["template"]["spec"];
    let mounts = each(&pod["containers"][0]["volumeMounts"], "mountPath");
    let named = [
        production.as_str(),
        &read("secrets/server_certificate.yaml"),
    ]
    .concat();
    let paths = named.split(['"', ' ', '{', '}', ',', '\n']);
    let paths: BTreeSet<&str> = paths
        .filter(|word| word.starts_with("/etc/farthing/"))
        .collect();
    assert!(paths.len() >= 5, "{paths:?}");
    for path in paths {
        let mounted = mounts
            .iter()
            .any(|mount| path == mount || path.starts_with(&format!("{mount}/")));
        assert!(mounted, "{path} is not mounted");
    }
    let arguments = list(&pod["containers"][0]["args"]);
    assert!(arguments.contains(&"/etc/farthing/envoy/production.yaml".into()));
    let generated = list(&kustomization()["configMapGenerator"]);
    for generator in &generated {
        for file in list(&generator["files"]) {
            let file = file.as_str().expect("a file");
            assert!(paths::envoy_config(file).exists(), "{file}");
        }
    }
    let maps = each(&kustomization()["configMapGenerator"], "name");
    for volume in list(&pod["volumes"]) {
        if let Some(map) = volume["configMap"]["name"].as_str() {
            assert!(maps.contains(map), "no ConfigMap {map}");
        }
    }
    let services: BTreeSet<String> = of_kind("Service")
        .iter()
        .filter_map(|service| Some(service["metadata"]["name"].as_str()?.to_string()))
        .collect();
    assert!(services.contains("farthing-backend"));
    assert!(production.contains("address: farthing-backend, port_value: 8080"));
    let prometheus: Value = serde_yaml_ng::from_str(&read("prometheus.yaml")).expect("YAML");
    for job in list(&prometheus["scrape_configs"]) {
        for name in list(&job["dns_sd_configs"][0]["names"]) {
            assert!(
                services.contains(name.as_str().expect("a name")),
                "{name:?}"
            );
        }
    }
}
