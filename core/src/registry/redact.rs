//! What an error, a log or a `Debug` may show of a configuration.
//!
//! A password with an unescaped `?` or `/` in it ends up where a host, a path or an option was
//! expected. So a text is quoted only when its place and its shape say that it holds no secret;
//! otherwise its length is given, which is enough to find it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The text, if it is a name or a path of names: letters, digits, `.`, `_`, `-`, `/`. Otherwise its
/// length.
///
/// For values whose place says that they are no secret, and that may have swallowed one, as in
/// `balancer=p2c;token=…`.
///
/// ```
/// use fleetward_core::registry::redact;
/// assert_eq!(redact::name("team/prod"), "team/prod");
/// assert_eq!(redact::name("p2c;token=hunter2"), "(17 characters, not shown)");
/// ```
pub fn name(text: &str) -> String {
    if is_name(text) { text.to_owned() } else { length(text) }
}

/// The path of a file, if it is absolute and made as a [`name`] is. A relative one is not shown:
/// where a path is expected, people write the secret itself.
pub fn file(path: &Path) -> String {
    match path.to_str() {
        Some(text) if path.is_absolute() && text.split('\\').all(is_name) => text.to_owned(),
        Some(text) => length(text),
        None => "(not UTF-8, not shown)".to_owned(),
    }
}

/// An address that was refused, if it is an IP address, with or without a port. Otherwise its
/// length: what looks like `host:port` may be a user and a password.
pub fn address(text: &str) -> String {
    let shown = text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok();
    if shown { text.to_owned() } else { length(text) }
}

/// How long a text is that is not shown.
pub fn length(text: &str) -> String {
    format!("({} characters, not shown)", text.chars().count())
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    (1..=256).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_its_place_is_shown() {
        for (given, shown) in [
            ("round_robin", true),
            ("", false),
            ("a b", false),
            ("a?b", false),
            ("a=b", false),
            ("a;b", false),
            ("a@b", false),
            ("a:b", false),
            ("a%62", false),
            ("ä", false),
        ] {
            assert_eq!(name(given) == given, shown, "{given:?}");
        }
        assert_eq!(file(Path::new("/etc/ca.pem")), "/etc/ca.pem");
        assert_eq!(file(Path::new("canary")), "(6 characters, not shown)");
        assert!(!file(Path::new("/etc/ca.pem?token=canary")).contains("canary"));
        assert_eq!(address("0.0.0.0:80"), "0.0.0.0:80");
        assert_eq!(address("root:canary"), "(11 characters, not shown)");
    }
}
