//! The ACL token, and where it comes from.

use std::fmt;
use std::path::PathBuf;

use fleetward_core::{Error, Secret, redact};
use http::HeaderValue;

#[derive(Clone, Default)]
pub(crate) enum Token {
    #[default]
    None,
    Text(Secret),
    File(PathBuf),
}

impl Token {
    /// What the environment says, where nothing else was given; the names are Consul's own.
    pub(super) fn or_environment(self) -> Self {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        match self {
            Self::None => variable("CONSUL_HTTP_TOKEN")
                .map(|text| Self::Text(Secret::new(text)))
                .or_else(|| Some(Self::File(variable("CONSUL_HTTP_TOKEN_FILE")?.into())))
                .unwrap_or_default(),
            given => given,
        }
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if let Self::Text(text) = self {
            header(text)?;
        }
        Ok(())
    }

    /// The token as it is now, as a header.
    pub(crate) async fn header(&self) -> Result<Option<HeaderValue>, Error> {
        match self {
            Self::None => Ok(None),
            Self::Text(text) => header(text).map(Some),
            Self::File(path) => {
                let named = |error: Error| error.with_context("file", redact::file(path));
                let text = tokio::fs::read_to_string(path).await.map(Secret::new);
                let text = text.map_err(|why| {
                    let error =
                        Error::invalid_input(format!("the token file cannot be read: {why}"));
                    named(error)
                })?;
                header(&text).map(Some).map_err(named)
            }
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Text(text) => text.fmt(f),
            Self::File(path) => f.write_str(&redact::file(path)),
        }
    }
}

fn header(token: &Secret) -> Result<HeaderValue, Error> {
    let text = token.expose().trim();
    let mut value =
        HeaderValue::from_str(text).ok().filter(|_| !text.is_empty()).ok_or_else(|| {
            Error::invalid_input("the token is empty, or has a character that no header may have")
        })?;
    value.set_sensitive(true);
    Ok(value)
}
