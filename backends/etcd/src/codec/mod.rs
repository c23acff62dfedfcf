//! How an instance is written under a key, and read back.
//!
//! Two layouts, both of which others write and read too. Each key is `{root}{address}`, where the
//! root is the service's and ends in `/`; what stands in the value is the layout's business.

mod grpc;
mod json;
mod layout;
mod plain;

use std::sync::Arc;

use fleetward_core::discovery::{Entry, KeyChange};
use fleetward_core::{Error, ErrorKind, Instance, ServiceName};

use crate::config::{EtcdCodec, EtcdConfig};
use grpc::Grpc;
pub(crate) use layout::Codec;
use plain::Plain;

/// The longest value that is read or written.
const MAX_VALUE: usize = 64 * 1024;

/// The layout that the configuration chooses.
pub(crate) fn codec(config: &EtcdConfig) -> Arc<dyn Codec> {
    match config.codec() {
        EtcdCodec::Plain => Arc::new(Plain::new(config.schema())),
        EtcdCodec::Grpc => Arc::new(Grpc::new(config.prefix())),
    }
}

/// The key and the value of an instance.
pub(crate) fn write(
    codec: &dyn Codec,
    service: &ServiceName,
    instance: &Instance,
) -> Result<(String, Vec<u8>), Error> {
    // The authority has no '/', so the key is one level below the root and reads back as itself.
    let key = codec.root(service) + &instance.address().authority();
    let value = codec.encode(instance)?;
    if value.len() > MAX_VALUE {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            "the instance takes more than 64 KiB when written; shorten its metadata",
        ));
    }
    Ok((key, value))
}

/// What a key and its value say, as of the revision at which they were written. The key is below `root`.
pub(crate) fn read(
    codec: &dyn Codec,
    root: &str,
    key: &[u8],
    value: &[u8],
    revision: i64,
) -> KeyChange {
    let revision = u64::try_from(revision).unwrap_or_default();
    let name = key_name(key);
    match decode(codec, root, key, value) {
        Ok(None) => KeyChange::Delete(name),
        Ok(Some(instance)) => {
            KeyChange::Put(Entry::new(name, Ok(instance)).with_revision(revision))
        }
        Err(error) => {
            let error = error.with_context("key", &name);
            KeyChange::Put(Entry::new(name, Err(error)).with_revision(revision))
        }
    }
}

/// A key as text. One that is not UTF-8 is escaped, and cannot be mistaken for another.
pub(crate) fn key_name(key: &[u8]) -> Arc<str> {
    match std::str::from_utf8(key) {
        Ok(key) => key.into(),
        Err(_) => format!("(not UTF-8) {}", key.escape_ascii()).into(),
    }
}

fn decode(
    codec: &dyn Codec,
    root: &str,
    key: &[u8],
    value: &[u8],
) -> Result<Option<Instance>, Error> {
    if value.len() > MAX_VALUE {
        return Err(Error::invalid_data("the value is longer than 64 KiB"));
    }
    let key = std::str::from_utf8(key).map_err(|_| Error::invalid_data("the key is not UTF-8"))?;
    let tail = key.strip_prefix(root).unwrap_or(key);
    // Calls for this service must not reach another one whose name happens to be nested in it.
    let authority = tail.split_once("://").map_or(tail, |(_, authority)| authority);
    if authority.is_empty() || authority.contains('/') {
        return Err(Error::invalid_data(
            "the key is not one level below the service, so it belongs to something else",
        ));
    }
    // What an address says is wrong with it is the registry's fault here, not the caller's.
    codec.decode(tail, value).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => Error::invalid_data(error.message().to_owned()),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [Arc<dyn Codec>; 2] {
        [Arc::new(Plain::new("s")), Arc::new(Grpc::new("p"))]
    }

    fn error_of(change: KeyChange) -> Error {
        match change {
            KeyChange::Put(entry) => entry.instances()[0].clone().expect_err("it was read"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_written_key_reads_back_as_itself() {
        let service = ServiceName::new("greeter").unwrap();
        for codec in both() {
            let root = codec.root(&service);
            assert!(root.ends_with("greeter/"));
            for address in ["10.0.0.1:80", "[::1]:80", "localhost:8000", "http://10.0.0.1:80"] {
                let instance = Instance::new(address).unwrap();
                let (key, value) = write(&*codec, &service, &instance).unwrap();
                let KeyChange::Put(entry) = read(&*codec, &root, key.as_bytes(), &value, 1) else {
                    panic!("{key} is gone")
                };
                let instance = entry.instances()[0].clone().unwrap();
                assert_eq!(instance.address().to_string(), address);
                assert_eq!(write(&*codec, &service, &instance).unwrap(), (key, value));
            }
        }
    }

    #[test]
    fn bad_entries_are_errors_that_name_their_key() {
        let good = br#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}"#;
        let long = vec![b' '; MAX_VALUE + 1];
        for codec in both() {
            let root = codec.root(&ServiceName::new("a").unwrap());
            for (tail, value) in [
                (&b"10.0.0.1:80"[..], &long[..]),
                (b"\xff\xfe", good),
                (b"b/10.0.0.1:80", good),
                (b"b/10.0.0.1:80", b"10.0.0.1:80"),
                (b"", good),
                (b"x", b"169.254.169.254:80"),
                (b"x", b"\xff"),
                (b"x", b""),
            ] {
                let key = [root.as_bytes(), tail].concat();
                let error = error_of(read(&*codec, &root, &key, value, 1));
                assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
                assert!(error.context("key").is_some());
            }
        }
    }

    #[test]
    fn keys_that_are_not_text_stay_apart() {
        assert_ne!(key_name(b"a/\xff"), key_name(b"a/\xfe"));
        assert_eq!(&*key_name(b"a/b"), "a/b");
    }

    #[test]
    fn nothing_is_written_that_would_not_be_read() {
        let metadata = fleetward_core::Metadata::new([("k", "\u{1}".repeat(12_000))]).unwrap();
        let instance = Instance::new("10.0.0.1:80").unwrap().with_metadata(metadata);
        let service = ServiceName::new("a").unwrap();
        let error = write(&Grpc::new(""), &service, &instance).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }
}
