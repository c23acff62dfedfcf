//! Certificates made for one test.
//!
//! Checked-in certificates expire, and their private keys trip every secret scanner. These are made
//! in a millisecond each, and a test can make as many authorities as it wants: one more is all it
//! takes for a client, or a server, that nobody should trust.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// A certificate authority; its files live as long as it does.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
    issued: AtomicU32,
}

impl Authority {
    /// A new authority, unknown to everyone.
    ///
    /// # Panics
    ///
    /// If its files cannot be written; so do the methods.
    #[expect(clippy::new_without_default, reason = "each one is different")]
    pub fn new() -> Self {
        let mut params = params("fleetward test authority", Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("the parameters are valid");
        let dir = tempfile::Builder::new()
            .prefix("fleetward-tls-")
            .tempdir()
            .unwrap_or_else(|error| panic!("cannot make a folder for certificates: {error}"));
        write(&dir.path().join("ca.pem"), &issuer.pem());
        Self { issuer, dir, issued: AtomicU32::new(0) }
    }

    /// The authority's certificate (PEM): what the other side has to trust.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A client certificate.
    ///
    /// etcd takes the common name for the user's name: `root` acts as root, even with its
    /// authentication on.
    pub fn client(&self, common_name: &str) -> Identity {
        self.issue(common_name, Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A certificate for a server at `ip`.
    pub fn server(&self, ip: IpAddr) -> Identity {
        // Client too: etcd's gateway calls its own server with the server's certificate.
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue("fleetward test server", vec![ip.to_string()], usages)
    }

    fn issue(
        &self,
        common_name: &str,
        names: Vec<String>,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Identity {
        let mut params = params(common_name, names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let file = |kind| self.dir.path().join(format!("{number}-{kind}.pem"));
        let identity = Identity { cert: file("cert"), key: file("key") };
        write(&identity.cert, &certificate.pem());
        write(&identity.key, &key.serialize_pem());
        identity
    }
}

/// The files (PEM) of a certificate and of its private key. They belong to their [`Authority`].
#[derive(Clone, Debug)]
pub struct Identity {
    cert: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// The certificate.
    pub fn cert(&self) -> &Path {
        &self.cert
    }

    /// The private key.
    pub fn key(&self) -> &Path {
        &self.key
    }
}

/// What a client of a server with TLS needs: whom to trust, and who it is.
#[derive(Clone, Debug)]
pub struct Tls {
    authority: Arc<Authority>,
    client: Identity,
}

impl Tls {
    pub(crate) fn new(authority: Arc<Authority>) -> Self {
        let client = authority.client("fleetward test client");
        Self { authority, client }
    }

    /// The certificate of the authority that signed the server's.
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// A client certificate that the server accepts.
    pub fn client(&self) -> &Identity {
        &self.client
    }

    /// The authority that the server trusts, for more certificates.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }
}

fn params(common_name: &str, names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("an IP address is a valid name");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has random numbers")
}

fn write(path: &Path, pem: &str) {
    fs::write(path, pem).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
