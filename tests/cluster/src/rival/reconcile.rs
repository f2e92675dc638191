//! What whereabouts' reconciler does with entries that it takes for dead.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Rival, RivalError, expect};
use crate::Ledger;
use crate::ledger::object_name;

/// Where multus tells of a pod's addresses.
const STATUS: &str = "/metadata/annotations/k8s.v1.cni.cncf.io~1network-status";

impl Rival {
    /// Frees every address of this rival's pool of which no pod's network-status speaks, and returns them. A pod whose
    /// ADD has just ended has none yet. Whereabouts asks three times within a second; by whom an entry was written, and
    /// on which node, it does not ask.
    ///
    /// # Errors
    /// See [`RivalError`]. One ends the run.
    pub fn reconcile(&self) -> Result<Vec<IpAddr>, RivalError> {
        let access = &self.requests.access;
        let Some(pool) = Ledger::read(access).pools.remove(&self.scope.pool_name()) else {
            return Ok(Vec::new());
        };
        let pods = access.get("/api/v1/pods");
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let mut freed = Vec::new();
        for (address, holder) in &pool.holders {
            if pods.iter().any(|pod| podref(pod) == holder.podref && tells_of(pod, *address)) {
                continue;
            }
            let entry = format!("/spec/allocations/{}", self.scope.offset(*address));
            let pool = access.whereabouts(&format!("ippools/{}", self.scope.pool_name()));
            let remove = json!([{"op": "remove", "path": entry}]);
            expect(access.call("PATCH", &pool, Some(&remove)), "PATCH", &pool, &[200])?;
            freed.push(*address);
        }
        // In the same run, a moment later.
        for address in &freed {
            let name = format!("{}{}", self.scope.prefix, object_name(&address.to_string()));
            let path = access.whereabouts(&format!("overlappingrangeipreservations/{name}"));
            expect(access.call("DELETE", &path, None), "DELETE", &path, &[200, 404])?;
        }
        Ok(freed)
    }
}

fn podref(pod: &Value) -> String {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

/// Whether the pod's network-status has the address, in the same letters.
fn tells_of(pod: &Value, address: IpAddr) -> bool {
    let status = pod.pointer(STATUS).and_then(Value::as_str).unwrap_or_default();
    let networks: Vec<Value> = serde_json::from_str(status).unwrap_or_default();
    let ips = networks.iter().filter_map(|network| network["ips"].as_array()).flatten();
    ips.filter_map(Value::as_str).any(|ip| ip == address.to_string())
}
