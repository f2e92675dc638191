//! The server's address inside another network namespace: bytes are passed on as they are.

use std::net::TcpListener as Listener;
use std::path::Path;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::driver::Background;
use crate::{Access, namespace};

/// Loopback of a network namespace, from where the server is reached. It ends when this is dropped.
#[derive(Debug)]
pub struct Relay {
    access: Access,
    _background: Background,
}

impl Relay {
    /// Starts to listen in a network namespace such as `/run/netns/node1`.
    ///
    /// # Panics
    /// When the namespace cannot be entered.
    pub fn start(upstream: &Access, namespace: &Path) -> Self {
        let listener = namespace::listen(Some(namespace), 0)
            .unwrap_or_else(|e| panic!("listen inside {}: {e}", namespace.display()));
        let port = listener.local_addr().expect("ask for the port").port();
        let background = Background::new("relay");
        let server = host_and_port(upstream.url());
        background.spawn(relay(listener, server));
        Self { access: upstream.at(&format!("https://127.0.0.1:{port}")), _background: background }
    }

    /// The same user by the address that is valid inside the namespace.
    pub fn access(&self) -> Access {
        self.access.clone()
    }
}

async fn relay(listener: Listener, server: String) {
    let listener = TcpListener::from_std(listener).expect("the listener does not block");
    loop {
        // The machine may be short of descriptors for a moment; a caller that is not served sees its deadline.
        let Ok((mut near, _)) = listener.accept().await else { continue };
        let server = server.clone();
        tokio::spawn(async move {
            // Whatever ends a connection on one side ends it on the other, as it should.
            if let Ok(mut far) = TcpStream::connect(server).await {
                near.set_nodelay(true).ok();
                far.set_nodelay(true).ok();
                copy_bidirectional(&mut near, &mut far).await.ok();
            }
        });
    }
}

/// `host:port` of a URL of the form `https://host:port`.
pub(crate) fn host_and_port(url: &str) -> String {
    let rest =
        url.strip_prefix("https://").unwrap_or_else(|| panic!("the API's address {url} is not https://…"));
    let authority = rest.split('/').next().unwrap_or_default();
    let has_port = authority.rsplit(']').next().is_some_and(|after| after.contains(':'));
    if has_port { authority.to_owned() } else { format!("{authority}:443") }
}
