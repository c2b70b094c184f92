//! docs/dependencies.md lists the crates that are asked for: all of them, and no other.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The manifests of the project.
const MANIFESTS: [&str; 4] =
    ["Cargo.toml", "plugin/Cargo.toml", "xtask/Cargo.toml", "fuzz/Cargo.toml"];

/// The names in the tables of dependencies of a manifest, without those that are folders of ours.
fn asked_for(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.trim_end_matches(']').ends_with("dependencies");
        } else if let Some((name, what)) = line.split_once('=').filter(|_| inside)
            && !line.starts_with('#')
            && !what.contains("path =")
        {
            names.insert(name.trim().trim_end_matches(".workspace").to_string());
        }
    }
    names
}

/// The names in backticks that begin the rows of the list.
fn listed(list: &str) -> BTreeSet<String> {
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_string()).collect()
}

#[test]
fn every_dependency_is_listed_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let asked: BTreeSet<String> =
        MANIFESTS.iter().flat_map(|name| asked_for(&read(name))).collect();
    assert!(asked.contains("symphonia") && asked.contains("libfuzzer-sys"), "{asked:?}");
    let listed = listed(&read("docs/dependencies.md"));
    let missing: Vec<_> = asked.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&asked).collect();
    assert!(missing.is_empty(), "not in docs/dependencies.md: {missing:?}");
    assert!(gone.is_empty(), "in docs/dependencies.md, but nothing asks for them: {gone:?}");
}
