//! Requests to the API server about policies: one attempt each.

use std::time::Duration;

use http::Method;
use http::header::ACCEPT;
use octavia_bridge_cluster::api::{FIELD_MANAGER, METADATA, METADATA_LIST, request, request_with};
use octavia_bridge_cluster::{self as cluster, ApiError, Content, Limit};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::objects::{Head, Resource};

/// How long a request may take.
const LIMIT: Limit = Limit::of(Duration::from_secs(10));
/// Objects asked for at a time: a policy of ten interfaces is a few kilobytes.
const PAGE: usize = 500;

/// Objects of the whole cluster, and events.
#[derive(Clone)]
pub(super) struct PolicyApi(cluster::Api);

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMetadata,
    /// `null` in a list of metadata that is empty.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    #[serde(rename = "continue")]
    next: String,
    /// Of what no selector leaves out.
    remaining_item_count: usize,
}

impl PolicyApi {
    pub(super) fn new(api: cluster::Api) -> Self {
        Self(api)
    }

    /// All objects that `selection`, a query such as `labelSelector=…` with its value encoded, selects. One that cannot be read
    /// is left out.
    pub(super) async fn list<T: Content>(
        &self,
        resource: Resource,
        selection: &str,
    ) -> Result<Vec<T>, ApiError> {
        let mut all: Vec<T> = Vec::new();
        let mut next = String::new();
        loop {
            let mut path = format!("{}?limit={PAGE}", resource.path());
            // The server makes the token of URL-safe base64.
            for (name, value) in [("", selection), ("continue=", next.as_str())] {
                if !value.is_empty() {
                    path.push_str(&format!("&{name}{value}"));
                }
            }
            let mut request = request(Method::GET, &path);
            if T::METADATA {
                request.headers_mut().insert(ACCEPT, METADATA_LIST);
            }
            let (items, metadata) = self
                .0
                .send("list", resource.plural(), request, LIMIT, |text| {
                    let List { metadata, items } = serde_json::from_str(text)?;
                    let items = items.unwrap_or_default();
                    let read: Vec<T> =
                        items.iter().filter_map(|item| readable(resource, item.get())).collect();
                    Ok((read, metadata))
                })
                .await?;
            all.extend(items);
            if metadata.next.is_empty() {
                return Ok(all);
            }
            next = metadata.next;
        }
    }

    /// How many objects there are, by a list of one.
    pub(super) async fn count(&self, resource: Resource) -> Result<usize, ApiError> {
        let mut request = request(Method::GET, &format!("{}?limit=1", resource.path()));
        request.headers_mut().insert(ACCEPT, METADATA_LIST);
        self.0
            .send("count", resource.plural(), request, LIMIT, |text| {
                let List { metadata, items } = serde_json::from_str(text)?;
                Ok(items.map_or(0, |items| items.len()) + metadata.remaining_item_count)
            })
            .await
    }

    /// The object, `None` if there is none.
    pub(super) async fn get<T: Content>(
        &self,
        resource: Resource,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let request = request(Method::GET, &format!("{}/{name}", resource.path()));
        match self.0.send("read", object(resource, name), request, LIMIT, T::read).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an object.
    pub(super) async fn create<T: Content>(&self, resource: Resource, new: &Value) -> Result<T, ApiError> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", resource.path());
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        let request = request_with(Method::POST, &path, "application/json", new.to_string());
        self.0.send("create", object(resource, name), request, LIMIT, T::read).await
    }

    /// Merges into the status of an object (RFC 7396). With `version` only if it is the object's present one.
    pub(super) async fn merge_status<T: Content>(
        &self,
        resource: Resource,
        name: &str,
        version: Option<&str>,
        status: &Value,
    ) -> Result<T, ApiError> {
        let path = format!("{}/{name}/status?fieldManager={FIELD_MANAGER}", resource.path());
        let mut body = json!({ "status": status });
        if let Some(version) = version {
            body["metadata"] = json!({ "resourceVersion": version });
        }
        let request = request_with(Method::PATCH, &path, "application/merge-patch+json", body.to_string());
        let what = format!("the status of {}", object(resource, name));
        self.0.send("change", what, request, LIMIT, T::read).await
    }

    /// Replaces the whole status of an object, whatever it was. The server answers with metadata only.
    pub(super) async fn replace_status(
        &self,
        resource: Resource,
        name: &str,
        status: &Value,
    ) -> Result<Head, ApiError> {
        let path = format!("{}/{name}/status?fieldManager={FIELD_MANAGER}", resource.path());
        let body = json!([{ "op": "add", "path": "/status", "value": status }]).to_string();
        let mut request = request_with(Method::PATCH, &path, "application/json-patch+json", body);
        request.headers_mut().insert(ACCEPT, METADATA);
        let what = format!("the status of {}", object(resource, name));
        self.0.send("change", what, request, LIMIT, Head::read).await
    }

    /// Deletes an object. One that is gone is not an error.
    pub(super) async fn delete(&self, resource: Resource, name: &str) -> Result<(), ApiError> {
        let request = request(Method::DELETE, &format!("{}/{name}", resource.path()));
        match self.0.send("delete", object(resource, name), request, LIMIT, |_| Ok(())).await {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }
}

fn object(resource: Resource, name: &str) -> String {
    format!("{} {name}", resource.plural())
}

fn readable<T: Content>(resource: Resource, text: &str) -> Option<T> {
    match T::read(text) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!("one of {} cannot be read and is ignored: {error}", resource.plural());
            None
        }
    }
}
