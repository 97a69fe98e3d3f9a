//! Rules of the project that no compiler holds: who may import whom, and that documents say what the code does.

use std::fs;
use std::path::{Path, PathBuf};

use rookery::config::Config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, relative to the root.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).expect("the folder is part of the project").flatten() {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path.strip_prefix(root()).expect("it is below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).expect("a file that was just listed can be read")
}

/// Lines of a file that are code, with their numbers.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    let keep = |line: &str| !line.trim_start().starts_with("//");
    text(path)
        .lines()
        .enumerate()
        .filter(|(_, line)| keep(line))
        .map(|(at, line)| (at + 1, line.to_owned()))
        .collect()
}

/// Fails with every line of `src/` that names `word` outside the places allowed.
fn only_in(word: &str, allowed: &[&str]) {
    let mut wrong = Vec::new();
    for path in rust_files("src") {
        let name = path.display().to_string();
        if allowed.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        for (number, line) in code_lines(&path) {
            if line.contains(word) {
                wrong.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "'{word}' belongs into {allowed:?} only:\n{}", wrong.join("\n"));
}

#[test]
fn a_crate_that_shapes_a_layer_stays_in_it() {
    only_in("sea_orm", &["src/storage/sql", "src/telemetry.rs"]);
    only_in("actix", &["src/gateway", "src/telemetry.rs"]);
    only_in("actix_web_actors", &["src/gateway/websocket.rs"]);
    only_in("ractor_cluster", &["src/cluster", "src/telemetry.rs"]);
    only_in("prost::", &["src/protocol", "src/client"]);
    only_in("redis::", &["src/storage/cache"]);
    only_in("moka", &["src/storage/cache", "src/services"]);
    only_in("argon2::", &["src/services/passwords.rs"]);
    only_in("rustyline", &["src/cli/chat"]);
}

#[test]
fn a_layer_uses_only_those_below_it() {
    // Each layer and what it may name of the crate.
    let layers: &[(&str, &[&str])] = &[
        ("src/domain", &["domain", "protocol"]),
        ("src/protocol", &["domain", "protocol"]),
        ("src/storage", &["clock", "config", "domain", "protocol", "storage"]),
        ("src/cluster", &["clock", "cluster", "config", "domain", "protocol"]),
        ("src/actors", &["actors", "chance", "clock", "cluster", "config", "domain", "protocol", "storage"]),
        (
            "src/services",
            &["actors", "clock", "cluster", "config", "domain", "protocol", "services", "storage"],
        ),
        (
            "src/gateway",
            &["actors", "clock", "cluster", "config", "domain", "gateway", "protocol", "services", "storage"],
        ),
        ("src/client", &["client", "clock", "domain", "protocol"]),
        ("src/cli/chat", &["cli", "client", "clock", "domain", "protocol"]),
        // The chaos runs read the logs past every node.
        ("src/cli/load", &["cli", "client", "clock", "config", "domain", "protocol", "storage"]),
    ];
    let mut wrong = Vec::new();
    for (folder, may_name) in layers {
        for path in rust_files(folder) {
            for (number, line) in code_lines(&path) {
                for part in line.split("crate::").skip(1) {
                    let module: String =
                        part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if !module.is_empty() && !may_name.contains(&module.as_str()) {
                        wrong.push(format!("{}:{number} uses {module}", path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the layers of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn cluster_toml_is_the_defaults_and_names_every_key() {
    let written: toml::Table = text(Path::new("cluster.toml")).parse().expect("cluster.toml is TOML");
    let config: Config = written.clone().try_into().expect("cluster.toml has no unknown key");
    assert_eq!(config, Config::default(), "cluster.toml differs from the defaults in src/config.rs");
    let defaults: toml::Table =
        toml::Table::try_from(Config::default()).expect("the defaults are plain data");
    for (section, keys) in &defaults {
        for key in keys.as_table().expect("every section is a table").keys() {
            let named = written.get(section).and_then(|table| table.get(key));
            assert!(named.is_some(), "cluster.toml leaves out {section}.{key}");
        }
    }
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let architecture = text(Path::new("ARCHITECTURE.md"));
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        for path in rust_files(folder) {
            sources.push_str(&text(&path));
        }
    }
    let mut tests = 0;
    for (number, line) in architecture.lines().enumerate() {
        for name in line.split("test `").skip(1).filter_map(|rest| rest.split('`').next()) {
            let name = name.rsplit("::").next().unwrap_or(name);
            assert!(
                sources.contains(&format!("fn {name}")),
                "ARCHITECTURE.md:{}: there is no test {name}",
                number + 1
            );
            tests += 1;
        }
    }
    assert!(tests > 0, "ARCHITECTURE.md names the test of each invariant");
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = rust_files("src")
        .into_iter()
        .filter(|path| !text(path).starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "these files have no header: {silent:?}");
}
