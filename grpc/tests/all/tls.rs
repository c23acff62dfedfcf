//! TLS to the instances.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleetward_core::Instance;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::discovery::FixedInstancer;
use fleetward_grpc::{Channel, ClientTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, DigitallySignedStruct, SignatureScheme};
use tonic::Code;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::server::Server;
use crate::support::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for a name.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

async fn server(tls: ServerTlsConfig) -> Server {
    let builder = tonic::transport::Server::builder().tls_config(tls).unwrap();
    Server::start_with("127.0.0.1:0".parse().unwrap(), builder).await
}

fn channel(server: &Server, tls: ClientTls) -> Channel {
    let list = FixedInstancer::new("greeter", [server.instance()]);
    Channel::builder(list)
        .tls(tls)
        .wait_for_ready(WaitForReady::AtMost(Duration::from_millis(500)))
        .build()
}

#[tokio::test]
async fn a_custom_authority_and_domain() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("greeter.test");
    let server =
        server(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))).await;
    let tls = ClientTls::with_ca(authority.pem().as_bytes()).unwrap();
    let right = channel(&server, tls.clone().with_domain("greeter.test").unwrap());
    assert_eq!(who(&right).await.unwrap(), server.id());

    // Identity is the configured domain, or the address; both must be in the certificate.
    for wrong in [tls.clone(), tls.with_domain("other.test").unwrap()] {
        let channel = channel(&server, wrong);
        let status = morning(&channel, "you").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("not valid for name"), "{status}");
    }
}

#[tokio::test]
async fn the_wrong_authority_never_counts() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("127.0.0.1");
    let server =
        server(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))).await;
    let right = ClientTls::with_ca(authority.pem().as_bytes()).unwrap();
    assert_eq!(who(&channel(&server, right)).await.unwrap(), server.id());

    let calls = server.calls();
    let wrong = ClientTls::with_ca(Authority::new().pem().as_bytes()).unwrap();
    let channel = channel(&server, wrong);
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("invalid peer certificate"), "{status}");
    assert!(status.message().contains(&server.id()), "{status}");
    assert!(channel.endpoints().load().ready().is_empty());
    assert_eq!(server.calls(), calls);
}

#[tokio::test]
async fn a_client_may_have_to_show_who_it_is() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("127.0.0.1");
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let server = server(config).await;
    let (certificate, key) = authority.issue("client.test");
    let known = ClientTls::with_ca_and_identity(
        authority.pem().as_bytes(),
        certificate.as_bytes(),
        key.as_bytes(),
    );
    assert_eq!(who(&channel(&server, known.unwrap())).await.unwrap(), server.id());
    let nobody = ClientTls::with_ca(authority.pem().as_bytes()).unwrap();
    let status = morning(&channel(&server, nobody), "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn plaintext_to_a_tls_server_never_counts() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("127.0.0.1");
    let server =
        server(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))).await;
    let channel = Channel::builder(FixedInstancer::new("greeter", [server.instance()]))
        .wait_for_ready(WaitForReady::AtMost(Duration::from_millis(300)))
        .build();
    assert_eq!(morning(&channel, "you").await.unwrap_err().code(), Code::Unavailable);
}

#[test]
fn bad_pem_is_an_error() {
    assert!(ClientTls::with_ca(b"").is_err());
    assert!(ClientTls::with_ca(b"-----BEGIN CERTIFICATE-----\n!\n").is_err());
    let ca = Authority::new().pem();
    assert!(ClientTls::with_ca_and_identity(ca.as_bytes(), ca.as_bytes(), b"").is_err());
    let tls = ClientTls::with_ca(ca.as_bytes()).unwrap();
    assert!(tls.clone().with_domain("not a name").is_err());
    assert_eq!(format!("{tls:?}"), "ClientTls { domain: None, .. }");
    let _ = Instance::new("127.0.0.1:1").unwrap();
}

/// Panics a few times, then looks as it should.
#[derive(Debug)]
struct Fragile {
    inner: std::sync::Arc<WebPkiServerVerifier>,
    left: AtomicUsize,
}

impl ServerCertVerifier for Fragile {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        assert_eq!(left, 0, "a bug in a verifier, on purpose");
        self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[tokio::test]
async fn a_verifier_that_panics_does_not_end_the_task_that_connects() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("127.0.0.1");
    let server =
        server(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))).await;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
    let inner = inner.build().unwrap();
    let verifier = std::sync::Arc::new(Fragile { inner, left: AtomicUsize::new(3) });
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let list = FixedInstancer::new("greeter", [server.instance()]);
    let channel = Channel::builder(list)
        .tls(ClientTls::from_config(config))
        .wait_for_ready(WaitForReady::AtMost(Duration::from_secs(60)))
        .build();
    assert_eq!(who(&channel).await.unwrap(), server.id());
    assert_eq!(verifier.left.load(Ordering::Relaxed), 0);
}

/// Says what is spoken at the other end, and what to do.
async fn says(channel: &Channel, part: &str) {
    let status = morning(channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(part), "{part:?} is not in: {status}");
}

#[tokio::test]
async fn a_wrong_protocol_is_named() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("127.0.0.1");
    let identity = Identity::from_pem(certificate, key);
    let secure = server(ServerTlsConfig::new().identity(identity)).await;
    let plain = Server::start().await;
    let tls = || ClientTls::with_ca(authority.pem().as_bytes()).unwrap();
    let in_plain = |instance| {
        Channel::builder(FixedInstancer::new("greeter", [instance]))
            .wait_for_ready(WaitForReady::AtMost(Duration::from_secs(2)))
            .build()
    };
    // TLS at a plain instance, and the other way round.
    says(&channel(&plain, tls()), "does not speak TLS").await;
    says(&in_plain(secure.instance()), "TLS").await;

    // Servers of HTTP/1: hyper hangs up, others answer.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http1 = Instance::new(listener.local_addr().unwrap()).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|_| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            let serve =
                hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
            tokio::spawn(serve);
        }
    });
    says(&in_plain(http1.clone()), "HTTP/1").await;
    let list = FixedInstancer::new("greeter", [http1]);
    let in_tls = Channel::builder(list)
        .tls(tls())
        .wait_for_ready(WaitForReady::AtMost(Duration::from_secs(2)))
        .build();
    says(&in_tls, "speak TLS").await;
}
