//! `octavia-bridge-agent pools`.

use octavia_bridge_cluster_tests::{Agent, Claim, Range};
use serde_json::Value;

use crate::scene::{Scene, eventually};

#[test]
fn pools_shows_who_has_what_and_repair_frees_what_is_proven() {
    let scene = Scene::new("pools");
    let [here, there, lost] = ["worker-1", "worker-2", "worker-3"].map(|name| scene.node(name));
    let range = Range::of("172.23.0", 30, 70);
    // Agents that would not reclaim for a day.
    let [mine, theirs, dead] = [&here, &there, &lost].map(|node| Agent::start(&scene.admin, node));
    let pods = [("lives", &here), ("gone", &here), ("elsewhere", &there), ("lost", &lost)]
        .map(|(name, node)| scene.pod(name, node));
    for (n, agent) in [&mine, &mine, &theirs, &dead].into_iter().enumerate() {
        assert_eq!(pods[n].claims(agent, &range, &format!("c{n}")), format!("172.23.0.{}", 30 + n));
    }
    let rival = scene.rival();
    rival.add(&Claim::new("rival", &format!("{}/never-was", scene.admin.namespace()))).expect("an address");
    pods[1..].iter().for_each(|pod| scene.delete(pod));
    scene.admin.delete(&format!("/api/v1/nodes/{lost}"));
    drop(dead);

    let text = mine.pools(&scene.admin, &[]);
    assert!(text.contains("172.23.0.0-24: 5 addresses of 172.23.0.0/24 in use"), "{text}");
    let line =
        |address: &str| text.lines().find(|line| line.contains(address)).unwrap_or_default().to_owned();
    assert!(line("172.23.0.30").contains(&here) && !line("172.23.0.30").contains("GONE"), "{text}");
    for (address, why) in [
        ("172.23.0.31", format!("there is no pod {}; the agent of node {here} frees it", pods[1].podref)),
        ("172.23.0.32", format!("there is no pod {}; the agent of node {there} frees it", pods[2].podref)),
        ("172.23.0.33", format!("node {lost} is gone, too, so the elected agent frees it")),
        ("172.23.0.34", "never-was; the elected agent frees it".to_owned()),
    ] {
        assert!(line(address).contains("GONE: ") && line(address).contains(&why), "{address} {why}\n{text}");
    }
    let json: Value = serde_json::from_str(&mine.pools(&scene.admin, &["--json"])).expect("JSON");
    assert_eq!(json["version"], 1);
    let states: Vec<&str> = json["pools"][0]["holders"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|held| held["state"].as_str())
        .collect();
    assert_eq!(states, ["lives", "gone", "gone", "gone", "gone"]);

    let flags = ["repair", "--reclaim-grace", "1", "--node-name", &here];
    let said = mine.pools(&scene.admin, &[&flags[..], &["--dry-run"]].concat());
    assert_eq!(said.matches("would free: ").count(), 3, "{said}");
    assert!(said.contains(&format!("left alone: 172.23.0.32 of {}", pods[2].podref)), "{said}");
    assert!((30..35).all(|n| scene.stands(&format!("172.23.0.{n}"))), "a dry run changes nothing");

    let said = mine.pools(&scene.admin, &flags);
    assert_eq!(said.matches("\nfreed: ").count(), 3, "{said}");
    for (address, stands) in [(30, true), (31, false), (32, true), (33, false), (34, false)] {
        assert_eq!(scene.stands(&format!("172.23.0.{address}")), stands, "{address}\n{said}");
    }
    assert_eq!(mine.pools(&scene.admin, &flags).matches("freed").count(), 0, "nothing is left to free");
    eventually("the agents have heard of it", &[&mine], || {
        mine.figure("octavia_bridge_pool_used_addresses{pool=\"172.23.0.0-24\"}") == Some(2.0)
    });
}
