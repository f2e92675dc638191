//! Events on a policy, which `kubectl describe nncp` shows.

use k8s_openapi::jiff::Timestamp;
use octavia_bridge_cluster::ApiError;
use serde_json::{Value, json};

use super::api::PolicyApi;
use super::conditions::{Stage, on_one_line};
use super::objects::Resource;

/// Longest message that the server takes, in bytes (`NoteLengthLimit` in kubernetes/pkg/apis/core/validation).
const MAX_MESSAGE: usize = 1024;

/// What happened to a policy on this node.
#[derive(Debug)]
pub(super) struct PolicyEvent<'a> {
    pub(super) policy: &'a str,
    pub(super) uid: &'a str,
    pub(super) node: &'a str,
    pub(super) stage: Stage,
    pub(super) message: &'a str,
}

impl PolicyEvent<'_> {
    /// Creates it.
    pub(super) async fn send(&self, api: &PolicyApi) -> Result<(), ApiError> {
        api.create::<Value>(Resource::Event, &self.object(Timestamp::now())).await.map(drop)
    }

    fn object(&self, now: Timestamp) -> Value {
        let (kind, reason) = match self.stage {
            Stage::Done | Stage::NoNode => ("Normal", self.stage.reason()),
            // The word of kubernetes-nmstate.
            Stage::Failed => ("Warning", "ReconcileFailed"),
            Stage::Progressing => ("Warning", "WaitingForInterface"),
        };
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            // Events about what is in no namespace are in this one. The newer events.k8s.io/v1 would not do: servers
            // before 1.21 take those in kube-system alone.
            "metadata": { "generateName": format!("{}-", self.policy), "namespace": "default" },
            "type": kind,
            "reason": reason,
            "message": cut(&on_one_line(&format!("node {}: {}", self.node, self.message)), MAX_MESSAGE),
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": { "component": "octavia-bridge-agent", "host": self.node },
            "involvedObject": {
                "apiVersion": "nmstate.io/v1",
                "kind": "NodeNetworkConfigurationPolicy",
                "name": self.policy,
                "uid": self.uid,
            },
        })
    }
}

fn cut(text: &str, most: usize) -> &str {
    let end = (0..=text.len().min(most)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_says_stays_on_its_line_and_is_seen() {
        let message = "br\u{1b}[1A\nNormal  SuccessfullyConfigured";
        let event =
            PolicyEvent { policy: "octavia", uid: "u", node: "worker-0", stage: Stage::Failed, message };
        let object = event.object(Timestamp::UNIX_EPOCH);
        assert_eq!(object["message"], r"node worker-0: br\u{1b}[1A; Normal  SuccessfullyConfigured");
    }

    #[test]
    fn a_failure_is_a_warning_within_the_servers_bounds() {
        let message = "ä".repeat(MAX_MESSAGE);
        let event = PolicyEvent {
            policy: "octavia",
            uid: "u",
            node: "worker-0",
            stage: Stage::Failed,
            message: &message,
        };
        let object = event.object("2026-01-02T03:04:05.0067Z".parse().unwrap());
        assert_eq!((&object["type"], &object["reason"]), (&json!("Warning"), &json!("ReconcileFailed")));
        assert_eq!(object["lastTimestamp"], "2026-01-02T03:04:05Z");
        let message = object["message"].as_str().unwrap();
        assert!(
            message.len() <= MAX_MESSAGE && message.starts_with("node worker-0: ää"),
            "{}",
            message.len()
        );
    }
}
