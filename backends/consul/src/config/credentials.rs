//! What an agent, or a proxy in front of it, is shown: an ACL token, a user's name and password.

use std::fmt;
use std::path::PathBuf;

use fleetward_core::Error;
use fleetward_core::registry::{Secret, redact};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::variables::Environment;

/// The ACL token, and a user for HTTP's basic authentication.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    pub(super) token: Option<Kept>,
    pub(super) user: Option<User>,
}

#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Kept,
}

/// A secret, and where it comes from.
#[derive(Clone)]
pub(super) enum Kept {
    Text(Secret),
    File(PathBuf),
    /// The name of the variable, and what that said.
    Variable(&'static str, Box<Kept>),
}

impl Credentials {
    /// The token that the environment has, where no other was given; the names are Consul's own.
    pub(super) fn with_token_of(mut self, environment: &Environment<'_>) -> Self {
        if self.token.is_none() {
            let text = |name| environment.get(name).map(|text| Kept::Text(Secret::new(text)));
            let file = |name| environment.get(name).map(|path| Kept::File(path.into()));
            let named = |name, kept: Option<Kept>| Some(Kept::Variable(name, Box::new(kept?)));
            self.token = named("CONSUL_HTTP_TOKEN", text("CONSUL_HTTP_TOKEN"))
                .or_else(|| named("CONSUL_HTTP_TOKEN_FILE", file("CONSUL_HTTP_TOKEN_FILE")));
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.token.is_none() && self.user.is_none()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(Kept::Text(text)) = self.token.as_ref().map(Kept::inner) {
            sensitive(text.expose(), "token").map_err(|error| self.named(error))?;
        }
        match &self.user {
            Some(User { name, .. }) if name.contains(':') || name.is_empty() => {
                Err(Error::invalid_input("a user's name is not empty and has no colon"))
            }
            _ => Ok(()),
        }
    }

    /// What is shown now, as headers. Files are read each time.
    pub(crate) async fn headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let text = token.read("token").await.map_err(|error| self.named(error))?;
            let value = sensitive(text.expose(), "token").map_err(|error| self.named(error))?;
            headers.insert(TOKEN, value);
        }
        if let Some(User { name, password }) = &self.user {
            let named = |error: Error| match password {
                Kept::File(path) => error.with_context("file", redact::file(path)),
                _ => error,
            };
            let password = password.read("password").await.map_err(named)?;
            let pair = Secret::new(format!("{name}:{}", password.expose()));
            let text = Secret::new(format!("Basic {}", base64(pair.expose().as_bytes())));
            headers.insert(header::AUTHORIZATION, sensitive(text.expose(), "password")?);
        }
        Ok(headers)
    }

    /// What was shown, in the words of an error.
    pub(crate) fn shown(&self) -> String {
        let token = match &self.token {
            None => "no token was given; a token".to_owned(),
            Some(Kept::Variable(name, _)) => {
                format!("the token comes from the environment ({name}); it")
            }
            Some(Kept::File(path)) => format!("the token in {}", redact::file(path)),
            Some(Kept::Text(_)) => "the token".to_owned(),
        };
        match (&self.user, &self.token) {
            (None, _) => token,
            (Some(_), _) => format!("the user's password; {token}"),
        }
    }

    fn named(&self, error: Error) -> Error {
        let Some(token) = &self.token else { return error };
        let error = match token.inner() {
            Kept::File(path) => error.with_context("file", redact::file(path)),
            _ => error,
        };
        match token {
            Kept::Variable(name, _) => error.with_context("variable", name),
            _ => error,
        }
    }
}

impl Kept {
    fn inner(&self) -> &Self {
        match self {
            Self::Variable(_, inner) => inner,
            plain => plain,
        }
    }

    async fn read(&self, what: &'static str) -> Result<Secret, Error> {
        match self.inner() {
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await.map(Secret::new);
                let text = text.map_err(|why| {
                    Error::invalid_input(format!("the {what} file cannot be read: {why}"))
                })?;
                Ok(Secret::new(text.expose().trim()))
            }
            Self::Text(text) => Ok(text.clone()),
            Self::Variable(..) => Err(Error::invalid_input("a variable names no other")),
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::File(path) => f.write_str(&redact::file(path)),
            Self::Variable(name, _) => f.write_str(name),
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", redact::length(&self.name), self.password)
    }
}

fn sensitive(text: &str, what: &'static str) -> Result<HeaderValue, Error> {
    let text = text.trim();
    let value = HeaderValue::from_str(text).ok().filter(|_| !text.is_empty());
    let mut value = value.ok_or_else(|| {
        Error::invalid_input(format!(
            "the {what} is empty, or has a character that no header may have"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// For one short header a crate is not needed.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) & 63;
            let pad = at > chunk.len();
            text.push(if pad { '=' } else { char::from(DIGITS[digit as usize]) });
        }
    }
    text
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
            ("\u{ff}\u{3f}~", "w78/fg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[test]
    fn an_error_says_where_a_token_comes_from() {
        let environment =
            Environment(&|name| (name == "CONSUL_HTTP_TOKEN").then(|| "canary".into()));
        let credentials = Credentials::default().with_token_of(&environment);
        assert!(credentials.shown().contains("environment (CONSUL_HTTP_TOKEN)"));
        assert!(!format!("{credentials:?}{}", credentials.shown()).contains("canary"));
        let environment = Environment(&|name| (name == "CONSUL_HTTP_TOKEN").then(|| "a\nb".into()));
        let bad = Credentials::default().with_token_of(&environment).check().unwrap_err();
        assert_eq!(bad.context("variable"), Some("CONSUL_HTTP_TOKEN"));
    }
}
