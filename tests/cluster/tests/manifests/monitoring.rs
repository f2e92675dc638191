//! Alerts and the dashboard speak of figures that exist, and each alert has its section in the documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use octavia_bridge_cluster_tests::{Agent, Cluster, Range, daemonset, tool};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{build, list, text};

const PREFIX: &str = "octavia_bridge_";

/// Names of figures in an expression.
fn figures(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in expression.match_indices(PREFIX) {
        let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let name = expression[at..].split(end).next().unwrap_or_default();
        found.insert(name.to_owned());
    }
    found
}

fn objects() -> Vec<Value> {
    build(&daemonset().join("examples/own-overlay"))
}

fn alerts() -> Vec<Value> {
    let rules = objects().into_iter().find(|object| object["kind"] == "PrometheusRule");
    let rules = list(&rules.expect("the alerts"), "/spec/groups/0/rules").to_vec();
    assert!(rules.len() > 5, "{rules:?}");
    rules
}

/// The dashboard's expressions.
fn panels() -> Vec<String> {
    let is_it = |object: &Value| object["metadata"]["name"] == "octavia-bridge-dashboard";
    let dashboard = objects().into_iter().find(is_it).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(text(&dashboard, "/data/octavia-bridge.json")).expect("JSON");
    let targets = list(&dashboard, "/panels").iter().flat_map(|panel| list(panel, "/targets"));
    let found: Vec<String> = targets.map(|target| text(target, "/expr").to_owned()).collect();
    assert!(found.len() > 5, "{found:?}");
    found
}

#[test]
fn each_alert_has_a_section_and_each_section_an_alert() {
    let docs = daemonset().join("../docs/alerts.md");
    let docs = fs::read_to_string(&docs).unwrap_or_else(|e| panic!("read {}: {e}", docs.display()));
    let sections: BTreeSet<&str> = docs.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = text(&alert, "/alert").to_owned();
        let runbook = text(&alert, "/annotations/runbook_url");
        assert!(runbook.ends_with(&format!("/docs/alerts.md#{}", name.to_lowercase())), "{runbook}");
        names.insert(name);
    }
    assert_eq!(sections, names.iter().map(String::as_str).collect());
}

#[test]
fn the_figures_exist() {
    let cluster = Cluster::shared();
    let admin = cluster.namespace("figures");
    cluster.node("figures");
    // A folder in which it cannot install the plugin: whether it has is told all the same.
    let agent = Agent::start_with(&admin, "figures", &["--cni-bin-dir", "/no-such-folder"]);
    // Not until it is ready, which it is not where another test has applied a policy.
    agent.wait("follows the pools", |agent| {
        (agent.figure("octavia_bridge_pools_synced") == Some(1.0)).then_some(())
    });
    // Some appear with the first that they count.
    agent.claim(&Range::of("10.40.0", 10, 20), "container", "pod", &[]);
    agent.release("container");
    let told = agent.page("/metrics").text;
    let mut exist = BTreeSet::new();
    for line in told.lines() {
        let mut words = line.split_whitespace();
        if (words.next(), words.next()) != (Some("#"), Some("TYPE")) {
            continue;
        }
        let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
        // A family's samples bear these endings (OpenMetrics, "MetricFamily").
        exist.insert(match kind {
            "counter" => format!("{name}_total"),
            "histogram" => format!("{name}_bucket"),
            _ => name.to_owned(),
        });
    }

    let mut asked = panels();
    asked.extend(alerts().iter().map(|alert| text(alert, "/expr").to_owned()));
    let names: BTreeSet<String> = asked.iter().flat_map(|expression| figures(expression)).collect();
    assert!(names.len() > 8, "{names:?}");
    let missing: Vec<&String> = names.difference(&exist).collect();
    assert!(missing.is_empty(), "no such figures: {missing:?}\n{told}");
}

/// By Prometheus' own program: alerts fire when they should and are silent on a cluster that is well, and the dashboard's
/// expressions are well-formed.
#[test]
fn alerts_fire_when_they_should() {
    let folder = TempDir::new().expect("make a folder");
    let record = |(n, expression): (usize, String)| {
        // Grafana's, by the dashboard's resolution.
        json!({"record": format!("panel:{n}"), "expr": expression.replace("$__rate_interval", "5m")})
    };
    let panels: Vec<Value> = panels().into_iter().enumerate().map(record).collect();
    let rules = json!({"groups": [
        {"name": "octavia-bridge", "rules": alerts()},
        {"name": "dashboard", "rules": panels},
    ]});
    // JSON is YAML.
    fs::write(folder.path().join("alerts.yaml"), rules.to_string()).expect("write the rules");
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/alerts-test.yaml");
    fs::copy(&cases, folder.path().join("test.yaml")).expect("copy the cases");
    let mut command = Command::new(tool("promtool"));
    let output = command.args(["test", "rules", "test.yaml"]).current_dir(folder.path()).output();
    let output = output.expect("run promtool");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}", said.join("\n"));
}
