use std::io;

use tokio::time::advance;
use tower::{ServiceExt, service_fn};

use super::*;

const RESERVATIONS: &str =
    "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/overlappingrangeipreservations";

/// Sends one request to a server that gives one answer: a status, an error, or none for a second.
async fn send(requests: &Requests, method: Method, path: &str, answer: Option<Result<u16, io::Error>>) {
    let answer = Mutex::new(Some(answer));
    let server = service_fn(move |_: Request<()>| {
        let answer = lock(&answer).take().flatten();
        async move {
            match answer {
                Some(Ok(code)) => Response::builder().status(code).body(()).map_err(BoxError::from),
                Some(Err(error)) => Err(BoxError::from(error)),
                None => std::future::pending().await,
            }
        }
    });
    let request = Request::builder().method(method).uri(path).body(()).unwrap();
    let sent = requests.layer(server).oneshot(request);
    tokio::time::timeout(Duration::from_secs(1), sent).await.ok();
}

fn said(requests: &Requests) -> String {
    let lines = requests.lines().into_iter().map(|line| match line {
        Line::Well(text) => format!("ok {text}"),
        Line::Note(text) => format!("note {text}"),
        Line::Missing(text) | Line::Amiss(text) => format!("wait {text}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn requests() -> (Metrics, Requests) {
    let metrics = Metrics::default();
    let requests = Requests::new(&metrics, "https://api");
    (metrics, requests)
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_until_it_is_there() {
    let (metrics, requests) = requests();
    send(&requests, Method::GET, RESERVATIONS, Some(Ok(403))).await;
    send(&requests, Method::GET, "/api/v1/nodes?watch=1&x=y", Some(Ok(403))).await;
    let named = "wait cannot list overlappingrangeipreservations in kube-system: 403 Forbidden: the agent's roles lack this permission\n\
                 wait cannot watch nodes: 403 Forbidden: the agent's roles lack this permission";
    assert_eq!(said(&requests), named);
    // Other requests that succeed say nothing about these.
    send(&requests, Method::GET, &format!("{RESERVATIONS}/172.23.0.30"), Some(Ok(404))).await;
    send(&requests, Method::GET, "/api/v1/nodes", Some(Ok(200))).await;
    assert_eq!(said(&requests), named);
    send(&requests, Method::GET, &format!("{RESERVATIONS}?limit=500"), Some(Ok(200))).await;
    send(&requests, Method::GET, "/api/v1/nodes?watch=true", Some(Ok(200))).await;
    assert_eq!(said(&requests), "ok https://api answers");
    let told = metrics.text(true).unwrap();
    let line = "octavia_bridge_api_requests_total{verb=\"list\",resource=\"overlappingrangeipreservations\",code=\"403\"} 1";
    assert!(told.lines().any(|told| told == line), "{told}");
}

/// Nothing may ask for it again for days.
#[tokio::test]
async fn a_right_that_the_server_says_is_there_is_missing_no_more() {
    let (_, requests) = requests();
    let path = "/apis/nmstate.io/v1beta1/nodenetworkconfigurationenactments/n.p/status?x=y";
    send(&requests, Method::PATCH, path, Some(Ok(403))).await;
    // Nor is the question itself what a pod needs.
    let question = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    send(&requests, Method::POST, question, Some(Ok(403))).await;
    let forbidden = requests.forbidden();
    let [(asked, name)] = &forbidden[..] else { panic!("{forbidden:?}") };
    let attributes = &asked.review(name.as_deref())["spec"]["resourceAttributes"];
    let wanted = json!({
        "verb": "patch", "group": "nmstate.io", "resource": "nodenetworkconfigurationenactments",
        "subresource": "status", "namespace": "", "name": "n.p",
    });
    assert_eq!(*attributes, wanted);
    requests.is_allowed(asked);
    assert_eq!(said(&requests), "ok https://api answers");
}

#[tokio::test]
async fn credentials_that_are_refused_are_told_once_and_until_they_are_good() {
    let (_, requests) = requests();
    send(&requests, Method::GET, RESERVATIONS, Some(Ok(401))).await;
    send(&requests, Method::GET, "/api/v1/pods", Some(Ok(401))).await;
    let said_now = said(&requests);
    assert!(said_now.starts_with("wait https://api rejects this agent: 401"), "{said_now}");
    assert_eq!(said_now.lines().count(), 1);
    send(&requests, Method::GET, "/api/v1/nodes", Some(Ok(200))).await;
    assert_eq!(said(&requests), "ok https://api answers");
}

#[tokio::test(start_paused = true)]
async fn a_server_is_away_when_nothing_was_answered_for_some_time() {
    let (metrics, requests) = requests();
    assert_eq!(said(&requests), "wait https://api has not answered yet");
    let refused = || Some(Err(io::Error::from(io::ErrorKind::ConnectionRefused)));
    send(&requests, Method::GET, RESERVATIONS, refused()).await;
    assert_eq!(said(&requests), "wait no answer from https://api for 0 s: connection refused");
    send(&requests, Method::GET, RESERVATIONS, Some(Ok(200))).await;
    assert_eq!(said(&requests), "ok https://api answers");
    // One that nobody waits for any more says little.
    send(&requests, Method::POST, RESERVATIONS, None).await;
    assert_eq!(said(&requests), "ok https://api answers");
    advance(AWAY).await;
    assert_eq!(said(&requests), "ok https://api answers", "nobody has asked since");
    send(&requests, Method::POST, RESERVATIONS, None).await;
    assert_eq!(said(&requests), "wait no answer from https://api for 4 s: no answer");
    let told = metrics.text(true).unwrap();
    let line = "octavia_bridge_api_requests_total{verb=\"create\",resource=\"overlappingrangeipreservations\",code=\"none\"} 2";
    assert!(told.lines().any(|told| told == line), "{told}");
}

#[test]
fn requests_are_named_as_roles_name_them() {
    for (method, path, named) in [
        (Method::GET, "/api/v1/namespaces/a/pods/b", "get pods in a"),
        (Method::GET, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn&watch=true", "watch pods"),
        (Method::GET, "/api/v1/namespaces/a", "get namespaces"),
        (
            Method::PATCH,
            "/apis/nmstate.io/v1/nodenetworkconfigurationpolicies/p/status?fieldManager=x",
            "patch nodenetworkconfigurationpolicies/status",
        ),
        (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "update leases in a"),
        (Method::POST, "/apis/events.k8s.io/v1/namespaces/a/events", "create events in a"),
        (
            Method::DELETE,
            "/apis/nmstate.io/v1beta1/nodenetworkconfigurationenactments/x",
            "delete nodenetworkconfigurationenactments",
        ),
        (Method::GET, "/version", "list version"),
    ] {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        assert_eq!(Asked::of(&request).0.to_string(), named, "{path}");
    }
}
