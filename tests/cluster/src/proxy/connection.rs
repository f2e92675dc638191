//! Listening, and connections as long as they may last.

use std::future::pending;
use std::net::TcpListener as Listener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::{Shared, State, exchange};
use crate::namespace;

/// Accepts connections while the proxy is not down, and listens again after.
pub(super) async fn accept(shared: Arc<Shared>, first: Listener, inside: Option<PathBuf>, port: u16) {
    let mut state = shared.state.subscribe();
    let mut listener = Some(first);
    loop {
        let open = match listener.take() {
            Some(listener) => TcpListener::from_std(listener).expect("the listener does not block"),
            None => {
                if state.wait_for(|state| *state != State::Down).await.is_err() {
                    return;
                }
                let Ok(again) = namespace::listen(inside.as_deref(), port) else {
                    // The kernel may hold the address for a moment; `up` has a deadline and says so.
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                shared.listening.fetch_add(1, Ordering::SeqCst);
                listener = Some(again);
                continue;
            }
        };
        loop {
            tokio::select! {
                _ = state.wait_for(|state| *state == State::Down) => break,
                accepted = open.accept() => if let Ok((stream, _)) = accepted {
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(connection(shared.clone(), stream));
                },
            }
        }
        drop(open);
        shared.listening.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let mut state = shared.state.subscribe();
    tokio::select! {
        _ = state.wait_for(|state| *state == State::Down) => {}
        // However it ends: the client sees it.
        () = serve(shared.clone(), stream) => {}
    }
    shared.connections.fetch_sub(1, Ordering::SeqCst);
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    audible(&shared).await;
    stream.set_nodelay(true).ok();
    let Ok(stream) = shared.tls.accept(stream).await else { return };
    let service = service_fn(|request| exchange::answer(shared.clone(), request));
    // An error of the service is a connection that is cut: hyper writes nothing then.
    http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await.ok();
}

/// Waits while the proxy is silent.
pub(super) async fn audible(shared: &Shared) {
    let mut state = shared.state.subscribe();
    if state.wait_for(|state| *state != State::Silent).await.is_err() {
        // The proxy is gone, and with it this task in a moment.
        pending::<()>().await;
    }
}
