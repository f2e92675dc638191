//! Requests for the two kinds of objects in one namespace.

pub(crate) mod name;
pub(crate) mod object;
pub(crate) mod reservation;

use http::{Method, Request, header};
use kube::client::Body;
use octavia_bridge_cluster::api::{FIELD_MANAGER, METADATA, request, request_with};
use octavia_bridge_cluster::{self as cluster, ApiError, Limit, Selection};
use serde_json::{Value, json};

use crate::kubernetes::api::object::{Object, Preconditions, Stored, Version};

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The objects of one namespace.
pub(crate) struct Api {
    api: cluster::Api,
    namespace: String,
}

impl Api {
    /// `namespace` must be a valid name.
    pub(crate) fn new(api: cluster::Api, namespace: String) -> Self {
        Self { api, namespace }
    }

    /// The way to the server that all have in common.
    pub(crate) fn cluster(&self) -> &cluster::Api {
        &self.api
    }

    /// How often the server went back so far.
    pub(crate) fn epoch(&self) -> u64 {
        self.api.revisions().epoch()
    }

    /// Resource, namespace and name, for messages.
    pub(crate) fn describe<T: Object>(&self, name: &str) -> String {
        format!("{} {}/{name}", T::PLURAL, self.namespace)
    }

    /// All objects of a kind, for watching.
    pub(crate) fn selection<T: Object>(&self, seed: u64) -> Selection {
        Selection {
            resource: T::resource(),
            namespace: Some(self.namespace.clone()),
            fields: None,
            labels: None,
            page: T::PAGE,
            absent: None,
            seed: Some(seed),
        }
    }

    /// The object as it is now; `None` if there is none.
    pub(crate) async fn get<T: Object>(
        &self,
        name: &str,
        within: Limit,
    ) -> Result<Option<Stored<T>>, ApiError> {
        let epoch = self.epoch();
        let request = request(Method::GET, &self.path::<T>(name, ""));
        match self.api.send("read", self.describe::<T>(name), request, within, T::stored).await {
            Ok(stored) => Ok(Some(self.seen(stored, epoch))),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the object, whose name must be new.
    pub(crate) async fn create<T: Object>(
        &self,
        name: &str,
        object: &Value,
        within: Limit,
    ) -> Result<Stored<T>, ApiError> {
        let (epoch, highest) = (self.epoch(), self.api.revisions().highest(T::PLURAL));
        let path = self.path::<T>("", &format!("?fieldManager={FIELD_MANAGER}"));
        let request = request_with(Method::POST, &path, JSON, object.to_string());
        let stored = self.api.send("create", self.describe::<T>(name), request, within, T::stored).await?;
        // What was made just now is younger than all that was seen before, unless the server went back.
        self.api.revisions().note(T::PLURAL, stored.version.0, highest);
        Ok(self.seen(stored, epoch))
    }

    /// Carries out all of `operations`, a JSON array (RFC 6902), on the object, or none. The answer has no content.
    pub(crate) async fn patch<T: Object>(
        &self,
        name: &str,
        operations: String,
        within: Limit,
    ) -> Result<Stored<T>, ApiError> {
        let mut request = self.changing::<T>(name, operations, JSON_PATCH);
        // The caller knows what its operations make of the content, which may be a megabyte.
        request.headers_mut().insert(header::ACCEPT, METADATA);
        self.change(name, request, within).await
    }

    /// Merges `part` (RFC 7396) into the object.
    pub(crate) async fn merge<T: Object>(
        &self,
        name: &str,
        part: &Value,
        within: Limit,
    ) -> Result<Stored<T>, ApiError> {
        let request = self.changing::<T>(name, part.to_string(), MERGE_PATCH);
        self.change(name, request, within).await
    }

    fn changing<T: Object>(&self, name: &str, body: String, content: &str) -> Request<Body> {
        let path = self.path::<T>(name, &format!("?fieldManager={FIELD_MANAGER}"));
        request_with(Method::PATCH, &path, content, body)
    }

    async fn change<T: Object>(
        &self,
        name: &str,
        request: Request<Body>,
        within: Limit,
    ) -> Result<Stored<T>, ApiError> {
        let epoch = self.epoch();
        let stored = self.api.send("change", self.describe::<T>(name), request, within, T::stored).await?;
        Ok(self.seen(stored, epoch))
    }

    /// Deletes the object if it is still that version of that object.
    pub(crate) async fn delete<T: Object>(
        &self,
        name: &str,
        uid: &str,
        version: Version,
        within: Limit,
    ) -> Result<(), ApiError> {
        let preconditions = Preconditions { uid, resource_version: version.0.to_string() };
        let body = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions });
        let request = request_with(Method::DELETE, &self.path::<T>(name, ""), JSON, body.to_string());
        self.api.send("delete", self.describe::<T>(name), request, within, |_| Ok(())).await
    }

    fn path<T: Object>(&self, name: &str, query: &str) -> String {
        let slash = if name.is_empty() { "" } else { "/" };
        format!(
            "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/{}/{}{slash}{name}{query}",
            self.namespace,
            T::PLURAL
        )
    }

    fn seen<T: Object>(&self, mut stored: Stored<T>, epoch: u64) -> Stored<T> {
        self.api.revisions().saw(T::PLURAL, stored.version.0);
        stored.epoch = epoch;
        stored
    }
}
