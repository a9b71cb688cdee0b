//! The import, against a stub of both programs, and once through the command line beside a real index.

use std::process::{Command, Output};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use pixel::cli::saved_objects::{INDEX_PATTERN, objects};
use pixel::client::http::http_client;
use pixel::config::Timing;
use pixel::destination::{Auth, Destination, Secret, Service};
use pixel::setup::dashboards::session::{ImportOptions, OnConflict, import};
use pixel::setup::dashboards::{Place, place};
use pixel::setup::run::{Step, StepResult};
use serde_json::{Value, json};

use super::stub::{Came, Door, Fault, Objects, Program, Stub, USER, program_fields};
use super::{Index, specification};
use crate::support::servers::Server;

fn ours() -> Vec<Value> {
    objects(INDEX_PATTERN).expect("the source is sound")
}

fn basic() -> Auth {
    Auth::Basic {
        user: USER.0.to_owned(),
        password: Secret::new(USER.1),
    }
}

fn sigv4() -> Auth {
    Auth::SigV4 {
        service: Service::Es,
        region: "eu-west-1".to_owned(),
    }
}

fn options(stub: &Stub, auth: Auth) -> ImportOptions {
    ImportOptions {
        base: stub.url(),
        auth,
        withheld: false,
        tenant: None,
        space: None,
        differing: OnConflict::Refuse,
        write: true,
    }
}

fn run(options: &ImportOptions) -> Result<StepResult, String> {
    run_step(options).map(|step| step.done)
}

fn run_step(options: &ImportOptions) -> Result<Step, String> {
    let http = http_client(None, &Timing::default()).expect("a client");
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    let credentials = SharedCredentialsProvider::new(credentials);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let step = runtime.block_on(import(&http, Some(&credentials), options, &ours()));
    step.map_err(|error| error.to_string())
}

/// Imports and leaves it there, then finds nothing to do.
fn check_import(program: Program, door: Door, auth: Auth, prefix: &'static str) {
    let what = format!("{program:?}, {door:?}, `{prefix}`");
    let stub = Stub::start(program, door, prefix);
    let mut options = options(&stub, auth);
    options.write = false;
    assert_eq!(run(&options), Ok(StepResult::Created), "{what}");
    assert!(stub.objects().is_empty(), "{what}: a dry run writes nothing");
    options.write = true;
    assert_eq!(run(&options), Ok(StepResult::Created), "{what}");
    assert_eq!(stub.objects().len(), ours().len(), "{what}");
    stub.came();
    assert_eq!(run(&options), Ok(StepResult::Unchanged), "{what}");
    let again = stub.came();
    assert!(
        again.iter().all(|came| !came.path.contains("_import")),
        "{what}: nothing is sent"
    );
}

#[test]
fn everything_is_imported_once() {
    use Program::{Kibana7, Kibana8, OpenSearchDashboards2};
    let cases = [
        (OpenSearchDashboards2, Door::Open, Auth::None, ""),
        (OpenSearchDashboards2, Door::Basic, basic(), ""),
        (OpenSearchDashboards2, Door::Cookie, basic(), ""),
        (OpenSearchDashboards2, Door::Cookie, basic(), "/_dashboards"),
        (OpenSearchDashboards2, Door::Signed, sigv4(), "/_dashboards"),
        (Kibana7, Door::Open, Auth::None, "/_plugin/kibana"),
        (Kibana7, Door::Signed, sigv4(), "/_plugin/kibana"),
        (Kibana8, Door::Basic, basic(), ""),
    ];
    for (program, door, auth, prefix) in cases {
        check_import(program, door, auth, prefix);
    }
}

#[test]
fn tenant_and_space_are_where_it_was_asked_for() {
    for (program, tenant, space, place) in [
        (Program::OpenSearchDashboards2, Some("global"), None, "global"),
        (Program::Kibana8, None, Some("marketing"), "marketing"),
    ] {
        let stub = Stub::start(program, Door::Open, "");
        let mut options = options(&stub, Auth::None);
        options.tenant = tenant.map(Into::into);
        options.space = space.map(Into::into);
        assert_eq!(run(&options), Ok(StepResult::Created), "{place}");
        assert!(
            stub.objects().keys().all(|(where_it_is, ..)| where_it_is == place),
            "{place}"
        );
        let xsrf = |came: &Came| {
            ["osd-xsrf", "kbn-xsrf"]
                .iter()
                .all(|name| came.headers.contains_key(*name))
        };
        assert!(stub.came().iter().all(xsrf), "{place}");
    }
}

/// Something that a person does to the objects, and whether it is theirs to keep.
type Change = (&'static str, bool, fn(&mut Objects));

const CHANGES: [Change; 7] = [
    ("a colour", true, |all| {
        text(
            all,
            "visualization",
            "pixel-overview-events",
            "uiStateJSON",
            ("#0072B2", "#000000"),
        );
    }),
    ("a size", true, |all| {
        text(
            all,
            "visualization",
            "pixel-overview-pages",
            "visState",
            ("\"size\":25", "\"size\":50"),
        );
    }),
    ("a filter", true, |all| {
        let object = one(all, "visualization", "pixel-overview-pages");
        object["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"] =
            json!({"query": {"query": "", "language": "kuery"}}).to_string().into();
    }),
    ("a place", true, |all| {
        text(all, "dashboard", "pixel-health", "panelsJSON", ("\"w\":24", "\"w\":12"));
    }),
    ("a panel", true, |all| {
        one(all, "dashboard", "pixel-health")["references"][0]["id"] = "my-panel".into();
    }),
    ("a column", true, |all| {
        one(all, "search", "pixel-overview-latest")["attributes"]["columns"] = json!(["event.id"]);
    }),
    // The program fills the list of fields by itself.
    ("the fields", false, |all| {
        one(all, "index-pattern", "pixel-events")["attributes"]["fields"] = "[{}]".into();
    }),
];

fn one<'a>(objects: &'a mut Objects, kind: &str, id: &str) -> &'a mut Value {
    objects
        .get_mut(&(String::new(), kind.to_owned(), id.to_owned()))
        .expect("it is there")
}

fn text(objects: &mut Objects, kind: &str, id: &str, attribute: &str, (from, to): (&str, &str)) {
    let attribute = &mut one(objects, kind, id)["attributes"][attribute];
    let changed = attribute.as_str().expect("a text").replace(from, to);
    assert_ne!(*attribute, changed.as_str(), "{id}: {from} is there");
    *attribute = changed.into();
}

#[test]
fn what_a_person_changed_is_kept_unless_it_is_to_be_replaced() {
    for (program, (what, theirs, change)) in [Program::OpenSearchDashboards2, Program::Kibana8]
        .into_iter()
        .flat_map(|program| CHANGES.map(|change| (program, change)))
    {
        let stub = Stub::start(program, Door::Open, "");
        let mut options = options(&stub, Auth::None);
        assert_eq!(run(&options), Ok(StepResult::Created), "{what}");
        stub.change(change);
        // And one is gone.
        stub.change(|objects| {
            drop(objects.remove(&(String::new(), "visualization".to_owned(), "pixel-health-cut".to_owned())));
        });
        let changed = stub.objects();
        if !theirs {
            assert_eq!(run(&options), Ok(StepResult::Updated), "{what}");
            continue;
        }
        let error = run(&options).expect_err(what);
        assert!(
            error.contains("--overwrite") && error.contains("`pixel-"),
            "{what}: {error}"
        );
        assert_eq!(stub.objects(), changed, "{what}: nothing was written");
        options.differing = OnConflict::Keep;
        assert_eq!(
            run(&options),
            Ok(StepResult::Updated),
            "{what}: what is gone comes back"
        );
        assert_eq!(run(&options), Ok(StepResult::Unchanged), "{what}");
        assert_eq!(stub.objects().len(), ours().len(), "{what}");
        options.differing = OnConflict::Replace;
        assert_eq!(run(&options), Ok(StepResult::Updated), "{what}");
        assert_eq!(run(&options), Ok(StepResult::Unchanged), "{what}");
    }
}

#[test]
fn a_failure_says_what_it_is() {
    let osd = |door| Stub::start(Program::OpenSearchDashboards2, door, "");
    let wrong = Auth::Basic {
        user: "admin".to_owned(),
        password: Secret::new("wrong"),
    };
    let cases = [
        (
            osd(Door::Basic),
            wrong.clone(),
            Fault::None,
            "user and password are not accepted",
        ),
        (osd(Door::Cookie), wrong, Fault::None, "Authentication failed"),
        (osd(Door::Cookie), Auth::None, Fault::None, "it wants a login"),
        (osd(Door::Page), basic(), Fault::None, "this is not logged in"),
        (osd(Door::Signed), Auth::None, Fault::None, "it wants a login"),
        (osd(Door::Open), Auth::None, Fault::Forgets, "cannot be found again"),
        (osd(Door::Open), Auth::None, Fault::Crash, "status 500"),
        (osd(Door::Open), Auth::None, Fault::TooLarge, "no file of this size"),
        (osd(Door::Open), Auth::None, Fault::NotReady, "not ready yet, try again"),
        (
            osd(Door::Open),
            Auth::None,
            Fault::Race,
            "another object has this id; `--overwrite` replaces it",
        ),
        (
            Stub::start(Program::Kibana76, Door::Open, ""),
            Auth::None,
            Fault::None,
            "too old for these objects",
        ),
        (
            Stub::start(Program::Kibana7, Door::Open, "/elsewhere"),
            Auth::None,
            Fault::None,
            "neither OpenSearch Dashboards nor Kibana",
        ),
    ];
    for (stub, auth, fault, expected) in cases {
        stub.fault(fault);
        let error = run(&options(&stub, auth)).expect_err(expected);
        assert!(
            error.contains(expected) && error.contains(&stub.url()),
            "{expected}: {error}"
        );
        assert!(
            !error.contains("wrong") && !error.contains(USER.1),
            "a password shows: {error}"
        );
        assert!(stub.objects().len() <= 1, "{expected}: nothing is written");
    }
}

/// What an older program does not know is named, the rest is there, and another run says the same.
#[test]
fn a_program_that_lacks_a_kind_of_object_gets_the_others() {
    for (kind, others_stay) in [("visualization", true), ("search", false)] {
        let of_kind = ours().iter().filter(|object| object["type"] == kind).count();
        let stub = Stub::start(Program::OpenSearchDashboards2, Door::Open, "");
        stub.fault(Fault::Lacks(kind));
        let options = options(&stub, Auth::None);
        for round in 1..=2 {
            let error = run(&options).expect_err(kind);
            assert!(
                error.contains("not everything was imported"),
                "{kind}, {round}: {error}"
            );
            assert!(error.contains(&stub.url()), "{kind}, {round}: {error}");
            if others_stay {
                assert!(
                    error.contains("this program knows no such objects"),
                    "{kind}, {round}: {error}"
                );
                assert!(
                    error.contains(&format!("and {} more", of_kind - 10)),
                    "{kind}, {round}: {error}"
                );
                assert_eq!(stub.objects().len(), ours().len() - of_kind, "{kind}, {round}");
            } else {
                // Dashboards refer to it, so there is nothing that could be shown.
                assert!(
                    error.contains("it refers to what is not there"),
                    "{kind}, {round}: {error}"
                );
                assert!(stub.objects().is_empty(), "{kind}, {round}");
            }
            assert!(
                stub.objects().keys().all(|(_, stored, _)| stored != kind),
                "{kind}, {round}"
            );
        }
        // Once it is a newer program, what is missing comes.
        stub.fault(Fault::None);
        let done = if others_stay {
            StepResult::Updated
        } else {
            StepResult::Created
        };
        assert_eq!(run(&options), Ok(done), "{kind}");
        assert_eq!(stub.objects().len(), ours().len(), "{kind}");
    }
}

const META: [&str; 5] = ["_source", "_id", "_type", "_index", "_score"];

fn index_pattern(stub: &Stub) -> Value {
    let key = (String::new(), "index-pattern".to_owned(), "pixel-events".to_owned());
    stub.objects()[&key].clone()
}

fn listed(index_pattern: &Value) -> Vec<Value> {
    serde_json::from_str(index_pattern["attributes"]["fields"].as_str().expect("a text")).expect("a list")
}

/// Later than 3.6, OpenSearch Dashboards draw nothing over a field that is not in the list, and do not fill it.
#[test]
fn an_index_pattern_without_its_fields_is_filled_and_never_unchanged() {
    let stub = Stub::start(Program::OpenSearchDashboards2, Door::Open, "");
    let mut options = options(&stub, Auth::None);
    assert_eq!(run(&options), Ok(StepResult::Created));
    let known = program_fields(&META);
    let names = |fields: &[Value]| fields.iter().map(|field| field["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&listed(&index_pattern(&stub))), names(&known));
    assert_eq!(run(&options), Ok(StepResult::Unchanged));
    let step = run_step(&options).expect("it is asked").subject;
    assert!(
        step.contains(&format!("{} fields in the index pattern", known.len())),
        "{step}"
    );

    let shorter = Value::Array(known[..9].to_vec()).to_string();
    let mut untyped = known.clone();
    let code = untyped.iter_mut().find(|field| field["name"] == "pixel.code");
    code.expect("it is there")["aggregatable"] = false.into();
    let untyped = Value::Array(untyped).to_string();
    for broken in ["[]", "", "no list", &shorter, &untyped] {
        stub.change(|all| {
            let object = one(all, "index-pattern", "pixel-events");
            object["attributes"]["fields"] = broken.into();
            object["attributes"]["fieldFormatMap"] = "{}".into();
        });
        options.write = false;
        let step = run_step(&options).expect("it is asked");
        assert_eq!(step.done, StepResult::Updated, "{broken}");
        assert!(
            step.subject.contains("which were not in it"),
            "{broken}: {}",
            step.subject
        );
        assert_eq!(
            index_pattern(&stub)["attributes"]["fields"],
            broken,
            "a dry run writes nothing"
        );
        options.write = true;
        assert_eq!(run(&options), Ok(StepResult::Updated), "{broken}");
        assert_eq!(names(&listed(&index_pattern(&stub))), names(&known), "{broken}");
        assert_eq!(
            index_pattern(&stub)["attributes"]["fieldFormatMap"],
            "{}",
            "the rest is a person's"
        );
        assert_eq!(run(&options), Ok(StepResult::Unchanged), "{broken}");
    }
    stub.fault(Fault::Forgets);
    stub.change(|all| one(all, "index-pattern", "pixel-events")["attributes"]["fields"] = "[]".into());
    let error = run(&options).expect_err("nothing was written");
    assert!(error.contains("they are not there"), "{error}");
}

#[test]
fn a_list_that_the_program_or_a_person_completed_is_kept() {
    let stub = Stub::start(Program::OpenSearchDashboards2, Door::Open, "");
    let options = options(&stub, Auth::None);
    assert_eq!(run(&options), Ok(StepResult::Created));
    // What *refresh* makes: the program's answer, with how often fields were used, and what people have added.
    let mut refreshed = program_fields(&META);
    for field in &mut refreshed {
        field["count"] = 3.into();
        field["scripted"] = false.into();
    }
    refreshed.reverse();
    refreshed.push(
        json!({"name": "own", "type": "number", "script": "1", "lang": "painless", "scripted": true, "count": 0,
        "searchable": true, "aggregatable": true, "readFromDocValues": false}),
    );
    refreshed.push(
        json!({"name": "elsewhere", "type": "string", "scripted": false, "count": 0, "searchable": true,
        "aggregatable": true, "readFromDocValues": true}),
    );
    let store = |fields: &[Value]| {
        stub.change(|all| {
            let text = Value::Array(fields.to_vec()).to_string();
            one(all, "index-pattern", "pixel-events")["attributes"]["fields"] = text.into();
        });
    };
    store(&refreshed);
    assert_eq!(run(&options), Ok(StepResult::Unchanged));
    // One of ours is missing: it comes back, and nothing else is lost.
    let removed = refreshed
        .iter()
        .position(|field| field["name"] == "pixel.code")
        .expect("it is there");
    refreshed.remove(removed);
    store(&refreshed);
    assert_eq!(run(&options), Ok(StepResult::Updated));
    let fields = listed(&index_pattern(&stub));
    let field = |name: &str| fields.iter().find(|field| field["name"] == name);
    assert!(field("pixel.code").is_some());
    assert_eq!(field("own").map(|field| &field["script"]), Some(&json!("1")));
    assert_eq!(field("visit.class").map(|field| &field["count"]), Some(&json!(3)));
}

#[test]
fn without_an_index_the_list_is_the_one_of_the_file() {
    let stub = Stub::start(Program::OpenSearchDashboards2, Door::Open, "");
    stub.fault(Fault::NoIndex);
    let options = options(&stub, Auth::None);
    let step = run_step(&options).expect("it is imported");
    assert!(
        step.done == StepResult::Created && step.subject.contains("as shipped"),
        "{}",
        step.subject
    );
    assert_eq!(run(&options), Ok(StepResult::Unchanged));
    let mine = ours()[0]["attributes"]["fields"].clone();
    assert_eq!(
        listed(&index_pattern(&stub)),
        listed(&json!({"attributes": {"fields": mine}}))
    );
    // The index is there now.
    stub.fault(Fault::None);
    stub.change(|all| one(all, "index-pattern", "pixel-events")["attributes"]["fields"] = "[]".into());
    assert_eq!(run(&options), Ok(StepResult::Updated));
    assert_eq!(run(&options), Ok(StepResult::Unchanged));
}

#[test]
fn a_tenant_or_space_that_does_not_exist_is_an_error_that_lists_those_that_do() {
    use Program::{Kibana8, OpenSearchDashboards2};
    let cases = [
        (
            OpenSearchDashboards2,
            Door::Cookie,
            Some("nosuch"),
            None,
            "`admin_tenant`, `global`",
        ),
        (OpenSearchDashboards2, Door::Basic, Some("Global"), None, "`private`"),
        (
            OpenSearchDashboards2,
            Door::Open,
            Some("nosuch"),
            None,
            "try one of `global`",
        ),
        (
            OpenSearchDashboards2,
            Door::Open,
            None,
            Some("marketing"),
            "this program has none",
        ),
        (
            Kibana8,
            Door::Open,
            None,
            Some("marketting"),
            "try one of `default`, `marketing`",
        ),
    ];
    for (program, door, tenant, space, expected) in cases {
        let stub = Stub::start(program, door, "");
        let auth = if door == Door::Open { Auth::None } else { basic() };
        let mut options = options(&stub, auth);
        options.tenant = tenant.map(Into::into);
        options.space = space.map(Into::into);
        for write in [false, true] {
            options.write = write;
            let error = run(&options).expect_err(expected);
            assert!(
                error.contains(expected) && error.contains("cannot find"),
                "{expected}: {error}"
            );
            assert!(stub.objects().is_empty(), "{expected}: nothing is written");
        }
    }
    for (door, tenant) in [
        (Door::Cookie, "global"),
        (Door::Cookie, "private"),
        (Door::Basic, "admin_tenant"),
        (Door::Open, "global"),
    ] {
        let stub = Stub::start(OpenSearchDashboards2, door, "");
        let mut options = options(&stub, if door == Door::Open { Auth::None } else { basic() });
        options.tenant = Some(tenant.to_owned());
        assert_eq!(run(&options), Ok(StepResult::Created), "{tenant}");
    }
}

/// Whose credentials an address gets that names no user.
#[test]
fn credentials_go_to_their_own_host_only_and_not_in_clear() {
    let target = |url: &str| match Destination::parse(url, None, None) {
        Ok(Destination::OpenSearch(target)) => target,
        other => panic!("{other:?}"),
    };
    let at = |url: &str, destination: &str, plain_http: bool| {
        let Place { auth, withheld, .. } = place(url, &target(destination), plain_http).expect("an address");
        (auth.name(), withheld)
    };
    let own = "https://user:password@search.example:9200/events";
    for (url, destination, plain_http, expected) in [
        ("https://search.example:5601", own, false, ("basic", false)),
        ("http://search.example:5601", own, false, ("none", true)),
        ("http://search.example:5601", own, true, ("basic", false)),
        // The URL says who asks.
        ("http://me:mine@search.example:5601", own, false, ("basic", false)),
        ("https://other.example:5601", own, false, ("none", false)),
        ("https://other.example:5601", own, true, ("none", false)),
        ("http://other.example:5601", own, true, ("none", false)),
        (
            "http://search.example:5601",
            "http://search.example:9200/events",
            false,
            ("none", false),
        ),
        (
            "http://127.0.0.1:5601",
            "http://user:password@127.0.0.1:9200/events",
            false,
            ("basic", false),
        ),
        (
            "http://localhost:5601",
            "https://user:password@localhost:9200/events",
            false,
            ("basic", false),
        ),
        (
            "http://[::1]:5601",
            "http://user:password@[::1]:9200/events",
            false,
            ("basic", false),
        ),
        (
            "http://127.0.0.1.example:5601",
            "https://u:p@127.0.0.1.example:9200/events",
            false,
            ("none", true),
        ),
    ] {
        assert_eq!(
            at(url, destination, plain_http),
            expected,
            "{url} beside {destination}, {plain_http}"
        );
    }
}

#[test]
fn a_login_that_is_wanted_says_that_credentials_were_withheld() {
    let stub = Stub::start(Program::OpenSearchDashboards2, Door::Cookie, "");
    let mut options = options(&stub, Auth::None);
    options.withheld = true;
    let error = run(&options).expect_err("nobody asks");
    assert!(error.contains("--plain-http-credentials"), "{error}");
}

/// A missing reference, an unknown type, and what nobody has thought of yet.
#[test]
fn the_reasons_of_single_objects_are_told() {
    use pixel::setup::dashboards::{DashboardsResponse, imported};
    let errors = json!([
        {"type": "visualization", "id": "a", "error": {"type": "missing_references", "references": [{"type": "index-pattern", "id": "x"}]}},
        {"type": "lens", "id": "b", "error": {"type": "unsupported_type"}},
        {"type": "dashboard", "id": "c", "error": {"type": "unknown", "message": "mapping set to strict", "statusCode": 400}},
    ]);
    let reply = |body: &Value| DashboardsResponse {
        status: 200,
        body: body.to_string().into_bytes(),
        ..DashboardsResponse::default()
    };
    let told =
        imported(&reply(&json!({"success": false, "successCount": 0, "errors": errors}))).expect_err("three errors");
    for part in [
        "`a`: it refers to what is not there",
        "\"id\":\"x\"",
        "`b`: this program knows no",
        "`c`: unknown: mapping set to strict",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    imported(&reply(&json!({"success": false, "successCount": 0}))).expect_err("no success");
    assert_eq!(imported(&reply(&json!({"success": true, "successCount": 0}))), Ok(()));
}

// The command line.

fn setup(index: &Index, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pixel"))
        .args(["setup", "--destination", &index.url()])
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .expect("the program runs")
}

#[test]
fn setup_imports_beside_a_real_index() {
    let Some(index) = Index::new(Server::OpenSearch2, "import") else {
        return;
    };
    let aws = [
        ("PIXEL_AUTH", "es"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    for (door, variables, user) in [
        (Door::Open, &aws[..0], ""),
        (Door::Cookie, &aws[..0], "admin:se%3Acret%20%C3%BC@"),
        // The same host, so the same signature.
        (Door::Signed, &aws[..], ""),
    ] {
        let stub = Stub::start(Program::OpenSearchDashboards2, door, "/_dashboards");
        let url = format!("http://{user}{}/_dashboards/app/home#/", stub.address);
        let import = ["--dashboards", &url, "--tenant", "global"];
        for (more, expected) in [
            (&["--dry-run"][..], "created "),
            (&[], "created "),
            (&["--json"], "unchanged"),
        ] {
            let output = setup(&index, &[&import[..], more].concat(), variables);
            let (out, err) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            assert!(output.status.success(), "{door:?}: {err}");
            let line = out
                .lines()
                .find(|line| line.contains("dashboards in OpenSearch Dashboards 2.19.4"));
            assert!(
                line.is_some_and(|line| line.contains(expected.trim())),
                "{door:?}: {out}"
            );
        }
        let pattern = &stub.objects()[&(
            "global".to_owned(),
            "index-pattern".to_owned(),
            "pixel-events".to_owned(),
        )];
        assert_eq!(pattern["attributes"]["title"], format!("{}*", index.name));
        stub.change(|objects| {
            for object in objects.values_mut() {
                object["attributes"]["title"] = "Mine".into();
            }
        });
        let output = setup(&index, &import, variables);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && error.contains("--overwrite"),
            "{door:?}: {error}"
        );
        let index_is_told = String::from_utf8_lossy(&output.stdout).contains("unchanged");
        assert!(
            index_is_told,
            "{door:?}: what was done to the index is told all the same"
        );
        let output = setup(
            &index,
            &[&import[..], &["--overwrite", "--index-pattern", "other*"]].concat(),
            variables,
        );
        assert!(output.status.success(), "{door:?}: {output:?}");
        let stored = stub.objects();
        let pattern = &stored[&(
            "global".to_owned(),
            "index-pattern".to_owned(),
            "pixel-events".to_owned(),
        )];
        assert_eq!(pattern["attributes"]["title"], "other*", "{door:?}");
        let searched: Vec<_> = stored.values().filter_map(specification).collect();
        assert!(!searched.is_empty(), "{door:?}");
        for specification in searched {
            assert_eq!(specification["data"][0]["url"]["index"], "other*", "{door:?}");
        }
    }
}

#[test]
fn an_import_needs_an_index_and_an_address() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_pixel"))
            .arg("setup")
            .args(arguments)
            .output()
            .expect("it runs")
    };
    for (arguments, expected) in [
        (
            &["--dashboards", "http://127.0.0.1:1", "--destination", "sqlite:x.db"][..],
            "dashboards show an index",
        ),
        (&["--overwrite"], "--dashboards"),
        (
            &["--dashboards", "http://127.0.0.1:1", "--space", "a/b"],
            "the space's identifier",
        ),
    ] {
        let output = run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(expected),
            "{arguments:?}: {error}"
        );
    }
}
