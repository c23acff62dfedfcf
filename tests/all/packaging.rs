//! What somebody sees of a crate on crates.io and docs.rs.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of the crates that are published, and what their Cargo.toml says.
fn published() -> Vec<(PathBuf, String)> {
    let workspace = read(root().join("Cargo.toml"));
    let members = workspace.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let folders = members.split(',').map(|member| root().join(member.trim().trim_matches('"')));
    folders
        .chain([root().to_owned()])
        .map(|folder| (folder.clone(), read(folder.join("Cargo.toml"))))
        .filter(|(_, manifest)| !manifest.contains("publish = false"))
        .collect()
}

/// The value of a key of `[package]`, the workspace's if it is inherited.
fn package_value(manifest: &str, key: &str) -> String {
    let own = manifest.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
    let inherited = || {
        assert!(manifest.contains(&format!("{key}.workspace = true")), "no {key}");
        package_value(&read(root().join("Cargo.toml")), key)
    };
    own.map_or_else(inherited, str::to_owned)
}

#[test]
fn every_crate_has_its_licences_and_metadata() {
    let crates = published();
    assert!(crates.len() >= 10, "{} crates", crates.len());
    for (folder, manifest) in crates {
        let name = folder.display();
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            assert_eq!(read(folder.join(licence)), read(root().join(licence)), "{name}");
        }
        for key in ["description", "license", "repository", "rust-version", "readme"] {
            assert!(!package_value(&manifest, key).is_empty(), "{name}: {key}");
        }
        let keywords = package_value(&manifest, "keywords");
        let keywords: Vec<_> = keywords.trim_matches(['[', ']']).split(", ").collect();
        assert!(keywords.len() <= 5, "{name}: crates.io takes five keywords");
        assert!(keywords.iter().all(|word| word.len() <= 22), "{name}: {keywords:?}");
        assert!(manifest.contains("[package.metadata.docs.rs]\nall-features = true"), "{name}");
    }
}

/// A version would have to be published before the crate that it is to test.
#[test]
fn dev_dependencies_among_our_crates_are_by_path_only() {
    for (folder, manifest) in published() {
        let Some((_, dev)) = manifest.split_once("[dev-dependencies]") else { continue };
        let dev = dev.split("\n[").next().unwrap();
        for line in dev.lines().filter(|line| line.starts_with("fleetward")) {
            let by_path = line.contains("path = ") && !line.contains("version");
            assert!(by_path, "{}: {line}", folder.display());
        }
    }
}

/// Where links lead to: `](target)` and `[label]: target`, outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for prose in text.split("```").step_by(2) {
        let inline = prose.match_indices("](").map(|(at, _)| &prose[at + 2..]);
        found.extend(inline.filter_map(|rest| rest.split(')').next()));
        let labelled = prose.lines().filter(|line| line.starts_with('['));
        found.extend(labelled.filter_map(|line| line.split_once("]: ").map(|(_, to)| to)));
    }
    found
}

/// Whether an item of that name is declared anywhere in a crate's sources.
fn declares(folder: &Path, item: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => declares(&path, item),
            false => read(path).contains(item),
        }
    })
}

#[test]
fn links_of_a_readme_work_wherever_it_is_read() {
    let mut checked = 0;
    for (folder, _) in published() {
        let readme = read(folder.join("README.md"));
        for link in links(&readme) {
            let absolute = link.starts_with("https://") || link.starts_with('#');
            assert!(absolute, "{}: {link}", folder.display());
            if let Some(path) = link.split_once("github.com/fleetward/fleetward/blob/main/") {
                assert!(root().join(path.1).exists(), "{link}");
            }
            let Some(page) = link.strip_prefix("https://docs.rs/fleetward-") else { continue };
            let (name, page) = page.split_once('/').unwrap();
            let folder = ["", "backends/"].map(|at| root().join(at).join(name).join("src"));
            let folder = folder.iter().find(|folder| folder.exists()).expect(link);
            let page = page.rsplit('/').next().unwrap().split(".html").next().unwrap();
            assert!(declares(folder, &format!("pub {}", page.replace('.', " "))), "{link}");
            checked += 1;
        }
    }
    assert!(checked >= 20, "only {checked} links to our pages");
}

#[test]
fn links_of_the_guides_lead_to_files_and_the_walks_are_short() {
    let mut checked = 0;
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = read(path.clone());
        for link in links(&text) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !link.contains("://") {
                assert!(root().join("docs").join(file).exists(), "{}: {link}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked >= 60, "only {checked} links to files");
    let architecture = read(root().join("docs/architecture.md"));
    let walks: Vec<_> = architecture.split("\n### One ").skip(1).collect();
    assert_eq!(walks.len(), 2, "a call, and a change of an instance");
    for walk in walks {
        let walk = walk.split("\n## ").next().unwrap();
        let files = walk.lines().filter(|line| line.starts_with("| ") && line.contains(".rs]("));
        assert!((10..=20).contains(&files.count()), "a walk of at most 20 files");
    }
}
