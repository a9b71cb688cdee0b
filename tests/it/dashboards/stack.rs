//! The import in a stack: the function's role `setup`, asked as CloudFormation asks, beside a real index.

use serde_json::Value;

use super::Index;
use super::stub::{Door, Fault, Program, Stub, USER};
use crate::function::care::{answer, callback, options, request_with, rig};
use crate::support::lambda_rig::Rig;
use crate::support::matrix::block_on;
use crate::support::servers::Server;
use crate::support::small_server::SmallServer;

/// A stack's request and the answer that CloudFormation gets.
async fn asked(rig: &Rig, callback: &SmallServer, kind: &str, properties: &[(&str, &str)]) -> Value {
    rig.invoke(request_with(kind, callback, None, properties)).await;
    answer(callback, kind)
}

fn dashboards(answer: &Value) -> &str {
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    answer["Data"]["Dashboards"].as_str().expect("it is told")
}

#[test]
fn a_stack_imports_updates_and_keeps_them() {
    let Some(index) = Index::new(Server::OpenSearch2, "stack") else {
        return;
    };
    for (door, user, prefix) in [
        (Door::Open, None, "/_dashboards"),
        (Door::Cookie, Some(USER), "/_dashboards"),
        // As a domain has it: on the same host, so the same signature.
        (Door::Signed, None, "/_dashboards"),
    ] {
        let stub = Stub::start(Program::OpenSearchDashboards2, door, prefix);
        let url = format!("{}{prefix}", stub.url());
        let mut properties = vec![("DashboardsUrl", url.as_str()), ("DashboardsTenant", "global")];
        if let Some((name, password)) = user {
            properties.extend([("DashboardsUser", name), ("DashboardsPassword", password)]);
        }
        let callback = callback();
        block_on(async {
            let mut function = options("setup", &index.url());
            if door == Door::Signed {
                let signer = [
                    ("PIXEL_AUTH", "es"),
                    ("AWS_REGION", "eu-west-1"),
                    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
                    ("AWS_SECRET_ACCESS_KEY", "secret"),
                    ("AWS_SESSION_TOKEN", ""),
                ];
                function = signer
                    .into_iter()
                    .fold(function, |function, (name, value)| function.env(name, value));
            }
            let rig = rig(function).await;
            let created = asked(&rig, &callback, "Create", &properties).await;
            let said = dashboards(&created);
            assert!(
                said.starts_with("created ") && said.contains("OpenSearch Dashboards 2.19.4"),
                "{said}"
            );
            let objects = stub.objects();
            let pattern = ["global", "index-pattern", "pixel-events"].map(str::to_owned);
            let pattern = &objects[&pattern.into()];
            assert_eq!(pattern["attributes"]["title"], format!("{}*", index.name), "{door:?}");
            let again = asked(&rig, &callback, "Update", &properties).await;
            assert!(dashboards(&again).starts_with("unchanged"), "{again}");

            // Somebody has made them theirs: the stack's update succeeds, says so, and leaves them.
            stub.change(|objects| {
                let object = objects.values_mut().find(|object| object["type"] == "dashboard");
                object.expect("there is one")["attributes"]["title"] = "Mine".into();
            });
            let mine = stub.objects();
            let kept = asked(&rig, &callback, "Update", &properties).await;
            let said = dashboards(&kept);
            assert!(
                said.contains("1 of them kept") && said.contains("dashboard `pixel-"),
                "{said}"
            );
            assert_eq!(stub.objects(), mine, "{door:?}");
            let replacing = [&properties[..], &[("DashboardsOverwrite", "yes")]].concat();
            let replaced = asked(&rig, &callback, "Update", &replacing).await;
            assert!(dashboards(&replaced).starts_with("updated"), "{replaced}");
            assert_eq!(stub.objects(), objects, "{door:?}");

            stub.came();
            let deleted = asked(&rig, &callback, "Delete", &properties).await;
            assert_eq!(deleted["Status"], "SUCCESS", "{deleted}");
            assert!(
                stub.came().is_empty() && stub.objects() == objects,
                "{door:?}: Delete keeps them"
            );
            let log = rig.log_lines();
            let secret = |line: &String| line.contains(USER.1) || line.contains("se%3A");
            assert!(!log.iter().any(secret), "{log:#?}");
        });
    }
}

#[test]
fn a_stack_that_cannot_import_says_which_call_failed_and_why() {
    let Some(index) = Index::new(Server::OpenSearch2, "stack-failure") else {
        return;
    };
    let stub = |door, fault| {
        let stub = Stub::start(Program::OpenSearchDashboards2, door, "/_dashboards");
        stub.fault(fault);
        stub
    };
    let cases = [
        (stub(Door::Page, Fault::None), &[][..], "it wants a login"),
        (stub(Door::Signed, Fault::None), &[], "it wants a login"),
        (stub(Door::Open, Fault::Crash), &[], "status 500"),
        (stub(Door::Open, Fault::NotReady), &[], "not ready yet"),
        (stub(Door::Open, Fault::TooLarge), &[], "no file of this size"),
        (
            stub(Door::Basic, Fault::None),
            &[("DashboardsUser", "admin"), ("DashboardsPassword", "n0t-this")],
            "user and password are not accepted",
        ),
        (
            stub(Door::Open, Fault::None),
            &[("DashboardsUser", "admin")],
            "go together",
        ),
        (
            stub(Door::Open, Fault::None),
            &[("DashboardsOverwrite", "perhaps")],
            "`yes` or `no`",
        ),
    ];
    let callback = callback();
    block_on(async {
        let rig = rig(options("setup", &index.url())).await;
        for (stub, more, words) in cases {
            let url = format!("{}/_dashboards", stub.url());
            let properties = [&[("DashboardsUrl", url.as_str())], more].concat();
            let failed = asked(&rig, &callback, "Create", &properties).await;
            let reason = failed["Reason"].as_str().expect("there is one");
            assert_eq!(failed["Status"], "FAILED", "{words}: {failed}");
            assert!(
                reason.contains(words) && !reason.contains("n0t-this"),
                "{words}: {reason}"
            );
            let about_properties = reason.starts_with("the propert");
            let named =
                reason.starts_with("the index is ready, the dashboards are not") && reason.contains(&stub.url());
            assert!(about_properties || named, "{words}: {reason}");
            assert!(stub.objects().is_empty(), "{words}");
        }
        let nowhere = [("DashboardsUrl", "pixel")];
        let failed = asked(&rig, &callback, "Create", &nowhere).await;
        let reason = failed["Reason"].as_str().unwrap_or_default();
        assert!(reason.contains("`DashboardsUrl` is not an address"), "{failed}");
    });
}
