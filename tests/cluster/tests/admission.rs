//! `daemonset/components/admission`, as far as it can be judged without an API server of 1.30: its objects are well-formed,
//! and its expressions, evaluated by another implementation of CEL than the server's, let agents do what they do and no more.

use std::fs;
use std::path::Path;

use cel::{Context, Program, Value as Cel};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use octavia_bridge_cluster_tests::daemonset;
use serde_json::{Value, json};

const ENACTMENTS: &str = "nodenetworkconfigurationenactments";
const STATES: &str = "nodenetworkstates";
const RESERVATIONS: &str = "overlappingrangeipreservations";
const LEASES: &str = "leases";

fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// All objects of the component.
fn objects() -> Vec<Value> {
    let folder = daemonset().join("components/admission");
    let kustomization = documents(&folder.join("kustomization.yaml")).remove(0);
    let files = kustomization["resources"].as_array().expect("the component lists its resources");
    files.iter().flat_map(|file| documents(&folder.join(file.as_str().expect("a file's name")))).collect()
}

/// The policies for requests about a resource.
fn policies(resource: &str) -> Vec<ValidatingAdmissionPolicy> {
    let all = objects().into_iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy");
    let all = all.map(|object| serde_json::from_value(object).expect("a policy"));
    let is_about = |policy: &ValidatingAdmissionPolicy| {
        let constraints = policy.spec.as_ref().and_then(|spec| spec.match_constraints.as_ref());
        let rules = constraints.and_then(|constraints| constraints.resource_rules.as_ref());
        let mut resources = rules.into_iter().flatten().flat_map(|rule| rule.resources.iter().flatten());
        resources.any(|one| one == resource)
    };
    all.filter(is_about).collect()
}

/// A request, as the server shows it to expressions.
struct Request {
    operation: &'static str,
    resource: &'static str,
    user: Value,
    object: Value,
    old_object: Value,
    /// Who holds the lease.
    holder: &'static str,
}

impl Request {
    /// By the agent of a node.
    fn of(node: &str, operation: &'static str, resource: &'static str) -> Self {
        let extra = json!({"authentication.kubernetes.io/node-name": [node]});
        let name = "system:serviceaccount:kube-system:octavia-bridge-agent";
        let user = json!({"username": name, "extra": extra});
        Self { operation, resource, user, object: Value::Null, old_object: Value::Null, holder: "" }
    }

    fn to(self, object: Value) -> Self {
        Self { object, ..self }
    }

    fn from(self, old_object: Value) -> Self {
        Self { old_object, ..self }
    }

    fn held_by(self, holder: &'static str) -> Self {
        Self { holder, ..self }
    }

    /// Why it is refused, if it is.
    fn refusal(&self) -> Option<String> {
        let policies = policies(self.resource);
        assert!(!policies.is_empty(), "no policy is about {}", self.resource);
        policies.iter().find_map(|policy| self.refusal_by(policy))
    }

    fn refusal_by(&self, policy: &ValidatingAdmissionPolicy) -> Option<String> {
        let spec = policy.spec.as_ref().expect("a policy has a spec");
        let matches = spec.match_conditions.iter().flatten();
        for condition in matches {
            if self.evaluate(&condition.expression, &json!({})) != json!(true) {
                return None;
            }
        }
        let mut variables = json!({});
        for variable in spec.variables.iter().flatten() {
            variables[&variable.name] = self.evaluate(&variable.expression, &variables);
        }
        for validation in spec.validations.iter().flatten() {
            if self.evaluate(&validation.expression, &variables) == json!(true) {
                continue;
            }
            return Some(match (&validation.message, &validation.message_expression) {
                (Some(message), _) => message.clone(),
                (None, Some(expression)) => {
                    let said = self.evaluate(expression, &variables);
                    said.as_str().expect("a message is a text").to_owned()
                }
                (None, None) => panic!("no message: {}", validation.expression),
            });
        }
        None
    }

    fn evaluate(&self, expression: &str, variables: &Value) -> Value {
        let program = Program::compile(expression).unwrap_or_else(|e| panic!("{expression}: {e:?}"));
        let mut context = Context::default();
        let request = json!({
            "operation": self.operation, "resource": {"resource": self.resource}, "userInfo": self.user,
        });
        for (name, value) in [
            ("request", &request),
            ("object", &self.object),
            ("oldObject", &self.old_object),
            ("params", &json!({"spec": {"holderIdentity": self.holder}})),
            ("variables", variables),
        ] {
            context.add_variable(name, value).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        }
        let value: Cel = program.execute(&context).unwrap_or_else(|e| panic!("{expression}: {e:?}"));
        value.json().unwrap_or_else(|e| panic!("{expression}: {e:?}"))
    }
}

fn enactment(name: &str, owner: Option<&str>) -> Value {
    let owners = owner.map(|node| json!([{"kind": "Node", "name": node}]));
    match owners {
        Some(owners) => json!({"metadata": {"name": name, "ownerReferences": owners}}),
        None => json!({"metadata": {"name": name}}),
    }
}

fn reservation(node: Option<&str>) -> Value {
    match node {
        Some(node) => json!({"metadata": {"name": "10.0.0.1", "annotations": {"octavia-bridge/node": node}}}),
        None => json!({"metadata": {"name": "10.0.0.1"}}),
    }
}

fn lease(holder: &str) -> Value {
    json!({"spec": {"holderIdentity": holder}})
}

#[test]
fn the_objects_have_no_field_that_the_api_does_not_know() {
    let mut seen = 0;
    for object in objects() {
        let kept = match object["kind"].as_str() {
            Some("ValidatingAdmissionPolicy") => {
                let policy: ValidatingAdmissionPolicy =
                    serde_json::from_value(object.clone()).expect("a policy");
                serde_json::to_value(policy)
            }
            Some("ValidatingAdmissionPolicyBinding") => {
                let binding: ValidatingAdmissionPolicyBinding =
                    serde_json::from_value(object.clone()).expect("a binding");
                serde_json::to_value(binding)
            }
            other => panic!("{other:?} is not one of the component's kinds"),
        };
        assert_eq!(kept.expect("JSON"), object);
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn each_policy_is_bound() {
    let names = |kind: &str, pointer: &str| -> Vec<String> {
        let all = objects().into_iter().filter(|object| object["kind"] == kind);
        all.map(|object| object.pointer(pointer).and_then(Value::as_str).expect("a name").to_owned())
            .collect()
    };
    let policies = names("ValidatingAdmissionPolicy", "/metadata/name");
    assert_eq!(names("ValidatingAdmissionPolicyBinding", "/spec/policyName"), policies);
}

#[test]
fn agents_do_what_they_do() {
    let by = |operation, resource| Request::of("a", operation, resource);
    let own = || enactment("a.octavia", Some("a"));
    for request in [
        by("CREATE", ENACTMENTS).to(own()),
        by("UPDATE", ENACTMENTS).to(own()).from(own()),
        by("DELETE", ENACTMENTS).from(own()),
        // Of kubernetes-nmstate.
        by("DELETE", ENACTMENTS).from(enactment("a.octavia", None)),
        by("CREATE", STATES).to(json!({"metadata": {"name": "a"}})),
        by("UPDATE", LEASES).to(lease("a")).from(lease("b")),
        by("CREATE", RESERVATIONS).to(reservation(Some("a"))),
        by("UPDATE", RESERVATIONS).to(reservation(Some("a"))).from(reservation(Some("a"))),
        by("DELETE", RESERVATIONS).from(reservation(Some("a"))),
        // Of whereabouts.
        by("UPDATE", RESERVATIONS).to(reservation(Some("a"))).from(reservation(None)),
        by("DELETE", RESERVATIONS).from(reservation(None)),
        // Of a node that is gone.
        by("DELETE", RESERVATIONS).from(reservation(Some("b"))).held_by("a"),
    ] {
        assert_eq!(request.refusal(), None, "{} {}", request.operation, request.resource);
    }
}

#[test]
fn a_token_that_was_taken_from_a_node_does_nothing_in_the_name_of_another() {
    let by = |operation, resource| Request::of("a", operation, resource);
    let theirs = || enactment("b.octavia", Some("b"));
    // A node's name may have dots: `a.b` is not a node of `a`.
    let longer = |owner| enactment("a.b.octavia", Some(owner));
    for (request, why) in [
        (by("CREATE", ENACTMENTS).to(theirs()), "of its own node alone, which is a"),
        (by("DELETE", ENACTMENTS).from(theirs()), "of its own node alone"),
        (by("CREATE", ENACTMENTS).to(longer("a.b")), "of its own node alone"),
        (by("UPDATE", ENACTMENTS).to(longer("a")).from(longer("a.b")), "of its own node alone"),
        (by("DELETE", ENACTMENTS).from(longer("a.b")), "of its own node alone"),
        (by("CREATE", ENACTMENTS).to(enactment("a.octavia", None)), "owned by the agent's node"),
        (by("CREATE", STATES).to(json!({"metadata": {"name": "b"}})), "state of its own node alone"),
        (by("UPDATE", LEASES).to(lease("b")).from(lease("a")), "lease for its own node alone"),
        (by("CREATE", RESERVATIONS).to(reservation(Some("b"))), "for its own node alone"),
        (by("CREATE", RESERVATIONS).to(reservation(None)).held_by("a"), "for its own node alone"),
        (
            by("UPDATE", RESERVATIONS).to(reservation(Some("a"))).from(reservation(Some("b"))),
            "reserved for node b",
        ),
        (
            by("UPDATE", RESERVATIONS).to(reservation(Some("b"))).from(reservation(Some("a"))),
            "its own node alone",
        ),
        (by("DELETE", RESERVATIONS).from(reservation(Some("b"))).held_by("b"), "reserved for node b"),
    ] {
        let refusal = request.refusal().unwrap_or_default();
        assert!(refusal.contains(why), "{} {}: {refusal:?}", request.operation, request.resource);
    }
}

#[test]
fn a_token_without_a_node_does_nothing_and_others_are_not_judged() {
    let create = || Request::of("a", "CREATE", ENACTMENTS).to(enactment("a.octavia", Some("a")));
    let agent = "system:serviceaccount:octavia-bridge:octavia-bridge-agent";
    let unbound = Request { user: json!({"username": agent}), ..create() };
    assert_eq!(unbound.refusal().as_deref(), Some("the token of octavia-bridge-agent names no node"));
    for name in ["kubernetes-admin", "system:serviceaccount:nmstate:nmstate-handler"] {
        let other = Request { user: json!({"username": name}), ..create() };
        assert_eq!(other.refusal(), None, "{name}");
    }
}
