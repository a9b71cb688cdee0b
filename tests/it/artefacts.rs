//! The function's two artefacts, each built with its own feature alone, as `infra/build.sh` builds them (but without optimizing):
//! each runs the roles that it is for, and says of the others where they are.

use std::path::Path;
use std::process::Command;

use pixel::pixel::GIF;
use pixel::request::Ingress;
use pixel::stage::gateway::{Arrived, http_answer, payload};
use serde_json::Value;

use crate::lambda_rig::{InitFailure, Rig, RigOptions};
use crate::setup;

/// Builds `bootstrap` with one feature into a file, in a folder of its own: the tests run the one that has every role.
fn build(feature: &str, file: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Path::new(env!("CARGO_BIN_EXE_bootstrap")).parent().unwrap();
    let folder = built.with_file_name("artefacts");
    // Two at a time would take each other's program.
    let _one_at_a_time = setup::lock(&folder.with_added_extension("lock"));
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--offline", "--bin", "bootstrap"])
        .args(["--no-default-features", "--features", feature])
        .args(["--config", "profile.dev.debug=false"])
        .args(["--config", "profile.dev.incremental=false"])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::copy(folder.join("debug/bootstrap"), file).unwrap();
}

fn get(path: &str) -> Vec<u8> {
    payload(Ingress::Rest, &request(path)).unwrap()
}

fn request(path: &str) -> Arrived {
    Arrived {
        method: "GET".to_owned(),
        path: path.to_owned(),
        query: String::new(),
        headers: vec![("Host".to_owned(), "pixel.example".to_owned())],
        peer: Some([203, 0, 113, 9].into()),
        id: "JKJaXmPLvHcESHA=".to_owned(),
        time: chrono::DateTime::from_timestamp_millis(1_769_903_999_999).unwrap(),
        body: None,
    }
}

/// What a program says to Lambda of a handler; none when it starts.
async fn refusal(program: &Path, handler: &str) -> Option<String> {
    let rig = Rig::start(RigOptions::new(program).handler(handler)).await;
    match rig.init_error()? {
        InitFailure::Reported(report) => {
            let report: Value = serde_json::from_slice(&report).unwrap();
            Some(report["errorMessage"].as_str().unwrap().to_owned())
        }
        failure => panic!("{handler}: {failure:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_artefact_has_its_own_roles_and_names_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (hits, care) = (folder.path().join("hits"), folder.path().join("care"));
    build("capture", &hits);
    build("care", &care);
    for (program, own, foreign, other) in [
        (
            &hits,
            &["capture", "index"][..],
            &["setup", "prune", "manage"][..],
            "care.zip",
        ),
        (
            &care,
            &["setup", "prune", "manage"],
            &["capture", "index"],
            "bootstrap.zip",
        ),
    ] {
        for handler in own {
            assert_eq!(refusal(program, handler).await, None, "{handler}");
        }
        for handler in foreign {
            let said = refusal(program, handler).await;
            let expected =
                format!("the handler `{handler}` is not in this artefact; give the function `{other}` as its code");
            assert_eq!(said.as_deref(), Some(expected.as_str()));
        }
    }
    let rig = Rig::start(RigOptions::new(&hits)).await;
    let reply = rig.invoke(get("/pixel.gif")).await.reply_json();
    let answer = http_answer(Ingress::Rest, &request("/pixel.gif"), &reply.to_string(), None);
    assert_eq!((answer.status, answer.body.as_slice()), (200, GIF.as_slice()));
    let rig = Rig::start(RigOptions::new(&care).handler("manage")).await;
    let reply = rig.invoke(get("/v1/api/status")).await.reply_json();
    // It has no store here, and says so.
    assert_eq!(reply["statusCode"], 503, "{reply}");
    assert!(reply["body"].as_str().unwrap().contains("Store unavailable"), "{reply}");
}
