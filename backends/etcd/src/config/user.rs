//! Who logs in, and where the password comes from.

use std::fmt;
use std::path::PathBuf;

use fleetward_core::Error;
use fleetward_core::registry::{Secret, redact};

#[derive(Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: Password,
}

#[derive(Clone)]
pub(crate) enum Password {
    Text(Secret),
    File(PathBuf),
}

impl Password {
    /// The password as it is now.
    pub(crate) async fn read(&self) -> Result<Secret, Error> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let named = |error: Error| {
            error.with_context("option", "password_file").with_context("file", redact::file(path))
        };
        let text = tokio::fs::read_to_string(path).await.map(Secret::new).map_err(|why| {
            named(Error::invalid_input(format!("the password file cannot be read: {why}")))
        })?;
        // An editor, or `echo`, ends the line.
        let password = text.expose().trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(named(Error::invalid_input("the password file is empty")));
        }
        Ok(Secret::new(password))
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.password {
            // A token is often given as a user without a password.
            Password::Text(text) if text.expose().is_empty() => f.write_str("***"),
            _ => f.write_str(&redact::name(&self.name)),
        }
    }
}
