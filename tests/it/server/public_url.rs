//! The URL below which visitors reach the pixel: `--url`, else `PIXEL_PUBLIC_URL`, else the request or the listen address.

use std::net::SocketAddr;
use std::process::Output;

use serde_json::Value;

use crate::support::serving::{Serve, pixel, serve};

const PUBLIC: &str = "https://stats.example.org/prod";
const KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";

fn told(serve: Serve) -> String {
    serve.start().stderr.all().join("\n")
}

#[test]
fn the_lines_at_the_start_obey_it() {
    let by_variable = || serve().variable("PIXEL_PUBLIC_URL", PUBLIC);
    for (serve, base) in [
        (by_variable(), PUBLIC),
        (
            by_variable().argument("--url=https://other.example/"),
            "https://other.example",
        ),
    ] {
        let said = told(serve);
        for line in [
            format!("pixel   {base}/pixel.gif"),
            format!("paste   <img src=\"{base}/pixel.gif\""),
            format!("page    {base}/"),
        ] {
            assert!(said.contains(&line), "{line} in {said}");
        }
        assert!(!said.contains("note    set `PIXEL_PUBLIC_URL`"), "{said}");
    }
    let everywhere: SocketAddr = "0.0.0.0:0".parse().expect("an address");
    let said = told(serve().listen(everywhere));
    assert!(said.contains("note    set `PIXEL_PUBLIC_URL`"), "{said}");
    assert!(!said.contains("http://0.0.0.0"), "{said}");
    assert!(said.contains("paste   <img src=\"http://127.0.0.1:"), "{said}");
    assert!(!told(serve()).contains("note    set `PIXEL_PUBLIC_URL`"));
}

#[test]
fn the_interface_tells_it() {
    let status = |serve: Serve| -> Value {
        let served = serve.start();
        serde_json::from_slice(&served.get("/v1/api/status").body).expect("JSON")
    };
    let by_variable = status(serve().variable("PIXEL_PUBLIC_URL", PUBLIC));
    assert_eq!(by_variable["public_url"], PUBLIC);
    let by_option = status(serve().argument("--url").argument("https://other.example"));
    assert_eq!(by_option["public_url"], "https://other.example");
    let by_request = status(serve());
    assert!(
        by_request["public_url"].as_str().expect("a URL").starts_with("http://"),
        "{by_request}"
    );
}

#[test]
fn snippets_and_codes_obey_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str], public: Option<&str>| -> Output {
        let mut command = pixel(folder.path());
        command.env("PIXEL_CODE_KEYS", KEYS).args(arguments);
        command.envs(public.map(|url| ("PIXEL_PUBLIC_URL", url)));
        command.output().expect("pixel starts")
    };
    let printed = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let url = ["--url", "https://other.example"];
    for command in [&["snippet", "html"][..], &["code", "new", "--campaign", "spring"]] {
        assert!(
            printed(&run(command, Some(PUBLIC))).contains(&format!("{PUBLIC}/pixel")),
            "{command:?}"
        );
        let both = printed(&run(&[command, &url].concat(), Some(PUBLIC)));
        assert!(both.contains("https://other.example/pixel"), "{both}");
    }
    let code = printed(&run(&["code", "new"], None));
    assert!(!code.contains("://"), "{code}");
    let snippet = run(&["snippet", "html"], None);
    assert!(printed(&snippet).contains("http://127.0.0.1:8080/pixel"));
    assert!(String::from_utf8_lossy(&snippet.stderr).contains("`PIXEL_PUBLIC_URL`"));
    let wrong = run(&["snippet", "html"], Some("stats.example"));
    assert_eq!(wrong.status.code(), Some(2));
}
