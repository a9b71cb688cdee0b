//! The CloudFormation templates and scripts, read by others than their author: cfn-lint, cfripper, Parliament, `ShellCheck`, and
//! checks of what those do not see.
//!
//! The checks are `tests/infra/check.py`; what they compare with comes from the program itself.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use percent_encoding::percent_decode_str;
use pixel::config::VARIABLES;
use pixel::destination::counts::{Counts, NAMESPACE};
use pixel::function::Role;
use pixel::hit::answer;
use pixel::hit::outcome::Ignored;
use pixel::hit::pixel::{Image, Pixel, Status};
use pixel::hit::privacy::OPT_OUT_COOKIE;
use pixel::server::gateway::RESOURCES;
use serde_json::{Map, Value, json};

use crate::support::setup;
use crate::support::template_corpus::{expected, hostile};
use crate::support::velocity::render;

const REQUIREMENTS: &str = include_str!("../../infra/requirements.txt");
const PASSTHROUGH: &str = include_str!("../../../mapping-templates/passthrough.vtl");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every template of the repository.
fn templates() -> Vec<PathBuf> {
    let files = std::fs::read_dir(Path::new(ROOT).join("infra")).unwrap();
    let mut found: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

#[test]
fn cfn_lint_has_nothing_to_say() {
    let lint = python().with_file_name("cfn-lint");
    // With the rules of AWS Lambda Powertools for serverless stacks.
    let rules = ["--append-rules", "cfn_lint_serverless.rules", "--template"];
    let output = Command::new(lint).args(rules).args(templates()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// cfripper and Parliament: every finding is explained beside its resource.
#[test]
fn the_policies_have_nothing_unexplained() {
    let mut arguments = vec!["check".into()];
    arguments.extend(templates());
    println!(
        "{}",
        python_says("policies.py", &arguments).unwrap_or_else(|said| panic!("{said}"))
    );
}

/// And they would say it.
#[test]
fn seeded_policies_are_found() {
    let arguments = ["prove".into(), Path::new(ROOT).join("infra")];
    println!(
        "{}",
        python_says("policies.py", &arguments).unwrap_or_else(|said| panic!("{said}"))
    );
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let mut scripts: Vec<_> = ["infra", "kibana", ".ci"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(Path::new(ROOT).join(folder)).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let first = text.lines().next().unwrap_or_default();
            first.starts_with("#!") && first.ends_with("sh")
        })
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 4, "{scripts:?}");
    let shellcheck = python().with_file_name("shellcheck");
    let output = Command::new(shellcheck).args(&scripts).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_templates_hold() {
    let (folder, facts) = facts();
    let mut arguments = vec!["check".into(), facts];
    arguments.extend(templates());
    println!("{}", check(&arguments).unwrap_or_else(|said| panic!("{said}")));
    drop(folder);
}

/// The checks themselves are checked: each seeded fault must be found by one.
#[test]
fn seeded_faults_are_found() {
    let (folder, facts) = facts();
    let arguments = ["mutate".into(), facts, Path::new(ROOT).join("infra")];
    println!("{}", check(&arguments).unwrap_or_else(|said| panic!("{said}")));
    drop(folder);
}

#[test]
fn what_cannot_work_together_is_refused_before_anything_is_made() {
    let endpoint = "Endpoint=https://search-x.eu-central-1.es.amazonaws.com";
    let certificate = "CertificateArn=arn:aws:acm:eu-central-1:123456789012:certificate/1";
    let dashboards = "DashboardsUrl=https://kibana.example.org";
    let secret = "DashboardsSecretArn=arn:aws:secretsmanager:eu-central-1:123456789012:secret:dashboards-AbCdEf";
    let tokens = "TokensSecretArn=arn:aws:secretsmanager:eu-central-1:123456789012:secret:tokens-AbCdEf";
    let collection = "CollectionEndpoint=https://abc123.eu-central-1.aoss.amazonaws.com";
    let next = "CollectionEndpoint=https://abc123.aoss.eu-central-1.on.aws";
    let (id, called) = ("CollectionId=abc123", "CollectionName=pixel");
    let cases: [(&[&str], Option<&str>); 38] = [
        (&[endpoint, tokens, "Manage=token"], None),
        (&[endpoint, tokens, "Manage=iam"], Some("go together")),
        (&[endpoint, "Manage=token"], Some("go together")),
        (&[endpoint, dashboards, secret, "Manage=iam"], None),
        (&[endpoint, "DashboardsUrl=none", "RunSetup=no"], None),
        (&[endpoint, dashboards, "RunSetup=no"], Some("imports the dashboards")),
        (&[endpoint, secret], Some("give DashboardsUrl")),
        (
            &[endpoint, "DashboardsUrl=https://user:password@kibana"],
            Some("without a user"),
        ),
        (&[endpoint, "DashboardsUrl=later"], Some("auto, none")),
        (&[endpoint, "CodeKeysSecretArn=1:c2VjcmV0"], Some("ARN of a secret")),
        (&[endpoint, "PrivacyOptOut=one, two"], Some("without spaces")),
        (&[endpoint], None),
        (&[endpoint, "DomainName=search", "KeepDays=90"], None),
        (&[endpoint, "HostName=pixel.example.org", certificate], None),
        (&[endpoint, "Delivery=queue", "Journal=log", "BatchSize=10000"], None),
        (&[endpoint, "Delivery=queue", "BatchWindow=300"], Some("out of bounds")),
        (&[endpoint, "Delivery=later"], Some("one of")),
        (&[endpoint, "PrivacyKey=short"], Some("16 to 200")),
        (&[], Some("give Endpoint")),
        (&[endpoint, collection, id, called], Some("not both")),
        (&[collection, id, called, "DomainName=search"], Some("not both")),
        (&[collection, id, called], None),
        (&[next, id, called, "Delivery=queue"], None),
        (&[collection], Some("CollectionId and CollectionName")),
        (&[endpoint, id, called], Some("give CollectionEndpoint")),
        (
            &["Endpoint=https://abc123.eu-central-1.aoss.amazonaws.com"],
            Some("give CollectionEndpoint"),
        ),
        (
            &["Endpoint=https://abc123.AOSS.eu-central-1.on.aws:443"],
            Some("give CollectionEndpoint"),
        ),
        (
            &["CollectionEndpoint=https://search-x.eu-central-1.es.amazonaws.com"],
            Some("endpoint of a collection"),
        ),
        (&[endpoint, "DomainName=search", "ApiKey=a2V5"], Some("SigV4")),
        (&[endpoint, "KeepDays=90", "Rotation=none"], Some("no age")),
        (&[collection, id, called, "Rotation=rollover"], Some("neither rollover")),
        (&[endpoint, "HostName=pixel.example.org"], Some("go together")),
        (&[endpoint, "HostedZoneId=Z1"], Some("go together")),
        (&[endpoint, "WafRateLimit=9"], Some("at least 10")),
        (&["Endpoint=http://search"], Some("https://HOST")),
        (&["Endpoint=https://user:password@search"], Some("https://HOST")),
        (&["Endpoint=https://search/events"], Some("https://HOST")),
        (&[endpoint, "Index=Events"], Some("lower-case")),
    ];
    check_refusals("pixel.yaml", &cases);
    let arn = "KinesisFirehoseARN=arn:aws:firehose:eu-central-1:123456789012:deliverystream/pixel";
    let name = "KinesisFirehoseStreamName=pixel";
    let cases: [(&[&str], Option<&str>); 7] = [
        (&[endpoint], None),
        (&[arn, name], None),
        (&[arn, name, "Record=event", "PrivacyIp=full"], None),
        (&[], Some("give Endpoint, or")),
        (&[arn], Some("give Endpoint, or")),
        (&[endpoint, arn, name], Some("give Endpoint, or")),
        (&[arn, name, "DomainName=search"], Some("writes to no index")),
    ];
    check_refusals("http-api.yaml", &cases);
    // Their roles know no collection, and a key is for servers that are not AWS's.
    let cases: [(&[&str], Option<&str>); 6] = [
        (&[endpoint, "DomainName=search"], None),
        (&["Endpoint=https://search.example.org", "ApiKey=a2V5"], None),
        (&["Endpoint=https://aoss.example.org:9200"], None),
        (&[endpoint, "DomainName=search", "ApiKey=a2V5"], Some("SigV4")),
        (
            &["Endpoint=https://abc123.eu-central-1.aoss.amazonaws.com"],
            Some("are for pixel.yaml"),
        ),
        (
            &["Endpoint=https://abc123.aoss.eu-central-1.on.aws"],
            Some("are for pixel.yaml"),
        ),
    ];
    for template in ["http-api.yaml", "rest-proxy.yaml", "queue.yaml"] {
        check_refusals(template, &cases);
    }
}

fn check_refusals(template: &str, cases: &[(&[&str], Option<&str>)]) {
    let parameters: Vec<_> = cases.iter().map(|(parameters, _)| parameters).collect();
    let file = Path::new(ROOT).join("infra").join(template);
    let said = check(&["refused".into(), file, json!(parameters).to_string().into()]).unwrap();
    let refused: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(refused.len(), cases.len());
    for ((parameters, reason), refused) in cases.iter().zip(refused) {
        let refused = refused.to_string();
        match reason {
            None => assert_eq!(refused, "[]", "{template}: {parameters:?}"),
            Some(reason) => assert!(refused.contains(reason), "{template}: {parameters:?}: {refused}"),
        }
    }
}

/// The template as it stands in the stack keeps every hostile request whole, under Apache Velocity.
#[test]
fn the_inline_template_keeps_every_request_whole() {
    let stack = resolve("pixel.yaml", &[]);
    let get = &stack["resources"]["PixelGet"]["Properties"]["Integration"]["RequestTemplates"];
    let inline = get["application/json"].as_str().unwrap();
    let (names, inputs): (Vec<_>, Vec<_>) = hostile().into_iter().unzip();
    for ((name, input), rendered) in names.iter().zip(&inputs).zip(render(inline, &inputs)) {
        let rendered: Value =
            serde_json::from_str(&rendered.unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(rendered, expected(input), "{name}");
    }
}

/// And so does the one that writes a request into a queue: the message is the same document.
#[test]
fn the_queue_gets_every_request_whole() {
    let stack = resolve("queue.yaml", &[]);
    let get = &stack["resources"]["PixelGet"]["Properties"]["Integration"]["RequestTemplates"];
    let inline = get["application/json"].as_str().unwrap();
    let (names, inputs): (Vec<_>, Vec<_>) = hostile().into_iter().unzip();
    for ((name, input), rendered) in names.iter().zip(&inputs).zip(render(inline, &inputs)) {
        let rendered = rendered.unwrap();
        let form: Vec<_> = rendered
            .trim()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let [("Action", "SendMessage"), ("MessageBody", body)] = form[..] else {
            panic!("{name}: {rendered}");
        };
        let body = body.replace('+', " ");
        let body = percent_decode_str(&body).decode_utf8().unwrap();
        let document: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(document, expected(input), "{name}");
    }
}

/// The commands of infra/README.md are about templates, parameters, scripts and options that are there.
#[test]
fn the_readme_s_commands_are_possible() {
    let read = |path: &str| std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let readme = read("infra/README.md").replace("\\\n", " ");
    let code = readme.split('`').flat_map(str::lines).map(str::trim);
    let (mut deployments, mut commands) = (0, 0);
    for line in code {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        let is = |word: &str, ending: &str| {
            let path = Path::new(word);
            path.starts_with("infra") && path.extension().is_some_and(|it| it == ending)
        };
        if is(program, "sh") {
            assert!(Path::new(ROOT).join(program).exists(), "{line}");
        }
        let template = line.split_whitespace().find(|word| is(word, "yaml"));
        if let Some(template) = template.filter(|_| line.contains("deploy")) {
            deployments += 1;
            let text = read(template);
            let parameters = text
                .split("\nParameters:\n")
                .nth(1)
                .unwrap()
                .split("\n\nConditions:")
                .next()
                .unwrap();
            let given = line.split_whitespace().filter_map(|word| Some(word.split_once('=')?.0));
            for name in given.filter(|name| name.starts_with(char::is_uppercase)) {
                assert!(parameters.contains(&format!("  {name}:\n")), "{line}: no {name}");
            }
        }
        if program == "pixel"
            && words
                .clone()
                .next()
                .is_some_and(|word| word.chars().all(char::is_alphanumeric))
        {
            commands += 1;
            let arguments: Vec<_> = words.collect();
            let help = Command::new(env!("CARGO_BIN_EXE_pixel"))
                .args([arguments[0], "--help"])
                .output()
                .unwrap();
            let help = String::from_utf8_lossy(&help.stdout);
            assert!(help.contains(&format!("Usage: pixel {}", arguments[0])), "{line}");
            for option in arguments.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "{line}: no {option}");
            }
        }
    }
    assert!(deployments >= 8 && commands >= 5, "{deployments} {commands}");
}

#[test]
fn the_readme_has_the_table_of_costs() {
    let script = Path::new(ROOT).join("infra/cost.py");
    setup::require(&["python3"]);
    let output = Command::new("python3").arg(script).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `pixel serve` with a store in a folder.
struct Serving {
    folder: tempfile::TempDir,
    process: Child,
    address: String,
}

impl Serving {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_pixel"))
            .args(["serve", "--listen", "127.0.0.1:0", "--destination", "sqlite:pixel.db"])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = lines
            .find(|line| line.as_ref().unwrap().contains("http://"))
            .unwrap()
            .unwrap();
        let address = line.split("http://").nth(1).unwrap();
        let address = address.split(|c: char| c == '/' || c.is_whitespace()).next().unwrap();
        let address = address.to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            folder,
            process,
            address,
        }
    }

    /// What `infra/verify.sh` says of the pixel at an address, and whether it is content.
    fn verify(&self, address: &str, looks_for_event: bool) -> (bool, String) {
        let mut command = Command::new(Path::new(ROOT).join("infra/verify.sh"));
        command
            .arg(format!("http://{address}/prod"))
            .current_dir(self.folder.path());
        command.env("PIXEL", env!("CARGO_BIN_EXE_pixel")).env("TRIES", "1");
        command.env_remove("PIXEL_DESTINATION");
        if looks_for_event {
            command.env("PIXEL_DESTINATION", "sqlite:pixel.db");
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server that hands each request on, and on the way changes its first line, and the answer.
fn spoiling(server: &str, request: fn(&str) -> String, answer: fn(&str, String) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let length = headers
                .iter()
                .find(|line| line.to_ascii_lowercase().starts_with("content-length"));
            assert!(
                length.is_none_or(|line| line.ends_with(" 0")),
                "bodies are not handed on"
            );
            let mut beyond = TcpStream::connect(&server).unwrap();
            let head = [vec![request(&first)], headers, vec!["Connection: close".to_owned()]].concat();
            write!(beyond, "{}\r\n\r\n", head.join("\r\n")).unwrap();
            let mut answered = Vec::new();
            beyond.read_to_end(&mut answered).unwrap();
            // Byte by byte, so that an image stays one.
            let answered: String = answered.into_iter().map(char::from).collect();
            let answered: Vec<_> = answer(&first, answered)
                .chars()
                .map(|byte| u8::try_from(byte).unwrap())
                .collect();
            let _ = stream.write_all(&answered);
        }
    });
    address
}

/// The script for deployed stages is right about a pixel that is right, and finds one that is gone.
#[test]
fn verify_asks_what_a_pixel_must_answer() {
    setup::require(&["curl"]);
    let mut serving = Serving::start();
    let (right, said) = serving.verify(&serving.address, true);
    assert!(right && said.ends_with(" passed, 0 failed\n"), "{said}");
    let passed = |what: &str| said.lines().any(|line| line == format!("ok      {what}"));
    assert!(
        passed("the event is in the index") && passed("its label is the whole query"),
        "{said}"
    );
    serving.process.kill().unwrap();
    serving.process.wait().unwrap();
    let (right, said) = serving.verify(&serving.address, false);
    assert!(!right, "{said}");
}

/// A pixel that is wrong in one thing is told that thing, and no other.
#[test]
fn verify_names_the_one_thing_that_is_wrong() {
    type Wrong = (&'static [&'static str], fn(&str) -> String, fn(&str, String) -> String);
    setup::require(&["curl"]);
    let serving = Serving::start();
    let cases: [Wrong; 8] = [
        (&["GET /pixel.png: Content-Type"], as_it_is, |asked, answer| {
            let png = asked.starts_with("GET /prod/pixel.png ");
            let kind = if png { "image/gif" } else { "image/png" };
            answer.replace("image/png", kind)
        }),
        (&["Cache-Control"], as_it_is, |_, answer| {
            answer.replace("no-store, no-cache, max-age=0, private", "max-age=3600")
        }),
        (&["Cross-Origin-Resource-Policy"], as_it_is, |_, answer| {
            answer.replace("cross-origin", "same-origin")
        }),
        (&["X-Pixel"], as_it_is, |_, answer| {
            answer.replace("accepted", "ignored")
        }),
        (&["image"], as_it_is, |_, answer| answer.replace("GIF89a", "GIF87a")),
        (&["HEAD: status"], as_it_is, |asked, answer| {
            if asked.starts_with("HEAD") {
                answer.replace("200 OK", "405 Method Not Allowed")
            } else {
                answer
            }
        }),
        (
            &["the event is in the index", "its label is the whole query"],
            |asked| asked.replace("/verify-", "/nobody-"),
            |_, answer| answer,
        ),
        (
            &["its label is the whole query"],
            |asked| asked.replace("%2B", "+"),
            |_, answer| answer,
        ),
    ];
    for (names, request, answer) in cases {
        let address = spoiling(&serving.address, request, answer);
        let (right, said) = serving.verify(&address, true);
        let failed: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("FAILED  ")).collect();
        assert!(!right && !failed.is_empty(), "{names:?}: {said}");
        let named = |line: &&&str| names.iter().any(|name| line.contains(&format!("{name}: ")));
        assert_eq!(failed.iter().filter(named).count(), failed.len(), "{names:?}: {said}");
    }
}

fn as_it_is(first: &str) -> String {
    first.to_owned()
}

/// Of a queue it asks what a queue can answer, and finds an answer that is none.
#[test]
fn verify_asks_of_a_queue_what_it_can_answer() {
    setup::require(&["curl"]);
    let cases = [
        (
            "200 OK",
            "image/svg+xml",
            "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            true,
        ),
        ("200 OK", "image/svg+xml", "{\"message\": null}", false),
        ("302 Found", "text/plain", "", false),
    ];
    for (status, kind, body, right) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nCache-Control: no-store, no-cache, max-age=0, private\r\nX-Pixel: accepted\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok);
                let head = lines.next().is_some_and(|line| line.starts_with("HEAD"));
                lines.find(String::is_empty);
                let body = if head { "" } else { body };
                let _ = write!(stream, "{answer}{body}");
            }
        });
        let mut verify = Command::new(Path::new(ROOT).join("infra/verify.sh"));
        let output = verify.arg(format!("http://{address}/prod")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), right, "{status}, {body}: {said}");
    }
}

/// `deploy.sh` says to the AWS command line what the README says by hand; here to one that only writes down what it is told.
#[test]
fn deploy_packages_and_deploys() {
    let folder = tempfile::tempdir().unwrap();
    let aws = folder.path().join("aws");
    let log = folder.path().join("log");
    std::fs::write(&aws, format!("#!/bin/sh\necho \"$*\" >> {}\n", log.display())).unwrap();
    std::fs::set_permissions(&aws, Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let status = Command::new(Path::new(ROOT).join("infra/deploy.sh"))
        .args(["infra/pixel.yaml", "pixel", "Endpoint=https://search"])
        .env("BUCKET", "artefacts")
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let said = std::fs::read_to_string(log).unwrap();
    let calls: Vec<_> = said.lines().collect();
    assert_eq!(calls.len(), 3, "{said}");
    assert!(
        calls[0].starts_with("cloudformation package --template-file infra/pixel.yaml --s3-bucket artefacts"),
        "{said}"
    );
    let deploy = "--stack-name pixel --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset --parameter-overrides Endpoint=https://search";
    assert!(
        calls[1].starts_with("cloudformation deploy ") && calls[1].ends_with(deploy),
        "{said}"
    );
    assert!(
        calls[2].starts_with("cloudformation describe-stacks --stack-name pixel"),
        "{said}"
    );
}

/// What `tests/infra/check.py` makes of a template with these parameters.
pub fn resolve(template: &str, parameters: &[&str]) -> Value {
    let mut arguments = vec!["resolve".into(), Path::new(ROOT).join("infra").join(template)];
    arguments.extend(parameters.iter().map(PathBuf::from));
    serde_json::from_str(&check(&arguments).unwrap()).unwrap()
}

/// What the checks print; an `Err` when they find something.
fn check(arguments: &[PathBuf]) -> Result<String, String> {
    python_says("check.py", arguments)
}

fn python_says(script: &str, arguments: &[PathBuf]) -> Result<String, String> {
    let script = Path::new(ROOT).join("tests/infra").join(script);
    let output = Command::new(python())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said + &String::from_utf8_lossy(&output.stderr))
    }
}

/// What the program says of itself, in a file.
fn facts() -> (tempfile::TempDir, PathBuf) {
    let resources: BTreeMap<_, _> = RESOURCES
        .iter()
        .map(|resource| (resource.path, resource.content.media_type()))
        .collect();
    let headers = |pixel: Pixel| -> Map<String, Value> {
        // API Gateway cannot answer 304, so a tag would be of no use.
        let constant = pixel.headers.iter().filter(|(name, _)| *name != "ETag");
        constant
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect()
    };
    let mut counts = Counts::default();
    for (name, _) in Counts::default().iter() {
        assert!(counts.add_named(name));
    }
    let mut line = json!({});
    counts.embed(&mut line, "pixel", 0);
    let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
    let metrics: Vec<_> = metrics.iter().map(|metric| &metric["Name"]).collect();
    let handlers = Role::ALL.map(|(name, _)| name);
    let facts = json!({
        "variables": VARIABLES.map(|variable| variable.name),
        "handlers": handlers,
        "namespace": NAMESPACE,
        "metrics": metrics,
        "resources": resources,
        "headers": headers(Pixel::new(Status::Ok, Image::Gif, "accepted")),
        "script": headers(Pixel::script(None, answer::explain_ignored(Ignored::Script))),
        "opt_out_cookie": OPT_OUT_COOKIE,
        "template": PASSTHROUGH,
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facts.json");
    std::fs::write(&file, facts.to_string()).unwrap();
    (folder, file)
}

/// A Python that has cfn-lint and the other checkers; made once, and kept between runs.
fn python() -> PathBuf {
    setup::require(&["python3"]);
    let folder = setup::cache_dir().join("infra");
    let _one_makes_it = setup::lock(&folder.with_added_extension("lock"));
    let marker = folder.join("complete");
    if std::fs::read_to_string(&marker).ok().as_deref() != Some(REQUIREMENTS) {
        // It may be there in part, or with other versions.
        let _ = std::fs::remove_dir_all(&folder);
        if let Err(why) = make_environment(&folder) {
            panic!("no Python with the checkers of tests/infra/requirements.txt: {why}");
        }
        std::fs::write(&marker, REQUIREMENTS).unwrap();
    }
    folder.join("bin/python")
}

fn make_environment(folder: &Path) -> Result<(), String> {
    let folder = folder.to_str().ok_or("the cache folder's name is not UTF-8")?;
    let made = setup::run(&["python3"], &["-m", "venv", folder]);
    // Debian keeps a part of `venv` in a package of its own.
    made.or_else(|_| {
        setup::complete("python3")?;
        setup::run(&["python3"], &["-m", "venv", folder])
    })?;
    let requirements = format!("{folder}/requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS).map_err(|error| error.to_string())?;
    let quietly = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let from = ["--only-binary", ":all:", "-r", &requirements];
    setup::run(
        &[&format!("{folder}/bin/python")],
        &[quietly.as_slice(), &from].concat(),
    )
}
