//! `{prefix}/{service}/{address}` with `{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}` as the
//! value: gRPC's own naming for etcd (Go's `client/v3/naming`).
//!
//! `Metadata` may be anything there. Ours is an object of those of `id`, `weight`, `zone`,
//! `version`, `scheme` and `metadata` that differ from the default, or null. Of any other object
//! the strings, numbers and booleans become the instance's metadata.

use fleetward_core::model::Tags;
use fleetward_core::{Address, Error, ErrorKind, Instance, Metadata, ServiceName};
use serde::Serialize;
use serde_json::{Map, Value};

use super::json::{field, parse};
use super::layout::Codec;

#[derive(Debug)]
pub(super) struct Grpc {
    prefix: String,
}

impl Grpc {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }
}

impl Codec for Grpc {
    fn name(&self) -> &'static str {
        "grpc"
    }

    fn root(&self, service: &ServiceName) -> String {
        match self.prefix.as_str() {
            "" => format!("{service}/"),
            prefix => format!("{prefix}/{service}/"),
        }
    }

    fn encode(&self, instance: &Instance) -> Result<Vec<u8>, Error> {
        // Go dials `Addr` as it stands, so a scheme would break its readers.
        let addr = instance.address().authority();
        if instance.tags().left_out() > 0 {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "the instance has more tags than are kept, so it would be registered without some",
            ));
        }
        let update = Update { op: ADD, addr: &addr, metadata: Facts::of(instance) };
        serde_json::to_vec(&update)
            .map_err(|why| Error::invalid_input("the instance is no JSON").with_source(why))
    }

    fn decode(&self, _tail: &str, value: &[u8]) -> Result<Option<Instance>, Error> {
        let update = parse(value)?;
        match field(&update, "Op").map(Value::as_u64) {
            None | Some(Some(ADD)) => {}
            Some(Some(DELETE)) => return Ok(None),
            Some(_) => return Err(Error::invalid_data("Op is neither 0 (add) nor 1 (delete)")),
        }
        let addr = field(&update, "Addr").and_then(Value::as_str);
        let addr = addr.ok_or_else(|| Error::invalid_data("the value has no Addr"))?;
        let instance = match field(&update, "Metadata") {
            Some(Value::Object(metadata)) if is_ours(metadata) => ours(addr, metadata)?,
            Some(Value::Object(metadata)) => {
                let mut metadata = metadata.clone();
                let tags = match field(&metadata, "tags").and_then(tags) {
                    Some(tags) => {
                        metadata.retain(|name, _| !name.eq_ignore_ascii_case("tags"));
                        tags
                    }
                    None => Tags::default(),
                };
                Instance::new(addr)?.with_tags(tags).with_metadata(pairs(&metadata)?)
            }
            _ => Instance::new(addr)?,
        };
        Ok(Some(instance))
    }
}

const ADD: u64 = 0;
const DELETE: u64 = 1;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update<'a> {
    op: u64,
    addr: &'a str,
    metadata: Option<Facts<'a>>,
}

/// What we write as `Metadata`.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

impl<'a> Facts<'a> {
    const NAMES: [&'static str; 7] =
        ["id", "weight", "zone", "version", "scheme", "tags", "metadata"];

    /// Nothing for an instance that says no more than its address.
    fn of(instance: &'a Instance) -> Option<Self> {
        let address = instance.address();
        let id = instance.id().as_str();
        let weight = instance.weight();
        let metadata = instance.metadata().iter();
        let facts = Self {
            id: (id != address.to_string()).then_some(id),
            weight: (weight != Instance::DEFAULT_WEIGHT).then_some(weight),
            zone: instance.zone(),
            version: instance.version(),
            scheme: address.scheme(),
            tags: instance.tags().iter().collect(),
            metadata: metadata.map(|(key, value)| (key.to_owned(), value.into())).collect(),
        };
        let Self { id, weight, zone, version, scheme, tags, metadata } = &facts;
        let any = weight.is_some() || !tags.is_empty() || !metadata.is_empty();
        (any || [id, zone, version, scheme].into_iter().any(Option::is_some)).then_some(facts)
    }
}

/// Whether an object can be what [`Facts`] writes; an `id` or a `weight` among other names is
/// somebody else's and means what they like.
fn is_ours(metadata: &Map<String, Value>) -> bool {
    metadata.iter().all(|(name, value)| match name.as_str() {
        "weight" => value.is_u64(),
        "metadata" => value.is_object(),
        "tags" => tags(value).is_some(),
        name => Facts::NAMES.contains(&name) && value.is_string(),
    })
}

fn ours(addr: &str, metadata: &Map<String, Value>) -> Result<Instance, Error> {
    let text = |name| metadata.get(name).and_then(Value::as_str);
    let address: Address = match text("scheme") {
        Some(scheme) => format!("{scheme}://{addr}").parse()?,
        None => addr.parse()?,
    };
    let mut instance = Instance::new(address)?;
    if let Some(id) = text("id") {
        instance = instance.with_id(id)?;
    }
    if let Some(weight) = metadata.get("weight").and_then(Value::as_u64) {
        instance = instance.with_weight(u32::try_from(weight).unwrap_or(u32::MAX));
    }
    if let Some(zone) = text("zone") {
        instance = instance.with_zone(zone);
    }
    if let Some(version) = text("version") {
        instance = instance.with_version(version);
    }
    if let Some(tags) = metadata.get("tags").and_then(tags) {
        instance = instance.with_tags(tags);
    }
    if let Some(Value::Object(given)) = metadata.get("metadata") {
        instance = instance.with_metadata(pairs(given)?);
    }
    Ok(instance)
}

/// A list of strings.
fn tags(value: &Value) -> Option<Tags> {
    let all = value.as_array()?;
    let tags: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
    tags.map(Tags::new)
}

/// What is no text is kept as its JSON, for a filter may ask for it; `null` says nothing.
fn pairs(object: &Map<String, Value>) -> Result<Metadata, Error> {
    Metadata::new(object.iter().filter_map(|(key, value)| match value {
        Value::String(text) => Some((key.clone(), text.clone())),
        Value::Null => None,
        _ => Some((key.clone(), value.to_string())),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(value: &str) -> Result<Option<Instance>, Error> {
        Grpc::new("foo").decode("10.0.0.1:8080", value.as_bytes())
    }

    fn encode(instance: &Instance) -> String {
        String::from_utf8(Grpc::new("").encode(instance).unwrap()).unwrap()
    }

    #[test]
    fn writes_and_reads_the_value_of_gos_naming() {
        let service = ServiceName::new("bar").unwrap();
        assert_eq!(Grpc::new("foo").root(&service), "foo/bar/");
        assert_eq!(Grpc::new("").root(&service), "bar/");
        let instance = Instance::new("10.0.0.1:8080").unwrap();
        let literal = r#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}"#;
        assert_eq!(encode(&instance), literal);
        assert_eq!(decode(literal).unwrap(), Some(instance));
    }

    #[test]
    fn everything_an_instance_says_comes_back() {
        let instance = Instance::new("http://10.0.0.1:8080")
            .unwrap()
            .with_id("a-1")
            .unwrap()
            .with_weight(3)
            .with_zone("eu-1a")
            .with_version("2.0 \"&<")
            .with_tags(Tags::new(["canary", "a,b"]))
            .with_metadata(Metadata::new([("weight", "x"), ("id", "")]).unwrap());
        let text = encode(&instance);
        assert_eq!(
            text,
            r#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":{"id":"a-1","weight":3,"zone":"eu-1a","version":"2.0 \"&<","scheme":"http","tags":["canary","a,b"],"metadata":{"id":"","weight":"x"}}}"#
        );
        assert_eq!(decode(&text).unwrap(), Some(instance));
    }

    #[test]
    fn an_instance_with_too_many_tags_is_read_as_one_and_not_written() {
        let tags: Vec<_> = (0..2000).map(|n| format!("\"{n}\"")).collect();
        let text =
            format!(r#"{{"Addr":"10.0.0.1:80","Metadata":{{"tags":[{}]}}}}"#, tags.join(","));
        let instance = decode(&text).unwrap().unwrap();
        assert_eq!((instance.tags().has("canary"), instance.tags().has("0")), (None, Some(true)));
        let error = Grpc::new("").encode(&instance).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }

    #[test]
    fn reads_as_go_does() {
        let plain = Instance::new("10.0.0.1:8080").unwrap();
        for text in [
            r#"{"addr":"10.0.0.1:8080"}"#,
            r#"{"OP":null,"ADDR":"10.0.0.1:8080","METADATA":null,"Unknown":[1]}"#,
            " {\"Addr\":\"10.0.0.1:8080\",\"Metadata\":\"text\"}\n",
            r#"{"Addr":"10.0.0.1:8080","Metadata":[1,{"a":2}]}"#,
            r#"{"Addr":"\u0031\u0030.0.0.1:8080","Metadata":{}}"#,
        ] {
            assert_eq!(decode(text).unwrap(), Some(plain.clone()), "{text}");
        }
        assert_eq!(decode(r#"{"Op":1,"Addr":"10.0.0.1:8080","Metadata":null}"#).unwrap(), None);
    }

    #[test]
    fn the_metadata_of_others_is_kept_and_only_their_tags_are_interpreted() {
        let text = r#"{"Addr":"10.0.0.1:80","Metadata":{"id":"same","weight":9,"up":true,"k":"v","n":null,"o":{"a":[1]},"tags":["canary"]}}"#;
        let instance = decode(text).unwrap().unwrap();
        assert_eq!((instance.id().as_str(), instance.weight()), ("10.0.0.1:80", 1));
        let pairs: Vec<_> = instance.metadata().iter().collect();
        let expected =
            [("id", "same"), ("k", "v"), ("o", r#"{"a":[1]}"#), ("up", "true"), ("weight", "9")];
        assert_eq!(pairs, expected);
        assert_eq!(instance.tags().has("canary"), Some(true));
        let text = r#"{"Addr":"10.0.0.1:80","Metadata":{"tags":"canary, blue"}}"#;
        assert_eq!(decode(text).unwrap().unwrap().metadata().get("tags"), Some("canary, blue"));
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for text in [
            "",
            "null",
            "[]",
            "10.0.0.1:80",
            "{}",
            r#"{"Addr":null}"#,
            r#"{"Addr":7}"#,
            r#"{"Addr":""}"#,
            r#"{"Addr":"10.0.0.1:80","#,
            r#"{"Op":"1","Addr":"10.0.0.1:80"}"#,
            r#"{"Op":2,"Addr":"10.0.0.1:80"}"#,
            r#"{"Addr":"10.0.0.1:80\u0000"}"#,
            r#"{"Addr":"10.0.0.1:80","Metadata":{"weight":1e400}}"#,
            r#"{"Addr":"10.0.0.1:80","Metadata":{"id":""}}"#,
            r#"{"Addr":"10.0.0.1:80","Metadata":{"scheme":"a b"}}"#,
        ] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
