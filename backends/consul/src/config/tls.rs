//! TLS: what to trust and what to show.

use std::path::{Path, PathBuf};

use fleetward_core::Error;
use fleetward_core::registry::redact;

#[derive(Clone, Default, PartialEq)]
pub(crate) struct TlsConfig {
    pub(super) enabled: Option<bool>,
    pub(super) ca: Option<Pem>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) domain: Option<String>,
}

#[derive(Clone, PartialEq)]
pub(crate) enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// What the files say now.
pub(crate) struct TlsFiles {
    /// `None`: what the system trusts.
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsConfig {
    pub(super) fn is_on(&self) -> bool {
        self.enabled == Some(true) || self.is_described()
    }

    pub(super) fn check(&self, on: bool) -> Result<(), Error> {
        if self.enabled == Some(false) && on {
            return Err(Error::invalid_input(
                "tls is switched off, but a CA, a client certificate, a domain or an https agent is given",
            ));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(Error::invalid_input("a client certificate needs both: cert and key"));
        }
        Ok(())
    }

    pub(crate) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Reads the files.
    pub(crate) async fn load(&self) -> Result<TlsFiles, Error> {
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
