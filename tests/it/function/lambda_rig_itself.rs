//! The execution environment of the tests refuses what Lambda refuses: tried with a shell as the function.

use std::time::Duration;

use crate::support::lambda_rig::{InitFailure, InvokeResult, PAYLOAD_LIMIT, Rig, RigOptions};

/// What the scripts do, by `curl`. Each answer's status is a line of the log.
const PRELUDE: &str = r#"
    api=http://$AWS_LAMBDA_RUNTIME_API
    invocation=$api/2018-06-01/runtime/invocation
    next() {
        headers=$(curl -sS -D - -o /dev/null "$invocation/next" | tr -d '\r')
        id=$(echo "$headers" | sed -n 's/^lambda-runtime-aws-request-id: //p')
        mark=$(echo "$headers" | sed -n 's/^lambda-runtime-invocation-id: //p')
    }
    post() {
        curl -sS -o /dev/null -w '%{http_code}\n' "$@"
    }
    reply() {
        post -H "lambda-runtime-invocation-id: ${2-$mark}" --data-binary @- "$invocation/${1-$id}/response"
    }
    register() {
        post -H "Lambda-Extension-Name: $1" -d "{\"events\":[\"$2\"]}" \
            "$api/2020-01-01/extension/register"
    }
    forever() {
        exec tail -f /dev/null
    }
"#;

/// A function that is this script.
fn shell(script: &str) -> RigOptions {
    crate::support::setup::require(&["curl"]);
    RigOptions::new("sh").arg("-c").arg(format!("{PRELUDE}\n{script}"))
}

/// A reply of so many bytes: what the caller has, the statuses, the refusals.
async fn reply_of(bytes: usize) -> (InvokeResult, Vec<String>, Vec<String>) {
    let rig = Rig::start(shell(&format!("next; head -c {bytes} /dev/zero | reply; next"))).await;
    assert_eq!(rig.init_error(), None);
    let invocation = rig.invoke("{}").await;
    (invocation.result, rig.log_lines(), rig.refusals())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_above_the_limit_is_refused() {
    let (result, log, refusals) = reply_of(PAYLOAD_LIMIT).await;
    assert_eq!(result, InvokeResult::Reply(vec![0; PAYLOAD_LIMIT]));
    assert_eq!((log, refusals), (vec!["202".to_owned()], Vec::new()));

    let (result, log, refusals) = reply_of(PAYLOAD_LIMIT + 1).await;
    assert_eq!(result, InvokeResult::ResponseTooLarge);
    assert_eq!(log, ["413"]);
    assert!(
        refusals.len() == 1 && refusals[0].ends_with("413 RequestEntityTooLarge"),
        "{refusals:?}"
    );
}

fn kinds(rig: &Rig) -> Vec<String> {
    let kind = |refusal: &String| refusal.rsplit(' ').next().unwrap_or_default().to_owned();
    rig.refusals().iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_reply_to_the_present_event_counts() {
    let script = r#"next
        other=00000000-0000-4000-8000-000000000000
        echo another | reply $other
        echo another | reply $other 1/$other
        echo stale | reply "$id" "0/$id"
        echo first | reply
        echo second | reply
        next"#;
    let rig = Rig::start(shell(script)).await;
    let invocation = rig.invoke("{}").await;
    assert_eq!(invocation.result, InvokeResult::Reply(b"first\n".to_vec()));
    assert_eq!(rig.log_lines(), ["400", "400", "400", "202", "403"]);
    let expected = [
        "InvalidInvocationID",
        "InvalidRequestID",
        "InvalidInvocationID",
        "InvalidStateTransition",
    ];
    assert_eq!(kinds(&rig), expected);
    assert_eq!(rig.cold_starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_event_is_not_given_before_the_reply() {
    let script = r#"next; post -X GET "$invocation/next"; echo late | reply; next"#;
    let rig = Rig::start(shell(script)).await;
    let invocation = rig.invoke("{}").await;
    assert_eq!(invocation.result, InvokeResult::Reply(b"late\n".to_vec()));
    assert_eq!(rig.log_lines(), ["403", "202"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_takes_too_long_or_fails_is_an_error() {
    let short = Duration::from_millis(300);
    let rig = Rig::start(shell("forever").init_timeout(short).timeout(short)).await;
    assert_eq!(rig.init_error(), Some(InitFailure::TimedOut));
    assert_eq!((rig.init_durations().len(), rig.child_pid()), (0, None));
    // The next invocation starts another, within its own time.
    let invocation = rig.invoke("{}").await;
    assert_eq!(invocation.result, InvokeResult::InitError(InitFailure::TimedOut));
    assert!(
        invocation.billed >= short && invocation.reply_time.is_none(),
        "{invocation:?}"
    );
    assert_eq!(rig.cold_starts(), 2);

    let rig = Rig::start(shell("exit 3")).await;
    assert_eq!(rig.init_error(), Some(InitFailure::Exited(Some(3))));
    let script = r#"post -d broken "$api/2018-06-01/runtime/init/error"; forever"#;
    let rig = Rig::start(shell(script)).await;
    assert_eq!(rig.init_error(), Some(InitFailure::Reported(b"broken".to_vec())));
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_register_before_the_first_event_and_not_for_the_end() {
    let script = "register pixel SHUTDOWN; register '' INVOKE
        next; register pixel INVOKE; echo done | reply; next";
    let rig = Rig::start(shell(script)).await;
    assert_eq!(rig.init_error(), None);
    assert_eq!(rig.invoke("{}").await.result, InvokeResult::Reply(b"done\n".to_vec()));
    assert_eq!(rig.log_lines(), ["403", "403", "403", "202"]);
    let expected = ["InvalidEventType", "InvalidExtensionName", "RegistrationClosed"];
    assert_eq!(kinds(&rig), expected.map(|kind| format!("Extension.{kind}")));
    assert!(rig.extensions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_not_done_at_its_deadline_is_killed() {
    let time = Duration::from_secs(3);
    for (script, reply) in [
        ("next; forever", None),
        ("next; echo done | reply; forever", Some(b"done\n".to_vec())),
    ] {
        let rig = Rig::start(shell(script).timeout(time)).await;
        assert_eq!(rig.init_error(), None, "{script}");
        let invocation = rig.invoke("{}").await;
        assert_eq!(invocation.result, InvokeResult::TimedOut { reply }, "{script}");
        assert_eq!((invocation.billed, rig.child_pid()), (time, None), "{script}");
    }
}
