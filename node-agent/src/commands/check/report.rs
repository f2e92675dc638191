//! What `check` says of each definition, as text and as JSON.

use octavia_bridge_ipam::document::FieldError;
use octavia_bridge_ipam::octavia::{Finding, Level, Part, Review, drawing};
use octavia_bridge_ipam::visible;
use serde_json::{Value, json};

/// A definition and its review.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) name: String,
    /// An error if the configuration cannot be read at all.
    pub(super) review: Result<Review, FieldError>,
}

/// All reports, for people.
pub(super) fn text(reports: &[Report]) -> String {
    let mut lines = Vec::new();
    for report in reports {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(report.lines());
    }
    visible::lines(&lines)
}

impl Report {
    /// Whether a finding is an error.
    pub(super) fn is_wrong(&self) -> bool {
        match &self.review {
            Ok(review) => review.is_wrong(),
            Err(_) => true,
        }
    }

    fn lines(&self) -> Vec<String> {
        let review = match &self.review {
            Ok(review) => review,
            Err(error) => return vec![self.name.clone(), format!("error    {error}")],
        };
        let mut lines = vec![self.name.clone()];
        lines.extend(drawing(review));
        lines.push(match &review.reading.refusal {
            Some(refusal) => format!("octavia-operator stops, and says so in its log only: {refusal}"),
            None => "octavia-operator takes the definition, and makes these networks in Neutron".to_owned(),
        });
        for finding in &review.findings {
            lines.push(format!("{:8} {}", word(finding.level), finding.field));
        }
        if review.findings.is_empty() {
            lines.push("ok       no mistake found".to_owned());
        }
        if !review.exclude.is_empty() {
            lines.push(format!("add      \"exclude\": {}", json!(review.exclude)));
        }
        lines
    }

    /// It, for programs.
    pub(super) fn json(&self) -> Value {
        let review = match &self.review {
            Ok(review) => review,
            Err(error) => {
                let finding = Finding { level: Level::Error, field: error.clone() };
                return json!({ "name": self.name, "findings": [json_of(&finding)] });
            }
        };
        let reading = &review.reading;
        let pods = review.pods.as_ref().map(|pods| Part { first: pods.first(), last: pods.last() });
        // Counts as text: readers of JSON lose digits of large numbers.
        let nodes = review.capacity.map(|capacity| {
            json!({
                "pod-addresses": capacity.pods.to_string(),
                "nodes-by-pod-addresses": capacity.nodes_by_pods.to_string(),
                "nodes-by-predictable-addresses": capacity.nodes_by_predictable.to_string(),
            })
        });
        json!({
            "name": self.name,
            "refusal": reading.refusal.as_ref().map(ToString::to_string),
            "provider": reading.provider.map(|net| net.trunc()),
            "pods": pods.map(part),
            "neutron": reading.neutron.map(part),
            "predictable": reading.predictable.map(part),
            "router": reading.router,
            "tenant": reading.tenant.map(|net| net.trunc()),
            "amphorae": reading.amphorae.map(part),
            "capacity": nodes,
            "findings": review.findings.iter().map(json_of).collect::<Vec<_>>(),
            "exclude": review.exclude,
        })
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
    }
}

fn part(part: Part) -> Value {
    json!({ "first": part.first, "last": part.last })
}

fn json_of(finding: &Finding) -> Value {
    let FieldError { field, value, remedy } = &finding.field;
    json!({ "level": word(finding.level), "field": field, "value": value, "remedy": remedy })
}
