mod cases;
mod growth;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

/// The management network of octavia-operator's documentation.
fn documented() -> Value {
    json!({
        "cniVersion": "0.3.1", "name": "octavia", "type": "octavia-bridge", "bridge": "octbr",
        "ipam": {
            "type": "whereabouts", "range": "172.23.0.0/24", "range_start": "172.23.0.30", "range_end": "172.23.0.70",
            "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}],
        },
    })
}

/// `change` merged into `value`, as RFC 7396 says.
fn merge(value: &mut Value, change: &Value) {
    let Value::Object(members) = change else {
        *value = change.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, change) in members {
        if change.is_null() {
            value.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut value[key], change);
        }
    }
}

fn changed(change: &Value) -> Definition {
    let mut config = documented();
    merge(&mut config, change);
    Definition { name: "octavia".into(), owners: Vec::new(), config: config.to_string() }
}

/// A cluster whose policies name the bridge.
fn cluster() -> Surroundings {
    Surroundings { bridges: Some(BTreeSet::from(["octbr".to_owned()])), ..Surroundings::default() }
}

fn reviewed(definition: &Definition, surroundings: &Surroundings) -> Review {
    review(definition, surroundings).expect("a JSON object")
}

/// Paths of the findings; warnings are marked.
fn paths(review: &Review) -> Vec<String> {
    let mut paths = Vec::new();
    for finding in &review.findings {
        let mark = if finding.level == Level::Warning { "warning " } else { "" };
        paths.push(format!("{mark}{}", finding.field.field));
    }
    paths
}

fn part(part: Option<Part>) -> String {
    part.map_or("none".to_owned(), |part| part.to_string())
}

#[test]
fn the_documented_network_has_the_pools_that_the_operator_makes() {
    let review = reviewed(&changed(&json!({})), &cluster());
    let reading = &review.reading;
    assert_eq!(part(reading.neutron), "172.23.0.71-172.23.0.96");
    assert_eq!(part(reading.predictable), "172.23.0.97-172.23.0.122");
    assert_eq!(part(reading.amphorae), "172.24.0.5-172.24.255.254");
    assert_eq!(reading.router, Some("172.23.0.150".parse().unwrap()));
    assert_eq!(review.capacity, Some(Capacity { pods: 41, nodes_by_pods: 8, nodes_by_predictable: 13 }));
    assert!(!review.is_wrong());
    let drawn = "\
172.23.0.0/24  provider network: ipam.range, octavia-provider-subnet
  172.23.0.1-172.23.0.29                29  free
  172.23.0.30-172.23.0.70               41  pods: range_start to range_end, enough for 8 nodes
  172.23.0.71-172.23.0.96               26  Neutron's allocation pool
  172.23.0.97-172.23.0.122              26  predictable addresses of health managers and rsyslog, enough for 13 nodes
  172.23.0.123-172.23.0.149             27  free
  172.23.0.150                           1  octavia-link-router: ipam.routes[0].gw
  172.23.0.151-172.23.0.254            104  free
172.24.0.0/16  tenant network: ipam.routes[0].dst, lb-mgmt-subnet
  172.24.0.5-172.24.255.254          65530  amphorae and lb-mgmt-router-port";
    assert_eq!(drawing(&review).join("\n"), drawn);
}

#[test]
fn the_public_ipv6_sample_has_its_router_among_the_predictable_addresses() {
    let change = json!({"ipam": {
        "range": "fd00:eeee::/64", "range_start": "fd00:eeee::30", "range_end": "fd00:eeee::70",
        "routes": [{"dst": "fd00:ffff::/64", "gw": "fd00:eeee::96"}],
    }});
    let review = reviewed(&changed(&change), &cluster());
    assert_eq!(part(review.reading.neutron), "fd00:eeee::71-fd00:eeee::8a");
    assert_eq!(part(review.reading.predictable), "fd00:eeee::8b-fd00:eeee::a4");
    assert_eq!(paths(&review), ["ipam.routes[0].gw"]);
    let said = review.findings[0].field.to_string();
    assert!(
        said.contains("predictable") && said.ends_with("outside all pools, like fd00:eeee::a5"),
        "{said}"
    );
    assert!(drawing(&review).iter().any(|line| line.contains("fd00:eeee::96") && line.contains("overlaps")));
}

#[test]
fn the_object_around_the_configuration_has_mistakes_of_its_own() {
    let mut definition = changed(&json!({}));
    definition.name = "octavia-net".into();
    definition.owners = vec!["OVNController".into()];
    let review = reviewed(&definition, &cluster());
    assert_eq!(paths(&review), ["metadata.name", "metadata.ownerReferences"]);
    definition.config = "{".into();
    let error = super::review(&definition, &cluster()).unwrap_err();
    assert!(error.to_string().starts_with("spec.config: is not JSON"), "{error}");
}

#[test]
fn nodes_need_two_predictable_addresses_and_five_of_the_range() {
    for (nodes, expected) in
        [(8, &[][..]), (9, &["ipam.range_start"]), (14, &["ipam.range_end", "ipam.range_start"])]
    {
        let surroundings = Surroundings { nodes: Some(nodes), cluster_nodes: Some(99), ..cluster() };
        assert_eq!(paths(&reviewed(&changed(&json!({})), &surroundings)), expected, "{nodes} nodes");
    }
    // Octavia may run on some of the cluster's nodes only.
    let surroundings = Surroundings { cluster_nodes: Some(9), ..cluster() };
    assert_eq!(paths(&reviewed(&changed(&json!({})), &surroundings)), ["warning ipam.range_start"]);
    // Exclusions and a next hop in the range are not for pods.
    let change = json!({"ipam": {
        "exclude": ["172.23.0.32/31", "172.23.0.33/32"], "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.40"}],
    }});
    let capacity = reviewed(&changed(&change), &cluster()).capacity.unwrap();
    assert_eq!((capacity.pods, capacity.nodes_by_pods), (38, 7));
}

#[test]
fn definitions_of_octavia_are_told_from_other_networks_on_bridges_of_policies() {
    let bridges = BTreeSet::from(["octbr".to_owned(), "ospbr".to_owned()]);
    let mut definition = changed(&json!({"bridge": "ospbr", "ipam": null}));
    assert!(is_of_octavia(&definition, None, &bridges));
    definition.name = "datacentre".into();
    assert!(!is_of_octavia(&definition, None, &bridges));
    assert!(is_of_octavia(&definition, Some("octavia"), &bridges));
    definition.config = documented().to_string();
    assert!(is_of_octavia(&definition, None, &bridges));
    assert!(!is_of_octavia(&definition, None, &BTreeSet::new()));
}
