//! Reading JSON as Go's decoder does: field names in any case, `null` for "not given".

use fleetward_core::Error;
use serde_json::{Map, Value};

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 32;

/// Parses one JSON object.
pub(super) fn parse(text: &[u8]) -> Result<Map<String, Value>, Error> {
    if depth(text) > MAX_DEPTH {
        return Err(Error::invalid_data("the value is JSON nested more than 32 deep"));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::invalid_data("the value is not a JSON object")),
        // The text is not shown: serde's message has line and column only.
        Err(why) => Err(Error::invalid_data(format!("the value is not JSON: {why}"))),
    }
}

/// A field that is there and not null; the exact name wins over one in another case.
pub(super) fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = object.get(name);
    let any = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v);
    exact.or_else(any).filter(|value| !value.is_null())
}

/// How deep the text nests, counted before anything is built from it.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(br#"{"a":[{"b":"[[[\"{{"}]}"#), 3);
        assert_eq!(depth(b"]]]]{"), 1);
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(31).as_bytes()).is_ok());
        assert!(parse(nested(32).as_bytes()).is_err());
        assert!(parse(nested(60_000).as_bytes()).is_err());
    }

    #[test]
    fn field_names_match_in_any_case() {
        let object = parse(br#"{"ADDR":"a","op":null,"x":1,"X":2}"#).unwrap();
        assert_eq!(field(&object, "Addr").unwrap(), "a");
        assert!(field(&object, "Op").is_none());
        assert_eq!(field(&object, "X").unwrap(), 2);
    }
}
