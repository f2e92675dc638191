//! What a fuzzer does with what this program reads. Not an interface for programs.

use std::ffi::OsString;
use std::path::PathBuf;

use octavia_bridge_ipam::request::{Choice, MOST_WANTS};
use serde_json::Value;

use crate::attachment::{Addressing, Attachment};
use crate::config::{Document, Essentials, IpamKind};
use crate::delegate::Delegate;
use crate::protocol::{CniResult, Environment, Error, Version, reply};
use crate::record::{self, AddressingIntent, Record};

/// Longest error, in bytes: kubelet puts it into an event, which has room for 1024, and into its log.
const LONGEST_ERROR: usize = 8 << 10;

/// Reads a call of ADD: the first line is `CNI_ARGS`, the rest is standard input.
///
/// # Panics
/// If the configuration is believed where it must not be, or an error is one that runtimes and people cannot show.
pub fn configuration(input: &[u8]) {
    let (args, stdin) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&b""[..], input),
    };
    let Ok(args) = std::str::from_utf8(args) else { return };
    let lookup = |key: &str| {
        Some(OsString::from(match key {
            "CNI_COMMAND" => "ADD",
            "CNI_CONTAINERID" => "cid1",
            "CNI_NETNS" => "/run/netns/pod",
            "CNI_IFNAME" => "net1",
            "CNI_ARGS" => args,
            _ => return None,
        }))
    };
    let environment = match Environment::read(lookup) {
        Ok(environment) => environment.expect("the command is set"),
        Err(error) => panic!("the environment is right but for CNI_ARGS, which is not read yet: {error}"),
    };
    let document = match Document::decode(stdin.to_vec()) {
        Ok(document) if reads_files(&document) => return,
        Ok(document) => document,
        Err(error) => return check(&error),
    };
    for error in [document.version().err(), document.valid_attachments().err()].into_iter().flatten() {
        check(&error);
    }
    match Essentials::read(&document) {
        Err(error) => check(&error),
        Ok(essentials) => {
            if let IpamKind::Delegated(program) = essentials.ipam {
                names_a_program(&program);
            }
        }
    }
    match Attachment::new(&environment, &document) {
        Err(error) => check(&error),
        Ok(attachment) => accepted(&attachment),
    }
}

/// whereabouts' flat file is of the machine that the fuzzer runs on, and says nothing about this program.
fn reads_files(document: &Document) -> bool {
    let Ok(Some(mut ipam)) = document.root().and_then(|mut root| root.object("ipam")) else { return false };
    ipam.present("configuration_path")
}

fn accepted(attachment: &Attachment) {
    if let Addressing::Pool(pool) = &attachment.addressing {
        let request = &pool.request;
        assert!(request.wants.len() <= MOST_WANTS, "{} addresses for one interface", request.wants.len());
        for want in &request.wants {
            match &want.choice {
                Choice::Lowest(range) => assert_eq!(range.subnet(), want.subnet),
                Choice::Exactly(address) => assert!(want.subnet.contains(address), "{want:?}"),
            }
        }
    }
    if let Some(previous) = &attachment.previous {
        result(previous);
    }
}

/// A result that an earlier plugin of the chain, or a delegated one, has given.
fn result(previous: &CniResult) {
    // An attachment's own addresses belong to the third of its links.
    let mut own = previous.clone();
    for ip in &mut own.ips {
        ip.interface = Some(2);
    }
    let chained = own.after(previous.clone());
    assert_eq!(chained.ips[..previous.ips.len()], previous.ips[..]);
    for version in Version::ALL {
        let again =
            CniResult::parse(&previous.render(version), version).expect("what is rendered reads back");
        if version == Version::NEWEST {
            assert_eq!(&again, previous);
        }
    }
}

/// Reads the file of an attachment's record.
///
/// # Panics
/// If what was read is not written again in the same words, or names what no configuration can name.
pub fn record(text: &[u8]) {
    let Some(Record { intent, outcome }) = record::parse(text) else { return };
    let mut lines = serde_json::to_vec(&intent).expect("an intent has a JSON form");
    lines.push(b'\n');
    if let Some(outcome) = &outcome {
        serde_json::to_writer(&mut lines, outcome).expect("an outcome has a JSON form");
        lines.push(b'\n');
    }
    assert_eq!(record::parse(&lines).as_ref(), Some(&Record { intent: intent.clone(), outcome }));
    // A record is believed no further than a configuration.
    if let AddressingIntent::Delegated { program, config } = &intent.addressing {
        assert!(matches!(IpamKind::of(program), Ok(IpamKind::Delegated(_))), "{program:?}");
        names_a_program(program);
        // Found or not, it is looked up below the folder only.
        let _ = Delegate::find(program, &[PathBuf::from("/usr/bin")], config.as_bytes());
    }
}

fn names_a_program(name: &str) {
    assert!(!name.contains('/') && !name.is_empty(), "{name:?} is not the name of a program in CNI_PATH");
}

/// An error as the runtime hears it: its texts are lines of a log and of a pod's events.
fn check(error: &Error) {
    let object = reply::error_object(error, Version::NEWEST);
    for key in ["msg", "details"] {
        let text = object.get(key).and_then(Value::as_str).unwrap_or_default();
        assert!(!text.contains(char::is_control), "{key} has control characters: {text:?}");
        assert!(text.len() <= LONGEST_ERROR, "{key} has {} bytes: {text:.200}", text.len());
    }
}
