//! From text to [`Desired`]: a bare state, `desiredState:` documents and policies, any number of them.

use serde_json::Value;

use super::field::{Fields, sort};
use super::merge::{Merge, Source};
use super::problem::{Findings, Problem, Problems};
use super::yaml::documents;
use super::{Choice, Desired, bounds, interface, route};

/// What `kubectl get nncp -o yaml` prints, and what the API answers.
const LISTS: [&str; 2] = ["List", "NodeNetworkConfigurationPolicyList"];

/// How the origin of a policy of the cluster begins, before its name.
pub(crate) const ORIGIN_IN_CLUSTER: &str = "policy ";

/// Where something came from, and its text.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Text {
    /// Path of the file, `-`, or the name of a policy of the cluster after [`ORIGIN_IN_CLUSTER`].
    pub(crate) origin: String,
    pub(crate) yaml: String,
}

/// Reads all documents of all texts into one desired state. One that holds nothing for this node is a problem, too.
///
/// # Errors
/// Every problem of every document.
pub(crate) fn read<'a>(
    texts: impl IntoIterator<Item = &'a Text>,
    choice: &Choice,
) -> Result<Desired, Problems> {
    gather(texts, choice, true)
}

/// As [`read`], where there may be nothing for this node: policies come and go.
///
/// # Errors
/// Every problem of every document.
pub(crate) fn read_any<'a>(
    texts: impl IntoIterator<Item = &'a Text>,
    choice: &Choice,
) -> Result<Desired, Problems> {
    gather(texts, choice, false)
}

fn gather<'a>(
    texts: impl IntoIterator<Item = &'a Text>,
    choice: &Choice,
    something: bool,
) -> Result<Desired, Problems> {
    let texts: Vec<&Text> = texts.into_iter().collect();
    let findings = Findings::default();
    let mut merge = Merge::default();
    for text in &texts {
        let documents = match documents(&text.yaml) {
            Ok(documents) => documents,
            Err(error) => {
                findings.invalid(&text.origin, error);
                continue;
            }
        };
        let several = documents.iter().filter(|document| !document.is_null()).count() > 1;
        for (number, document) in documents.into_iter().enumerate() {
            if !document.is_null() && !document.is_object() {
                let what = format!(
                    "must be a mapping with interfaces or routes, or a policy, not {}",
                    sort(&document)
                );
                findings.invalid(&text.origin, what);
            } else if !document.is_null() {
                let origin = (texts.len() > 1).then(|| text.origin.clone());
                let number = several.then(|| format!("document {}", number + 1));
                let name = origin.into_iter().chain(number).collect::<Vec<_>>().join(", ");
                read_document(name, document, choice, &findings, &mut merge);
            }
        }
    }
    let desired = if something { merge.finish(&findings) } else { merge };
    bounds::check(&desired, &findings);
    let problems = findings.into_vec();
    if problems.is_empty() { Ok(desired.into()) } else { Err(Problems(problems)) }
}

fn read_document(name: String, document: Value, choice: &Choice, findings: &Findings, merge: &mut Merge) {
    let prefix = |name: &str| if name.is_empty() { String::new() } else { format!("{name}: ") };
    let Some(mut fields) = Fields::new(prefix(&name), document, findings) else { return };
    if let Some(state) = fields.take("desiredState") {
        fields.finish();
        return read_state(&prefix(&name), state, choice, findings, merge);
    }
    let Some(kind) = fields.text("kind") else {
        return read_fields(fields, &prefix(&name), choice, findings, merge);
    };
    if LISTS.contains(&kind.as_str()) {
        return read_list(fields, choice, findings, merge);
    }
    if kind != "NodeNetworkConfigurationPolicy" {
        return fields
            .unsupported("kind", format!("{kind}: not supported, only NodeNetworkConfigurationPolicy is"));
    }
    // The metadata is Kubernetes' business, but for the name, and so is the status.
    fields.take("status");
    if let Some(version) = fields.text("apiVersion").filter(|version| !version.starts_with("nmstate.io/")) {
        fields.unsupported("apiVersion", format!("{version}: not supported, only nmstate.io is"));
    }
    let metadata = fields.take("metadata");
    let title =
        metadata.as_ref().and_then(|metadata| metadata["name"].as_str()).map_or(name, ToOwned::to_owned);
    let spec = fields.take("spec");
    fields.finish();
    let path = format!("{}spec", prefix(&title));
    let Some(mut spec) = Fields::new(path, spec.unwrap_or_default(), findings) else { return };
    // How many nodes may change at once is no matter on one node.
    spec.take("maxUnavailable");
    let selector = spec.take("nodeSelector");
    if let Some(reason) = choice.rejects(selector, &spec) {
        merge.leave(format!("policy {title}: {reason}"));
        return;
    }
    let state = spec.take("desiredState");
    spec.finish();
    if let Some(state) = state {
        read_state(&prefix(&title), state, choice, findings, merge);
    }
}

/// The objects of a list, each as if it were a document.
fn read_list(mut list: Fields<'_>, choice: &Choice, findings: &Findings, merge: &mut Merge) {
    for key in ["apiVersion", "metadata"] {
        list.take(key);
    }
    let items = list.list("items").unwrap_or_default();
    list.finish();
    for (place, item) in items {
        // Lists of lists would be read as deep as they go, and kubectl prints none.
        if item["kind"].as_str().is_some_and(|kind| LISTS.contains(&kind)) {
            findings.invalid(place, "is a list itself, and must be a policy");
        } else {
            read_document(place, item, choice, findings, merge);
        }
    }
}

fn read_state(path: &str, state: Value, choice: &Choice, findings: &Findings, merge: &mut Merge) {
    if let Some(fields) = Fields::new(path.to_owned(), state, findings) {
        read_fields(fields, path, choice, findings, merge);
    }
}

/// The state itself. An entry with something unsupported is left out as a whole under `--ours-only`: a
/// VLAN made without the one option that was not understood would be another VLAN.
fn read_fields(mut fields: Fields<'_>, path: &str, choice: &Choice, findings: &Findings, merge: &mut Merge) {
    merge.documents += 1;
    fields.take("description");
    for (place, item) in fields.list("interfaces").unwrap_or_default() {
        let before = findings.count();
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        let entry = interface::read(place.clone(), item, findings);
        if let Some(problems) = left_out(choice, findings, before) {
            merge.leave(as_a_whole(&place, &name, &problems));
        } else if let Some(entry) = entry {
            merge.interface(Source { path: place, document: merge.documents }, entry, findings);
        }
    }
    if let Some(mut routes) = fields.object("routes") {
        // What is there, in the output of nmstate's own `show`; not a wish.
        routes.take("running");
        for (place, item) in routes.list("config").unwrap_or_default() {
            let before = findings.count();
            let entry = route::read(place.clone(), item, findings);
            if let Some(problems) = left_out(choice, findings, before) {
                merge.leave_all(&problems);
            } else if let Some(entry) = entry {
                merge.route(Source { path: place, document: merge.documents }, entry);
            }
        }
        routes.finish();
    }
    if fields.take("dns-resolver").is_some() {
        merge.leave(format!("{path}dns-resolver: resolvers are left to the host's own configuration"));
    }
    let before = findings.count();
    if let Some(mut rules) = fields.object("route-rules") {
        // Every rendered RHOSO policy holds an empty list, which asks for nothing.
        rules.take("running");
        if rules.list("config").is_some_and(|items| !items.is_empty()) {
            rules.unsupported("config", "not supported");
        }
        rules.finish();
    }
    fields.finish();
    if let Some(problems) = left_out(choice, findings, before) {
        merge.leave_all(&problems);
    }
}

fn left_out(choice: &Choice, findings: &Findings, before: usize) -> Option<Vec<Problem>> {
    choice.ours_only.then(|| findings.take_unsupported_since(before)).flatten()
}

/// That the interface at `place` is left out, and why.
fn as_a_whole(place: &str, name: &str, problems: &[Problem]) -> String {
    let mut reasons = Vec::new();
    for problem in problems {
        let path = problem.path.strip_prefix(place).unwrap_or(&problem.path).trim_start_matches('.');
        reasons.push(format!("{path}: {}", problem.text));
    }
    format!("{place}: {name} is left out as a whole: {}", reasons.join("; "))
}
