//! The part of the Kibana query language that the dashboards use: read, turned into the query that Kibana and OpenSearch
//! Dashboards make of it (`src/plugins/data/common/es_query/kuery` there), and decided for an event in memory.

use serde_json::{Value, json};

use super::events::values;

#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    All,
    Exists(String),
    Is(String, String),
    /// The operator's name in a range query, and the number.
    Compare(String, &'static str, i64),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

use Query::{All, And, Compare, Exists, Is, Not, Or};

pub fn parse(text: &str) -> Result<Query, String> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
    };
    if parser.tokens.is_empty() {
        return Ok(All);
    }
    let query = parser.or()?;
    match parser.peek() {
        None => Ok(query),
        Some(left) => Err(format!("`{left}` is too much in `{text}`")),
    }
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '<' | '>' if rest[1..].starts_with('=') => 2,
            '(' | ')' | ':' | '<' | '>' => 1,
            '"' | '\\' | '{' => return Err(format!("`{first}` in `{text}` is not understood here")),
            _ => rest
                .find(|end: char| end.is_whitespace() || "():<>\"".contains(end))
                .unwrap_or(rest.len()),
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<String>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.next).map(String::as_str)
    }

    fn take(&mut self, token: &str) -> bool {
        let there = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(token));
        self.next += usize::from(there);
        there
    }

    fn word(&mut self) -> Result<String, String> {
        let word = self.peek().ok_or("the query ends too early")?.to_owned();
        if "():<>".contains(word.as_str()) || ["and", "or", "not"].contains(&word.to_lowercase().as_str()) {
            return Err(format!("`{word}` stands where a word should"));
        }
        self.next += 1;
        Ok(word)
    }

    fn or(&mut self) -> Result<Query, String> {
        let mut parts = vec![self.and()?];
        while self.take("or") {
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Or))
    }

    fn and(&mut self) -> Result<Query, String> {
        let mut parts = vec![self.not()?];
        while self.take("and") {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, And))
    }

    fn not(&mut self) -> Result<Query, String> {
        if self.take("not") {
            return Ok(Not(Box::new(self.not()?)));
        }
        if self.take("(") {
            let inner = self.or()?;
            return if self.take(")") {
                Ok(inner)
            } else {
                Err("`)` is missing".to_owned())
            };
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Query, String> {
        let field = self.word()?;
        for (sign, name) in [("<=", "lte"), (">=", "gte"), ("<", "lt"), (">", "gt")] {
            if self.take(sign) {
                let number = self.word()?;
                let number = number.parse().map_err(|_| format!("`{number}` is no number"))?;
                return Ok(Compare(field, name, number));
            }
        }
        if !self.take(":") {
            return Err(format!("nothing is said of `{field}`"));
        }
        if !self.take("(") {
            return Ok(is(&field, self.word()?));
        }
        let mut values = vec![is(&field, self.word()?)];
        while self.take("or") {
            values.push(is(&field, self.word()?));
        }
        if self.take(")") {
            Ok(one_or(values, Or))
        } else {
            Err("`)` is missing".to_owned())
        }
    }
}

fn is(field: &str, value: String) -> Query {
    if value == "*" {
        Exists(field.to_owned())
    } else {
        Is(field.to_owned(), value)
    }
}

fn one_or(mut parts: Vec<Query>, many: fn(Vec<Query>) -> Query) -> Query {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}

impl Query {
    /// The query as it is sent.
    pub fn dsl(&self) -> Value {
        let one = |clause: Value| json!({"bool": {"should": [clause], "minimum_should_match": 1}});
        let all = |parts: &[Self]| parts.iter().map(Self::dsl).collect::<Value>();
        match self {
            All => json!({"match_all": {}}),
            Exists(field) => one(json!({"exists": {"field": field}})),
            Is(field, value) => one(json!({"match": {field: value}})),
            Compare(field, operator, number) => one(json!({"range": {field: {*operator: number.to_string()}}})),
            Not(inner) => json!({"bool": {"must_not": inner.dsl()}}),
            And(parts) => json!({"bool": {"filter": all(parts)}}),
            Or(parts) => json!({"bool": {"should": all(parts), "minimum_should_match": 1}}),
        }
    }

    /// Whether an event is meant.
    pub fn holds(&self, event: &Value) -> bool {
        match self {
            All => true,
            Exists(field) => !values(event, field).is_empty(),
            Is(field, value) => values(event, field).contains(value),
            Compare(field, operator, number) => values(event, field).iter().any(|value| {
                let value: i64 = value.parse().expect("only numbers are compared");
                match *operator {
                    "lt" => value < *number,
                    "lte" => value <= *number,
                    "gt" => value > *number,
                    _ => value >= *number,
                }
            }),
            Not(inner) => !inner.holds(event),
            And(parts) => parts.iter().all(|part| part.holds(event)),
            Or(parts) => parts.iter().any(|part| part.holds(event)),
        }
    }

    /// The fields that it names, and whether it compares them as numbers.
    pub fn fields(&self) -> Vec<(&str, bool)> {
        match self {
            All => Vec::new(),
            Exists(field) | Is(field, _) => vec![(field, false)],
            Compare(field, ..) => vec![(field, true)],
            Not(inner) => inner.fields(),
            And(parts) | Or(parts) => parts.iter().flat_map(Self::fields).collect(),
        }
    }
}

#[test]
fn queries_are_read_as_kibana_reads_them() {
    let field = |value: &str| is("a", value.to_owned());
    let cases = [
        ("", All),
        ("a: *", Exists("a".into())),
        ("not a: x and a: y", And(vec![Not(Box::new(field("x"))), field("y")])),
        (
            "a: x or a: y and a: z",
            Or(vec![field("x"), And(vec![field("y"), field("z")])]),
        ),
        ("NOT a:(x OR y)", Not(Box::new(Or(vec![field("x"), field("y")])))),
        (
            "(a: x or a: y) and a < 5",
            And(vec![Or(vec![field("x"), field("y")]), Compare("a".into(), "lt", 5)]),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }
    for text in ["a:", "a", "(a: x", "a: x)", "a: \"x\"", "and", "a < x"] {
        parse(text).expect_err(text);
    }
}
