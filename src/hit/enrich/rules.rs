//! Tables of words that classify a text, and the search for all of them at once.
//!
//! The tables are text files in `src/hit/enrich/rules/`. A line gives a meaning and the patterns that show it:
//!
//! ```text
//! Edge: <edg/ | <edge/ & !xbox
//! ```
//!
//! Lines are ranked: the first that matches is the result. The patterns of a line are alternatives; `&` joins words
//! that must all occur, `!` marks one that must not occur, and `@` the one before the version (without `@`, the first
//! of the pattern). Letters match either case. In a word, `^` and `$` mean the ends of the text, `<` and `>` the ends
//! of a word.
//!
//! There are no regular expressions here: a search takes time in proportion to the length of the text, which is limited to
//! [`MAX_TEXT_BYTES`], and nothing is built before the first search.

use std::ops::Range;
use std::sync::OnceLock;

/// The rest of a longer text is not searched.
pub const MAX_TEXT_BYTES: usize = 1024;

/// The table of classes of visit.
pub const VISITS: usize = 0;
/// The table of programs that name themselves.
pub const PROGRAMS: usize = 1;
/// The table of browsers.
pub const BROWSERS: usize = 2;
/// The table of operating systems.
pub const SYSTEMS: usize = 3;
/// The table of devices.
pub const DEVICES: usize = 4;

/// Returns all tables for user agents. They are parsed at the first user agent, which the function reads only after its
/// first reply.
pub fn agents() -> &'static Rules {
    static AGENTS: OnceLock<Rules> = OnceLock::new();
    AGENTS.get_or_init(|| {
        Rules::new(&[
            include_str!("rules/visits.rules"),
            include_str!("rules/programs.rules"),
            include_str!("rules/browsers.rules"),
            include_str!("rules/systems.rules"),
            include_str!("rules/devices.rules"),
        ])
    })
}

/// The condition at one end of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Border {
    /// Anything may be next to the word.
    Open,
    /// The next character is not a letter or digit.
    Word,
    /// The text ends here.
    Text,
}

/// A word to search for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needle {
    bytes: &'static [u8],
    before: Border,
    behind: Border,
    /// Another needle whose first bytes have the same hash, or [`NONE`].
    next: u16,
}

/// The number that stands for no needle.
const NONE: u16 = u16::MAX;

impl Needle {
    fn parse(text: &'static str) -> Self {
        let (before, text) = match text.as_bytes().first() {
            Some(b'^') => (Border::Text, &text[1..]),
            Some(b'<') => (Border::Word, &text[1..]),
            _ => (Border::Open, text),
        };
        let (behind, text) = match text.as_bytes().last() {
            Some(b'$') => (Border::Text, &text[..text.len() - 1]),
            Some(b'>') => (Border::Word, &text[..text.len() - 1]),
            _ => (Border::Open, text),
        };
        Self {
            bytes: text.as_bytes(),
            before,
            behind,
            next: NONE,
        }
    }

    /// Returns the hash of the first bytes.
    const fn key(&self) -> usize {
        hash([self.bytes[0], self.bytes[1], self.bytes[2]])
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.bytes, self.before, self.behind) == (other.bytes, other.before, other.behind)
    }

    /// Returns true if the needle is at `place` of a lower-case text.
    fn is_at(&self, text: &[u8], place: usize) -> bool {
        let fits = |border, next: Option<&u8>| match border {
            Border::Open => true,
            Border::Word => !next.is_some_and(u8::is_ascii_alphanumeric),
            Border::Text => next.is_none(),
        };
        text[place..].starts_with(self.bytes)
            && fits(self.before, place.checked_sub(1).and_then(|place| text.get(place)))
            && fits(self.behind, text.get(place + self.bytes.len()))
    }

    fn find(&self, text: &[u8]) -> Option<usize> {
        (0..text.len()).find(|place| self.is_at(text, *place))
    }
}

/// One pattern of a line. There are thousands, which the function keeps in memory, so the numbers are small.
#[derive(Debug)]
struct Rule {
    /// The index in [`Table::meanings`].
    meaning: u16,
    /// The range in [`Table::terms`]: the needle, and true if it must occur.
    terms: Range<u16>,
    /// The needle before the version.
    version: u16,
}

/// Returns an index of a table as a small number.
fn to_index(number: usize) -> u16 {
    u16::try_from(number).unwrap_or_else(|_| unreachable!("few thousand words"))
}

/// One file of lines.
#[derive(Debug, Default)]
struct Table {
    meanings: Vec<&'static str>,
    rules: Vec<Rule>,
    terms: Vec<(u16, bool)>,
    /// The first needle that must occur, and the number of the rule, sorted; few rules are tried for a text.
    needed: Vec<(u16, u16)>,
    /// The rules that need no needle.
    free: Vec<u16>,
}

impl Table {
    fn terms(&self, rule: &Rule) -> &[(u16, bool)] {
        &self.terms[usize::from(rule.terms.start)..usize::from(rule.terms.end)]
    }

    fn index(&mut self) {
        self.needed.reserve_exact(self.rules.len());
        for (rule, number) in self.rules.iter().zip(0..) {
            let needed = self.terms(rule).iter().find(|(_, wanted)| *wanted);
            match needed.copied() {
                Some((needle, _)) => self.needed.push((needle, number)),
                None => self.free.push(number),
            }
        }
        self.needed.sort_unstable();
    }

    /// Returns the rules whose first required needle is this one.
    fn rules_for_needle(&self, needle: u16) -> impl Iterator<Item = u16> {
        let begin = self.needed.partition_point(|(known, _)| *known < needle);
        let found = self.needed[begin..]
            .iter()
            .take_while(move |(known, _)| *known == needle);
        found.map(|(_, rule)| *rule)
    }
}

/// A set of tables that are searched together.
#[derive(Debug)]
pub struct Rules {
    needles: Vec<Needle>,
    tables: Vec<Table>,
    /// The first needle for each hash of first bytes, or [`NONE`]; each needle names the next one.
    starts: Vec<u16>,
}

/// The number of hashes: enough that most positions of a text match no needle.
const HASHES: usize = 4096;

/// The minimum length of a needle in bytes, so that few are tried in vain.
const KEY: usize = 3;

const fn hash(bytes: [u8; KEY]) -> usize {
    let [a, b, c] = bytes;
    ((a as usize) ^ ((b as usize) << 4) ^ ((c as usize) << 8) ^ ((b as usize) >> 3)) % HASHES
}

impl Rules {
    /// Parses the tables. Empty lines and those that begin with `#` are skipped.
    ///
    /// # Panics
    ///
    /// When a word has fewer than three letters, a line has no meaning, or there are more than 65,535 words: the tables are
    /// part of the program, and a test reads them all.
    pub fn new(files: &[&'static str]) -> Self {
        let mut rules = Self {
            needles: Vec::new(),
            tables: Vec::with_capacity(files.len()),
            starts: vec![NONE; HASHES],
        };
        for file in files {
            let lines = || file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            let patterns = file.matches(" | ").count() + lines().count();
            let mut table = Table {
                rules: Vec::with_capacity(patterns),
                terms: Vec::with_capacity(patterns + file.matches(" & ").count()),
                ..Table::default()
            };
            rules.needles.reserve_exact(table.terms.capacity());
            for (meaning, patterns) in lines().filter_map(|line| line.split_once(": ")) {
                table.meanings.push(meaning.trim());
                for pattern in patterns.split(" | ") {
                    let begin = to_index(table.terms.len());
                    let mut version = None;
                    for term in pattern.split(" & ") {
                        let (wanted, word) = term.strip_prefix('!').map_or((true, term), |word| (false, word));
                        let (marked, word) = word.strip_prefix('@').map_or((false, word), |word| (true, word));
                        let needle = rules.add_needle(Needle::parse(word));
                        table.terms.push((needle, wanted));
                        if marked || version.is_none() {
                            version = Some(needle);
                        }
                    }
                    table.rules.push(Rule {
                        meaning: to_index(table.meanings.len() - 1),
                        terms: begin..to_index(table.terms.len()),
                        version: version.unwrap_or_default(),
                    });
                }
            }
            table.index();
            rules.tables.push(table);
        }
        rules.needles.shrink_to_fit();
        rules
    }

    /// Returns the needles whose first bytes have this hash.
    fn needles_with_hash(&self, key: usize) -> impl Iterator<Item = (u16, &Needle)> {
        let mut next = self.starts[key];
        std::iter::from_fn(move || {
            let number = next;
            let needle = self.needles.get(usize::from(number))?;
            next = needle.next;
            Some((number, needle))
        })
    }

    /// Returns the number of a needle, and adds it if it is new.
    fn add_needle(&mut self, needle: Needle) -> u16 {
        assert!(needle.bytes.len() >= KEY, "too short: {needle:?}");
        let key = needle.key();
        if let Some((number, _)) = self.needles_with_hash(key).find(|(_, known)| known.is_same(&needle)) {
            return number;
        }
        let number = to_index(self.needles.len());
        let next = std::mem::replace(&mut self.starts[key], number);
        self.needles.push(Needle { next, ..needle });
        number
    }

    /// Searches a text for all words.
    pub fn search<'a>(&'a self, text: &str) -> RuleMatches<'a> {
        let mut bytes = text.as_bytes()[..text.len().min(MAX_TEXT_BYTES)].to_vec();
        bytes.make_ascii_lowercase();
        let mut found = vec![0_u64; self.needles.len().div_ceil(64)];
        let mut tried = 0;
        for place in 0..bytes.len().saturating_sub(KEY - 1) {
            let key = hash([bytes[place], bytes[place + 1], bytes[place + 2]]);
            for (number, needle) in self.needles_with_hash(key) {
                tried += 1;
                if needle.is_at(&bytes, place) {
                    found[usize::from(number) / 64] |= 1 << (number % 64);
                }
            }
        }
        RuleMatches {
            rules: self,
            text: bytes,
            words: found,
            tried,
        }
    }
}

/// The matches found in a text.
#[derive(Debug)]
pub struct RuleMatches<'a> {
    rules: &'a Rules,
    /// The text in lower case.
    text: Vec<u8>,
    /// One bit for each word.
    words: Vec<u64>,
    tried: usize,
}

/// The result of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// The meaning of the line.
    pub meaning: &'static str,
    /// The version after the word, if there is one: numbers with dots.
    pub version: Option<String>,
}

impl RuleMatches<'_> {
    fn has(&self, needle: u16) -> bool {
        let number = usize::from(needle);
        self.words[number / 64] >> (number % 64) & 1 == 1
    }

    /// Returns the needles that were found.
    fn needles(&self) -> impl Iterator<Item = u16> {
        let words = self.words.iter().zip((0..).step_by(64));
        words.flat_map(|(word, first)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let place = u16::try_from(rest.trailing_zeros()).unwrap_or_default();
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    first + place
                })
            })
        })
    }

    /// Returns the first rule that matches, and its meaning.
    fn find_rule(&self, table: usize) -> Option<(&Rule, &'static str)> {
        let table = &self.rules.tables[table];
        let fits = |number: &u16| {
            let mut terms = table.terms(&table.rules[usize::from(*number)]).iter();
            terms.all(|(needle, wanted)| self.has(*needle) == *wanted)
        };
        let candidates = self.needles().flat_map(|needle| table.rules_for_needle(needle));
        let first = candidates.chain(table.free.iter().copied()).filter(fits).min()?;
        let rule = table.rules.get(usize::from(first))?;
        Some((rule, table.meanings[usize::from(rule.meaning)]))
    }

    /// Returns the number of words compared with the text, which is the cost of a search: a few for each of its bytes.
    pub const fn tried(&self) -> usize {
        self.tried
    }

    /// Returns the meaning of the first line of a table that matches.
    pub fn meaning(&self, table: usize) -> Option<&'static str> {
        self.find_rule(table).map(|(_, meaning)| meaning)
    }

    /// Returns the meaning of the first line of a table that matches, and the version after its word.
    pub fn first_match(&self, table: usize) -> Option<RuleMatch> {
        let (rule, meaning) = self.find_rule(table)?;
        let needle = self.rules.needles[usize::from(rule.version)];
        let version = needle
            .find(&self.text)
            .and_then(|place| version(&self.text[place + needle.bytes.len()..]));
        Some(RuleMatch { meaning, version })
    }
}

/// Parses the version at the beginning of a text, after at most two separators: up to four numbers, with dots between them.
pub(crate) fn version(text: &[u8]) -> Option<String> {
    let marks: &[u8] = b"/ -_:=;(v";
    let begin = text.iter().take(3).position(|byte| !marks.contains(byte))?;
    let mut version = String::new();
    for number in text[begin..].split(|byte| *byte == b'.' || *byte == b'_').take(4) {
        let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > 10 {
            break;
        }
        if !version.is_empty() {
            version.push('.');
        }
        version.extend(number[..digits].iter().map(|byte| char::from(*byte)));
        if digits < number.len() {
            break;
        }
    }
    (!version.is_empty()).then_some(version)
}
