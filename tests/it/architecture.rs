//! The layers of `src/`: a layer imports only from layers below it, and the pure ones do no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each layer, and the layers that it may import from. `docs/architecture.md` shows the same table.
const LAYERS: [(&str, &[&str]); 13] = [
    ("hit", &[]),
    ("destination", &["hit"]),
    ("config", &["hit", "destination"]),
    ("query", &["hit", "config"]),
    ("replay", &["hit", "destination", "config"]),
    ("terminal", &[]),
    ("files", &[]),
    ("client", &["hit", "destination", "config", "query"]),
    ("sqlite", &["hit", "destination", "config", "query", "files"]),
    ("api", &["hit", "config", "query"]),
    ("setup", &["hit", "destination", "config", "client"]),
    (
        "server",
        &[
            "hit",
            "destination",
            "config",
            "query",
            "replay",
            "terminal",
            "files",
            "client",
            "sqlite",
            "api",
        ],
    ),
    (
        "function",
        &[
            "hit",
            "destination",
            "config",
            "query",
            "replay",
            "client",
            "api",
            "setup",
        ],
    ),
];

/// The layers that do no I/O: time, ids, credentials and environment are arguments.
const PURE: [&str; 5] = ["hit", "destination", "config", "query", "replay"];

/// Names that only code with I/O uses.
const IO: [&str; 10] = [
    "std::fs",
    "std::net::Tcp",
    "std::env",
    "std::process",
    "std::thread",
    "tokio::",
    "reqwest::Client",
    "Utc::now",
    "Instant::now",
    "SystemTime::now",
];

/// A source file of the library.
struct Source {
    path: PathBuf,
    /// The module's path, as in `["hit", "request", "alb"]`.
    module: Vec<String>,
    /// The code without comments and unit tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(read(&root, path));
            }
        }
    }
    found.retain(|source| !source.module.is_empty());
    assert!(found.len() > 100, "only {} source files were found", found.len());
    found
}

fn read(root: &Path, path: PathBuf) -> Source {
    let inside = path.strip_prefix(root).unwrap().with_extension("");
    let mut module: Vec<String> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    if matches!(module[0].as_str(), "lib" | "main" | "bin") {
        module.clear();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    Source { path, module, code }
}

/// The layers that a file names by `crate::LAYER`.
fn imported_layers(code: &str) -> BTreeSet<&str> {
    let name = |rest: &'_ str| {
        let end = rest.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        end.unwrap_or(rest.len())
    };
    code.match_indices("crate::")
        .map(|(place, mark)| &code[place + mark.len()..])
        .map(|rest| &rest[..name(rest)])
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn a_layer_imports_only_from_the_layers_below_it() {
    let layers: BTreeMap<_, _> = LAYERS.into_iter().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let layer = source.module[0].as_str();
        assert!(
            !source.code.contains("use crate::{"),
            "{}: write one `use crate::LAYER` per layer, so that this test can read it",
            source.path.display()
        );
        for imported in imported_layers(&source.code) {
            let allowed = match layers.get(layer) {
                Some(allowed) => imported == layer || allowed.contains(&imported),
                // The command line may use everything but the function.
                None if layer == "cli" => imported != "function",
                None => panic!("`{layer}` is not a layer; add it to LAYERS and docs/architecture.md"),
            };
            if !allowed {
                wrong.push(format!(
                    "{}: `{layer}` imports from `{imported}`",
                    source.path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_layers_do_no_io() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !PURE.contains(&source.module[0].as_str()) {
            continue;
        }
        for name in IO {
            if source.code.contains(name) {
                wrong.push(format!("{}: `{name}`", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn feature_gates_stand_on_mod_lines_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines: Vec<_> = source.code.lines().collect();
        for pair in lines.windows(2) {
            let gate = pair[0].trim_start().starts_with("#[cfg(") && pair[0].contains("feature");
            let module = pair[1]
                .trim_start()
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ");
            if gate && !(module.starts_with("mod ")) {
                wrong.push(format!("{}: {}", source.path.display(), pair[1].trim()));
            }
        }
        assert!(!source.code.contains("cfg!(feature"), "{}", source.path.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_document_shows_the_same_layers() {
    let document = include_str!("../../docs/architecture.md");
    for (layer, imports) in LAYERS {
        let row = format!("| `{layer}/` |");
        let row = match layer {
            "terminal" | "files" => format!("| `{layer}.rs` |"),
            _ => row,
        };
        let line = document.lines().find(|line| line.starts_with(&row));
        let line = line.unwrap_or_else(|| panic!("docs/architecture.md has no row `{row}`"));
        let named: BTreeSet<_> = line.rsplit('|').nth(1).unwrap().split(',').map(str::trim).collect();
        let expected: BTreeSet<_> = if imports.is_empty() {
            BTreeSet::from(["nothing"])
        } else {
            imports.iter().copied().collect()
        };
        assert_eq!(named, expected, "docs/architecture.md, row of `{layer}`");
    }
}
