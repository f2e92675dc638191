//! What the API answers with, around the objects: lists, watches, refusals.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::object::{Object, Stored, Version};

/// One page of a list.
pub(super) struct Page<T> {
    pub(super) version: Version,
    /// Where the next page begins; empty after the last.
    pub(super) next: String,
    pub(super) items: Vec<Stored<T>>,
}

impl<T: Object> Page<T> {
    pub(super) fn read(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct List<'a> {
            #[serde(borrow)]
            metadata: ListMetadata<'a>,
            #[serde(borrow)]
            items: Vec<&'a RawValue>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ListMetadata<'a> {
            resource_version: Version,
            #[serde(borrow, rename = "continue", default)]
            next: Cow<'a, str>,
        }
        let list: List<'_> = serde_json::from_str(text)?;
        let items = list.items.iter().map(|item| T::read(item.get())).collect::<Result<_, _>>()?;
        Ok(Self { version: list.metadata.resource_version, next: list.metadata.next.into_owned(), items })
    }
}

/// One line of a watch. Objects are text still: of our own writes the reply was read already, and of what is gone only the
/// name matters.
pub(super) enum Event<'a> {
    Put(Head, &'a str),
    Deleted(Head),
    /// Nothing has changed up to this version.
    Bookmark(Version),
    /// The server cannot go on; its status as HTTP would say it.
    Failed {
        code: u16,
        message: String,
    },
}

/// What tells an object, and when it was so.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    #[serde(default)]
    pub(super) name: String,
    #[serde(rename = "resourceVersion")]
    pub(super) version: Version,
}

impl<'a> Event<'a> {
    pub(super) fn read(line: &'a str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        #[derive(Deserialize)]
        struct Headed {
            metadata: Head,
        }
        let line: Line<'a> = serde_json::from_str(line)?;
        let object = line.object.get();
        let head = || serde_json::from_str::<Headed>(object).map(|headed| headed.metadata);
        Ok(match &*line.kind {
            "ADDED" | "MODIFIED" => Self::Put(head()?, object),
            "DELETED" => Self::Deleted(head()?),
            "BOOKMARK" => Self::Bookmark(head()?.version),
            _ => {
                let Refusal { code, message, .. } = serde_json::from_str(object)?;
                Self::Failed { code, message }
            }
        })
    }
}

/// The body of a refusal, `kind: Status`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) message: String,
    pub(super) details: Option<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Details {
    pub(super) retry_after_seconds: Option<u64>,
}
