//! Requests that try to break a mapping template, and the document each must become.
//!
//! Shared by the tests of the template itself and of anything else that renders it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::velocity::TemplateInput;

/// The keys of the document's `context`, each with the member of `$context` that it holds.
pub const CONTEXT: [(&str, &str); 21] = [
    ("account-id", "identity.accountId"),
    ("api-id", "apiId"),
    ("api-key", "identity.apiKey"),
    ("authorizer-principal-id", "authorizer.principalId"),
    ("caller", "identity.caller"),
    (
        "cognito-authentication-provider",
        "identity.cognitoAuthenticationProvider",
    ),
    ("cognito-authentication-type", "identity.cognitoAuthenticationType"),
    ("cognito-identity-id", "identity.cognitoIdentityId"),
    ("cognito-identity-pool-id", "identity.cognitoIdentityPoolId"),
    ("domain-name", "domainName"),
    ("extended-request-id", "extendedRequestId"),
    ("http-method", "httpMethod"),
    ("request-id", "requestId"),
    ("request-time-epoch", "requestTimeEpoch"),
    ("resource-id", "resourceId"),
    ("resource-path", "resourcePath"),
    ("source-ip", "identity.sourceIp"),
    ("stage", "stage"),
    ("user", "identity.user"),
    ("user-agent", "identity.userAgent"),
    ("user-arn", "identity.userArn"),
];

/// Texts that each go into every name, value and context member of one request.
const TEXTS: [(&str, &str); 46] = [
    ("empty", ""),
    ("space", " "),
    ("apostrophe", "It's"),
    ("two apostrophes", "''"),
    ("quote", "say \"hi\""),
    ("backslash", r"C:\temp"),
    ("trailing backslash", r"ends in \"),
    ("backslash, apostrophe", r"\'"),
    ("apostrophe, backslash", r"'\"),
    ("two backslashes, apostrophe", r"\\'"),
    ("three backslashes, apostrophe", r"\\\'"),
    ("backslash, quote", r#"\""#),
    ("quote, backslash", r#""\"#),
    ("two backslashes, quote", r#"\\""#),
    ("quote, apostrophe, backslash", r#""'\'""#),
    ("escape in the text", r"\u0022, \n, \x41"),
    ("half an escape", r"\u00"),
    ("dollar group", r"$0 $1 \$0"),
    ("script end", "</script><script>alert('x')</script>"),
    ("html comment", "<!-- & -->"),
    ("slashes", "//a/b\\/c"),
    ("newline", "a\nb"),
    ("carriage return", "a\r\nb\rc"),
    ("tab", "\ta\t"),
    ("nul", "a\0b"),
    (
        "control characters",
        "\u{0}\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{9}\u{a}\u{b}\u{c}\u{d}\u{e}\u{f}\
         \u{10}\u{11}\u{12}\u{13}\u{14}\u{15}\u{16}\u{17}\u{18}\u{19}\u{1a}\u{1b}\u{1c}\u{1d}\u{1e}\u{1f}",
    ),
    ("delete and C1", "\u{7f}\u{80}\u{85}\u{9f}\u{a0}"),
    ("line and paragraph separator", "a\u{2028}b\u{2029}c"),
    ("byte order mark", "\u{feff}x\u{fffe}\u{ffff}"),
    ("accents", "Zoë Größe Łódź"),
    ("scripts", "日本語 עברית ไทย"),
    ("emoji", "🙂👩‍👩‍👧🏴󠁧󠁢󠁳󠁣󠁴󠁿"),
    ("last code point", "\u{10ffff}\u{10000}"),
    ("reference", "$context.apiId"),
    ("quiet reference", "$!context.identity.sourceIp"),
    ("formal reference", "${x} $!{stageVariables}"),
    ("tool reference", "$util"),
    ("method reference", "$util.base64Encode('x')"),
    ("input reference", "$input.json('$')"),
    ("set", "#set($x=1)$x"),
    ("end", "#end"),
    (
        "directives",
        "#if(true)a#else b#end #foreach($i in [1..9])#stop #parse('x') #evaluate('y')",
    ),
    ("line comment", "a ## b"),
    ("block comment", "#* a *# #[[ b ]]#"),
    ("json", "{\"a\": [1, true, null]}"),
    ("injection", "x\", \"source-ip\": \"6.6.6.6"),
];

/// A plain request, as a mail program sends it.
pub fn benign() -> TemplateInput {
    TemplateInput {
        path: map([("campaign", "spring")]),
        query: map([("id", "newsletter-7"), ("to", "reader@example.org")]),
        headers: map([
            ("Host", "pixel.example.org"),
            ("User-Agent", "Mozilla/5.0 (X11)"),
            ("Accept", "image/*"),
        ]),
        stage_variables: map([("index", "opens")]),
        context: map([
            ("apiId", "a1b2c3d4e5"),
            ("domainName", "pixel.example.org"),
            ("extendedRequestId", "JKJaXmPLvHcESHA="),
            ("httpMethod", "GET"),
            ("identity.sourceIp", "192.0.2.7"),
            ("identity.userAgent", "Mozilla/5.0 (X11)"),
            ("requestId", "0f5e6a1c-0000-4000-8000-000000000001"),
            ("requestTimeEpoch", "1700000000000"),
            ("resourceId", "k7x2"),
            ("resourcePath", "/{campaign}"),
            ("stage", "live"),
        ]),
        body: None,
    }
}

/// The named cases: `benign` and `nothing` first, then one for each way to do harm.
pub fn hostile() -> Vec<(&'static str, TemplateInput)> {
    let mut cases = vec![("benign", benign()), ("nothing", TemplateInput::default())];
    cases.extend(TEXTS.map(|(name, text)| (name, everywhere(text))));
    cases.extend(places());
    cases.extend(sizes());
    cases.extend(bodies());
    cases
}

/// As many requests of nasty pieces as asked for, the same ones for the same seed.
pub fn random(seed: u64, count: usize) -> Vec<TemplateInput> {
    let mut random = Random(seed);
    (0..count).map(|_| random.input()).collect()
}

/// The document that the template must render for the input.
pub fn expected(input: &TemplateInput) -> Value {
    let mut context = Map::new();
    for (key, member) in CONTEXT {
        let value = input.context.get(member).cloned().unwrap_or_default();
        context.insert(key.to_owned(), value.into());
    }
    json!({
        "body-json": expected_body(input.body.as_deref().unwrap_or_default()),
        "params": { "path": &input.path, "querystring": &input.query, "header": &input.headers },
        "stage-variables": &input.stage_variables,
        "context": context,
    })
}

fn expected_body(body: &str) -> Value {
    if body.is_empty() {
        return json!({});
    }
    serde_json::from_str(body).unwrap_or_else(|_| body.into())
}

/// The text as every name and value, except that a context member keeps its name.
fn everywhere(text: &str) -> TemplateInput {
    let values = map([(text, text), ("name", text)]);
    TemplateInput {
        path: values.clone(),
        query: values.clone(),
        headers: values.clone(),
        stage_variables: values,
        context: CONTEXT.map(|(_, member)| (member.to_owned(), text.to_owned())).into(),
        body: Some(json!({ text: [text] }).to_string()),
    }
}

/// One hostile text in one place of a benign request.
fn places() -> Vec<(&'static str, TemplateInput)> {
    type Place = fn(&mut TemplateInput) -> &mut BTreeMap<String, String>;
    let path: Place = |input| &mut input.path;
    let query: Place = |input| &mut input.query;
    let header: Place = |input| &mut input.headers;
    let stage: Place = |input| &mut input.stage_variables;
    let context: Place = |input| &mut input.context;

    let spoof = "x\", \"source-ip\": \"6.6.6.6";
    let escape = "x\"}}, \"context\": {\"source-ip\": \"6.6.6.6\"}, \"rest\": {\"a\": {\"b\": \"c";
    let cases = [
        ("apostrophe in a query value", query, "q", "cody's lab"),
        ("apostrophe in a header value", header, "Referer", "/it's"),
        ("apostrophe in a path value", path, "campaign", "it's"),
        ("apostrophe in a stage variable", stage, "index", "it's"),
        ("quote in a query name", query, "a\"b", "1"),
        ("backslash in a query name", query, "a\\", "1"),
        ("apostrophe in a query name", query, "it's", "1"),
        ("quote in the User-Agent", context, "identity.userAgent", "\""),
        ("spoof in the User-Agent", context, "identity.userAgent", spoof),
        ("escape in the User-Agent", context, "identity.userAgent", escape),
        ("spoof in the request id", context, "requestId", spoof),
        ("spoof in the principal", context, "authorizer.principalId", spoof),
        ("escape in a query value", query, "id", escape),
        ("escape in a query name", query, escape, "1"),
        ("escape in a header name", header, escape, "1"),
        ("second value by name", query, "id\": \"forged\", \"x", "1"),
        ("escape in a stage variable", stage, "index", escape),
        ("escape in a stage variable's name", stage, escape, "1"),
        ("a map's methods as names", query, "keySet", "class"),
        ("a map's property as a name", query, "empty", "size"),
    ];
    cases
        .map(|(case, place, name, value)| {
            let mut input = benign();
            place(&mut input).insert(name.to_owned(), value.to_owned());
            (case, input)
        })
        .into()
}

fn sizes() -> Vec<(&'static str, TemplateInput)> {
    let numbered = |count: u32, name: &str, value: &str| -> BTreeMap<_, _> {
        (0..count)
            .map(|number| (format!("{name}{number}"), format!("{value}{number}")))
            .collect()
    };
    let control = |number| char::from_u32(number).expect("a C0 control").to_string();
    let each_control = (0..32)
        .map(|number| (control(number), format!("a{}", control(number))))
        .collect();
    vec![
        ("8 KB of letters", everywhere(&"x".repeat(8192))),
        ("8 KB of quotes", everywhere(&"\"".repeat(8192))),
        ("8 KB of backslashes and apostrophes", everywhere(&r"\'".repeat(4096))),
        ("8 KB of emoji", everywhere(&"🙂".repeat(2048))),
        (
            "200 headers",
            TemplateInput {
                headers: numbered(200, "X-'\"\\-", "it's \"\\"),
                ..benign()
            },
        ),
        (
            "200 query parameters",
            TemplateInput {
                query: numbered(200, "$q#", "#end'"),
                ..benign()
            },
        ),
        (
            "each control character",
            TemplateInput {
                query: each_control,
                ..benign()
            },
        ),
    ]
}

fn bodies() -> Vec<(&'static str, TemplateInput)> {
    let case = |name, body: &str| {
        (
            name,
            TemplateInput {
                body: Some(body.to_owned()),
                ..benign()
            },
        )
    };
    vec![
        case("empty body", ""),
        case("array body", "[1, \"it's\", null, true, {}]"),
        case("text body", "\"it's \\\"quoted\\\" \\\\ \\u2028\""),
        case("null body", "null"),
        case("form body", "a=it's&b=\"\\"),
        case(
            "body that closes the document",
            "{}, \"context\": {\"source-ip\": \"6.6.6.6\"}, \"x\": {}",
        ),
        case(
            "body with references",
            "{\"$context.apiId\": \"#set($x=1) $input.body #end ##\"}",
        ),
        case("body with a repeated key", "{\"a\": 1, \"a\": 2}"),
    ]
}

fn map<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
    entries.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Splitmix64.
struct Random(u64);

impl Random {
    /// What texts are made of: the characters of JSON, Velocity and the escapes, and pieces that mean something together.
    const PIECES: [&str; 40] = [
        "\"",
        "\"",
        "'",
        "'",
        "\\",
        "\\",
        "\\'",
        "\\\"",
        "\\u",
        "/",
        "</",
        "\n",
        "\r",
        "\t",
        "\0",
        "\u{8}",
        "\u{1f}",
        "\u{7f}",
        "\u{2028}",
        "é",
        "日",
        "🙂",
        "\u{10ffff}",
        "$",
        "$!",
        "${",
        "}",
        "{",
        "#",
        "##",
        "#end",
        "#set($x=1)",
        "$util",
        "$name",
        "$foreach.hasNext",
        "\": \"",
        "\", \"",
        ":",
        ",",
        "a",
    ];

    fn input(&mut self) -> TemplateInput {
        TemplateInput {
            path: self.map(),
            query: self.map(),
            headers: self.map(),
            stage_variables: self.map(),
            context: self.context(),
            body: self.body(),
        }
    }

    fn map(&mut self) -> BTreeMap<String, String> {
        (0..self.below(5)).map(|_| (self.text(), self.text())).collect()
    }

    fn context(&mut self) -> BTreeMap<String, String> {
        let mut context = BTreeMap::new();
        for (_, member) in CONTEXT {
            if self.below(4) > 0 {
                context.insert(member.to_owned(), self.text());
            }
        }
        context
    }

    fn body(&mut self) -> Option<String> {
        match self.below(4) {
            0 => None,
            1 => Some(format!("a={}", self.text())),
            _ => Some(json!({ self.text(): self.text(), "list": [self.below(1000), self.map()] }).to_string()),
        }
    }

    fn text(&mut self) -> String {
        (0..self.below(9))
            .map(|_| Self::PIECES[self.below(Self::PIECES.len())])
            .collect()
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a bound fits 64 bits");
        usize::try_from(self.next() % bound).expect("less than the bound")
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
