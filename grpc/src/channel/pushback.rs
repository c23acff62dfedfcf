//! When a server wants to be asked again.

use std::time::Duration;

use http::HeaderMap;

/// What a server says about coming back: `grpc-retry-pushback-ms`.
pub(super) enum Pushback {
    After(Duration),
    Stop,
}

impl Pushback {
    const NAME: &str = "grpc-retry-pushback-ms";

    pub(super) fn of(head: &HeaderMap) -> Option<Self> {
        let mut all = head.get_all(Self::NAME).iter();
        let text = all.next()?.to_str().unwrap_or_default();
        // A signed number of 32 bits. One with a sign is negative, or not as it is to be written.
        let millis = text.parse::<i32>().ok().and_then(|millis| u64::try_from(millis).ok());
        Some(match millis {
            Some(millis) if !text.starts_with('+') && all.next().is_none() => {
                Self::After(Duration::from_millis(millis))
            }
            _ => Self::Stop,
        })
    }
}
