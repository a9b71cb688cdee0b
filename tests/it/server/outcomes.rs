//! What the header `X-Pixel` says is what became of the hit, whatever the server stands in for.

use pixel::hit::request::Ingress;
use serde_json::Value;

use crate::support::serving::{request, run, send, serve};

/// What is asked for with which headers, under which variables, and what is answered.
type Case = (
    &'static str,
    &'static [(&'static str, &'static [u8])],
    &'static [(&'static str, &'static str)],
    &'static str,
);

#[test]
fn the_answer_says_of_each_hit_what_became_of_it() {
    let cases: [Case; 5] = [
        ("/pixel.gif", &[], &[], "accepted"),
        (
            "/pixel.gif",
            &[("Cookie", b"a=b; pixel-opt-out=1")],
            &[],
            "ignored; reason=opted_out",
        ),
        (
            "/pixel/mine.gif",
            &[],
            &[("PIXEL_PRIVACY_OPT_OUT", "mine")],
            "ignored; reason=opted_out",
        ),
        (
            "/pixel.gif",
            &[("Sec-GPC", b"1")],
            &[("PIXEL_PRIVACY_SIGNAL", "ignore")],
            "ignored; reason=privacy_signal",
        ),
        (
            "/pixel.gif",
            &[],
            &[("PIXEL_PRIVACY_RECORD", "off")],
            "ignored; reason=recording_off",
        ),
    ];
    for ingress in Ingress::ALL {
        for (target, headers, variables, expected) in cases {
            let mut serving = serve()
                .argument(&format!("--ingress={ingress}"))
                .argument("--access-log=access.ndjson");
            for (name, value) in variables {
                serving = serving.variable(name, value);
            }
            let served = serving.start();
            for method in ["GET", "HEAD"] {
                let reply = send(served.address, &request(method, target, headers));
                let told = (reply.status, reply.header("x-pixel"));
                assert_eq!(told, (200, Some(expected)), "{ingress} {method} {target} {variables:?}");
                assert_eq!(reply.body.is_empty(), method == "HEAD");
            }
            let stored = if expected == "accepted" { 2 } else { 0 };
            assert_eq!(served.documents().len(), stored, "{ingress} {target}");
            served.signal("TERM");
            let (_, serving) = served.ended();
            let arguments = ["audit", "--from", "2020-01-01", "--to", "2100-01-01", "--json"];
            let log = ["--access-log", "access.ndjson", "--destination", "sqlite:pixel.db"];
            let audit = run(serving.folder(), &[&arguments[..], &log].concat());
            let report: Value = serde_json::from_slice(&audit.stdout).expect("JSON");
            assert_eq!(report["unaccounted"], 0, "{ingress} {target}: {report}");
            assert_eq!(report["answered"], stored, "{ingress} {target}: {report}");
        }
    }
}
