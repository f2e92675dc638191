//! The pods of this node, as one watch reports them.
//!
//! They only say whom to suspect: who is not among them is asked for by name before anything is done. So it does no harm
//! that a watch is late, or never comes about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kube::core::{ApiResource, GroupVersionKind};
use octavia_bridge_cluster::{self as cluster, Api, Change, Item, Selection, lock};

use super::WarnOnce;
use super::pod::Pod;

/// Pods in one page. Each is some ten kilobytes on the way.
const PAGE: u32 = 25;

/// Pods by `namespace/name`; `None` until all were read once.
#[derive(Debug, Default)]
pub(crate) struct Pods(Mutex<Option<HashMap<String, Pod>>>);

impl Pods {
    /// Whether all were read once.
    pub(crate) fn are_known(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Whether the pod with this uid lives, as far as is known.
    pub(crate) fn lives(&self, podref: &str, uid: &str) -> bool {
        lock(&self.0).as_ref().and_then(|pods| pods.get(podref)).is_some_and(|pod| pod.is_alive(uid))
    }

    /// The uid of the pod of this name, if it is known and may still run.
    pub(super) fn uid(&self, podref: &str) -> Option<String> {
        let pods = lock(&self.0);
        let pod = pods.as_ref()?.get(podref)?;
        pod.is_alive(&pod.uid).then(|| pod.uid.to_string())
    }

    fn see(&self, change: impl FnOnce(&mut HashMap<String, Pod>)) {
        change(lock(&self.0).get_or_insert_default());
    }
}

impl Pod {
    /// Whether it is the one with this uid, and may still run.
    pub(super) fn is_alive(&self, uid: &str) -> bool {
        self.mirror || (self.ended.is_none() && *self.uid == *uid)
    }
}

/// Reads and watches until the task is ended.
pub(super) async fn follow(api: Api, node: String, pods: Arc<Pods>) {
    let selection = Selection {
        resource: ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods"),
        namespace: None,
        fields: Some(format!("spec.nodeName={node}")),
        labels: None,
        page: PAGE,
        absent: None,
        seed: None,
    };
    let mut warning = WarnOnce::default();
    cluster::follow::<Pod>(&api, &selection, |change| match change {
        Change::Listing => {}
        Change::Listed { items, .. } => {
            warning.clear();
            let all = items.into_iter().map(known).map(|pod| (pod.podref.clone(), pod)).collect();
            pods.see(|known| *known = all);
        }
        Change::Put(item) => {
            let pod = known(item);
            pods.see(|known| drop(known.insert(pod.podref.clone(), pod)));
        }
        Change::Gone(item) => {
            let pod = known(item);
            pods.see(|known| {
                if known.get(&pod.podref).is_some_and(|known| known.uid == pod.uid) {
                    known.remove(&pod.podref);
                }
            });
        }
        Change::Begun => warning.clear(),
        Change::Broken(error) => {
            warning.warn(format!(
                "{}; until that works, the agent takes no pod of this node for gone",
                error.in_words()
            ));
        }
    })
    .await;
}

/// A pod of which nothing more can be read is one that lives.
fn known(item: Item<Pod>) -> Pod {
    let podref = format!("{}/{}", item.namespace(), item.name());
    let uid = item.uid().into();
    item.content.unwrap_or(Pod { podref, uid, node: "".into(), ended: None, mirror: false })
}
