//! docs/observability.md lists what the code emits, all of it and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What stands between `open` and the next `"` or backtick.
fn all_after<'a>(text: &'a str, open: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(|rest| rest.split(['"', '`']).next())
}

#[test]
fn the_documented_metrics_are_those_that_are_emitted() {
    let (code, docs) = (read("core/src/telemetry.rs"), read("docs/observability.md"));
    let emitted: BTreeSet<_> =
        all_after(&code, "\"fleetward_").filter(|name| !name.is_empty()).collect();
    let documented: BTreeSet<_> = all_after(&docs, "| `fleetward_").collect();
    assert!(emitted.len() > 10, "{emitted:?}");
    assert_eq!(emitted, documented);
}

#[test]
fn every_event_is_documented() {
    let (code, docs) = (read("core/src/telemetry.rs"), read("docs/observability.md"));
    let mut events = 0;
    for call in ["info!(", "warn!(", "debug!(", "trace!("] {
        for arguments in code.split(call).skip(1) {
            let arguments = arguments.split(");").next().unwrap();
            let message = arguments.rsplit('"').nth(1).unwrap();
            assert!(docs.contains(&format!("`{message}`")), "undocumented: {message}");
            events += 1;
        }
    }
    assert!(events > 15, "{events}");
}
