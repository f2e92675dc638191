//! An agent that answers plugins as a test says, with failures that a test cannot provoke in the real agent. The real agent has
//! separate tests.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

/// What becomes of one call.
#[derive(Debug, Clone)]
pub enum Act {
    /// This answer of version 1, for example `{"released": 1}`.
    Answer(Value),
    /// These bytes, and the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, for as long as the agent lives.
    Hang,
}

/// An agent on a socket, until dropped.
#[derive(Debug)]
pub struct ScriptedAgent {
    socket: PathBuf,
    calls: Arc<Mutex<Vec<Value>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedAgent {
    /// Listens on `socket`, whose folder is made; `script` says what becomes of each call.
    pub fn at(socket: &Path, script: impl Fn(&Value) -> Act + Send + 'static) -> Self {
        let folder = socket.parent().expect("a socket lies in a folder");
        std::fs::create_dir_all(folder).expect("make the socket's folder");
        let listener =
            UnixListener::bind(socket).unwrap_or_else(|e| panic!("listen on {}: {e}", socket.display()));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let (heard, end) = (calls.clone(), ends.clone());
        let thread = thread::spawn(move || serve(&listener, &heard, &end, &script));
        Self { socket: socket.to_owned(), calls, ends, thread: Some(thread) }
    }

    /// As [`at`](Self::at): an agent that assigns 172.23.0.30/24 to every caller, reports it as held, releases it, and has free
    /// addresses.
    pub fn obliging(socket: &Path) -> Self {
        Self::at(socket, oblige)
    }

    /// What it was asked so far, each call as written.
    pub fn calls(&self) -> Vec<Value> {
        self.calls.lock().expect("no test panics while it holds the calls").clone()
    }

    /// The verbs of the calls so far: `claim`, `release`, `held`, `usage`.
    pub fn verbs(&self) -> Vec<String> {
        let verb = |call: &Value| call.as_object().and_then(|call| call.keys().nth(1)).cloned();
        self.calls().iter().filter_map(verb).collect()
    }
}

impl Drop for ScriptedAgent {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes it.
        drop(UnixStream::connect(&self.socket));
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            panic!("the agent on {} panicked", self.socket.display());
        }
        // As an agent does that ends in peace.
        let _: Result<(), _> = std::fs::remove_file(&self.socket);
    }
}

/// The answers of [`ScriptedAgent::obliging`].
pub fn oblige(call: &Value) -> Act {
    let usage = json!({"pool": "172.23.0.0-24", "first": "172.23.0.30", "last": "172.23.0.70", "capacity": "41",
        "used": "1", "free": "40", "excluded": "0", "reserved": "0", "holders": []});
    Act::Answer(if !call["claim"].is_null() {
        json!({"assigned": [{"address": "172.23.0.30/24", "gateway": null}]})
    } else if !call["release"].is_null() {
        json!({"released": 1})
    } else if !call["held"].is_null() {
        json!({"held": ["172.23.0.30/24"]})
    } else {
        json!({"usage": [usage]})
    })
}

/// A refusal in the agent's own words.
pub fn failed(kind: &str, message: &str) -> Act {
    Act::Answer(json!({"failed": {"kind": kind, "message": message}}))
}

fn serve(
    listener: &UnixListener,
    calls: &Mutex<Vec<Value>>,
    end: &AtomicBool,
    script: &dyn Fn(&Value) -> Act,
) {
    let mut hung = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().expect("accept a plugin");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("read a call");
        if end.load(Ordering::SeqCst) {
            return;
        }
        if line.is_empty() {
            // A plugin that was killed before it said anything.
            continue;
        }
        let call: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("no call: {e}: {line}"));
        calls.lock().expect("no test panics while it holds the calls").push(call.clone());
        // A plugin that has given up hears nothing any more.
        match script(&call) {
            Act::Answer(mut answer) => {
                answer["version"] = json!(1);
                writeln!(stream, "{answer}").unwrap_or_default();
            }
            Act::Bytes(bytes) => stream.write_all(&bytes).unwrap_or_default(),
            Act::Hang => hung.push(stream),
        }
    }
}
