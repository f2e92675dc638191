//! Who asks the API, and at which address.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fmt, fs};

use base64::prelude::{BASE64_STANDARD, Engine};
use kube::config::AuthInfo;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::call::{self, Answer};
use crate::driver;

/// A user's token, the address and authority of a server, and the namespace that is meant when none is named.
#[derive(Clone)]
pub struct Access {
    url: String,
    authority: String,
    token: String,
    namespace: String,
    /// For the requests of this type itself, made when the first is.
    client: Arc<OnceLock<Client>>,
}

impl Access {
    /// `url` is of the form `https://host:port`; `authority` is PEM.
    pub(crate) fn new(url: &str, authority: &str, token: &str, namespace: &str) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            authority: authority.to_owned(),
            token: token.to_owned(),
            namespace: namespace.to_owned(),
            client: Arc::default(),
        }
    }

    /// The same user at another address, where the same authority's certificate is shown: that of a [`crate::Relay`].
    pub fn at(&self, url: &str) -> Self {
        Self::new(url, &self.authority, &self.token, &self.namespace)
    }

    /// The same user at a server of another authority.
    pub(crate) fn at_server(&self, url: &str, authority: &str) -> Self {
        Self::new(url, authority, &self.token, &self.namespace)
    }

    /// The same with another token: an expired one, a wrong one.
    pub fn with_token(&self, token: &str) -> Self {
        Self::new(&self.url, &self.authority, token, &self.namespace)
    }

    /// The same in another namespace of the cluster.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self::new(&self.url, &self.authority, &self.token, namespace)
    }

    /// `https://host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The namespace of the cluster that is meant when none is named.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The bearer token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The certificate of the server's authority, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// For a client of the test's own. Retries are off, as they are in the product: a fault shall be seen.
    pub fn config(&self) -> Config {
        let url = self.url.parse().unwrap_or_else(|e| panic!("the API's address {}: {e}", self.url));
        let authority = CertificateDer::pem_slice_iter(self.authority.as_bytes())
            .map(|certificate| certificate.expect("the authority's certificate is PEM").to_vec())
            .collect();
        let mut config = Config::new(url);
        config.root_cert = Some(authority);
        config.default_namespace.clone_from(&self.namespace);
        config.auth_info = AuthInfo { token: Some(self.token.clone().into()), ..AuthInfo::default() };
        config.connect_timeout = Some(Duration::from_secs(5));
        config.default_retry = false;
        config
    }

    /// A client for the runtime in which this is called.
    pub fn client(&self) -> Client {
        Client::try_from(self.config()).expect("make a client of the API")
    }

    /// A kubeconfig with this one context. It is JSON, and so YAML.
    pub fn kubeconfig(&self) -> String {
        let context = json!({"cluster": "cluster", "user": "user", "namespace": self.namespace});
        let authority = BASE64_STANDARD.encode(&self.authority);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "cluster",
                "cluster": {"server": self.url, "certificate-authority-data": authority},
            }],
            "users": [{"name": "user", "user": {"token": self.token}}],
            "contexts": [{"name": "context", "context": context}],
            "current-context": "context",
        })
        .to_string()
    }

    /// Writes the kubeconfig into a file.
    pub fn write_kubeconfig(&self, file: &Path) {
        fs::write(file, self.kubeconfig()).unwrap_or_else(|e| panic!("write {}: {e}", file.display()));
    }

    /// What [`Self::write_kubeconfig`] wrote.
    ///
    /// # Panics
    /// When the file is anything else, such as another tool's kubeconfig.
    pub fn read_kubeconfig(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
        let config: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let [url, authority, token, namespace] = [
            "/clusters/0/cluster/server",
            "/clusters/0/cluster/certificate-authority-data",
            "/users/0/user/token",
            "/contexts/0/context/namespace",
        ]
        .map(|pointer| {
            let value = config.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_else(|| panic!("no {pointer} in {}", file.display()))
        });
        let authority = BASE64_STANDARD.decode(authority).ok().and_then(|pem| String::from_utf8(pem).ok());
        let authority =
            authority.unwrap_or_else(|| panic!("no certificate of an authority in {}", file.display()));
        Self::new(url, &authority, token, namespace)
    }

    /// Writes what a pod finds in `/var/run/secrets/kubernetes.io/serviceaccount` into a folder, which is created.
    pub fn write_service_account(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap_or_else(|e| panic!("create {}: {e}", folder.display()));
        for (name, text) in
            [("token", &self.token), ("ca.crt", &self.authority), ("namespace", &self.namespace)]
        {
            fs::write(folder.join(name), text).unwrap_or_else(|e| panic!("write {name}: {e}"));
        }
    }

    /// Sends a request such as `GET /api/v1/nodes`. A PATCH is a JSON patch when its body is a list, else a merge patch.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let (cell, config) = (self.client.clone(), self.config());
        let (method, path, body) = (method.to_owned(), path.to_owned(), body.cloned());
        driver::run(async move {
            // Made here, since it belongs to the runtime it is made in.
            let client = cell.get_or_init(|| Client::try_from(config).expect("make a client of the API"));
            let answer = call::send(client, &method, &path, body.as_ref()).await;
            answer.unwrap_or_else(|e| panic!("{method} {path}: no answer: {e:?}"))
        })
    }

    /// The object or list at a path.
    ///
    /// # Panics
    /// When the server does not answer with it.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).expect(200)
    }

    /// How many bytes the object or list at a path has, plain or compressed for the way if the server does that.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn size(&self, path: &str, compressed: bool) -> usize {
        let (config, path) = (self.config(), path.to_owned());
        driver::run(async move {
            let client = Client::try_from(config).expect("make a client of the API");
            let answer = call::size(&client, &path, compressed).await;
            answer.unwrap_or_else(|e| panic!("GET {path}: no answer: {e:?}"))
        })
    }

    /// Creates an object in the collection at a path.
    ///
    /// # Panics
    /// When the server does not create it.
    #[track_caller]
    pub fn create(&self, path: &str, object: &Value) -> Value {
        self.call("POST", path, Some(object)).expect(201)
    }

    /// Deletes the object at a path.
    ///
    /// # Panics
    /// When the server does not.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        self.call("DELETE", path, None).expect(200);
    }

    /// The path of whereabouts' objects of a kind in this namespace; `kind` is `ippools` or such, or `ippools/NAME`.
    pub fn whereabouts(&self, kind: &str) -> String {
        format!("/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/{}/{kind}", self.namespace)
    }

    /// The path of core objects of a kind in this namespace: `pods`, `events`, `configmaps/NAME`.
    pub fn core(&self, kind: &str) -> String {
        format!("/api/v1/namespaces/{}/{kind}", self.namespace)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in namespace {}", self.url, self.namespace)
    }
}
