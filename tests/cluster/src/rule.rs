//! What goes wrong, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// What becomes of a request instead of what the server would do.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The server never sees it; the proxy refuses.
    Refuse(Refusal),
    /// The server does it; the proxy says something else.
    RefuseAfter(Refusal),
    /// The connection is cut before the server sees it.
    CutBefore,
    /// The server does it, and the connection is cut instead of the answer.
    CutAfter,
    /// The server never sees it, and no answer ever comes.
    Hang,
    /// The server does it, and no answer ever comes.
    HangAfter,
    /// It is passed on after this time.
    Delay(Duration),
    /// The server does it at once, and the answer comes after this time.
    DelayAfter(Duration),
    /// So many bytes of the answer's body come, and then its end, as if these were all.
    End(usize),
    /// The same, and then the connection is cut.
    Break(usize),
}

impl Fault {
    /// A refusal with the server's usual words for a status.
    pub fn answer(status: u16) -> Self {
        Self::Refuse(Refusal::new(status))
    }
}

/// A Status object as the server would send it.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u32>,
}

impl Refusal {
    /// With the server's usual words; 429 says to come again after a second, as the server does.
    pub fn new(status: u16) -> Self {
        Self { status, retry_after: (status == 429).then_some(1) }
    }

    /// When to come again, in seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The document. A 409 of a POST is a name that exists, of anything else a newer version.
    pub(crate) fn document(&self, method: &str) -> Value {
        let reason = match (self.status, method) {
            (400, _) => "BadRequest",
            (401, _) => "Unauthorized",
            (403, _) => "Forbidden",
            (404, _) => "NotFound",
            (409, "POST") => "AlreadyExists",
            (409, _) => "Conflict",
            (410, _) => "Expired",
            (422, _) => "Invalid",
            (429, _) => "TooManyRequests",
            (500, _) => "InternalError",
            (503, _) => "ServiceUnavailable",
            (504, _) => "Timeout",
            _ => "Unknown",
        };
        let mut document = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": format!("{} by the fault proxy", self.status),
            "reason": reason,
            "code": self.status,
        });
        if let Some(seconds) = self.retry_after {
            document["details"] = json!({"retryAfterSeconds": seconds});
        }
        document
    }
}

/// Which requests meet a fault.
#[derive(Debug, Clone)]
pub struct Rule {
    method: String,
    pattern: String,
    first: u32,
    last: u32,
    pub(crate) fault: Fault,
}

impl Rule {
    /// Requests of a method (`*` is any) whose path and query contain the pattern, in which `*` is any text:
    /// `("PATCH", "/ippools/")`, `("GET", "/leases*watch=true")`. All of them, unless told otherwise.
    pub fn on(method: &str, pattern: &str, fault: Fault) -> Self {
        Self { method: method.to_owned(), pattern: pattern.to_owned(), first: 1, last: u32::MAX, fault }
    }

    /// Only the `nth` of them, counted from 1.
    pub fn nth(self, nth: u32) -> Self {
        Self { first: nth, last: nth, ..self }
    }

    /// Only the first so many of them.
    pub fn first(self, count: u32) -> Self {
        Self { first: 1, last: count, ..self }
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        let mut rest = path;
        (self.method == "*" || self.method == method)
            && self.pattern.split('*').all(|piece| {
                let found = rest.find(piece);
                rest = found.map_or("", |at| &rest[at + piece.len()..]);
                found.is_some()
            })
    }
}

/// How often a rule was met.
#[derive(Debug, Clone, Default)]
pub struct Hits {
    matched: Arc<AtomicU32>,
    hits: Arc<AtomicU32>,
}

impl Hits {
    /// Requests that met the fault. A test should ask: without it, the fault it is about may never have happened.
    pub fn hits(&self) -> u32 {
        self.hits.load(Ordering::SeqCst)
    }

    /// Requests of the method and path, whether or not it was their turn.
    pub fn matched(&self) -> u32 {
        self.matched.load(Ordering::SeqCst)
    }
}

/// The rules of a proxy, in the order they were given. The first one whose turn it is decides.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<(Rule, Hits)>);

impl Rules {
    pub(crate) fn add(&mut self, rule: Rule) -> Hits {
        let hits = Hits::default();
        self.0.push((rule, hits.clone()));
        hits
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault of a request, counted.
    pub(crate) fn fault(&self, method: &str, path: &str) -> Option<Fault> {
        self.0.iter().filter(|(rule, _)| rule.matches(method, path)).find_map(|(rule, hits)| {
            let number = hits.matched.fetch_add(1, Ordering::SeqCst) + 1;
            let due = (rule.first..=rule.last).contains(&number);
            due.then(|| {
                hits.hits.fetch_add(1, Ordering::SeqCst);
                rule.fault.clone()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Rule, Rules};

    #[test]
    fn a_pattern_s_pieces_occur_in_order() {
        let rule = Rule::on("GET", "/leases*watch=true", Fault::Hang);
        assert!(rule.matches("GET", "/apis/x/leases?limit=1&watch=true"));
        assert!(!rule.matches("GET", "/apis/x/leases?limit=1"));
        assert!(!rule.matches("GET", "/watch=true/leases"));
        assert!(!rule.matches("PUT", "/apis/x/leases?watch=true"));
        assert!(Rule::on("*", "", Fault::Hang).matches("PUT", "/anything"));
    }

    #[test]
    fn a_rule_has_its_turn() {
        let mut rules = Rules::default();
        let second = rules.add(Rule::on("GET", "/pods", Fault::Hang).nth(2));
        let always = rules.add(Rule::on("GET", "/pods", Fault::CutAfter));
        let hangs = |rules: &Rules| matches!(rules.fault("GET", "/pods"), Some(Fault::Hang));
        assert_eq!([hangs(&rules), hangs(&rules), hangs(&rules)], [false, true, false]);
        assert_eq!((second.matched(), second.hits()), (3, 1));
        assert_eq!((always.matched(), always.hits()), (2, 2));
        assert!(rules.fault("GET", "/nodes").is_none());
    }
}
