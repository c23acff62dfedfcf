//! `/{schema}/{service}/{address}` with the address as the value: the layout of the common
//! tutorials, and of go-kit.
//!
//! Read are also values that carry a scheme (`http://10.0.0.1:80`), and values that are a weight:
//! then the address is the key's tail. Written is the address alone, for that is all that readers
//! of this layout understand; weight, zone, version, id and metadata are not written.

use std::sync::atomic::{AtomicBool, Ordering};

use fleetward_core::{Address, Error, ErrorKind, Instance, ServiceName};

use super::layout::Codec;

#[derive(Debug)]
pub(super) struct Plain {
    schema: String,
    /// Whether it was told that something is not written: once, however often it is tried.
    told: AtomicBool,
}

impl Plain {
    pub(super) fn new(schema: &str) -> Self {
        Self { schema: schema.to_owned(), told: AtomicBool::new(false) }
    }
}

impl Codec for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn root(&self, service: &ServiceName) -> String {
        format!("/{}/{service}/", self.schema)
    }

    fn encode(&self, instance: &Instance) -> Result<Vec<u8>, Error> {
        if instance.is_draining() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the plain codec has no weight, so an instance of weight 0 would get calls; deregister it, or use codec=grpc",
            ));
        }
        let plain = from_address(instance.address().clone())?;
        if plain != *instance && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                instance = %instance.id(),
                "the plain codec writes the address only; use codec=grpc for weight, tags and metadata"
            );
        }
        Ok(instance.address().to_string().into_bytes())
    }

    fn decode(&self, tail: &str, value: &[u8]) -> Result<Option<Instance>, Error> {
        let value = std::str::from_utf8(value)
            .map_err(|_| Error::invalid_data("the value is not UTF-8"))?
            .trim();
        if let Ok(weight) = value.parse::<u32>() {
            return Ok(Some(from_address(tail.parse()?)?.with_weight(weight)));
        }
        Ok(Some(from_address(value.parse()?)?))
    }
}

/// The same instance is often registered with and without a scheme: the id has none.
fn from_address(address: Address) -> Result<Instance, Error> {
    let id = address.authority();
    Instance::new(address)?.with_id(&id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(tail: &str, value: &str) -> Instance {
        Plain::new("grpclb").decode(tail, value.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn reads_the_layouts_of_others() {
        let service = ServiceName::new("simple_grpc").unwrap();
        assert_eq!(Plain::new("grpclb").root(&service), "/grpclb/simple_grpc/");
        let tutorial = decode("localhost:8000", "localhost:8000");
        assert_eq!(tutorial, Instance::new("localhost:8000").unwrap());

        let weighted = decode("localhost:8000", "1");
        assert_eq!(weighted, tutorial);
        assert_eq!(decode("http://10.0.0.1:80", "7").weight(), 7);
        assert!(decode("10.0.0.1:80", "0").is_draining());

        let go_kit = decode("1.2.3.4:8080", "http://1.2.3.4:8080");
        assert_eq!(go_kit.id().as_str(), "1.2.3.4:8080");
        assert_eq!(go_kit.address().to_string(), "http://1.2.3.4:8080");

        let go_zero = decode("7587848943239472656", "10.0.0.1:8080");
        assert_eq!(go_zero.id().as_str(), "10.0.0.1:8080");
    }

    #[test]
    fn writes_what_the_tutorials_read() {
        let instance = Instance::new("localhost:8000").unwrap().with_weight(5).with_zone("a");
        assert_eq!(Plain::new("grpclb").encode(&instance).unwrap(), b"localhost:8000");
    }

    #[test]
    fn a_drain_that_cannot_be_written_is_refused() {
        let instance = Instance::new("localhost:8000").unwrap().with_weight(0);
        let error = Plain::new("grpclb").encode(&instance).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("codec=grpc"));
    }

    #[test]
    fn refuses_what_names_no_address() {
        for (tail, value) in [("x", "1"), ("10.0.0.1:80", "-1"), ("10.0.0.1:80", "{}")] {
            assert!(Plain::new("s").decode(tail, value.as_bytes()).is_err(), "{tail} {value}");
        }
    }
}
