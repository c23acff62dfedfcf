//! What it takes to build a program with fleetward, and how large it gets.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::error::Result;
use crate::measure::{Effort, short};
use crate::rows::Row;
use crate::section::{Beside, Section, Table};

const INTRO: &str = "\
A small program for each set of features, in a workspace and a target folder of its own, built in release with \
cargo's defaults and this repository's lock file. Cold: everything, the sources already downloaded. Warm: the \
program's own file touched. Crates: all that are compiled for the program, build scripts and macros included. \
The size is that of the program, stripped. It discovers, or calls, as far as its features go, so that what \
they bring is linked.";

/// A program to build.
struct Program {
    name: &'static str,
    /// Those of fleetward; without any of it this is a peer.
    features: Option<&'static [&'static str]>,
    /// Those of tonic that the program itself asks for.
    tonic: &'static [&'static str],
    /// Of an async `main`.
    body: &'static str,
}

const PROGRAMS: &[Program] = &[
    ours("none", &[], DISCOVER),
    ours("metrics", &["metrics"], DISCOVER),
    ours("etcd", &["etcd"], DISCOVER),
    ours("consul", &["consul"], DISCOVER),
    ours("http", &["http"], HTTP),
    ours("health", &["health"], DISCOVER),
    grpc(DEFAULT, &["grpc"]),
    grpc("grpc, tls", &["tls"]),
    grpc("grpc, etcd, consul", &["grpc", "etcd", "consul"]),
    grpc("all", &["grpc", "etcd", "consul", "http", "health", "metrics", "tls"]),
    Program { name: TONIC, features: None, tonic: &["channel", "codegen"], body: ALONE },
];

const DEFAULT: &str = "grpc (default)";
const TONIC: &str = "tonic `channel` alone";

const fn ours(
    name: &'static str,
    features: &'static [&'static str],
    body: &'static str,
) -> Program {
    Program { name, features: Some(features), tonic: &[], body }
}

const fn grpc(name: &'static str, features: &'static [&'static str]) -> Program {
    Program { name, features: Some(features), tonic: &["codegen"], body: GRPC }
}

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

const ALONE: &str = "\
    let channel = tonic::transport::Channel::from_shared(url)?.connect().await?;
    println!(\"{:?}\", tonic::client::Grpc::new(channel));";

pub(crate) const ROW: Row = Row { name: "build", title: "Building a program", run };

fn run(effort: &Effort) -> Result<Section> {
    let mut section = Section { intro: INTRO.to_owned(), ..Section::default() };
    if effort.brief {
        section.skipped.push("builds, in a brief run".to_owned());
        return Ok(section);
    }
    let mut built = Vec::new();
    for program in PROGRAMS {
        eprintln!("   {}", program.name);
        built.push(Built::new(program)?);
    }
    section.tables.push(table(&built));
    section.beside = beside(&built);
    Ok(section)
}

/// What a program took.
struct Built {
    name: &'static str,
    crates: f64,
    /// Seconds.
    cold: f64,
    warm: f64,
    kib: f64,
}

impl Built {
    fn new(program: &Program) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        write(path, program)?;
        let crates = crates(path)? as f64;
        let cold = build(path)?;
        let main = path.join("src/main.rs");
        let source = std::fs::read_to_string(&main)?;
        std::fs::write(&main, format!("{source}\n// Touched.\n"))?;
        let warm = build(path)?;
        let size = std::fs::metadata(path.join("target/release/program"))?.len();
        Ok(Self { name: program.name, crates, cold, warm, kib: size as f64 / 1024.0 })
    }

    fn figures(&self) -> [f64; 4] {
        [self.crates, self.cold, self.warm, self.kib]
    }
}

fn table(built: &[Built]) -> Table {
    let head = ["features", "crates", "cold build, s", "warm build, s", "program, KiB"];
    let mut table = Table::new("In parentheses: how many times tonic alone.", head);
    let tonic = built.iter().find(|built| built.name == TONIC);
    for one in built {
        let figures = one.figures().into_iter().enumerate().map(|(at, figure)| {
            // Crates and KiB are whole.
            let figure_said =
                if matches!(at, 1 | 2) { short(figure) } else { format!("{figure:.0}") };
            match tonic.filter(|tonic| tonic.name != one.name) {
                Some(tonic) => format!("{figure_said} ({}x)", short(figure / tonic.figures()[at])),
                None => figure_said,
            }
        });
        table.push([one.name.to_owned()].into_iter().chain(figures));
    }
    table
}

fn beside(built: &[Built]) -> Vec<Beside> {
    let find = |name| built.iter().find(|built| built.name == name);
    let Some((ours, tonic)) = find(DEFAULT).zip(find(TONIC)) else { return Vec::new() };
    let units = [
        ("crates of a program", ""),
        ("its cold build", "s"),
        ("its warm build", "s"),
        ("its size", "KiB"),
    ];
    let figures = ours.figures().into_iter().zip(tonic.figures()).zip(units);
    figures
        .map(|((of_ours, of_tonic), (what, unit))| {
            Beside::new(what, (DEFAULT, of_ours), (TONIC, of_tonic), unit)
        })
        .collect()
}

fn write(folder: &Path, program: &Program) -> Result<()> {
    let mut dependencies = String::new();
    if let Some(features) = program.features {
        let root = std::env::current_dir()?;
        dependencies = format!(
            "fleetward = {{ path = {:?}, default-features = false, features = {features:?} }}\n",
            root.display().to_string()
        );
    }
    if !program.tonic.is_empty() {
        let tonic = program.tonic;
        dependencies += &format!(
            "tonic = {{ version = \"0.14\", default-features = false, features = {tonic:?} }}\n"
        );
    }
    let manifest = format!(
        "[package]\nname = \"program\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{dependencies}\
         tokio = {{ version = \"1\", features = [\"rt-multi-thread\", \"macros\"] }}\n\n\
         [profile.release]\nstrip = true\n"
    );
    let body = program.body;
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
