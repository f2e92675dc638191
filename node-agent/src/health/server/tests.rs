use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::connections::MOST;
use super::*;

/// Starts a server on loopback, which in a new network namespace is down.
async fn start() -> (SocketAddr, Arc<Health>) {
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::new(Health::default());
    tokio::spawn(accept(listener, health.clone()));
    (address, health)
}

/// Writes `request` and reads all that comes.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    match stream.read_to_string(&mut answer).await {
        // The server may close before it has read all of a request that it refuses.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => answer,
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n")).await
}

#[tokio::test]
async fn each_page_says_how_it_is_at_the_moment() {
    let (address, health) = start().await;
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let part = health.readiness.part("socket", "does not listen yet");
    let answer = get(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nwait  socket   does not listen yet\n"), "{answer}");
    part.set(vec![Line::Well("listens".into())]);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let answer = get(address, "/metrics").await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_is_stuck_is_told() {
    let health = Health::default();
    health.pulse.works();
    tokio::time::advance(Duration::from_secs(600)).await;
    let stuck = answer(&Method::GET, "/healthz", &health);
    assert_eq!(stuck.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn only_short_get_requests_are_answered() {
    let (address, _health) = start().await;
    for method in ["POST", "HEAD", "DELETE"] {
        let answer = ask(address, &format!("{method} /metrics HTTP/1.1\r\nHost: node\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
        assert!(answer.contains("allow: GET"), "{method}: {answer}");
    }
    let long = "x".repeat(HEADERS);
    let answer =
        ask(address, &format!("GET /healthz HTTP/1.1\r\nHost: node\r\nX-Long: {long}\r\n\r\n")).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(ask(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn those_who_never_finish_their_request_keep_no_client_out_and_are_cut() {
    let (address, _health) = start().await;
    let started = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..2 * MOST {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(started.elapsed() < LONGEST, "it was answered because the slow ones' time was over");
    for mut stream in slow {
        let mut rest = Vec::new();
        // Cut, it ends, or ends badly.
        drop(timeout(2 * LONGEST, stream.read_to_end(&mut rest)).await.expect("it was not cut"));
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}
