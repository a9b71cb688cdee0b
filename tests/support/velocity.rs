//! Apache Velocity, the engine behind API Gateway's mapping templates, as a function from a template and requests to texts.
//!
//! `tests/velocity/Render.java` supplies `$input`, `$util`, `$context` and `$stageVariables`; Maven fetches the jars it needs, once for each
//! content of `tests/velocity/pom.xml`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::setup::{cache_dir, require};

const POM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/velocity/pom.xml");
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/velocity/Render.java");

/// A request as a mapping template sees it. Names are unique: API Gateway has already dropped all but the last of a repeated parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateInput {
    pub path: BTreeMap<String, String>,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub stage_variables: BTreeMap<String, String>,
    /// Members of `$context` under dotted names such as `identity.sourceIp`.
    pub context: BTreeMap<String, String>,
    pub body: Option<String>,
}

/// Renders the template for each input, in order, in one start of the JVM. An `Err` is what Velocity threw for that input.
///
/// # Panics
///
/// When `java` or `mvn` is missing or fails, or the program does not answer every input.
pub fn render(template: &str, inputs: &[TemplateInput]) -> Vec<Result<String, String>> {
    require(&["java", "mvn"]);
    let mut java = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-cp"])
        .arg(jars().join("*"))
        .arg(PROGRAM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java starts");
    let mut stdin = java.stdin.take().expect("stdin is piped");
    let requests = requests(template, inputs);
    // Written beside the reading, as either pipe may fill up. A write fails only when java ended early, which its status tells better.
    let writer = thread::spawn(move || drop(stdin.write_all(requests.as_bytes())));
    let output = java.wait_with_output().expect("java runs");
    writer.join().expect("the writer does not panic");

    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "Render.java failed: {complaints}");
    let stdout = String::from_utf8(output.stdout).expect("Render.java writes ASCII");
    let answers: Vec<_> = stdout.lines().map(answer).collect();
    assert_eq!(answers.len(), inputs.len(), "one answer for each input: {complaints}");
    answers
}

/// The directory of the jars, filled by Maven when there is none yet for this `pom.xml`.
fn jars() -> PathBuf {
    let pom = fs::read(POM).expect("pom.xml is readable");
    let mut hasher = DefaultHasher::new();
    pom.hash(&mut hasher);
    let cache = cache_dir();
    let jars = cache.join(format!("velocity-{:016x}", hasher.finish()));
    let complete = jars.join("complete");

    fs::create_dir_all(&cache).expect("the cache directory can be created");
    let lock = File::create(cache.join("velocity.lock")).expect("the lock file can be created");
    lock.lock().expect("the lock file can be locked"); // until the drop, for concurrent test processes
    if !complete.exists() {
        let output = Command::new("mvn")
            .args(["-q", "-B", "-f", POM, "dependency:copy-dependencies"])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .output()
            .expect("mvn starts");
        let log = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "mvn failed: {log}");
        File::create(complete).expect("the marker can be created");
    }
    jars
}

/// The lines that `Render.java` reads; its head documents them.
fn requests(template: &str, inputs: &[TemplateInput]) -> String {
    let mut lines = STANDARD.encode(template) + "\n";
    for input in inputs {
        let maps = [
            ('p', &input.path),
            ('q', &input.query),
            ('h', &input.headers),
            ('s', &input.stage_variables),
            ('c', &input.context),
        ];
        let mut tokens = Vec::new();
        for (kind, map) in maps {
            for (name, value) in map {
                tokens.push(format!("{kind}:{}:{}", STANDARD.encode(name), STANDARD.encode(value)));
            }
        }
        if let Some(body) = &input.body {
            tokens.push(format!("b:{}", STANDARD.encode(body)));
        }
        lines += &(tokens.join(" ") + "\n");
    }
    lines
}

fn answer(line: &str) -> Result<String, String> {
    let (kind, text) = line.split_once(':').expect("an answer is KIND:TEXT");
    let bytes = STANDARD.decode(text).expect("an answer's text is base64");
    let text = String::from_utf8(bytes).expect("an answer's text is UTF-8");
    match kind {
        "ok" => Ok(text),
        "err" => Err(text),
        other => panic!("unknown kind of answer: {other}"),
    }
}
