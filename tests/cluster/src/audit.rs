//! What the server was asked, in its own words.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde_json::Value;

/// The server's audit log.
#[derive(Debug)]
pub struct Audit {
    file: PathBuf,
}

/// A moment: requests that reached the server later are "since".
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Plural, such as `ippools`; with its subresource, such as `serviceaccounts/token`.
    pub resource: String,
    /// The namespace of the object; empty if it has none.
    pub namespace: String,
    /// The object's name; empty for lists.
    pub name: String,
    /// Who asked, such as `system:serviceaccount:kube-system:octavia-bridge`.
    pub user: String,
    /// The program that asked, as it calls itself.
    pub user_agent: String,
    /// The status it was answered with; none while it is not.
    pub status: Option<u16>,
}

impl Audit {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        let metadata = fs::metadata(&self.file);
        Mark(metadata.unwrap_or_else(|e| panic!("the audit log {}: {e}", self.file.display())).len())
    }

    /// Requests that arrived since a moment, in order of arrival. Those of the server to itself are not logged.
    ///
    /// An arrival is written before the request is looked at: whoever has an answer finds the request here.
    pub fn since(&self, mark: Mark) -> Vec<Request> {
        let text = self.read(mark);
        let mut requests: Vec<Request> = Vec::new();
        let mut arrived: HashMap<String, usize> = HashMap::new();
        for line in text.lines() {
            // The last line may be half written, and so may have been the one at the mark.
            let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
            let text =
                |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            if event["stage"] == "RequestReceived" {
                let (resource, subresource) = (text("/objectRef/resource"), text("/objectRef/subresource"));
                arrived.insert(text("/auditID"), requests.len());
                requests.push(Request {
                    verb: text("/verb"),
                    resource: if subresource.is_empty() {
                        resource
                    } else {
                        format!("{resource}/{subresource}")
                    },
                    namespace: text("/objectRef/namespace"),
                    name: text("/objectRef/name"),
                    user: text("/user/username"),
                    user_agent: text("/userAgent"),
                    status: None,
                });
            } else if let Some(&index) = arrived.get(&text("/auditID")) {
                let status = event.pointer("/responseStatus/code").and_then(Value::as_u64);
                requests[index].status = status.and_then(|status| status.try_into().ok());
            }
        }
        requests
    }

    /// Not the whole file, which a long test makes large.
    fn read(&self, mark: Mark) -> String {
        let read = || {
            let mut file = File::open(&self.file)?;
            file.seek(SeekFrom::Start(mark.0))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|e| panic!("read the audit log {}: {e}", self.file.display()))
    }
}
