//! A request's whole way through a stack, as its template declares it: resource and method, mapping template (Apache Velocity),
//! the real function behind a Runtime API, integration response, image; or the queue's message, and what becomes of that.
//!
//! What API Gateway does is emulated after its documentation, so this proves that the parts fit, not that AWS agrees.

use pixel::hit::settings::Lookups;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::DateTime;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pixel::cli::audit::reconcile::{Noted, Window, noted};
use pixel::config::Config;
use pixel::config::token::Scope;
use pixel::hit::answer;
use pixel::hit::code::{Contents, Keys};
use pixel::hit::pixel::{GIF, Image, PNG};
use pixel::hit::read::RequestContext;
use pixel::hit::request::http_request::HttpRequest;
use pixel::hit::request::{Ingress, Request};
use pixel::server::gateway::{HttpAnswer, http_answer, payload};
use serde_json::{Value, json};

use crate::destination::index_setup::succeeded;
use crate::infra::templates::resolve;
use crate::server::api::{TOKEN, entry};
use crate::support::index_stub::{Behaviour, IndexStub};
use crate::support::lambda_rig::{Invocation, InvokeResult, Rig, RigOptions};
use crate::support::matrix::{Index, Subject, any};
use crate::support::small_server::{Asked, Reaction, SmallServer};
use crate::support::velocity::{TemplateInput, render};

/// The stack's resources and the paths of its API.
struct Stack {
    resources: Value,
    paths: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default)]
struct Visit {
    method: &'static str,
    path: &'static str,
    query: String,
    headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Stack {
    fn read(template: &str) -> Self {
        Self::read_with(template, &[])
    }

    fn read_with(template: &str, parameters: &[&str]) -> Self {
        let resolved = resolve(
            template,
            &[&["Endpoint=https://index.example.org"], parameters].concat(),
        );
        let paths = resolved["paths"].as_object().unwrap();
        Self {
            resources: resolved["resources"].clone(),
            paths: paths
                .iter()
                .map(|(name, path)| (name.clone(), path.as_str().unwrap().to_owned()))
                .collect(),
        }
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let all = self.resources.as_object().unwrap().values();
        all.filter(move |body| body["Type"] == kind)
            .map(|body| &body["Properties"])
    }

    /// The method that a request is for, with what its path's template matched.
    fn method(&self, visit: &Visit) -> Option<(&Value, &str, BTreeMap<String, String>)> {
        let resource = |path: &str| self.paths.iter().find(|(_, known)| **known == *path);
        let (parent, last) = visit.path.rsplit_once('/')?;
        let (name, path) = match visit.path {
            "/" => ("ManageApi.RootResourceId", "/"),
            literal => resource(literal)
                .or_else(|| resource(&format!("{parent}/{{code}}")))
                .or_else(|| resource(&format!("{parent}/{{proxy+}}")))
                .map(|(name, path)| (name.as_str(), path.as_str()))?,
        };
        let named = path
            .rsplit_once('{')
            .map(|(_, named)| named.trim_end_matches(['+', '}']));
        let method = self.of("AWS::ApiGateway::Method").find(|method| {
            method["ResourceId"] == format!("<{name}>")
                && (method["HttpMethod"] == visit.method || method["HttpMethod"] == "ANY")
        })?;
        let matched = named.map(|named| (named.to_owned(), decode(last)));
        Some((method, path, matched.into_iter().collect()))
    }

    /// The function's own environment, its destination replaced.
    fn function(&self, index: &str) -> RigOptions {
        self.function_of("Capture", index)
    }

    /// The same of any function, before a real server.
    fn function_before(&self, name: &str, subject: &Subject) -> RigOptions {
        let options = self.function_of(name, subject.destination("").trim_end_matches('/'));
        let variables = subject.variables().into_iter();
        variables.fold(options, |options, (name, value)| options.env(name, value))
    }

    fn function_of(&self, name: &str, index: &str) -> RigOptions {
        let declared = &self.resources[name]["Properties"];
        let variables = declared["Environment"]["Variables"].as_object().unwrap();
        let mut options =
            RigOptions::new(env!("CARGO_BIN_EXE_bootstrap")).handler(declared["Handler"].as_str().unwrap());
        for (name, value) in variables {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            options = options.env(name, value.replace("https://index.example.org", index));
        }
        options
    }

    /// The messages that a queue gets: the form's one value, as SQS reads it.
    fn messages(&self, visits: &[Visit]) -> Vec<String> {
        let forms = self.payloads(visits).into_iter();
        let message = |form: String| {
            let fields: Vec<_> = form.split('&').filter_map(|field| field.split_once('=')).collect();
            let [("Action", "SendMessage"), ("MessageBody", body)] = fields[..] else {
                panic!("{form}");
            };
            decode(&body.replace('+', " "))
        };
        forms.map(message).collect()
    }

    /// What the mapping template makes of each visit.
    fn payloads(&self, visits: &[Visit]) -> Vec<String> {
        let inputs: Vec<_> = visits
            .iter()
            .map(|visit| {
                let (_, path, parameters) = self.method(visit).unwrap();
                input(visit, path, parameters)
            })
            .collect();
        let (method, ..) = self.method(&visits[0]).unwrap();
        let template = method["Integration"]["RequestTemplates"]["application/json"]
            .as_str()
            .unwrap();
        render(template, &inputs).into_iter().map(Result::unwrap).collect()
    }

    /// The payload that an open proxy integration hands to a function.
    fn proxied(&self, visit: &Visit, function: &str) -> String {
        let (method, resource, parameters) = self.method(visit).unwrap_or_else(|| panic!("{visit:?}"));
        let integration = &method["Integration"];
        let uri = integration["Uri"].as_str().unwrap();
        assert!(
            uri.contains(&format!("/functions/<{function}.Arn>/")),
            "{visit:?}: {uri}"
        );
        assert_eq!(
            (&integration["Type"], &method["AuthorizationType"]),
            (&json!("AWS_PROXY"), &json!("NONE"))
        );
        let query: BTreeMap<_, _> = visit.query.split('&').filter_map(|part| part.split_once('=')).collect();
        let headers: BTreeMap<_, _> = visit.headers.iter().map(|(name, value)| (*name, value)).collect();
        let query = (!query.is_empty()).then_some(query);
        json!({
            "resource": resource, "path": visit.path, "httpMethod": visit.method, "headers": headers,
            "queryStringParameters": query, "pathParameters": parameters, "stageVariables": null,
            "requestContext": {
                "stage": "prod", "path": format!("/prod{}", visit.path), "resourcePath": resource, "httpMethod": visit.method,
                "requestId": "1", "identity": {"sourceIp": "203.0.113.9", "userArn": null},
            },
            "body": null, "isBase64Encoded": false,
        })
        .to_string()
    }

    /// The answer that the stack declares for what became of the invocation.
    fn answer(&self, visit: &Visit, invocation: &Invocation) -> Answer {
        let (method, ..) = self.method(visit).unwrap();
        let message = error_message(&invocation.result);
        let responses = method["Integration"]["IntegrationResponses"].as_array().unwrap();
        let response = responses
            .iter()
            .find(|response| match (&message, response["SelectionPattern"].as_str()) {
                // tests/infra/check.py holds that this one stands for every message.
                (Some(message), Some("(\\n|.)+")) => !message.is_empty(),
                (None, None) => true,
                _ => false,
            })
            .unwrap();
        let payload = message.map_or_else(|| invocation.reply().to_vec(), String::into_bytes);
        let declared = method["MethodResponses"].as_array().unwrap();
        let declared = declared
            .iter()
            .find(|one| one["StatusCode"] == response["StatusCode"])
            .unwrap();
        let body = if response["ContentHandling"] == "CONVERT_TO_BINARY" {
            let text: String = serde_json::from_slice(&payload).unwrap();
            STANDARD.decode(text).unwrap()
        } else {
            let template = response["ResponseTemplates"]["application/json"].as_str().unwrap();
            assert!(!template.contains(['$', '#']), "a text, no template");
            template.into()
        };
        Answer {
            status: response["StatusCode"].as_str().unwrap().parse().unwrap(),
            headers: headers(&response["ResponseParameters"], |name| {
                declared["ResponseParameters"][name] == true
            }),
            body,
        }
    }

    /// The answer of a path that needs no function: its request template chooses a response.
    fn constant(&self, visit: &Visit) -> Answer {
        let (method, path, parameters) = self.method(visit).unwrap();
        let integration = &method["Integration"];
        assert_eq!(integration["Type"], "MOCK", "{visit:?}");
        let mut input = input(visit, path, parameters);
        let rendered = |template: &Value, input: &TemplateInput| {
            let template = template["application/json"].as_str().unwrap();
            render(template, std::slice::from_ref(input)).remove(0).unwrap()
        };
        let chosen: Value = serde_json::from_str(&rendered(&integration["RequestTemplates"], &input)).unwrap();
        let chosen = chosen["statusCode"].to_string();
        let responses = integration["IntegrationResponses"].as_array().unwrap();
        let pattern = |one: &&Value| one["SelectionPattern"] == chosen.as_str();
        let usual = || responses.iter().find(|one| one["SelectionPattern"].is_null());
        let response = responses.iter().find(pattern).or_else(usual).unwrap();
        let stage = self
            .of("AWS::ApiGateway::Stage")
            .find(|one| one["RestApiId"] == "<Api>");
        for (name, value) in stage.unwrap()["Variables"].as_object().unwrap() {
            let value = value.as_str().unwrap().to_owned();
            input.stage_variables.insert(name.clone(), value);
        }
        Answer {
            status: response["StatusCode"].as_str().unwrap().parse().unwrap(),
            headers: headers(&response["ResponseParameters"], |_| true),
            body: rendered(&response["ResponseTemplates"], &input).into(),
        }
    }

    fn refusal(&self, kind: &str) -> Answer {
        let class = if kind.contains("TIMEOUT") || kind.contains("FAILURE") {
            "DEFAULT_5XX"
        } else {
            "DEFAULT_4XX"
        };
        let find = |kind: &str| {
            self.of("AWS::ApiGateway::GatewayResponse")
                .find(|one| one["ResponseType"] == kind)
        };
        let response = find(kind).or_else(|| find(class)).unwrap();
        Answer {
            status: response["StatusCode"]
                .as_str()
                .map_or(0, |status| status.parse().unwrap()),
            headers: headers(&response["ResponseParameters"], |_| true),
            body: response["ResponseTemplates"]["image/svg+xml"].as_str().unwrap().into(),
        }
    }
}

/// The declared headers, without the quotes that mark a static value.
fn headers(parameters: &Value, declared: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let parameters = parameters.as_object().unwrap().iter();
    parameters
        .filter(|(name, _)| declared(name))
        .map(|(name, value)| {
            let value = value
                .as_str()
                .and_then(|value| value.strip_prefix('\'')?.strip_suffix('\''));
            (name.rsplit('.').next().unwrap().to_owned(), value.unwrap().to_owned())
        })
        .collect()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The variables that API Gateway sets for a visit.
fn input(visit: &Visit, resource: &str, path: BTreeMap<String, String>) -> TemplateInput {
    let query = visit.query.split('&').filter_map(|part| part.split_once('='));
    let agent = visit.headers.iter().find(|(name, _)| *name == "User-Agent");
    let member = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    TemplateInput {
        path,
        query: query.map(|(name, value)| (decode(name), decode(value))).collect(),
        headers: visit.headers.iter().map(|(name, value)| member(name, value)).collect(),
        stage_variables: BTreeMap::new(),
        context: BTreeMap::from([
            member("httpMethod", visit.method),
            member("resourcePath", resource),
            member("identity.sourceIp", "203.0.113.9"),
            member("identity.userAgent", agent.map_or("", |(_, value)| value)),
            member("extendedRequestId", &format!("{:x}", fingerprint(visit))),
            member("requestTimeEpoch", "1769903999999"),
        ]),
        body: None,
    }
}

/// Another id for another visit.
fn fingerprint(visit: &Visit) -> u64 {
    hash(&(visit.method, visit.path, &visit.query, &visit.headers))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The `errorMessage` that Lambda gives API Gateway; none after a reply.
fn error_message(result: &InvokeResult) -> Option<String> {
    match result {
        InvokeResult::Reply(_)
        | InvokeResult::Exited { reply: Some(_), .. }
        | InvokeResult::TimedOut { reply: Some(_) } => None,
        InvokeResult::FunctionError(body) => {
            let body: Value = serde_json::from_slice(body).unwrap();
            Some(body["errorMessage"].as_str().unwrap().to_owned())
        }
        InvokeResult::TimedOut { .. } => {
            Some("2026-01-31T23:59:59.999Z 0f5e Task timed out after 10.00 seconds".to_owned())
        }
        InvokeResult::Exited { .. } | InvokeResult::InitError(_) => {
            Some("RequestId: 0f5e Error: Runtime exited with error: exit status 1".to_owned())
        }
        InvokeResult::ResponseTooLarge => Some("Response payload size exceeded".to_owned()),
    }
}

fn visit(method: &'static str, path: &'static str) -> Visit {
    Visit {
        method,
        path,
        query: "utm_source=mail".to_owned(),
        headers: vec![("User-Agent", "Mozilla/5.0 (X11)".to_owned())],
    }
}

/// What is stored of the query: an address in it is shortened like the visitor's own.
fn label(visit: &Visit) -> String {
    decode(&visit.query).replace("6.6.6.6", "6.6.6.0")
}

const BROWSER: &str = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";

/// Every path and method, every kind of `Accept`, and what breaks a naive template, in query and User-Agent.
fn visits() -> Vec<Visit> {
    let paths = [
        "/pixel",
        "/pixel.gif",
        "/pixel.png",
        "/pixel/spring-mail",
        "/image/AbCdEf0123456789.png",
    ];
    let mut visits: Vec<_> = paths
        .into_iter()
        .flat_map(|path| [visit("GET", path), visit("HEAD", path)])
        .collect();
    for accept in ["*/*", BROWSER, "image/png", "text/html"] {
        let mut one = visit("GET", "/pixel.gif");
        one.headers.push(("Accept", accept.to_owned()));
        visits.push(one);
    }
    for text in [
        "It's",
        "say \"hi\"",
        "a\0b",
        "x\", \"source-ip\": \"6.6.6.6",
        "\\'",
        "Zoë 🙂",
    ] {
        let mut one = visit("GET", "/pixel/spring-mail");
        one.query = format!("note={}", utf8_percent_encode(text, NON_ALPHANUMERIC));
        one.headers = vec![("User-Agent", text.to_owned()), ("Accept", BROWSER.to_owned())];
        visits.push(one);
    }
    visits
}

#[tokio::test(flavor = "multi_thread")]
async fn every_visit_gets_the_image_and_becomes_an_event() {
    let stack = Stack::read("pixel.yaml");
    let index = IndexStub::start().await;
    let rig = Rig::start(stack.function(&index.url())).await;
    let visits = visits();
    for (visit, payload) in visits.iter().zip(stack.payloads(&visits)) {
        let invocation = rig.invoke(payload).await;
        let answer = stack.answer(visit, &invocation);
        let png = Image::from_path(visit.path) == Image::Png || visit.path.starts_with("/image/");
        let (image, kind): (&[u8], _) = if png { (&PNG, "image/png") } else { (&GIF, "image/gif") };
        assert_eq!((answer.status, answer.body.as_slice()), (200, image), "{visit:?}");
        let expected = [
            ("Cache-Control", "no-store, no-cache, max-age=0, private"),
            ("Content-Type", kind),
            ("Cross-Origin-Resource-Policy", "cross-origin"),
            ("X-Pixel", "accepted"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(answer.headers, BTreeMap::from(expected), "{visit:?}");
    }
    index
        .wait_for("every event", |index| index.documents().len() == visits.len())
        .await;
    assert_eq!(index.violations(), Vec::<String>::new());
    let documents = index.documents();
    for visit in &visits {
        let id = format!("{:x}", fingerprint(visit));
        let ((name, _), document) = documents.iter().find(|((_, key), _)| *key == id).unwrap();
        assert_eq!(name, "events-2026.01");
        let label = json!(label(visit));
        assert!(
            document["labels"].as_array().unwrap().contains(&label),
            "{visit:?}: {document}"
        );
        assert_eq!(document["client"]["ip"], "203.0.113.0", "{visit:?}");
    }
}

/// The page's cookie is the one that the function heeds, and the other button takes it back.
#[tokio::test(flavor = "multi_thread")]
async fn who_opts_out_on_the_page_is_not_stored() {
    let stack = Stack::read("pixel.yaml");
    let index = IndexStub::start().await;
    let rig = Rig::start(stack.function(&index.url())).await;
    let button = |query: &str| {
        let mut button = visit("POST", "/opt-out");
        button.query = query.to_owned();
        stack.constant(&button)
    };
    let page = stack.constant(&visit("GET", "/opt-out"));
    let text = String::from_utf8(page.body).unwrap();
    assert!(page.headers["Content-Type"].starts_with("text/html"), "{text}");
    assert!(
        text.contains("action=\"?\"") && text.contains("action=\"?in=1\""),
        "{text}"
    );
    let (out, back) = (button(""), button("in=1"));
    let cookie = |answer: &Answer| answer.headers["Set-Cookie"].clone();
    let kept = cookie(&out).split(';').next().unwrap().to_owned();
    assert!(cookie(&out).contains("Max-Age=31536000") && cookie(&back).contains("Max-Age=0"));
    assert_eq!(cookie(&back).split(';').next(), Some(kept.as_str()));

    // Forms of other sites change nothing, whatever the case of the header's name.
    for (name, site, refused) in [
        ("Sec-Fetch-Site", "cross-site", true),
        ("sec-fetch-site", "same-site", true),
        ("Sec-Fetch-Site", "same-origin", false),
    ] {
        let mut button = visit("POST", "/opt-out");
        button.headers.push((name, site.to_owned()));
        let answer = stack.constant(&button);
        assert_eq!(answer.status == 403, refused, "{site}");
        assert_eq!(answer.headers.contains_key("Set-Cookie"), !refused, "{site}");
    }

    let mut unseen = visit("GET", "/pixel.gif");
    unseen.headers.push(("Cookie", format!("other=2; {kept}")));
    let seen = visit("GET", "/pixel/seen");
    for visit in [&unseen, &seen] {
        let payload = stack.payloads(std::slice::from_ref(visit)).remove(0);
        let answer = stack.answer(visit, &rig.invoke(payload).await);
        assert_eq!((answer.status, answer.body.as_slice()), (200, GIF.as_slice()));
    }
    index
        .wait_for("the one event", |index| !index.documents().is_empty())
        .await;
    let stored: Vec<_> = index.documents().into_keys().map(|(_, id)| id).collect();
    assert_eq!(stored, [format!("{:x}", fingerprint(&seen))]);
}

/// From the address in the stack's outputs to the index and back: what a mail's recipient does with the page, as API Gateway
/// hands it on to the function, whatever guards the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_s_recipient_opts_out_at_the_address_that_the_stack_names() {
    let index = Index::new(&any(), "infra-opt-out");
    let secret = |name: &str| format!("arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}-AbCdEf");
    let (name, tokens) = (
        format!("Index={}", index.name),
        format!("TokensSecretArn={}", secret("tokens")),
    );
    let keys = format!("CodeKeysSecretArn={}", secret("codes"));
    // As the form on the page is sent.
    let of_page = || {
        vec![
            ("Host", "manage.example".to_owned()),
            ("Origin", "https://manage.example".to_owned()),
        ]
    };
    for guard in [vec!["Manage=iam"], vec!["Manage=token", &tokens]] {
        let parameters = [vec![name.as_str(), "Rotation=none", &keys], guard].concat();
        let stack = Stack::read_with("pixel.yaml", &parameters);
        let outputs = resolve(
            "pixel.yaml",
            &[&["Endpoint=https://index.example.org"], parameters.as_slice()].concat(),
        );
        let address = outputs["outputs"]["OptOutUrl"].as_str().unwrap();
        let path = address
            .strip_prefix("https://<ManageApi>.execute-api.eu-central-1.amazonaws.com/<ManageStage>")
            .unwrap_or_else(|| panic!("{address}"));

        let options = stack.function_before("ManageFunction", &index.subject);
        // What CloudFormation puts where the secret is named.
        let keys = "1:MDEyMzQ1Njc4OWFiY2RlZg";
        let rig = Rig::start(options.env("PIXEL_CODE_KEYS", keys)).await;
        let keys_of_codes = Keys::parse(keys).unwrap();
        let contents = Contents {
            campaign: Some(format!("{parameters:?}").chars().take(60).collect()),
            recipient: Some(keys_of_codes.recipient("ann@shop.example").unwrap()),
            ..Contents::default()
        };
        let code = keys_of_codes.sign(&contents).unwrap();
        let target = format!("{path}{code}");
        for (method, query, status, words) in [
            ("GET", "", 200, "It is counted"),
            ("HEAD", "", 200, ""),
            ("POST", "", 303, ""),
            ("GET", "", 200, "is not counted"),
            ("POST", "in=1", 303, ""),
            ("GET", "", 200, "It is counted"),
        ] {
            let visit = Visit {
                method,
                path: target.clone().leak(),
                query: query.to_owned(),
                headers: of_page(),
            };
            let reply = rig.invoke(stack.proxied(&visit, "ManageFunction")).await.reply_json();
            assert_eq!(reply["statusCode"], status, "{method} {target}?{query}: {reply}");
            assert!(
                reply["body"].as_str().unwrap().contains(words),
                "{method} {target}?{query}: {reply}"
            );
            assert_eq!(reply["isBase64Encoded"], false);
        }
        // The function behind the pixel heeds it with the next hit.
        let capture = stack.function_before("Capture", &index.subject);
        let capture = Rig::start(capture.env("PIXEL_CODE_KEYS", keys)).await;
        let mut out = visit("POST", target.clone().leak());
        out.query = String::new();
        out.headers = of_page();
        let reply = rig.invoke(stack.proxied(&out, "ManageFunction")).await.reply_json();
        assert_eq!(reply["statusCode"], 303, "{reply}");
        let hit = visit("GET", format!("/pixel/{code}").leak());
        capture
            .invoke(stack.payloads(std::slice::from_ref(&hit)).remove(0))
            .await;
        let line = capture
            .wait_for_log("the outcome", |line| line.contains("\"outcome\""))
            .await;
        assert!(line.contains("opted_out"), "{line}");
        out.query = "in=1".to_owned();
        let reply = rig.invoke(stack.proxied(&out, "ManageFunction")).await.reply_json();
        assert_eq!(reply["statusCode"], 303, "{reply}");

        let nowhere = Visit {
            method: "PUT",
            path: target.leak(),
            ..Visit::default()
        };
        assert!(
            stack.method(&nowhere).is_none(),
            "the API knows only the page's methods"
        );
    }
    let beside = format!("/pixel-opt-outs-of-{}", index.name);
    let counted = index.subject.expect("GET", &format!("{beside}/_count"), None);
    assert_eq!(counted["count"], 0);
    index.subject.ask("DELETE", &beside, None);
}

/// With `Manage=token` API Gateway lets everybody in, and the function those who have a token, each as far as it reaches.
#[tokio::test(flavor = "multi_thread")]
async fn codes_and_numbers_are_for_tokens_where_the_stack_says_so() {
    let index = Index::new(&any(), "infra-token");
    let set_up = index.subject.pixel(&["setup", "-d", &index.destination()]);
    assert!(set_up.status.success(), "{set_up:?}");
    let name = format!("Index={}", index.name);
    let secret = "TokensSecretArn=arn:aws:secretsmanager:eu-central-1:123456789012:secret:tokens-AbCdEf";
    let stack = Stack::read_with("pixel.yaml", &[&name, "Rotation=none", "Manage=token", secret]);
    let options = stack.function_before("ManageFunction", &index.subject);
    // What CloudFormation puts where the secret is named.
    let rig = Rig::start(options.env("PIXEL_TOKENS", entry(TOKEN, &[Scope::StatsRead]))).await;
    let own = format!("Bearer {TOKEN}");
    for (path, token, status, words) in [
        ("/", "", 200, "<!doctype html>"),
        ("/v1/api/status", "", 200, "{"),
        ("/v1/api/stats", "", 401, "token"),
        ("/v1/api/stats", "Bearer pixel_of-somebody-else", 401, "token"),
        ("/v1/api/stats", &own, 200, "\"events\":0"),
        ("/v1/api/gen-image", &own, 403, "codes:write"),
        ("/v1/api/events", &own, 403, "events:read"),
    ] {
        let mut asked = visit("GET", path);
        asked.query.clear();
        asked.headers = vec![("Host", "manage.example".to_owned())];
        asked
            .headers
            .extend((!token.is_empty()).then(|| ("Authorization", token.to_owned())));
        let reply = rig.invoke(stack.proxied(&asked, "ManageFunction")).await.reply_json();
        assert_eq!(reply["statusCode"], status, "{path} {token}: {reply}");
        let body = reply["body"].as_str().unwrap_or_default();
        assert!(body.contains(words), "{path} {token}: {reply}");
    }
}

/// What `/.well-known/gpc.json` promises is what the functions do with the signal.
#[test]
fn the_promise_about_the_signal_is_kept() {
    for (policy, promised) in [("anonymise", true), ("ignore", true), ("record", false)] {
        let stack = Stack::read_with("pixel.yaml", &[&format!("PrivacySignal={policy}")]);
        let answer = stack.constant(&visit("GET", "/.well-known/gpc.json"));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["gpc"]), (200, &json!(promised)), "{policy}");
        assert_eq!(answer.headers["Content-Type"], "application/json");
        let variables = &stack.resources["Capture"]["Properties"]["Environment"]["Variables"];
        assert_eq!(variables["PIXEL_PRIVACY_SIGNAL"], policy);
    }
}

/// A request to a stack whose function sees every path.
fn arrived(method: &str, path: &str, accept: Option<&str>) -> HttpRequest {
    let headers = [("Host", "pixel.example"), ("User-Agent", "It's \"quoted\" \\")];
    let accept = accept.map(|accept| ("Accept", accept));
    let headers = headers
        .into_iter()
        .chain(accept)
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: "userid=a%22b&thirdpartyname=it%27s+a+shop".to_owned(),
        headers: headers.collect(),
        peer: Some([203, 0, 113, 9].into()),
        id: format!("{:x}", hash(&(method, path, accept))),
        time: DateTime::from_timestamp_millis(1_769_903_999_999).unwrap(),
        body: None,
    }
}

/// The payload that the stack's front declares.
fn declared_payload(stack: &Stack, ingress: Ingress, arrived: &HttpRequest) -> Vec<u8> {
    let capture = |arn: &Value| assert!(arn.as_str().unwrap().contains("<Capture.Arn>"), "{arn}");
    match ingress {
        Ingress::Rest => {
            let method = stack.of("AWS::ApiGateway::Method").next().unwrap();
            assert_eq!(
                (&method["HttpMethod"], &method["Integration"]["Type"]),
                (&json!("ANY"), &json!("AWS_PROXY"))
            );
            assert_eq!(stack.paths.values().collect::<Vec<_>>(), ["/{proxy+}"]);
            capture(&method["Integration"]["Uri"]);
        }
        Ingress::Http => {
            let integration = stack.of("AWS::ApiGatewayV2::Integration").next().unwrap();
            assert_eq!(integration["PayloadFormatVersion"], "2.0");
            capture(&integration["IntegrationUri"]);
        }
        _ => capture(&stack.of("AWS::Lambda::Url").next().unwrap()["TargetFunctionArn"]),
    }
    payload(ingress, arrived).unwrap()
}

/// What the visitor gets of a proxy's reply. A REST API decodes the base64 where its binary types are `*/*` or name what stands
/// first in `Accept`, and else sends it as it is; an HTTP API and a function URL decode it.
fn proxy_answer(stack: &Stack, ingress: Ingress, arrived: &HttpRequest, reply: &Value) -> HttpAnswer {
    let mut answer = http_answer(ingress, arrived, &reply.to_string(), None);
    let types = stack
        .of("AWS::ApiGateway::RestApi")
        .next()
        .map(|api| api["BinaryMediaTypes"].clone());
    let accept = arrived.header("accept").unwrap_or_default();
    let first = accept.split([',', ';']).next().unwrap_or_default();
    let decodes = |types: &Value| {
        types
            .as_array()
            .unwrap()
            .iter()
            .any(|kind| kind == "*/*" || kind == first)
    };
    if !types.as_ref().is_none_or(decodes) && arrived.method != "HEAD" {
        answer.body = reply["body"].as_str().unwrap().into();
    }
    answer
}

const ACCEPTS: [Option<&str>; 5] = [None, Some("*/*"), Some(BROWSER), Some("image/gif"), Some("text/html")];

/// As the templates declare function and front: whatever a visitor accepts, the image arrives as bytes, and of a path that is
/// none of the pixel's too.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_s_visitor_gets_the_image_whatever_is_accepted() {
    let fronts = [
        ("http-api.yaml", "Front=http-api", Ingress::Http),
        ("http-api.yaml", "Front=function-url", Ingress::FunctionUrl),
        ("rest-proxy.yaml", "StageName=prod", Ingress::Rest),
    ];
    for (template, front, ingress) in fronts {
        let stack = Stack::read_with(template, &[front, "CorsOrigin=https://shop.example"]);
        let index = IndexStub::start().await;
        let rig = Rig::start(stack.function(&index.url())).await;
        let mut stored = BTreeSet::new();
        for accept in ACCEPTS {
            for (method, path, status, image, kind) in [
                ("GET", "/pixel", 200, GIF.as_slice(), "image/gif"),
                ("GET", "/pixel.gif", 200, &GIF, "image/gif"),
                ("HEAD", "/pixel.gif", 200, &[], "image/gif"),
                ("GET", "/pixel.png", 200, &PNG, "image/png"),
                ("GET", "/pixel/spring-mail", 200, &GIF, "image/gif"),
                ("GET", "/image/spring-mail.png", 200, &PNG, "image/png"),
                ("GET", "/nowhere/to/be", 404, &GIF, "image/gif"),
            ] {
                let arrived = arrived(method, path, accept);
                let reply = rig
                    .invoke(declared_payload(&stack, ingress, &arrived))
                    .await
                    .reply_json();
                let answer = proxy_answer(&stack, ingress, &arrived, &reply);
                let what = format!("{template} {front}: {method} {path} {accept:?}");
                assert_eq!((answer.status, answer.body.as_slice()), (status, image), "{what}");
                for (name, value) in [
                    ("Content-Type", kind),
                    ("Cache-Control", "no-store, no-cache, max-age=0, private"),
                    ("Access-Control-Allow-Origin", "https://shop.example"),
                ] {
                    assert_eq!(answer.header(name), Some(value), "{what}");
                }
                stored.extend((status == 200).then_some(arrived.id));
            }
        }
        index
            .wait_for("every event", |index| index.documents().len() == stored.len())
            .await;
        let documents = index.documents();
        for ((name, id), document) in &documents {
            assert_eq!(
                (name.as_str(), &document["client"]["ip"]),
                ("events-2026.01", &json!("203.0.113.0"))
            );
            // An HTTP API has no id that only itself can choose; Lambda's is the event's there.
            assert!(ingress != Ingress::Rest || stored.contains(id), "{id}");
            let labels = document["labels"].as_array().unwrap();
            assert!(labels.contains(&json!("thirdpartyname=it's a shop")), "{document}");
        }
    }
}

/// A stack that takes the place of a tracking pixel with a stream: at every path the image, and of each hit the five texts that
/// the stream's readers know.
#[tokio::test(flavor = "multi_thread")]
async fn a_stack_with_a_stream_hands_on_the_five_texts_of_every_path() {
    let stream = SmallServer::start(|asked| match asked.method.as_str() {
        "POST" => Reaction::json(200, &json!({"RecordId": "r-1", "Encrypted": false})),
        _ => Reaction::Answer(404, String::new()),
    });
    let arn = "KinesisFirehoseARN=arn:aws:firehose:eu-central-1:123456789012:deliverystream/hits";
    for (front, ingress) in [("http-api", Ingress::Http), ("function-url", Ingress::FunctionUrl)] {
        let front = format!("Front={front}");
        let whole = ["PrivacyIp=full", "PrivacyUserId=plain", &front];
        let of_stream = ["Endpoint=", arn, "KinesisFirehoseStreamName=hits"];
        let stack = Stack::read_with("http-api.yaml", &[of_stream, whole].concat());
        let declared = &stack.resources["Capture"]["Properties"]["Environment"]["Variables"]["PIXEL_DESTINATION"];
        assert_eq!(declared, "firehose://firehose.eu-central-1.amazonaws.com/hits");
        let destination = format!("firehose+{}/hits", stream.url());
        let rig = Rig::start(stack.function("").env("PIXEL_DESTINATION", destination)).await;
        for path in ["/", "/pixel.gif", "/open/1234567/track.php"] {
            stream.forget();
            let arrived = arrived("GET", path, None);
            let reply = rig
                .invoke(declared_payload(&stack, ingress, &arrived))
                .await
                .reply_json();
            let answer = proxy_answer(&stack, ingress, &arrived, &reply);
            let expected = (200, Some("image/gif"), GIF.as_slice());
            assert_eq!(
                (answer.status, answer.header("Content-Type"), answer.body.as_slice()),
                expected,
                "{path}"
            );
            let sent: Vec<_> = stream.asked().into_iter().filter(Asked::is_write).collect();
            let [sent] = &sent[..] else { panic!("{path}: {sent:?}") };
            assert_eq!(sent.json()["DeliveryStreamName"], "hits");
            let record = sent.json()["Record"]["Data"]
                .as_str()
                .map(|data| STANDARD.decode(data).unwrap());
            let record = String::from_utf8(record.unwrap()).unwrap();
            assert_eq!(record.lines().count(), 1, "{record}");
            assert!(record.ends_with('\n'), "{record}");
            let expected = json!({
                "date": "31/Jan/2026:23:59:59 +0000", "ip": "203.0.113.9", "userAgent": "It's \"quoted\" \\",
                "userId": "a\"b", "thirdPartyId": "it's a shop",
            });
            assert_eq!(serde_json::from_str::<Value>(&record).unwrap(), expected, "{path}");
        }
    }
}

/// `pixel audit` understands what every front logs of a hit, and looks for the event by the id that the function gave it: API
/// Gateway's own where there is one that no caller chooses, else Lambda's.
#[test]
fn a_line_of_every_access_log_names_its_event() {
    let rest = "$context.extendedRequestId";
    for (template, kind, settings, id) in [
        ("pixel.yaml", "AWS::ApiGateway::Stage", "AccessLogSetting", rest),
        ("rest-proxy.yaml", "AWS::ApiGateway::Stage", "AccessLogSetting", rest),
        ("queue.yaml", "AWS::ApiGateway::Stage", "AccessLogSetting", rest),
        (
            "http-api.yaml",
            "AWS::ApiGatewayV2::Stage",
            "AccessLogSettings",
            "$context.awsEndpointRequestId",
        ),
    ] {
        let stack = Stack::read(template);
        let format = stack.of(kind).next().unwrap()[settings]["Format"].as_str().unwrap();
        let line = format
            .replace(&format!("\"{id}\""), "\"the-event\"")
            .replace("$context.requestTimeEpoch", "1769903999999")
            .replace("$context.httpMethod", "GET")
            .replace("$context.status", "200");
        let moment = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let window = Window {
            from: moment(1_769_900_000),
            to: moment(1_769_910_000),
        };
        let hit = Some(Noted::Hit("the-event".to_owned()));
        let of = |resource: &str, bytes: &str| {
            let line = line
                .replace("$context.resourcePath", resource)
                .replace("$context.routeKey", resource)
                .replace("$context.responseLength", bytes);
            noted(&line, &window)
        };
        assert_eq!(of("/pixel.gif", "43"), hit, "{template}: {line}");
        assert_eq!(of("/pixel.js", "1432"), Some(Noted::NoHit), "{template}: {line}");
        for resource in ["$default", "/{proxy+}"] {
            assert_eq!(of(resource, "43"), hit, "{template}: {line}");
            assert_eq!(
                of(resource, "1432"),
                Some(Noted::NoHit),
                "the script, {template}: {line}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_function_gives_the_svg() {
    let stack = Stack::read("pixel.yaml");
    let index = IndexStub::start().await;
    let visit = visit("GET", "/pixel.gif");
    let payload = stack.payloads(std::slice::from_ref(&visit)).remove(0);
    let options = || stack.function(&index.url()).env("PIXEL_REPLY", "after-indexing");

    let failing = Rig::start(options().handler("nobody"))
        .await
        .invoke(payload.clone())
        .await;

    // The deadline is nearer than the margin that the function keeps of it.
    index.behave(Behaviour::Delay(Duration::from_secs(3)));
    let slow = Rig::start(options().timeout(Duration::from_millis(80)))
        .await
        .invoke(payload.clone())
        .await;
    assert!(
        matches!(slow.result, InvokeResult::TimedOut { reply: None }),
        "{slow:?}"
    );

    index.clear();
    let rig = Rig::start(options()).await;
    let (_, ending) = rig.invoke_observing(payload);
    index
        .wait_for("the request", |index| {
            index.requests().iter().any(|one| one.method == "PUT")
        })
        .await;
    rig.kill().await;
    let killed = ending.await.unwrap();
    assert!(
        matches!(killed.result, InvokeResult::Exited { reply: None, .. }),
        "{killed:?}"
    );

    for invocation in [failing, slow, killed] {
        let answer = stack.answer(&visit, &invocation);
        assert_eq!(answer.status, 502, "{invocation:?}");
        check_svg(&answer);
        assert_eq!(answer.headers["X-Pixel"], "failed; reason=function");
    }
}

/// What SQS lets a message hold: the characters of XML 1.0 (SQS developer guide, message quotas).
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[test]
fn every_visit_is_a_message_that_becomes_an_event() {
    let stack = Stack::read("queue.yaml");
    let visits = visits();
    for (visit, message) in visits.iter().zip(stack.messages(&visits)) {
        assert!(message.chars().all(is_allowed), "{visit:?}: {message}");
        let request = Request::decode(message.as_bytes()).unwrap_or_else(|error| panic!("{visit:?}: {error}"));
        let circumstances = RequestContext {
            now: "2026-03-01T09:30:00Z".parse().unwrap(),
            invocation: "message".to_owned(),
            trusted_hops: 0,
        };
        let event = answer::build_event(request, &circumstances, &Config::default().settings(), &Lookups::none());
        let document: Value = serde_json::from_str(&event.document).unwrap();
        assert_eq!(event.id, format!("{:x}", fingerprint(visit)));
        assert_eq!(event.time.timestamp_millis(), 1_769_903_999_999);
        let label = json!(label(visit));
        let labels = document["labels"].as_array().unwrap();
        assert!(labels.contains(&label), "{visit:?}: {document}");
        assert_eq!(document["client"]["ip"], "203.0.113.0", "{visit:?}");
    }
}

/// A batch as Lambda reads it from the queue.
fn batch(messages: &[String]) -> String {
    let record = |(number, body): (usize, &String)| {
        json!({
            "messageId": format!("message-{number}"),
            "receiptHandle": "receipt",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1769904000123"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:Hits",
            "awsRegion": "eu-central-1",
        })
    };
    let records: Vec<_> = messages.iter().enumerate().map(record).collect();
    json!({"Records": records}).to_string()
}

/// From the request to the index, and once although the queue delivers twice; what is no request is kept aside.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_indexed_once() {
    let index = Index::new(&any(), "infra-queue");
    let made = index
        .subject
        .pixel(&["setup", "-d", &index.subject.destination(&index.name)]);
    succeeded(&made, "setup");
    let stack = Stack::read_with("queue.yaml", &[&format!("Index={}", index.name), "Rotation=none"]);
    let fallback = SmallServer::start(|_| Reaction::json(200, &json!({"MessageId": "kept"})));
    let address = fallback.url().replace("http://", "sqs+http://");
    let url = index.subject.destination("");
    let mut options = stack.function_of("IndexFunction", url.trim_end_matches('/'));
    for (name, value) in index.subject.variables() {
        options = options.env(name, value);
    }
    let options = options.env("PIXEL_FALLBACK", format!("{address}/123456789012/fallback"));
    let rig = Rig::start(options.timeout(Duration::from_mins(1))).await;

    let visits = visits();
    let mut messages = stack.messages(&visits);
    messages.push("no request".to_owned());
    for (delivery, outcome) in [(1, "Indexed"), (2, "Duplicate")] {
        let invocation = rig.invoke(batch(&messages)).await;
        let failures = json!({"batchItemFailures": []});
        assert_eq!(invocation.reply_json(), failures, "{:?}", rig.log_lines());
        let counted = |line: &str| line.contains(&format!("\"{outcome}\":{}", visits.len()));
        let line = rig.wait_for_log("the counts", counted).await;
        assert!(line.contains("\"Fallback\":1"), "{line}");
        assert_eq!(fallback.asked().len(), delivery);
    }
    let stored = index.all();
    let ids: BTreeSet<_> = stored.iter().map(|(id, _)| id.clone()).collect();
    let expected = visits.iter().map(|visit| format!("{:x}", fingerprint(visit)));
    assert_eq!(ids, expected.collect());
    for (id, document) in stored {
        assert_eq!(document["client"]["ip"], "203.0.113.0", "{id}");
    }
    assert!(fallback.asked()[0].body.contains("no request"));
}

/// The answer says nothing of the visit, so that nobody can put anything into it.
#[test]
fn a_message_is_answered_with_an_svg_or_sent_on_to_a_gif() {
    let stack = Stack::read("queue.yaml");
    let visit = visit("GET", "/pixel.gif");
    let (method, path, parameters) = stack.method(&visit).unwrap();
    let responses = method["Integration"]["IntegrationResponses"].as_array().unwrap();
    let usual = responses.iter().find(|response| response["SelectionPattern"].is_null());
    let template = usual.unwrap()["ResponseTemplates"]["application/json"]
        .as_str()
        .unwrap();
    let probe = "status=$!context.responseOverride.status location=$!context.responseOverride.header.Location";
    let mut input = input(&visit, path, parameters);
    // API Gateway has these objects, and the template writes into them.
    input
        .context
        .insert("responseOverride.header.x".to_owned(), String::new());
    let mut with_image = input.clone();
    let image = "https://static.example.org/1x1.gif";
    with_image.stage_variables = BTreeMap::from([("image".to_owned(), image.to_owned())]);

    let answers = render(&format!("{template}\n{probe}"), &[input, with_image]);
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\"/>";
    let [plain, sent_on] = &answers[..] else { panic!() };
    assert!(plain.trim_start().starts_with(svg), "{plain}");
    assert!(plain.ends_with("status= location="), "{plain}");
    assert!(sent_on.contains(svg), "{sent_on}");
    assert!(sent_on.ends_with(&format!("status=302 location={image}")), "{sent_on}");
}

#[test]
fn what_api_gateway_refuses_is_an_svg_too() {
    let stack = Stack::read("pixel.yaml");
    for kind in [
        "THROTTLED",
        "INTEGRATION_TIMEOUT",
        "INTEGRATION_FAILURE",
        "UNSUPPORTED_MEDIA_TYPE",
        "WAF_FILTERED",
    ] {
        check_svg(&stack.refusal(kind));
    }
    let unknown = Visit {
        method: "GET",
        path: "/nowhere/to/be",
        ..Visit::default()
    };
    assert!(stack.method(&unknown).is_none());
    let answer = stack.refusal("MISSING_AUTHENTICATION_TOKEN");
    check_svg(&answer);
    assert_eq!(answer.status, 404);
}

fn check_svg(answer: &Answer) {
    assert_eq!(answer.headers["Content-Type"], "image/svg+xml");
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert!(
        text.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && text.ends_with("/>"),
        "{text}"
    );
}
