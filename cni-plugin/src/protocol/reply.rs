//! What the runtime hears: one JSON document on stdout, an exit code, and nothing else.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use octavia_bridge_ipam::visible::visible;
use serde_json::{Value, json};

use super::{Code, Error, Version};

/// A successful verb's answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// DEL, CHECK, STATUS and GC answer with their exit code alone.
    Nothing,
    /// ADD has printed its result itself: as long as that may fail, the attachment is not complete.
    Printed,
    /// VERSION.
    Versions,
}

/// Prints a verb's outcome and gives the exit code that goes with it.
pub(crate) fn write(outcome: Result<Reply, Error>, config_version: Version) -> ExitCode {
    let (printed, code) = match outcome {
        Ok(Reply::Nothing | Reply::Printed) => return ExitCode::SUCCESS,
        Ok(Reply::Versions) => (say(&versions()), ExitCode::SUCCESS),
        Err(error) => (print(&error_object(&error, config_version)), ExitCode::FAILURE),
    };
    // A runtime that went away cannot be told anything; the exit code still says that it was not told.
    if printed.is_ok() { code } else { ExitCode::FAILURE }
}

/// Without a tree of JSON values, whose code is a tenth of the pages that this verb reads.
fn versions() -> String {
    let mut text = ["{\"cniVersion\":\"", Version::NEWEST.as_str(), "\",\"supportedVersions\":"].concat();
    for (number, version) in Version::ALL.iter().enumerate() {
        text.push(if number == 0 { '[' } else { ',' });
        text.push_str(&["\"", version.as_str(), "\""].concat());
    }
    text.push_str("]}");
    text
}

pub(crate) fn error_object(error: &Error, version: Version) -> Value {
    // Both go into a pod's event, and into logs of the runtime, where each line has an author.
    let msg = visible(&error.msg);
    let mut object = json!({ "cniVersion": version.as_str(), "code": error.code.number(), "msg": msg });
    if let Some(details) = error.shown_details() {
        object["details"] = visible(&details).into();
    }
    object
}

/// Prints a document.
pub(crate) fn print(document: &Value) -> Result<(), Error> {
    say(&document.to_string())
}

/// The one place of this program that writes to stdout. The document leaves in one write, so that no reader ever sees
/// half of it, and only one document ever does: the panic hook may run after a result was printed.
fn say(document: &str) -> Result<(), Error> {
    static PRINTED: AtomicBool = AtomicBool::new(false);
    if PRINTED.load(Ordering::SeqCst) {
        return Ok(());
    }
    let text = [document, "\n"].concat();
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    PRINTED.store(written.is_ok(), Ordering::SeqCst);
    written.map_err(|cause| Error::io("write the answer to stdout", &cause))
}

/// Turns a defect of this program into an error object too: an empty stdout reaches users as
/// "netplugin failed with no error message", which helps nobody.
pub(crate) fn answer_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let reason = payload.downcast_ref::<&str>().copied();
        let reason =
            reason.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason");
        let error = Error::new(Code::Internal, format!("octavia-bridge has a defect at {place}: {reason}"))
            .with_details("please report it with this message; DEL undoes what was done");
        // Nobody else is left to be told.
        let _ = print(&error_object(&error, Version::NEWEST));
        default(panic);
        std::process::exit(1);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_the_seven() {
        let versions: Value = serde_json::from_str(&versions()).unwrap();
        let all: Vec<_> = Version::ALL.iter().map(|version| version.as_str()).collect();
        assert_eq!((all.len(), versions), (7, json!({ "cniVersion": "1.1.0", "supportedVersions": all })));
    }

    #[test]
    fn an_error_names_its_version_code_and_details() {
        let error = Error::new(Code::NotAvailable, "later").with_details("a").with_details("b");
        assert_eq!(
            error_object(&error, Version::V0_3_1),
            json!({"cniVersion": "0.3.1", "code": 50, "msg": "later", "details": "a; b"})
        );
    }

    #[test]
    fn an_error_is_one_line_whatever_it_repeats() {
        let error = Error::new(Code::InvalidConfig, "a\nb\u{1b}[31m").with_details("c\u{202e}d");
        let object = error_object(&error, Version::NEWEST);
        assert_eq!(object["msg"], r"a\nb\u{1b}[31m");
        assert_eq!(object["details"], r"c\u{202e}d");
    }

    /// The test binary starts itself: in the child this very test panics under the hook, and what the child
    /// prints is what a runtime would read.
    #[test]
    fn a_panic_ends_as_one_error_object() {
        const CHILD: &str = "OCTAVIA_BRIDGE_TEST_PANICS";
        if std::env::var_os(CHILD).is_some() {
            answer_panics();
            panic!("the cat is on the keyboard");
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "protocol::reply::tests::a_panic_ends_as_one_error_object", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(child.status.code(), Some(1));
        let stdout = String::from_utf8(child.stdout).unwrap();
        let document = stdout.lines().find_map(|line| line.find('{').map(|start| &line[start..])).unwrap();
        let object: Value = serde_json::from_str(document).unwrap();
        assert_eq!(object["code"], 999);
        assert!(object["msg"].as_str().unwrap().contains("the cat is on the keyboard"));
    }
}
