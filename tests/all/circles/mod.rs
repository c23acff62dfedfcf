//! No circle of modules, in any crate: whoever reads a file needs only what stands below it.
//!
//! What counts is which file names an item of which other one. A `pub use` in a `mod.rs` is a face and no dependency:
//! what is named through it is what stands behind. Methods are not followed: which type a value has is the compiler's
//! knowledge. Tests are left out.

mod graph;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use self::graph::Graph;
use self::tree::Crate;

/// The folders of all crates.
fn crates(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        if ["src/lib.rs", "src/main.rs"].iter().any(|file| folder.join(file).exists()) {
            found.push(folder.clone());
        }
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_ours = !name.starts_with('.') && !["target", "src", "tests"].contains(&&*name);
            if path.is_dir() && is_ours {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn no_crate_has_a_circle_of_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = crates(root);
    assert!(all.len() >= 12, "{all:?}");
    let mut circles = Vec::new();
    for folder in all {
        let read = |file: &Path| fs::read_to_string(folder.join(file)).ok();
        let graph = Graph::of(&Crate::read(&read));
        let name = folder.strip_prefix(root).unwrap().display().to_string();
        circles.extend(graph.circles().into_iter().map(|circle| format!("{name}: {circle}")));
    }
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let files: BTreeMap<_, _> = files.iter().map(|(name, text)| (Path::new(name), text)).collect();
    Graph::of(&Crate::read(&|file| files.get(file).map(ToString::to_string))).circles()
}

#[test]
fn a_circle_by_super_is_found() {
    let found = circles(&[
        ("src/lib.rs", "mod a;"),
        ("src/a/mod.rs", "mod b; pub struct Thing; fn f() { b::make() }"),
        ("src/a/b.rs", "use super::Thing; pub fn make() -> Thing { Thing }"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("src/a/mod.rs -> src/a/b.rs: make"), "{found:?}");
    assert!(found[0].contains("src/a/b.rs -> src/a/mod.rs: Thing"), "{found:?}");
}

#[test]
fn a_circle_through_faces_globs_and_macros_is_found() {
    let found = circles(&[
        ("src/lib.rs", "mod a; mod b; pub use a::*; pub use b::Other;"),
        ("src/a.rs", "pub struct Thing; fn f() { println!(\"{}\", crate::Other::NAME) }"),
        ("src/b.rs", "pub struct Other; impl Other { fn f(_: Option<crate::Thing>) {} }"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].contains("lib.rs"), "the face is none of it: {found:?}");
}

#[test]
fn a_circle_through_a_type_in_a_macro_and_a_use_in_a_function_is_found() {
    let found = circles(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "make! { pub struct Thing { part: crate::b::Part } }"),
        ("src/b.rs", "pub struct Part; fn f() { use crate::a::Thing; Thing::new() }"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn only_what_is_there_in_tests_alone_is_left_out() {
    let circle = |condition: &str| {
        let b = format!("pub struct Part; #[cfg({condition})] fn f(_: crate::a::Thing) {{}}");
        let a = "pub struct Thing(crate::b::Part);";
        !circles(&[("src/lib.rs", "mod a; mod b;"), ("src/a.rs", a), ("src/b.rs", &b)]).is_empty()
    };
    for (condition, expected) in [
        ("test", false),
        ("all(unix, test)", false),
        ("not(test)", true),
        ("any(test, unix)", true),
        ("unix", true),
    ] {
        assert_eq!(circle(condition), expected, "{condition}");
    }
}

#[test]
fn a_face_is_no_circle_and_neither_is_what_tests_name() {
    let found = circles(&[
        ("src/lib.rs", "mod a; pub use a::Thing;"),
        (
            "src/a/mod.rs",
            "mod b; mod c; pub use b::Thing; #[cfg(test)] mod tests { use super::c::Part; }",
        ),
        ("src/a/b.rs", "use super::c::Part; pub struct Thing(Part);"),
        ("src/a/c.rs", "pub struct Part; #[cfg(test)] mod tests { use crate::Thing; }"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}
