//! Which backend a URL's scheme stands for, and what to say where it stands for none.

use fleetward_core::registry::redact;
use fleetward_core::{Error, ErrorKind};

/// The backends there are, built in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Memory,
    Static,
    Consul,
    Etcd,
}

/// Scheme, backend, the feature that it needs, whether that is on.
const SCHEMES: &[(&str, Scheme, Option<&str>, bool)] = &[
    ("memory", Scheme::Memory, None, true),
    ("static", Scheme::Static, None, true),
    ("consul", Scheme::Consul, Some("consul"), cfg!(feature = "consul")),
    ("consuls", Scheme::Consul, Some("consul"), cfg!(feature = "consul")),
    ("etcd", Scheme::Etcd, Some("etcd"), cfg!(feature = "etcd")),
    ("etcds", Scheme::Etcd, Some("etcd"), cfg!(feature = "etcd")),
];

impl Scheme {
    /// The built-in one of that scheme; `own` are those that stand beside them.
    pub(crate) fn parse<'a>(
        scheme: &str,
        own: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        match SCHEMES.iter().find(|(name, ..)| *name == scheme) {
            Some((_, backend, _, true)) => Ok(*backend),
            Some((_, _, feature, false)) => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "this program was built without that registry: add features = [\"{}\"] to fleetward in Cargo.toml",
                    feature.unwrap_or_default()
                ),
            )
            .with_context("scheme", scheme)),
            None => {
                let built_in = SCHEMES.iter().map(|(name, ..)| *name);
                let known: Vec<_> = built_in.chain(own).map(|name| format!("{name}:")).collect();
                let known = known.join(", ");
                // It is the user's name, or a token, where the scheme was forgotten.
                Err(Error::invalid_input(format!("unknown registry; there are: {known}"))
                    .with_context("scheme", redact::length(scheme)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scheme_lists_those_there_are() {
        let error = Scheme::parse("zookeeper", ["hosts"]).unwrap_err().to_string();
        let built_in = SCHEMES.iter().map(|(name, ..)| *name);
        for name in built_in.chain(["hosts"]) {
            assert!(error.contains(&format!("{name}:")), "{error}");
        }
    }

    #[cfg(not(feature = "etcd"))]
    #[test]
    fn a_scheme_whose_feature_is_off_says_which_one_to_switch_on() {
        let error = Scheme::parse("etcd", []).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("features = [\"etcd\"]"), "{error}");
    }
}
