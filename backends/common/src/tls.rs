//! TLS: what to trust and what to show.

use std::fmt;
use std::path::{Path, PathBuf};

use fleetward_core::Error;
use fleetward_core::registry::{Options, redact};

/// The TLS settings of a registry's client.
#[derive(Clone, Default, PartialEq)]
pub struct TlsConfig {
    /// On or off; `None` is on if another setting asks for TLS.
    pub enabled: Option<bool>,
    /// The CA to trust; `None` is what the system trusts.
    pub ca: Option<Pem>,
    /// The file with the client's certificate.
    pub certificate: Option<PathBuf>,
    /// The file with the key of that certificate.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must have.
    pub domain: Option<String>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.certificate.is_some() || self.key.is_some();
        f.debug_struct("TlsConfig")
            .field("enabled", &self.enabled)
            .field("ca", &self.ca)
            .field("identity", &identity)
            .finish_non_exhaustive()
    }
}

/// PEM blocks, or the file that holds them.
#[derive(Clone, PartialEq)]
pub enum Pem {
    /// A file, read at each [`TlsConfig::load`].
    File(PathBuf),
    /// The blocks themselves.
    Bytes(Vec<u8>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(&redact::file(path)).finish(),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

/// The content of the files.
pub struct TlsFiles {
    /// `None`: what the system trusts.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, identity) = (self.ca.is_some(), self.identity.is_some());
        f.debug_struct("TlsFiles").field("ca", &ca).field("identity", &identity).finish()
    }
}

impl TlsConfig {
    /// Takes a URL's options `tls`, `ca`, `cert`, `key` and `domain`. `secure` is the URL's scheme if that asks for
    /// TLS, and the scheme that does not: `("etcds", "etcd")`.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) for an option that is given twice, cannot be read, or
    /// contradicts the scheme.
    pub fn take(options: &mut Options, secure: Option<(&str, &str)>) -> Result<Self, Error> {
        let enabled = options.take_bool("tls")?;
        if let (Some(false), Some((secure, plain))) = (enabled, secure) {
            return Err(Error::invalid_input(format!(
                "tls=false contradicts {secure}://; write {plain}://"
            )));
        }
        Ok(Self {
            enabled: enabled.or(secure.map(|_| true)),
            ca: options.take("ca")?.map(|path| Pem::File(path.into())),
            certificate: options.take("cert")?.map(PathBuf::from),
            key: options.take("key")?.map(PathBuf::from),
            domain: options.take("domain")?,
        })
    }

    /// Whether a setting asks for TLS.
    pub fn is_on(&self) -> bool {
        self.enabled == Some(true) || self.is_described()
    }

    /// Checks the settings against each other; `on` is whether the client uses TLS, and `server` is
    /// what an error calls a server of the registry ("endpoint", say).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) if TLS is switched off and asked
    /// for, or if a client certificate has no key or a key no certificate.
    pub fn check(&self, on: bool, server: &str) -> Result<(), Error> {
        if self.enabled == Some(false) && on {
            return Err(Error::invalid_input(format!(
                "tls is switched off, but a CA, a client certificate, a domain or an https {server} is given",
            )));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(Error::invalid_input("a client certificate needs both: cert and key"));
        }
        Ok(())
    }

    /// The name that the server's certificate must have.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) if a file cannot be read or has no
    /// PEM block of its kind. The context names the option and the file.
    pub async fn load(&self) -> Result<TlsFiles, Error> {
        let ca = match &self.ca {
            Some(Pem::File(path)) => Some(read("ca", path, "CERTIFICATE").await?),
            Some(Pem::Bytes(bytes)) => Some(checked("ca", bytes.clone(), "CERTIFICATE")?),
            None => None,
        };
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((
                read("cert", certificate, "CERTIFICATE").await?,
                read("key", key, "PRIVATE KEY").await?,
            )),
            _ => None,
        };
        Ok(TlsFiles { ca, identity })
    }

    fn is_described(&self) -> bool {
        self.ca.is_some()
            || self.certificate.is_some()
            || self.key.is_some()
            || self.domain.is_some()
    }
}

async fn read(option: &'static str, path: &Path, label: &'static str) -> Result<Vec<u8>, Error> {
    let read = tokio::fs::read(path).await.map_err(|why| {
        Error::invalid_input(format!("the TLS file cannot be read: {why}")).with_source(why)
    });
    let named = |error: Error| {
        error.with_context("option", option).with_context("file", redact::file(path))
    };
    checked(option, read.map_err(named)?, label).map_err(named)
}

/// A file without a block of that kind would pass for "trust nobody" or "show nothing".
fn checked(option: &'static str, pem: Vec<u8>, label: &'static str) -> Result<Vec<u8>, Error> {
    let end = format!("{label}-----");
    let mut lines = pem.split(|byte| *byte == b'\n');
    let found = lines.any(|line| {
        line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(end.as_bytes())
    });
    if found {
        return Ok(pem);
    }
    Err(Error::invalid_input(format!("there is no PEM block of the kind {label} in it"))
        .with_context("option", option))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(query: &str, secure: bool) -> Result<TlsConfig, Error> {
        let mut options = Options::parse(query);
        let tls = TlsConfig::take(&mut options, secure.then_some(("etcds", "etcd")))?;
        options.finish().map(|()| tls)
    }

    #[test]
    fn a_url_says_what_to_trust_and_what_to_show() {
        let tls = taken("ca=a.pem&cert=b.pem&key=c.pem&domain=d", false).unwrap();
        assert_eq!(tls.ca, Some(Pem::File("a.pem".into())));
        assert_eq!((tls.certificate, tls.key), (Some("b.pem".into()), Some("c.pem".into())));
        assert_eq!((tls.domain.as_deref(), tls.enabled), (Some("d"), None));
        for (query, secure, on) in
            [("", false, false), ("", true, true), ("tls", false, true), ("domain=d", false, true)]
        {
            assert_eq!(taken(query, secure).unwrap().is_on(), on, "{query}");
        }
        let error = taken("tls=false", true).unwrap_err().to_string();
        assert!(error.contains("tls=false contradicts etcds://; write etcd://"), "{error}");
        assert!(taken("tls=perhaps", false).is_err() && taken("crt=x", false).is_err());
    }

    #[test]
    fn settings_that_contradict_each_other_are_errors() {
        let off = taken("tls=false&ca=a.pem", false).unwrap();
        let error = off.check(off.is_on(), "endpoint").unwrap_err().to_string();
        assert!(error.contains("an https endpoint is given"), "{error}");
        let half = taken("cert=b.pem", false).unwrap();
        assert!(half.check(true, "endpoint").unwrap_err().to_string().contains("needs both"));
        assert!(taken("", true).unwrap().check(true, "endpoint").is_ok());
    }

    #[tokio::test]
    async fn a_file_without_a_block_of_its_kind_is_an_error_and_none_is_shown() {
        let pem = |text: &str| {
            let ca = Some(Pem::Bytes(text.as_bytes().to_vec()));
            TlsConfig { ca, ..TlsConfig::default() }
        };
        let good = pem("-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n");
        assert!(good.load().await.unwrap().ca.is_some());
        assert!(!format!("{good:?} {:?}", good.load().await.unwrap()).contains("canary"));
        let error = pem("-----BEGIN PRIVATE KEY-----\n").load().await.unwrap_err();
        assert_eq!(error.context("option"), Some("ca"));
        let missing = taken("ca=/no/such/file.pem", false).unwrap();
        let error = missing.load().await.unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
        assert!(error.context("file").is_some());
    }
}
