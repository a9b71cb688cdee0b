//! Secrets and mail addresses are stored nowhere, however they are named and written and wherever they stand.

use pixel::hit::settings::Lookups;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pixel::config::token::Scope;
use pixel::config::{Config, Variables};
use pixel::hit::answer;
use pixel::hit::privacy::Key;
use pixel::hit::read::RequestContext;
use pixel::hit::request::http_request::HttpRequest;
use pixel::hit::request::{Ingress, Request};
use pixel::server::gateway::payload;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use crate::server::api::{TOKEN, entry};
use crate::support::matrix::{self, Index};
use crate::support::serving::{pixel, request, run, send, serve};

const KEY: &str = "the secret of the tests";

fn now() -> DateTime<Utc> {
    "2026-03-01T09:30:00.150Z".parse().expect("a time")
}

fn config() -> Config {
    let variables: Variables = [("PIXEL_PRIVACY_KEY".to_owned(), KEY.to_owned())].into_iter().collect();
    Config::read(&variables).0
}

fn arrived(path: &str, query: &str, headers: &[(&str, &str)]) -> HttpRequest {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    HttpRequest {
        method: "GET".to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers.iter().map(owned).collect(),
        peer: "198.51.100.23".parse().ok(),
        id: "id-1".to_owned(),
        time: now(),
        body: None,
    }
}

fn stored_by(ingress: Ingress, arrived: &HttpRequest) -> String {
    let payload = payload(ingress, arrived).expect("a path of the pixel");
    stored(Request::decode(&payload).expect("a request"))
}

fn stored(request: Request) -> String {
    let circumstances = RequestContext {
        now: now(),
        invocation: "invocation-1".to_owned(),
        trusted_hops: 0,
    };
    answer::build_event(request, &circumstances, &config().settings(), &Lookups::none()).document
}

fn parsed(document: &str) -> Value {
    serde_json::from_str(document).expect("JSON")
}

fn encode(text: &str, depth: usize) -> String {
    (0..depth).fold(text.to_owned(), |text, _| {
        utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()
    })
}

/// The ways in which one secret can arrive under a name.
fn place_pair(name: &str, secret: &str, place: usize, depth: usize) -> HttpRequest {
    let (name, value) = (encode(name, depth), encode(secret, 1));
    let pair = format!("{name}={value}");
    match place {
        0 => arrived("/pixel.gif", &format!("a=1&{pair}&b=2"), &[]),
        1 => arrived(
            "/pixel.gif",
            &format!("url={}", encode(&format!("https://shop.example/?{pair}&b=2"), 1)),
            &[],
        ),
        2 => arrived(
            "/pixel.gif",
            "",
            &[("Referer", &format!("https://shop.example/a?{pair}"))],
        ),
        3 => arrived(
            "/pixel.gif",
            &format!(
                "x={}",
                encode(&format!("next=https%3A%2F%2Fshop.example%2F%3F{}", encode(&pair, 1)), 1)
            ),
            &[],
        ),
        4 => {
            let body = json!({"a": [{ name.as_str(): secret }]}).to_string();
            HttpRequest {
                method: "POST".to_owned(),
                body: Some(body.into_bytes()),
                ..arrived("/pixel", "", &[("Content-Type", "application/json")])
            }
        }
        5 => arrived(
            "/pixel.gif",
            &format!("x={}", encode(&json!({ name.as_str(): secret }).to_string(), 1)),
            &[],
        ),
        6 => arrived(
            "/pixel.gif",
            &format!(
                "x={}",
                encode(&json!({"a": [{"b": {name.as_str(): [secret, 1]}}]}).to_string(), 2)
            ),
            &[],
        ),
        _ => arrived(
            "/pixel.gif",
            "",
            &[("User-Agent", &format!("Mail/7 ({name}={secret})"))],
        ),
    }
}

/// Words of secrets' names that are found within other words, too.
const WORDS: [&str; 22] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "signature",
    "sessionid",
    "authorization",
    "oauth",
    "jwt",
    "csrf",
    "pwd",
    "hmac",
    "bearer",
    "verifier",
    "xsrf",
    "sessid",
];

/// Words of secrets' names that stand by themselves.
const SHORT_WORDS: [&str; 9] = ["pass", "otp", "sid", "sig", "pw", "auth", "totp", "nonce", "mfa"];

fn in_case(name: &str, case: usize) -> String {
    match case {
        0 => name.to_owned(),
        1 => name.to_uppercase(),
        _ => name
            .char_indices()
            .map(|(place, character)| {
                if place == 0 {
                    character.to_ascii_uppercase()
                } else {
                    character
                }
            })
            .collect(),
    }
}

fn secret_name() -> impl Strategy<Value = String> {
    let around = || select(vec!["", "my", "user", "x", "aws", "client", "new", "web", "v2", "1"]);
    let separator = || select(vec!["", "_", "-", ".", "[", "__", ":"]);
    let long = (
        around(),
        separator(),
        select(&WORDS[..]),
        separator(),
        around(),
        0..3_usize,
    )
        .prop_map(|(before, first, word, second, behind, case)| {
            let behind = if second == "[" {
                format!("[{behind}]")
            } else {
                format!("{second}{behind}")
            };
            format!("{before}{first}{}{behind}", in_case(word, case))
        });
    let apart = || select(vec!["_", "-", "."]);
    let short = (around(), apart(), select(&SHORT_WORDS[..]), 0..3_usize)
        .prop_map(|(before, separator, word, case)| format!("{before}{separator}{}", in_case(word, case)));
    prop_oneof![3 => long, 1 => short]
}

/// First parts of addresses: every character that RFC 5322, 3.2.3 allows in an atom, dots, and quoted texts.
fn local_part() -> impl Strategy<Value = String> {
    let atom = "[a-z]{3,7}[a-z0-9!#$%&'*+/=?^_`{|}~-]{0,3}[a-z]{3,6}";
    prop_oneof![
        4 => atom.prop_map(|atom: String| atom),
        2 => (atom, atom).prop_map(|(first, second)| format!("{first}.{second}")),
        1 => "[a-z]{4,8}".prop_map(|word| format!("\"{word} {word}\"")),
        1 => "[a-z]{4,8}".prop_map(|word| format!("jörg{word}")),
    ]
}

const DOMAINS: [&str; 7] = [
    "shop.example",
    "mail.example.co.uk",
    "exämple.org",
    "xn--exmple-cua.org",
    "localhost",
    "EXAMPLE.COM",
    "例え.テスト",
];

fn place_address(address: &str, place: usize, depth: usize) -> HttpRequest {
    let written = encode(address, depth.max(1));
    let mild = encode(address, depth.max(1)).replace("%2E", ".").replace("%2D", "-");
    let fullwidth = encode(&address.replace('@', "\u{ff20}"), 1);
    match place {
        0 => arrived("/pixel.gif", &format!("x={written}"), &[]),
        1 => arrived("/pixel.gif", &format!("userid={mild}"), &[]),
        2 => arrived(
            "/pixel.gif",
            &format!("url={}", encode(&format!("https://shop.example/a?q={written}&b=1"), 1)),
            &[],
        ),
        3 => arrived("/pixel.gif", &format!("{written}=1"), &[]),
        4 => arrived(
            "/pixel.gif",
            "",
            &[("Referer", &format!("https://shop.example/u/{mild}/orders"))],
        ),
        5 => arrived(
            "/pixel.gif",
            "",
            &[("Referer", &format!("https://shop.example/?m={written}"))],
        ),
        6 => arrived(&format!("/pixel/{}.gif", encode(address, 1)), "", &[]),
        7 => arrived(
            "/pixel.gif",
            "",
            &[("User-Agent", &format!("Mail/7 (contact {address})"))],
        ),
        8 => arrived("/pixel.gif", &format!("x={fullwidth}"), &[]),
        9 => arrived(
            "/pixel.gif",
            &format!("title={}", encode(&format!("Mail of {address}"), 1)),
            &[],
        ),
        _ => HttpRequest {
            method: "POST".to_owned(),
            body: Some(
                json!({"a": address, "list": [format!("mailto:{address}")]})
                    .to_string()
                    .into_bytes(),
            ),
            ..arrived("/pixel", "", &[("Content-Type", "application/json")])
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, rng_seed: RngSeed::Fixed(2026), ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_stored_under_the_name_of_a_secret(
        name in secret_name(),
        number in any::<u32>(),
        place in 0..8_usize,
        depth in 0..4_usize,
        http in any::<bool>(),
    ) {
        let secret = format!("Zq{number:08x}Zq");
        let ingress = if http { Ingress::Http } else { Ingress::Passthrough };
        let document = stored_by(ingress, &place_pair(&name, &secret, place, depth));
        prop_assert!(!document.contains(&secret), "{name} in place {place}: {document}");
    }

    #[test]
    fn no_part_of_a_mail_address_is_stored(
        local in local_part(),
        domain in select(&DOMAINS[..]),
        place in 0..11_usize,
        depth in 0..4_usize,
        http in any::<bool>(),
    ) {
        // `pwd=anna@host` may as well be a secret and its name, of which the value alone is removed.
        let is_secret = |name: &str| {
            let query = format!("{}=Zq0Zq", encode(name, 1));
            !stored_by(Ingress::Http, &arrived("/pixel.gif", &query, &[])).contains("Zq0Zq")
        };
        prop_assume!(!local.rsplit_once('=').is_some_and(|(name, _)| name.split('=').any(is_secret)));
        // `q=a=//b@host` may as well be a URL without a scheme, whose user is removed.
        prop_assume!(!local.contains("=//"));
        let address = format!("{local}@{domain}");
        let ingress = if http { Ingress::Http } else { Ingress::Passthrough };
        let document = stored_by(ingress, &place_address(&address, place, depth));
        // Words that stand in every document of this place, such as "applied".
        let other = stored_by(ingress, &place_address(&format!("q@{domain}"), place, depth));
        for word in local.split(|character: char| !character.is_alphanumeric()).filter(|word| word.chars().count() > 3) {
            prop_assert!(other.contains(word) || !document.contains(word), "{word} of {address} in place {place}: {document}");
        }
    }
}

#[test]
fn an_address_of_rare_characters_is_hashed_whole() {
    for local in [
        "aaaa%0aaa.aaaaaa",
        "bbbb%20bbb",
        "cccc%22ccc",
        "dddd%2cddd%",
        "eeee-//eee.eeeee",
        "ffff*//fff",
    ] {
        for place in 0..11 {
            for depth in 0..3 {
                let document = stored_by(
                    Ingress::Http,
                    &place_address(&format!("{local}@shop.example"), place, depth),
                );
                assert!(!document.contains(&local[..4]), "{local} in place {place}: {document}");
            }
        }
    }
}

#[test]
fn secrets_in_values_are_not_stored() {
    for (query, secret) in [
        ("?x={\"token\":\"S3CR-x\"}", "S3CR"),
        ("?x=%7B%22a%22%3A%7B%22password%22%3A%22S3CR-x%22%7D%7D", "S3CR"),
        ("?x={\"a\":\"{\\\"token\\\":\\\"S3CR-x\\\"}\"}", "S3CR"),
        ("?x={\"tokens\":[\"S3CR-x\",\"S3CR-y\"],\"b\":1}", "S3CR"),
        ("?x=Token%20S3CR-x", "S3CR"),
        ("?x=ApiKey%20S3CR-x", "S3CR"),
        ("?x=Token+S3CR-x", "S3CR"),
        ("?x=Authorization:S3CR-x", "S3CR"),
        ("?x=password:S3CR-x", "S3CR"),
        ("?x=password:%20S3CR-x%20y", "S3CR"),
        ("?x=key%3DS3CR-x", "S3CR"),
        ("?to%256ben=S3CR-x", "S3CR"),
        ("?x=https%253A%252F%252Fu%253AS3CRPW%2540h%252F", "S3CR"),
        ("?x=//u:S3CRPW@h/", "S3CR"),
        ("?x=u:S3CRPW@h/", "S3CR"),
        ("?url=https://shop.example/?password=a%2526S3CR", "S3CR"),
        ("?x=%3Ca+token%3D%22S3CR-x%22%3E", "S3CR"),
    ] {
        let query = query.trim_start_matches('?');
        let document = stored_by(Ingress::Http, &arrived("/pixel.gif", query, &[]));
        assert!(!document.contains(secret), "{query}: {document}");
    }
}

#[test]
fn harmless_parameters_are_stored_as_they_came() {
    for (name, value) in [
        ("author", "anna"),
        ("keyword", "token ring"),
        ("compass", "north"),
        ("design", "flat"),
        ("session_count", "3"),
        ("cookie_consent", "yes"),
        ("x", "a: b"),
        ("x", "12:30"),
        ("sort_key", "price"),
        ("q", "basic income"),
        ("q", "react@18"),
        ("img", "https://cdn.example:8080/a.png"),
        ("utm_content", "key-visual"),
    ] {
        let document = parsed(&stored_by(
            Ingress::Http,
            &arrived("/pixel.gif", &format!("{name}={}", encode(value, 1)), &[]),
        ));
        assert_eq!(document["params"]["querystring"][name], value, "{document:#}");
    }
}

#[test]
fn an_address_has_one_hash_however_it_was_written() {
    let hash = Key::from_secret(KEY).user("anna+news@exämple.org");
    for query in [
        "x=anna%2Bnews@ex%C3%A4mple.org",
        "x=anna+news@exämple.org",
        "x=anna%2Bnews%2540xn--exmple-cua.org",
        "userid=anna+news@xn--exmple-cua.org",
        "userid=Anna%2BNews@EX%C3%84MPLE.org",
        "email_address=anna%2Bnews%40ex%C3%A4mple.org",
        "url=https%3A%2F%2Fshop.example%2F%3Fm%3Danna+news%40xn--exmple-cua.org",
    ] {
        let document = stored_by(Ingress::Http, &arrived("/pixel.gif", query, &[]));
        assert!(document.contains(&hash), "{query}: {document}");
    }
}

#[test]
fn who_asks_not_to_be_tracked_leaves_only_harmless_parameters() {
    let names = [
        "mc_eid",
        "_hsenc",
        "mkt_tok",
        "_kx",
        "vero_id",
        "irclickid",
        "epik",
        "ScCid",
        "rdt_cid",
        "igshid",
        "srsltid",
        "customer_id",
        "member_id",
        "subscriberid",
        "device_id",
        "client_id",
        "uuid",
        "_ga",
        "user[id]",
        "user_email",
        "gclid",
        "FBCLID",
        "anything",
        "x",
    ];
    let ids: Vec<_> = (0..names.len()).map(|number| format!("Zq{number}Zq")).collect();
    let pairs: Vec<_> = names
        .iter()
        .zip(&ids)
        .map(|(name, id)| format!("{}={id}", encode(name, 1)))
        .collect();
    let page = format!("https://shop.example/spring?{}#Zq-f", pairs.join("&"));
    let query = format!(
        "{}&url={}&utm_source=mail&utm_campaign=Spring%202026&utm_content=Zq4f9a8b7c6d5e&action=click&screen=large&language=de",
        pairs.join("&"),
        encode(&page, 1)
    );
    for wish in [("Sec-GPC", "1"), ("DNT", "1")] {
        let document = stored_by(Ingress::Http, &arrived("/pixel/mail.gif", &query, &[wish]));
        assert!(!document.contains("Zq"), "{document}");
        let event = parsed(&document);
        assert_eq!(event["url"]["full"], "https://shop.example/spring");
        assert_eq!(event["campaign"], json!({"source": "mail", "name": "Spring 2026"}));
        assert_eq!(event["browser"], json!({"language": "de", "screen": "large"}));
        assert_eq!(
            (&event["event"]["action"], &event["pixel"]["code"]),
            (&json!("click"), &json!("mail"))
        );
        let body = HttpRequest {
            method: "POST".to_owned(),
            body: Some(json!({"id": "Zq1Zq"}).to_string().into_bytes()),
            ..arrived("/pixel", "", &[wish])
        };
        assert!(!stored_by(Ingress::Http, &body).contains("Zq"));
    }
}

#[test]
fn invented_headers_are_not_stored() {
    let headers = [
        ("Sec-User", "Zq-anna"),
        ("Sec-Email", "Zq-anna"),
        ("Sec-GPC", "0"),
        ("Sec-Fetch-Dest", "image"),
        ("Sec-CH-UA-Mobile", "?0"),
        ("Sec-Purpose", "prefetch"),
    ];
    let document = stored_by(Ingress::Http, &arrived("/pixel.gif", "", &headers));
    assert!(!document.contains("Zq"), "{document}");
    let kept = &parsed(&document)["params"]["header"];
    for name in ["sec-gpc", "sec-fetch-dest", "sec-ch-ua-mobile", "sec-purpose"] {
        assert!(kept[name].is_string(), "{kept}");
    }
}

#[test]
fn a_code_is_the_same_with_any_extension_and_with_blanks_around_it() {
    for path in [
        "mail-1",
        "mail-1.gif",
        "mail-1.GIF",
        "mail-1.Png",
        "mail-1%20",
        "mail-1%20.gif",
        "%20mail-1.gif%09",
    ] {
        for ingress in [Ingress::Http, Ingress::Rest, Ingress::Passthrough] {
            let document = parsed(&stored_by(ingress, &arrived(&format!("/pixel/{path}"), "", &[])));
            assert_eq!(document["pixel"]["code"], "mail-1", "{ingress}: {path}");
        }
    }
    let served = serve()
        .argument("--ingress=http-api")
        .variable("PIXEL_PRIVACY_OPT_OUT", "mail-1")
        .start();
    for path in ["mail-1.gif", "mail-1.GIF", "mail-1%20", "mail-1%20.gif"] {
        let reply = served.get(&format!("/pixel/{path}"));
        assert_eq!(reply.header("x-pixel"), Some("ignored; reason=opted_out"), "{path}");
    }
    assert_eq!(served.documents().len(), 0);
}

#[test]
fn the_user_agent_is_the_one_that_the_ingress_names_where_the_header_is_missing() {
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let whole = arrived("/pixel.gif", "", &[("User-Agent", agent)]);
    for ingress in [Ingress::Passthrough, Ingress::Rest, Ingress::Http, Ingress::FunctionUrl] {
        let mut payload = parsed(&String::from_utf8(payload(ingress, &whole).expect("a payload")).expect("text"));
        for list in ["/headers", "/multiValueHeaders", "/params/header"] {
            if let Some(Value::Object(headers)) = payload.pointer_mut(list) {
                headers.retain(|name, _| !name.eq_ignore_ascii_case("user-agent"));
            }
        }
        let missing = Request::decode(payload.to_string().as_bytes()).expect("a request");
        let event = parsed(&stored(missing));
        assert_eq!(event["user_agent"]["original"], agent, "{ingress}");
        let whole = parsed(&stored_by(ingress, &whole));
        for pointer in ["/user_agent", "/visitor", "/visit/class", "/context"] {
            assert_eq!(event.pointer(pointer), whole.pointer(pointer), "{ingress}: {pointer}");
        }
    }
}

/// Every way in which one address came to a server is found by the command that erases it.
#[test]
fn a_person_is_found_in_every_spelling_of_the_address() {
    let served = serve().variable("PIXEL_PRIVACY_KEY", KEY).start();
    let targets = [
        "/pixel.gif?userid=anna+news@shop.example",
        "/pixel.gif?userid=anna%2Bnews@shop.example",
        "/pixel.gif?x=Anna+News@shop.example",
        "/pixel.gif?x=anna%252Bnews%2540shop.example",
        "/pixel.gif?x=mary.o'brien@example.org",
        "/pixel.gif?userid=mary.o'brien@example.org",
    ];
    for target in targets {
        assert_eq!(served.get(target).status, 200);
    }
    let referred = request(
        "GET",
        "/pixel.gif",
        &[("Referer", b"https://shop.example/u/mary.o'brien@example.org")],
    );
    assert_eq!(send(served.address, &referred).status, 200);
    assert_eq!(served.documents().len(), targets.len() + 1);
    let command = |arguments: &[&str]| {
        let output = pixel(served.folder())
            .args(arguments)
            .env("PIXEL_PRIVACY_KEY", KEY)
            .output()
            .expect("pixel starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    for (user, count) in [
        ("anna+news@shop.example", 4),
        ("ANNA+news@Shop.example", 4),
        ("mary.o'brien@example.org", 3),
    ] {
        let receipt = parsed(command(&["erase", "--dry-run", "--json", "--user", user]).trim());
        assert_eq!(receipt["found"], count, "{user}: {receipt:#}");
        let searched = receipt["searched"].to_string();
        assert_eq!(searched.contains("`+` as a blank"), user.contains('+'), "{searched}");
        assert!(!searched.contains("anna"), "{searched}");
        assert_eq!(command(&["export", "--user", user]).lines().count(), count, "{user}");
    }
}

// Campaigns and pages, alike in both stores.

fn groups(output: &str) -> BTreeMap<String, u64> {
    let answer = parsed(output.trim());
    let values = answer["by"][0]["values"].as_array().expect("a list");
    let pair = |group: &Value| {
        (
            group["value"].as_str().unwrap_or_default().to_owned(),
            group["events"].as_u64().unwrap_or_default(),
        )
    };
    values.iter().map(pair).collect()
}

const CODE_KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";

const HITS: [(&str, &str); 9] = [
    ("/pixel/word.gif?utm_campaign=autumn", ""),
    ("/pixel/page-word.gif", "https://mail.proton.me/inbox/7"),
    ("/pixel.gif?a=1", "https://shop.example/post?fbclid=abc1"),
    ("/pixel.gif?a=2", "https://shop.example/post?fbclid=abc2"),
    ("/pixel.gif?url=https://shop.example/post/%23sec1", ""),
    (
        "/pixel.gif?url=https://www.shop.example/post%3Futm_source%3Dx%23sec2",
        "",
    ),
    ("/pixel.gif", "https://outlook.live.com/mail/0/"),
    ("/pixel.gif", "https://shop.example"),
    ("/pixel/unknown.gif", ""),
];

#[test]
fn campaigns_and_pages_are_the_same_in_both_stores() {
    let check = |serve: crate::support::serving::Serve, ask: &dyn Fn(&std::path::Path, &[&str]) -> String| {
        let served = serve
            .variable("PIXEL_CODE_KEYS", CODE_KEYS)
            .variable("PIXEL_TOKENS", &entry(TOKEN, &Scope::ALL))
            .start();
        let folder = served.folder().to_owned();
        let signed = run_code(&["new", "--campaign", "spring"]);
        let get = |target: &str, referrer: &str| {
            let headers: &[(&str, &[u8])] = &[("Referer", referrer.as_bytes()), ("User-Agent", b"Mail/7")];
            let headers = if referrer.is_empty() { &headers[1..] } else { headers };
            assert_eq!(send(served.address, &request("GET", target, headers)).status, 200);
        };
        get(&format!("/pixel/{signed}.gif"), "");
        get(&format!("/pixel/{signed}.gif?utm_campaign=autumn"), "");
        for (target, referrer) in HITS {
            get(target, referrer);
        }
        // What is listed later changes nothing of these.
        let add = |code: &str, campaign: &str| {
            let body = json!({"code": code, "campaign": campaign}).to_string();
            let headers: &[(&str, &[u8])] = &[
                ("Authorization", format!("Bearer {TOKEN}").into_bytes().leak()),
                ("Content-Length", body.len().to_string().into_bytes().leak()),
            ];
            let request = [request("POST", "/v1/api/codes", headers), body.into_bytes()].concat();
            assert_eq!(send(served.address, &request).status, 201);
        };
        add("page-word", "Winter");
        add("other", "Unused");
        get("/pixel/page-word.gif", "");
        get("/pixel/page-word.gif?utm_campaign=autumn", "");
        let by = |field: &str| groups(&ask(&folder, &["stats", "--since", "all", "--json", "--by", field]));
        crate::support::serving::wait_for("the hits to be stored", || {
            (by("event.action").values().sum::<u64>() == 13).then_some(())
        });
        let campaigns = by("campaign.name");
        assert_eq!(
            campaigns,
            BTreeMap::from([("autumn", 3), ("spring", 1), ("Winter", 1)].map(|(name, count)| (name.to_owned(), count)))
        );
        let pages = by("page");
        assert_eq!(
            pages,
            BTreeMap::from([("shop.example/post".to_owned(), 4), ("shop.example/".to_owned(), 1)])
        );
    };
    let file = |folder: &std::path::Path, arguments: &[&str]| {
        let output = run(folder, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    check(serve(), &file);
    let subject = matrix::any();
    let index = Index::new(&subject, "campaigns");
    let set_up = subject.pixel(&["setup", "-d", &subject.destination(&index.name)]);
    assert!(set_up.status.success(), "{set_up:?}");
    let mut stage = serve().to(subject.destination(&index.name));
    for (name, value) in subject.variables() {
        stage = stage.variable(name, &value);
    }
    check(stage, &|folder, arguments| {
        let destination = subject.destination(&index.name);
        let output = pixel(folder)
            .args(arguments)
            .args(["-d", &destination])
            .envs(subject.variables())
            .output()
            .expect("pixel starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    });
}

fn run_code(arguments: &[&str]) -> String {
    let output = pixel(&std::env::temp_dir())
        .arg("code")
        .args(arguments)
        .env("PIXEL_CODE_KEYS", CODE_KEYS)
        .output()
        .expect("pixel starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
