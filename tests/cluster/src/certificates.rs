//! Keys and certificates of one server, for one test run. Elliptic curves: RSA keys would take seconds to make.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// An authority that nobody else trusts.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names to be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "octavia-bridge tests");
        let key = KeyPair::generate().expect("make a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("sign a certificate with its own key"),
        }
    }

    /// The authority's own certificate, PEM.
    pub(crate) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// For a server on loopback, also under the names a pod knows the API by.
    pub(crate) fn server(&self) -> Identity {
        let names =
            ["127.0.0.1", "::1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(str::to_owned)).expect("the names are in order");
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let key = KeyPair::generate().expect("make a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("sign the server's certificate");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A key pair that signs service accounts' tokens: private and public, both PEM.
pub(crate) fn token_keys() -> (String, String) {
    let key = KeyPair::generate().expect("make a key");
    (key.serialize_pem(), key.public_key_pem())
}
