//! One request: passed on, or what a rule says.

use std::future::pending;
use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::http::response::Parts;
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::sleep;

use super::connection::audible;
use super::{Exchange, Shared, lock};
use crate::relay::host_and_port;
use crate::{Access, Fault, Refusal};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Error>;

/// The server behind.
#[derive(Debug)]
pub(super) struct Upstream {
    host: String,
    client: Client<HttpsConnector<HttpConnector>, Incoming>,
}

impl Upstream {
    pub(super) fn new(access: &Access) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(access.authority().as_bytes()) {
            let certificate = certificate.expect("the authority's certificate is PEM");
            roots.add(certificate).expect("the authority's certificate is one");
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { host: host_and_port(access.url()), client }
    }

    async fn ask(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, Error> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri =
            Uri::builder().scheme("https").authority(self.host.as_str()).path_and_query(path).build()?;
        *request.uri_mut() = uri;
        // The client's is the proxy's address; hyper writes the right one when there is none.
        request.headers_mut().remove(HOST);
        Ok(self.client.request(request).await?)
    }
}

/// The answer to a request. An error cuts the connection.
pub(super) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let number = {
        let mut exchanges = lock(&shared.exchanges);
        exchanges.push(Exchange { method: method.clone(), path: path.clone(), status: None, bytes: 0 });
        exchanges.len() - 1
    };
    audible(&shared).await;
    let latency = *lock(&shared.latency);
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let fault = lock(&shared.rules).fault(&method, &path);
    let response = match fault {
        None => pass_on(&shared, number, request, Rest::ALL).await?,
        Some(Fault::Delay(time)) => {
            sleep(time).await;
            pass_on(&shared, number, request, Rest::ALL).await?
        }
        Some(Fault::DelayAfter(time)) => {
            let response = pass_on(&shared, number, request, Rest::ALL).await?;
            sleep(time).await;
            response
        }
        Some(Fault::End(bytes)) => pass_on(&shared, number, request, Rest { bytes, is_cut: false }).await?,
        Some(Fault::Break(bytes)) => pass_on(&shared, number, request, Rest { bytes, is_cut: true }).await?,
        Some(Fault::Refuse(refusal)) => refuse(&refusal, &method)?,
        Some(Fault::RefuseAfter(refusal)) => {
            done_by_the_server(&shared, request).await?;
            refuse(&refusal, &method)?
        }
        Some(Fault::CutBefore) => return Err("cut by a rule".into()),
        Some(Fault::CutAfter) => {
            done_by_the_server(&shared, request).await?;
            return Err("cut by a rule".into());
        }
        // Until the client has enough, or the proxy goes down: either ends this task.
        Some(Fault::Hang) => pending().await,
        Some(Fault::HangAfter) => {
            done_by_the_server(&shared, request).await?;
            pending().await
        }
    };
    audible(&shared).await;
    lock(&shared.exchanges)[number].status = Some(response.status().as_u16());
    Ok(response)
}

/// The server's answer as it comes; a watch's events one by one, and none while the proxy is silent.
async fn pass_on(
    shared: &Arc<Shared>,
    number: usize,
    request: Request<Incoming>,
    rest: Rest,
) -> Result<Response<Body>, Error> {
    let (head, body) = shared.upstream.ask(request).await?.into_parts();
    shared.passed(number, written(&head));
    let frames =
        stream::unfold((body, rest, shared.clone()), move |(mut body, mut rest, shared)| async move {
            if rest.bytes == 0 {
                return rest.is_cut.then(|| (Err("cut by a rule".into()), (body, Rest::NONE, shared)));
            }
            let frame = body.frame().await;
            audible(&shared).await;
            let frame = frame?.map_err(Error::from).map(|frame| rest.of(frame));
            if let Ok(frame) = &frame {
                shared.passed(number, frame.data_ref().map_or(0, Bytes::len));
            }
            Some((frame, (body, rest, shared)))
        });
    Ok(Response::from_parts(head, StreamBody::new(frames).boxed_unsync()))
}

/// How much more of a body is passed on, and whether the connection is cut then.
struct Rest {
    bytes: usize,
    is_cut: bool,
}

impl Rest {
    const ALL: Self = Self { bytes: usize::MAX, is_cut: false };
    const NONE: Self = Self { bytes: 0, is_cut: false };

    /// What is passed on of a frame.
    fn of(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let frame = frame.map_data(|data| data.slice(..data.len().min(self.bytes)));
        self.bytes -= frame.data_ref().map_or(0, Bytes::len);
        frame
    }
}

/// How long a head is as HTTP/1.1 writes it: `HTTP/1.1 200 OK`, `name: value`, each line and the last, empty one with CR and LF.
fn written(head: &Parts) -> usize {
    let reason = head.status.canonical_reason().unwrap_or_default();
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    "HTTP/1.1 200 ".len() + reason.len() + 2 + fields + 2
}

/// What the server answers is the proof that it has done it; nobody hears of it.
async fn done_by_the_server(shared: &Shared, request: Request<Incoming>) -> Result<(), Error> {
    shared.upstream.ask(request).await?.into_body().collect().await?;
    Ok(())
}

fn refuse(refusal: &Refusal, method: &str) -> Result<Response<Body>, Error> {
    let document = Bytes::from(refusal.document(method).to_string());
    let mut response = Response::builder().status(refusal.status).header(CONTENT_TYPE, "application/json");
    if let Some(seconds) = refusal.retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    Ok(response.body(Full::new(document).map_err(|never| match never {}).boxed_unsync())?)
}
