//! What people read beside the protocol: warnings and errors on stderr, and more in a file if the configuration
//! names one.

mod file;

pub(crate) use file::append_to;

use std::fmt::{Debug, Write as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use octavia_bridge_ipam::conf::places;
use octavia_bridge_ipam::document::FieldError;
use octavia_bridge_ipam::visible::Lines;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::config::Document;
use crate::protocol::Version;
use crate::writer;

/// So many warnings are said; more of them are counted. A network definition has room for tens of thousands.
const WARNINGS_SAID: usize = 10;

/// How long the end of the call waits for the disk of the log file.
const LOG_WAIT: Duration = Duration::from_secs(2);

/// What goes to `ipam.log_file`, once the configuration has been read; `None` if it cannot be written.
static LOG_FILE: OnceLock<Option<LogFile>> = OnceLock::new();

/// It is written at the end of the call: its disk may not answer.
struct LogFile {
    path: PathBuf,
    /// The least severe.
    level: LevelFilter,
    text: Mutex<Vec<u8>>,
}

impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut text = self.text.lock().map_err(|_| io::ErrorKind::Other)?;
        if text.len() + line.len() <= writer::LOG_MOST {
            text.extend_from_slice(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes events, one line each, to standard error from `warn` up, and to [`LOG_FILE`] once it is known. Runtimes keep a plugin's
/// standard error in their own log, which has the time.
///
/// The plugin uses no spans, because the registry that keeps them (`tracing_subscriber`) touches eight pages of memory at each start.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= LevelFilter::DEBUG
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        let level = event.metadata().level();
        let file = LOG_FILE.get().and_then(Option::as_ref).filter(|file| *level <= file.level);
        let to_stderr = *level <= LevelFilter::WARN;
        if !to_stderr && file.is_none() {
            return;
        }
        let mut line = Line(format!("{level:>5}"));
        event.record(&mut line);
        line.0.push('\n');
        // There is nobody to tell.
        if to_stderr {
            let _ = Lines(io::stderr()).write_all(line.0.as_bytes());
        }
        if let Some(file) = file {
            let mut time = String::new();
            let _ = SystemTime.format_time(&mut Writer::new(&mut time));
            let _ = Lines(file).write_all(format!("{time} {}", line.0).as_bytes());
        }
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// An event's message and fields after its level.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Begins to write events.
pub(crate) fn start() {
    // Fails only when there is a subscriber already, and then events have somewhere to go.
    let _ = tracing::subscriber::set_global_default(Log);
}

/// Says warnings about a configuration: the first ten, and how many more there are.
pub(crate) fn warn_of(warnings: &[String]) {
    let (said, rest) = warnings.split_at(warnings.len().min(WARNINGS_SAID));
    for warning in said {
        tracing::warn!("{warning}");
    }
    if !rest.is_empty() {
        tracing::warn!("and {} more warnings about this configuration", rest.len());
    }
}

/// Opens `ipam.log_file`, if the configuration names one that may be. The levels are whereabouts': `panic`, `error`,
/// `verbose`, `debug`. What is wrong with the two fields is for the verb to say that reads them all.
pub(crate) fn also_to_file_of(document: &Document) {
    let fields = || -> Result<_, FieldError> {
        let Some(mut ipam) = document.root()?.object("ipam")? else { return Ok((None, None)) };
        Ok((ipam.string("log_file")?, ipam.string("log_level")?))
    };
    if let Ok((Some(path), level)) = fields()
        && places::is_log_file(Path::new(path))
    {
        also_to_file(Path::new(path), level.map(str::to_ascii_lowercase).as_deref());
    }
}

/// Takes the file, unless one was tried already: the network's own comes before the flat file's, which is known later.
pub(crate) fn also_to_file(path: &Path, level: Option<&str>) {
    if LOG_FILE.get().is_some() {
        return;
    }
    let level = match level {
        Some("panic" | "error") => LevelFilter::ERROR,
        Some("verbose") => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let file = match file::examine(path) {
        Ok(()) => Some(LogFile { path: path.to_owned(), level, text: Mutex::default() }),
        // A pod is worth more than its log.
        Err(cause) => {
            tracing::warn!("ipam.log_file: cannot write {}: {cause}", path.display());
            None
        }
    };
    drop(LOG_FILE.set(file));
}

/// Writes the log file. Many plugins of a node write to one file at once; each call is one write to its end.
pub(crate) fn finish() {
    let Some(Some(file)) = LOG_FILE.get() else { return };
    let text = file.text.lock().map(|mut text| std::mem::take(&mut *text)).unwrap_or_default();
    if !text.is_empty()
        && let Err(cause) = writer::append(&file.path, &text, LOG_WAIT)
    {
        tracing::warn!("ipam.log_file: cannot write {}: {cause}", file.path.display());
    }
}

/// For a person who starts the program by hand. Stdout belongs to the protocol even then.
pub(crate) fn about() {
    let versions: Vec<_> = Version::ALL.iter().map(|version| version.as_str()).collect();
    // Nobody to tell if stderr is closed.
    let _ = writeln!(
        io::stderr(),
        "octavia-bridge {}: CNI plugin that attaches pods to a Linux bridge; a container runtime starts it.\n\
         CNI protocol versions supported: {}",
        env!("CARGO_PKG_VERSION"),
        versions.join(", ")
    );
}
