//! One object of a list or a watch, decoded by itself.
//!
//! If a list is decoded as a whole, one bad object makes the whole list fail. The server accepts a policy that is nested 200 deep;
//! `serde_json` stops at 128. Such a policy would block all others for ever.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::value::RawValue;

/// The part of an object that the caller keeps.
pub trait Content: Clone + Debug + Send + Sized + 'static {
    /// Whether to request only metadata.
    const METADATA: bool = false;

    /// Reads one object from its JSON.
    ///
    /// # Errors
    /// The problem of this object. Other objects are not affected.
    fn read(text: &str) -> serde_json::Result<Self>;
}

/// An object with its identity.
#[derive(Debug, Clone)]
pub struct Item<T> {
    meta: ObjectMeta,
    /// The content, or the reason why it cannot be read.
    pub content: Result<T, Arc<str>>,
}

impl<T> Item<T> {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`, or empty.
    pub fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion`.
    pub fn version(&self) -> &str {
        self.meta.resource_version.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.meta.uid.as_deref().unwrap_or_default()
    }
}

/// A whole JSON document, for callers that send unknown fields back.
impl Content for serde_json::Value {
    fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

#[derive(Deserialize)]
struct Headed<'a> {
    #[serde(borrow)]
    metadata: Head<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    uid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    resource_version: Option<Cow<'a, str>>,
}

impl<T: Content> Item<T> {
    /// Reads one object.
    ///
    /// # Errors
    /// It has no name.
    pub fn read(text: &str) -> serde_json::Result<Self> {
        let Head { name, namespace, uid, resource_version } =
            serde_json::from_str::<Headed<'_>>(text)?.metadata;
        let meta = ObjectMeta {
            name: Some(name.into_owned()),
            namespace: namespace.map(Cow::into_owned),
            uid: uid.map(Cow::into_owned),
            resource_version: resource_version.map(Cow::into_owned),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, content: T::read(text).map_err(|error| error.to_string().into()) })
    }
}

impl<'de, T: Content> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As raw text first: the parser skips nested values whatever their depth.
        let text = <&RawValue>::deserialize(deserializer)?;
        Self::read(text.get()).map_err(D::Error::custom)
    }
}

impl<T: Content> Resource for Item<T> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn metadata_api() -> bool {
        T::METADATA
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Clone, Deserialize)]
    struct Policy {
        spec: Value,
    }

    impl Content for Policy {
        fn read(text: &str) -> serde_json::Result<Self> {
            serde_json::from_str(text)
        }
    }

    fn object(name: &str, deep: usize) -> String {
        let (open, close) = ("[".repeat(deep), "]".repeat(deep));
        format!(r#"{{"spec":{{"a":{open}1{close}}},"metadata":{{"name":"{name}","resourceVersion":"7"}}}}"#)
    }

    #[test]
    fn one_object_of_a_list_that_cannot_be_read_bears_its_name_and_the_others_are_read() {
        let items = [object("good", 1), object("deep", 200), object("later", 1)].join(",");
        let list = format!(
            r#"{{"kind":"L","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{items}]}}"#
        );
        let list: ObjectList<Item<Policy>> = serde_json::from_str(&list).unwrap();
        let read: Vec<(&str, bool)> =
            list.items.iter().map(|item| (item.name(), item.content.is_ok())).collect();
        assert_eq!(read, [("good", true), ("deep", false), ("later", true)]);
        let why = list.items[1].content.as_ref().unwrap_err();
        assert!(why.contains("recursion limit"), "{why}");
        assert_eq!(list.items[0].content.as_ref().unwrap().spec["a"][0], 1);
    }

    #[test]
    fn an_event_about_such_an_object_is_an_event() {
        let event = format!(r#"{{"type":"ADDED","object":{}}}"#, object("deep", 200));
        let WatchEvent::Added(item) = serde_json::from_str::<WatchEvent<Item<Policy>>>(&event).unwrap()
        else {
            panic!("{event}");
        };
        assert_eq!((item.name(), item.version(), item.content.is_ok()), ("deep", "7", false));
    }
}
