//! `envoy/grafana.json` and `envoy/prometheus-rules.yaml`: what they ask for exists.

use farthing_core::config::Config;
use farthing_core::metrics::definitions;
use farthing_host_tests::paths;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// Columns of Grafana's grid.
const GRID_COLUMNS: u64 = 24;

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana.json")).expect("JSON")
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_yaml_ng::from_str(&read("prometheus-rules.yaml")).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups").clone();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect()
}

fn read(file_name: &str) -> String {
    fs::read_to_string(paths::envoy_config(file_name)).expect("the file")
}

/// Every expression of the dashboard and of the rules.
fn expressions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let of_panels = targets.map(|target| target["expr"].clone());
    let of_rules = rules().into_iter().map(|rule| rule["expr"].clone());
    let all = of_panels.chain(of_rules);
    all.map(|text| text.as_str().expect("an expression").to_string())
        .collect()
}

/// Metrics that an expression names: `farthing_…`, `envoy_…`, and recorded ones with a colon. A
/// label of Envoy is one where an operator or a list of labels follows or surrounds it.
pub fn metrics_asked_for() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for expression in expressions() {
        let without_labels = strip(&strip(&expression, '{', '}'), '(', ')');
        let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let words = without_labels.split(|c| !of_name(c));
        let ours = words.filter(|word| word.starts_with("farthing") || word.starts_with("envoy_"));
        names.extend(ours.map(str::to_string));
    }
    names
}

/// Takes out label matchers, and for round brackets the lists after `by`.
fn strip(expression: &str, open: char, close: char) -> String {
    let mut rest = expression;
    let mut kept = String::new();
    while let Some(at) = rest.find(open) {
        let before = &rest[..at];
        let is_list = open != '(' || before.trim_end().ends_with(" by");
        kept.push_str(before);
        rest = &rest[at + 1..];
        if is_list {
            rest = rest.find(close).map_or("", |end| &rest[end + 1..]);
        } else {
            kept.push(open);
        }
    }
    kept + rest
}

#[test]
fn every_metric_of_ours_exists() {
    let config =
        fs::read(paths::workspace_root().join("plugin/core/tests/golden/decisions/config.json"));
    let config = Config::parse(&config.expect("the file")).expect("a configuration");
    let defined: BTreeSet<String> = definitions(&config)
        .into_iter()
        .map(|definition| definition.name)
        .collect();
    let recorded: BTreeSet<String> = rules()
        .iter()
        .filter_map(|rule| Some(rule["record"].as_str()?.to_string()))
        .collect();
    let asked = metrics_asked_for();
    assert!(asked.len() >= 25, "{asked:?}");
    for name in asked.iter().filter(|name| name.starts_with("farthing")) {
        // The model is a label by the time that Prometheus sees it: see `stats_tags`.
        let of_model = name
            .strip_prefix("farthing_model_")
            .map(|what| format!("_{what}"));
        let exists = defined.contains(name)
            || recorded.contains(name)
            || of_model.is_some_and(|what| {
                defined
                    .iter()
                    .any(|it| it.starts_with("farthing_model_") && it.ends_with(&what))
            });
        assert!(exists, "no metric {name}");
    }
    for (important, why) in [
        ("farthing_cost_nanousd_total", "cost"),
        ("farthing_saved_nanousd_total", "saved"),
        ("farthing_budget_exhausted_total", "refusals"),
        ("farthing_self_check_failed", "a filter that does nothing"),
        ("farthing_usage_estimated_total", "estimates"),
    ] {
        assert!(asked.contains(important), "nobody watches {why}");
    }
}

#[test]
fn expressions_are_balanced_and_rules_complete() {
    for expression in expressions() {
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            let count = |of| expression.matches(of).count();
            assert_eq!(count(open), count(close), "{expression}");
        }
    }
    for rule in rules() {
        if rule["record"].is_string() {
            continue;
        }
        let name = rule["alert"]
            .as_str()
            .expect("a recorded or an alerting rule");
        assert!(
            rule["annotations"]["summary"].is_string(),
            "{name} says nothing"
        );
        let severity = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}: {severity}"
        );
    }
}

#[test]
fn the_dashboard_is_well_formed() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    assert_eq!(variables[0]["type"], "datasource");
    let mut cells = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{title} has the id of another panel"
        );
        let sources = panel["targets"]
            .as_array()
            .expect("targets")
            .iter()
            .chain([panel]);
        for source in sources {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
        let at = |field: &str| panel["gridPos"][field].as_u64().expect("a number");
        assert!(at("x") + at("w") <= GRID_COLUMNS, "{title} is too wide");
        for cell in (0..at("w")).flat_map(|x| (0..at("h")).map(move |y| (x, y))) {
            let cell = (at("x") + cell.0, at("y") + cell.1);
            assert!(cells.insert(cell), "{title} covers another panel");
        }
    }
}
