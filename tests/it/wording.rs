//! The names and summaries of the code are plain English: what a machine can check of it.

use std::path::{Path, PathBuf};

/// Openings of summaries that are relative clauses. Say "Returns …", "A …", "The …" instead.
const OPENINGS: [&str; 17] = [
    "What", "Who", "Whom", "Whoever", "Whatever", "Where", "Wherever", "How", "Whether", "Which", "When", "Why",
    "Whose", "So many", "Those", "That of", "Of",
];

/// The share of summaries that may open so, in percent.
const MAX_PERCENT: usize = 3;

/// Names from before the glossary, with the word to use.
const BANNED_NAMES: [(&str, &str); 14] = [
    ("heed", "apply_code_status"),
    ("Keeper", "Redactor"),
    ("Courier", "Router"),
    ("Beside", "EnrichContext"),
    ("Circumstances", "RequestContext"),
    ("AsItIs", "IdentityHasher"),
    ("LAST_WORDS", "SHUTDOWN_LOG_GRACE"),
    ("BLIND", "BUDGET_IF_CLOCK_IS_WRONG"),
    ("LONGEST", "MAX_…"),
    ("Stage", "Server"),
    ("Way", "RemoteDestination"),
    ("apart", "into_parts"),
    ("answered", "a verb"),
    ("told", "a verb"),
];

fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 100, "only {} source files were found", found.len());
    found
}

/// Returns the first lines of the documentation comments.
fn summaries(text: &str) -> Vec<&str> {
    let comment = |line: &str| line.starts_with("///") || line.starts_with("//!");
    let mut previous = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let words = line.get(3..).unwrap_or_default().trim();
        if comment(line) && !words.is_empty() && !comment(previous) {
            found.push(words);
        }
        previous = line;
    }
    found
}

fn opens_with(summary: &str, opening: &str) -> bool {
    let rest = summary.strip_prefix(opening);
    rest.is_some_and(|rest| rest.starts_with(' '))
}

/// Returns the names that a file defines: functions, types, constants.
fn definitions(text: &str) -> impl Iterator<Item = (&'static str, &str)> {
    const KINDS: [&str; 6] = ["fn", "struct", "enum", "trait", "const", "static"];
    text.lines().filter_map(|line| {
        let mut words = line
            .trim()
            .split(' ')
            .skip_while(|word| word.starts_with("pub") || matches!(*word, "async" | "const") && !line.contains(": "));
        let word = words.next()?;
        let kind = KINDS.into_iter().find(|kind| *kind == word)?;
        let name = words.next()?;
        let end = name.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        Some((kind, &name[..end.unwrap_or(name.len())]))
    })
}

#[test]
fn summaries_are_sentences() {
    let (mut all, mut wrong) = (0, Vec::new());
    for (path, text) in sources() {
        for summary in summaries(&text) {
            all += 1;
            if OPENINGS.iter().any(|opening| opens_with(summary, opening)) {
                wrong.push(format!("{}: {summary}", path.display()));
            }
        }
    }
    assert!(
        wrong.len() * 100 < all * MAX_PERCENT,
        "{} of {all} summaries are relative clauses:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn functions_begin_with_a_verb() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (kind, name) in definitions(&text) {
            if kind == "fn" && (name == "of" || name.starts_with("of_")) {
                wrong.push(format!("{}: fn {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "name what the function does:\n{}", wrong.join("\n"));
}

#[test]
fn no_name_is_of_the_old_dialect() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (kind, name) in definitions(&text) {
            if let Some((_, plain)) = BANNED_NAMES.iter().find(|(banned, _)| *banned == name) {
                wrong.push(format!("{}: {kind} {name}: say `{plain}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
