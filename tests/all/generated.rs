//! The greeter's checked-in code is what its .proto gives, so that nobody needs protoc.

use std::path::Path;

/// Run with `FLEETWARD_UPDATE_GENERATED=1` to write it anew.
#[test]
fn the_greeters_generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/greeter");
    let descriptors = protox::compile(["greeter.proto"], [&root]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    tonic_prost_build::configure().out_dir(folder.path()).compile_fds(descriptors).unwrap();
    let fresh = std::fs::read_to_string(folder.path().join("_.rs")).unwrap();
    let path = root.join("generated/greeter.rs");
    if std::env::var_os("FLEETWARD_UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(fresh == checked_in, "run again with FLEETWARD_UPDATE_GENERATED=1 and commit");
}
