//! What it takes to build a program with fleetward, and how large it gets.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::Result;
use crate::measure::{Effort, short};
use crate::rows::Row;
use crate::section::{Section, Table};

const INTRO: &str = "\
A small program for each set of features, in a workspace and a target folder of its own, built in release with \
cargo's defaults and this repository's lock file. Cold: everything, the sources already downloaded. Warm: the \
program's own file touched. Crates: all that are compiled for the program, build scripts and macros included. \
The size is that of the program, stripped. It discovers, or calls, as far as its features go, so that what \
they bring is linked.";

/// A name, the features, and the body of an async `main`.
const SETS: &[(&str, &[&str], &str)] = &[
    ("none", &[], DISCOVER),
    ("metrics", &["metrics"], DISCOVER),
    ("etcd", &["etcd"], DISCOVER),
    ("consul", &["consul"], DISCOVER),
    ("http", &["http"], HTTP),
    ("health", &["health"], DISCOVER),
    ("grpc (default)", &["grpc"], GRPC),
    ("grpc, tls", &["tls"], GRPC),
    ("grpc, etcd, consul", &["grpc", "etcd", "consul"], GRPC),
    ("all", &["grpc", "etcd", "consul", "http", "health", "metrics", "tls"], GRPC),
];

const DISCOVER: &str = "\
    use fleetward::Instancer;
    let list = fleetward::discover(&url).await?;
    println!(\"{:?}\", list.subscribe().current());";

const HTTP: &str = "\
    use fleetward::http::Connect;
    let client = fleetward::http::Client::builder(url.as_str()).connect().await?;
    println!(\"{client:?}\");";

const GRPC: &str = "\
    use fleetward::grpc::{Channel, Connect};
    let channel = Channel::builder(url.as_str()).connect().await?;
    println!(\"{:?}\", tonic::client::Grpc::new(channel));";

pub(crate) const ROW: Row = Row { name: "build", title: "Building a program", run };

fn run(effort: &Effort) -> Result<Section> {
    let mut section = Section { intro: INTRO.to_owned(), ..Section::default() };
    if effort.brief {
        section.skipped.push("builds, in a brief run".to_owned());
        return Ok(section);
    }
    let root = std::env::current_dir()?;
    let mut table =
        Table::new("", ["features", "crates", "cold build, s", "warm build, s", "program, KiB"]);
    for (name, features, body) in SETS {
        let folder = tempfile::tempdir()?;
        write(folder.path(), &root, features, body)?;
        let crates = crates(folder.path())?;
        let cold = build(folder.path())?;
        let main = folder.path().join("src/main.rs");
        let source = std::fs::read_to_string(&main)?;
        std::fs::write(&main, format!("{source}\n// Touched.\n"))?;
        let warm = build(folder.path())?;
        let size = std::fs::metadata(folder.path().join("target/release/program"))?.len();
        table.push([
            (*name).to_owned(),
            crates.to_string(),
            short(cold),
            short(warm),
            (size / 1024).to_string(),
        ]);
    }
    section.tables.push(table);
    Ok(section)
}

fn write(folder: &Path, root: &Path, features: &[&str], body: &str) -> Result<()> {
    let root = root.display();
    let tonic = match features.contains(&"grpc") || features.contains(&"tls") {
        true => {
            "tonic = { version = \"0.14\", default-features = false, features = [\"codegen\"] }"
        }
        false => "",
    };
    let manifest = format!(
        "[package]\nname = \"program\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\nfleetward = {{ path = \"{root}\", default-features = false, \
         features = {features:?} }}\n\
         tokio = {{ version = \"1\", features = [\"rt-multi-thread\", \"macros\"] }}\n{tonic}\n\n\
         [profile.release]\nstrip = true\n"
    );
    let main = format!(
        "#[tokio::main]\nasync fn main() -> Result<(), Box<dyn std::error::Error>> {{\n    \
         let url = std::env::args().nth(1).ok_or(\"a URL\")?;\n{body}\n    Ok(())\n}}\n"
    );
    std::fs::create_dir(folder.join("src"))?;
    std::fs::write(folder.join("Cargo.toml"), manifest)?;
    std::fs::write(folder.join("src/main.rs"), main)?;
    // What is not needed is taken out of it again.
    std::fs::copy("Cargo.lock", folder.join("Cargo.lock"))?;
    Ok(())
}

/// In seconds.
fn build(folder: &Path) -> Result<f64> {
    let begun = Instant::now();
    cargo(folder, &["build", "--release", "--quiet", "--offline"])?;
    Ok(begun.elapsed().as_secs_f64())
}

fn crates(folder: &Path) -> Result<usize> {
    let arguments =
        ["tree", "--edges", "normal,build", "--prefix", "none", "--no-dedupe", "--offline"];
    let tree = cargo(folder, &arguments)?;
    let mut names: Vec<_> = tree
        .lines()
        .filter_map(|line| line.rsplit_once(" (*)").map_or(Some(line), |_| None))
        .collect();
    names.sort_unstable();
    names.dedup();
    // Without the program itself.
    Ok(names.len().saturating_sub(1))
}

fn cargo(folder: &Path, arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env_remove("RUSTFLAGS")
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
