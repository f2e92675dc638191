//! The log on standard error: one line an event, as text or as JSON.

use std::fmt::{self, Debug};
use std::io::{self, Write};

use clap::ValueEnum;
use octavia_bridge_ipam::visible::{Lines, visible};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Time, level and message.
    Text,
    /// An object with `timestamp`, `level`, `target`, `message` and further fields.
    Json,
}

/// Begins to write events that the variable `RUST_LOG` lets through, by default all from INFO on, in the format of the command
/// line or else of the variable `LOG_FORMAT`. Without `times`, text has none: a person at a terminal knows what time it is.
pub(crate) fn begin(format: Option<Format>, times: bool) {
    let [wanted_format, wanted] = ["LOG_FORMAT", "RUST_LOG"]
        .map(|name| std::env::var_os(name).unwrap_or_default().to_string_lossy().into_owned());
    let (format, format_problem) = match format {
        Some(format) => (format, None),
        None => format_of(&wanted_format),
    };
    let (told, problem) = filter(&wanted);
    let base = tracing_subscriber::fmt().with_ansi(false).log_internal_errors(false);
    match format {
        // Names of policies and fields of objects are others' words.
        Format::Text if times => {
            base.with_target(false).with_writer(|| Lines(Unfailing(io::stderr()))).finish().with(told).init();
        }
        Format::Text => {
            let log = base.with_target(false).without_time();
            log.with_writer(|| Lines(Unfailing(io::stderr()))).finish().with(told).init();
        }
        Format::Json => {
            base.event_format(Json).with_writer(|| Unfailing(io::stderr())).finish().with(told).init();
        }
    }
    for problem in [format_problem, problem].into_iter().flatten() {
        tracing::warn!("{problem}");
    }
}

/// The format of the variable. With a mistake in it, the agent and its probes work all the same.
fn format_of(wanted: &str) -> (Format, Option<String>) {
    let wanted = wanted.trim();
    match Format::from_str(wanted, true) {
        Ok(format) => (format, None),
        Err(_) if wanted.is_empty() => (Format::Text, None),
        Err(_) => {
            (Format::Text, Some(format!("LOG_FORMAT: {wanted:?} is neither text nor json; the log is text")))
        }
    }
}

/// What is told, and why not what was asked for. A mistake in a variable is no reason to leave a node without an agent, or
/// without its log: the parts that are right extend the default.
fn filter(wanted: &str) -> (Targets, Option<String>) {
    // The client of the API server, and what watches by it, log each failed attempt, and do not say of what; the part of the
    // agent that asked says more, once.
    let mut told = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("kube_client", LevelFilter::OFF)
        .with_target("kube_runtime", LevelFilter::OFF);
    let mut wrong = Vec::new();
    for part in wanted.split(',').map(str::trim) {
        let (target, level) = part.split_once('=').unwrap_or(("", part));
        let is_target = target.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c));
        match level.parse::<LevelFilter>() {
            // No part, or no level. A level is never empty, though the parser takes that for one.
            _ if part.is_empty() => {}
            Ok(level) if !part.contains('=') => told = told.with_default(level),
            Ok(level) if is_target && !target.is_empty() && !part.ends_with('=') => {
                told = told.with_target(target, level);
            }
            _ => wrong.push(format!("{part:?}")),
        }
    }
    let problem = (!wrong.is_empty()).then(|| {
        format!(
            "RUST_LOG: {}: neither a level, such as info, nor a target with a level, such as octavia_bridge_agent=debug; it is ignored",
            wrong.join(", ")
        )
    });
    (told, problem)
}

/// One JSON object a line.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(Map::new());
        fields.0.insert("timestamp".into(), time.into());
        fields.0.insert("level".into(), event.metadata().level().as_str().into());
        fields.0.insert("target".into(), event.metadata().target().into());
        event.record(&mut fields);
        writeln!(line, "{}", Value::Object(fields.0))
    }
}

/// The fields of an event. Texts are others' words: JSON escapes what would begin a line, `visible` also what turns the
/// reading direction.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.0.insert(field.name().into(), visible(&text).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), visible(value).into());
    }
}

/// A log that cannot be written any more, on a full disk or because its reader has ended, is no reason to stop working.
struct Unfailing<W>(W);

impl<W: Write> Write for Unfailing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // As above.
        self.0.flush().unwrap_or_default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_format_is_text_unless_the_variable_says_json() {
        for (wanted, format) in
            [("json", Format::Json), (" JSON\n", Format::Json), ("Text", Format::Text), ("", Format::Text)]
        {
            assert_eq!(format_of(wanted), (format, None), "{wanted:?}");
        }
        let (format, problem) = format_of("jsno");
        assert_eq!(format, Format::Text);
        assert!(problem.unwrap().starts_with("LOG_FORMAT: \"jsno\" is neither"));
    }

    #[test]
    fn the_filter_is_the_default_and_what_was_asked_for() {
        let (told, problem) = filter("warn, octavia_bridge_agent=debug,");
        assert!(problem.is_none(), "{problem:?}");
        assert!(told.would_enable("octavia_bridge_agent::node", &Level::DEBUG));
        assert!(told.would_enable("hyper", &Level::WARN) && !told.would_enable("hyper", &Level::INFO));
        assert!(!told.would_enable("kube_client", &Level::ERROR));
        let (told, _) = filter("octavia_bridge_agent=debug,kube_client=warn");
        assert!(told.would_enable("octavia_bridge_ipam", &Level::INFO));
        assert!(told.would_enable("kube_client", &Level::WARN));
        let (told, problem) = filter("");
        assert!(problem.is_none() && !told.would_enable("kube_runtime", &Level::ERROR));
        assert!(!told.would_enable("octavia_bridge_agent", &Level::DEBUG));
        assert!(!filter("off").0.would_enable("octavia_bridge_agent", &Level::ERROR));
    }

    #[test]
    fn a_mistake_in_the_filter_is_told_and_silences_nothing() {
        for wrong in [
            "warning",
            "octavia_bridge_agent",
            "octavia_bridge_agent=loud",
            "octavia_bridge_agent=",
            "=info",
            "a[{b}]=info",
        ] {
            let (told, problem) = filter(&format!("{wrong},hyper=debug"));
            assert!(problem.unwrap().starts_with(&format!("RUST_LOG: {wrong:?}: ")));
            assert!(told.would_enable("octavia_bridge_agent", &Level::INFO), "{wrong}");
            assert!(!told.would_enable("octavia_bridge_agent", &Level::DEBUG), "{wrong}");
            assert!(told.would_enable("hyper", &Level::DEBUG), "{wrong}");
        }
    }
}
