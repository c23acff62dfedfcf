//! docs/write-a-backend.md shows what is compiled and tested here, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const BACKEND: &str = "examples/directory_backend/directory.rs";

#[test]
fn the_blocks_one_after_the_other_are_the_backend() {
    let blocks = blocks();
    assert_eq!(blocks[BACKEND].join("\n"), read(BACKEND));
}

#[test]
fn every_other_block_stands_in_the_file_that_it_names() {
    for (file, blocks) in blocks().iter().filter(|(file, _)| *file != BACKEND) {
        let text = unindented(&read(file));
        for block in blocks {
            assert!(text.contains(&unindented(block)), "{file} has not:\n{block}");
        }
    }
}

#[test]
fn the_lines_are_counted() {
    let text = read(BACKEND);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let code = lines.filter(|line| !line.starts_with("//")).count();
    assert!(page().contains(&format!("{code} lines of code")), "{code} lines of code");
    assert!(code < 150, "{code} lines of code");
}

/// The blocks of Rust, by the file that each of them names.
fn blocks() -> BTreeMap<String, Vec<String>> {
    let mut blocks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in page().split("\n```rust").skip(1) {
        let (info, rest) = part.split_once('\n').unwrap();
        let (block, _) = rest.split_once("\n```").unwrap();
        let file = info.strip_prefix(" file=").expect("every block names its file");
        blocks.entry(file.to_owned()).or_default().push(format!("{block}\n"));
    }
    assert_eq!(blocks.len(), 4, "{:?}", blocks.keys());
    blocks
}

fn page() -> String {
    read("docs/write-a-backend.md")
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// A block in a page stands at the margin, wherever it stands in the code.
fn unindented(text: &str) -> String {
    text.lines().map(|line| line.trim_start().to_owned() + "\n").collect()
}
