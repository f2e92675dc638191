//! Somebody else's server, and accounts on any.

use std::env;

use base64::prelude::{BASE64_STANDARD, Engine};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::{Access, call, driver};

/// The rights of an administrator at the server that `OCTAVIA_BRIDGE_TEST_APISERVER` names, by a token: that passes a proxy,
/// which a client's certificate, as kubeconfigs like to hold, does not.
pub(crate) fn administrator() -> Access {
    let url = variable("OCTAVIA_BRIDGE_TEST_APISERVER");
    let file = variable("OCTAVIA_BRIDGE_TEST_KUBECONFIG");
    let (authority, token) = driver::run(async move {
        let kubeconfig = Kubeconfig::read_from(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.unwrap_or_else(|e| panic!("{file}: {e}"));
        config.cluster_url =
            url.parse().unwrap_or_else(|e| panic!("OCTAVIA_BRIDGE_TEST_APISERVER {url}: {e}"));
        let authority = pem(config.root_cert.as_deref().unwrap_or_default());
        let client = Client::try_from(config).unwrap_or_else(|e| panic!("a client by {file}: {e}"));
        (authority, administrator_token(&client).await)
    });
    Access::new(&variable("OCTAVIA_BRIDGE_TEST_APISERVER"), &authority, &token, "default")
}

/// A service account with a token for an hour; it is created if it is missing.
pub(crate) fn service_account(admin: &Access, name: &str) -> Access {
    let accounts = admin.core("serviceaccounts");
    let created = admin.call("POST", &accounts, Some(&json!({"metadata": {"name": name}})));
    assert!(matches!(created.status, 201 | 409), "create service account {name}: {}", created.body);
    let answer = admin.create(&format!("{accounts}/{name}/token"), &token_request(3600));
    admin.with_token(answer["status"]["token"].as_str().expect("a token request's answer has the token"))
}

fn token_request(seconds: u32) -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds},
    })
}

async fn administrator_token(client: &Client) -> String {
    let name = "octavia-bridge-tests";
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    });
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": name}});
    for (path, object) in
        [(accounts, account), ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)]
    {
        let answer = call::send(client, "POST", path, Some(&object)).await;
        let answer = answer.unwrap_or_else(|e| panic!("POST {path}: no answer: {e:?}"));
        assert!(matches!(answer.status, 201 | 409), "create {path}: {}", answer.body);
    }
    let path = format!("{accounts}/{name}/token");
    let answer = call::send(client, "POST", &path, Some(&token_request(7200))).await;
    let answer = answer.unwrap_or_else(|e| panic!("POST {path}: no answer: {e:?}")).expect(201);
    answer["status"]["token"].as_str().expect("a token request's answer has the token").to_owned()
}

/// The certificates as text, for a kubeconfig and for pods.
fn pem(certificates: &[Vec<u8>]) -> String {
    let armour = |der: &Vec<u8>| {
        let lines: Vec<String> = BASE64_STANDARD
            .encode(der)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into())
            .collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    certificates.iter().map(armour).collect()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|e| panic!("{name}: {e}; see the documentation of this crate"))
}
