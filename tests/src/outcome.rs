//! What a run of the plugin came to, and the promises of the protocol that every run must keep.

use std::net::IpAddr;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

/// The end of one run.
#[derive(Debug)]
pub struct Outcome {
    /// Environment, plugin and stdin, for messages.
    pub call: String,
    /// How the process ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

/// The error object of the CNI specification.
#[derive(Debug)]
pub struct CniError {
    /// 1 to 99 from the specification, 100 and up the plugin's own.
    pub code: u64,
    /// One line for the user.
    pub msg: String,
    /// More of it, or empty.
    pub details: String,
}

impl CniError {
    /// Asserts that the message or its details contain each of the words.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> &Self {
        let text = format!("{}\n{}", self.msg, self.details);
        for word in words {
            assert!(text.contains(word), "{word:?} is not said in: {text}");
        }
        self
    }
}

impl Outcome {
    /// Asserts success, and returns the one JSON document on stdout; `Value::Null` when stdout is empty.
    #[track_caller]
    pub fn success(&self) -> Value {
        assert!(self.status.success(), "expected success\n{self:#?}");
        if self.stdout.is_empty() {
            return Value::Null;
        }
        self.document()
    }

    /// Asserts success of a verb that prints nothing: DEL, CHECK, GC, STATUS.
    #[track_caller]
    pub fn silent_success(&self) {
        assert!(self.status.success(), "expected success\n{self:#?}");
        assert_eq!(self.stdout, "", "this verb prints nothing on stdout\n{self:#?}");
    }

    /// Asserts a successful ADD, and returns its result.
    #[track_caller]
    pub fn attached(&self) -> Attached {
        let result = self.success();
        assert!(result.is_object(), "ADD prints one result\n{self:#?}");
        Attached { result }
    }

    /// Asserts the one error object on stdout, with this code, and exit status 1.
    #[track_caller]
    pub fn error(&self, code: u64) -> CniError {
        let error = self.any_error();
        assert_eq!(error.code, code, "expected code {code}\n{self:#?}");
        error
    }

    /// Asserts the one error object on stdout, and exit status 1.
    #[track_caller]
    pub fn any_error(&self) -> CniError {
        assert_eq!(self.status.code(), Some(1), "expected an error and exit status 1\n{self:#?}");
        let document = self.document();
        let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let error = CniError {
            code: document["code"].as_u64().unwrap_or_default(),
            msg: text("msg"),
            details: text("details"),
        };
        assert!(error.code > 0 && !error.msg.is_empty(), "an error has a code and a message\n{self:#?}");
        // Kubernetes shows the message as one line of an event.
        assert!(!error.msg.contains('\n'), "a message is one line\n{self:#?}");
        error
    }

    /// Stdout as exactly one JSON document; a second one, or a stray word, fails.
    #[track_caller]
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is not one JSON document: {e}\n{self:#?}"))
    }
}

/// The result of an ADD, in the layout of versions 0.3.0 and up.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The whole document.
    pub result: Value,
}

impl Attached {
    /// The first address with its prefix length, as printed.
    #[track_caller]
    pub fn address(&self) -> &str {
        self.result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("no address in {}", self.result))
    }

    /// The first address.
    #[track_caller]
    pub fn ip(&self) -> IpAddr {
        self.ips()[0]
    }

    /// All addresses.
    #[track_caller]
    pub fn ips(&self) -> Vec<IpAddr> {
        let none = Vec::new();
        let ips = self.result["ips"].as_array().unwrap_or(&none);
        let address = |ip: &Value| {
            let text = ip["address"].as_str().unwrap_or_default();
            let bare = text.split('/').next().unwrap_or_default();
            bare.parse().unwrap_or_else(|e| panic!("address {text:?}: {e}"))
        };
        ips.iter().map(address).collect()
    }

    /// The name of the bridge.
    #[track_caller]
    pub fn bridge(&self) -> &str {
        self.interface(0, "name")
    }

    /// The name of the pair's end on the host.
    #[track_caller]
    pub fn host_link(&self) -> &str {
        self.interface(1, "name")
    }

    /// The MAC address of the pair's end in the pod.
    #[track_caller]
    pub fn pod_mac(&self) -> &str {
        self.interface(2, "mac")
    }

    /// A field of one of `interfaces`: 0 the bridge, 1 the host's end, 2 the pod's end.
    #[track_caller]
    pub fn interface(&self, index: usize, field: &str) -> &str {
        self.result["interfaces"][index][field]
            .as_str()
            .unwrap_or_else(|| panic!("no interfaces[{index}].{field} in {}", self.result))
    }
}
