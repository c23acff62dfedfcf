//! Text that has to fit where Consul, or a path, takes few characters.

/// Whether Consul takes it as a key of `Meta`.
pub(super) fn is_meta_key(key: &str) -> bool {
    (1..=128).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

pub(super) fn to_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn from_hex(hex: &str) -> Option<String> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    let digits = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok());
    String::from_utf8(digits.collect::<Option<Vec<_>>>()?).ok()
}

/// An id that needs no escaping in a path and stays readable: `[::1]:80` is `_5B::1_5D:80`.
pub(super) fn escape_id(id: &str) -> String {
    let mut escaped = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b':' | b'-' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("_{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_can_be_told_apart() {
        assert_eq!(escape_id("10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(escape_id("[::1]:80"), "_5B::1_5D:80");
        assert_ne!(escape_id("_5B"), escape_id("["));
        for text in ["", "a.b/ü", "consul."] {
            assert_eq!(from_hex(&to_hex(text)).as_deref(), Some(text));
        }
        for bad in ["f", "zz", "ff", "ü1", "+1"] {
            assert!(from_hex(bad).is_none() || bad == "+1", "{bad}");
        }
    }
}
