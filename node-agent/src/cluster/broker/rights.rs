//! Permissions that were missing once: whether they are there by now.
//!
//! Most requests are repeated until they succeed. Others are not, such as one about a policy that has changed since; without a
//! question, a server that forbids one for a moment, as one does that has just started, would leave the agent unready for days.

use std::time::Duration;

use http::Method;
use octavia_bridge_cluster::api::request_with;
use octavia_bridge_cluster::{Api, ApiError, Jitter, Limit};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::health::Requests;

/// Between two questions, about.
const PAUSE: Duration = Duration::from_secs(20);
const LIMIT: Limit = Limit::of(Duration::from_secs(10));
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    allowed: bool,
}

/// Asks for each missing one again and again, until the task is ended. Each account may ask this, unless an administrator
/// forbids it; then a permission is missing until the same request succeeds.
pub(super) async fn review(api: Api, requests: Requests) {
    let jitter = Jitter::fresh();
    loop {
        sleep(jitter.around(PAUSE)).await;
        for (asked, name) in requests.forbidden() {
            match is_allowed(&api, &asked.review(name.as_deref())).await {
                Ok(true) => {
                    tracing::info!("the server allows to {asked} now");
                    requests.is_allowed(&asked);
                }
                Ok(false) => {}
                Err(error) => tracing::debug!("{}", error.in_words()),
            }
        }
    }
}

async fn is_allowed(api: &Api, review: &Value) -> Result<bool, ApiError> {
    let request = request_with(Method::POST, REVIEWS, "application/json", review.to_string());
    let read = |text: &str| serde_json::from_str::<Review>(text);
    Ok(api.send("ask for", "a permission", request, LIMIT, read).await?.status.allowed)
}
