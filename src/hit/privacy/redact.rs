//! Removes from texts what must not be stored.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

use super::decode::View;
use super::mail::{self, normalize_address};
use super::names::{ParameterPolicy, classify_parameter, may_be_secret};
use super::{AddressPolicy, Applied, Key, REPLACEMENT, UserPolicy, is_secret, names_person};
use crate::hit::code;
use crate::hit::code::can_name_person;

/// The policy by which texts are cleaned.
#[derive(Clone, Debug)]
pub struct Cleaner {
    /// The treatment of users and mail addresses.
    pub user: UserPolicy,
    /// The key of their hashes.
    pub key: Key,
    /// The treatment of addresses.
    pub address: AddressPolicy,
    /// The visitor's own addresses as texts, if known.
    pub own: Vec<String>,
    /// The further removals for a visitor who must stay anonymous.
    pub anonymous: Option<Anonymous>,
}

/// The additional rules for an anonymous visitor: ids of clicks are removed, and codes that may identify one person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anonymous {
    /// A code that is known to identify a mail, and is kept.
    pub of_mail: Option<String>,
}

/// The kind of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Agent,
}

/// The changes made while cleaning a text.
type Changes = BTreeSet<Applied>;

impl Cleaner {
    /// Returns a text as it may be stored, and adds the changes to `applied`. Cleaning it again changes nothing.
    pub fn clean<'t>(&self, text: &'t str, applied: &mut Changes) -> Cow<'t, str> {
        self.clean_as(Kind::Any, text, applied)
    }

    /// Cleans a text by which software describes itself, where four numbers with dots are a version.
    pub fn clean_agent<'t>(&self, text: &'t str, applied: &mut Changes) -> Cow<'t, str> {
        self.clean_as(Kind::Agent, text, applied)
    }

    fn clean_as<'t>(&self, kind: Kind, text: &'t str, applied: &mut Changes) -> Cow<'t, str> {
        let anonymous = self.anonymous.as_ref();
        let mut cleaned = match anonymous.and_then(|anonymous| without_codes(text, anonymous)) {
            Some(changed) => Cow::Owned(changed),
            None => Cow::Borrowed(text),
        };
        let marks = Marks::new(&cleaned);
        if !marks.any() {
            return cleaned;
        }
        if marks.has_structure()
            && let Some(changed) = self.clean_structure(kind, &cleaned, marks, applied)
        {
            cleaned = Cow::Owned(changed);
        }
        if marks.may_have_addresses()
            && let Some(changed) = self.clean_addresses(kind, &cleaned, applied)
        {
            cleaned = Cow::Owned(changed);
        }
        cleaned
    }

    /// Returns the replacement of a person's id; none if it is stored as received.
    pub fn person(&self, id: &str, applied: &mut Changes) -> Option<String> {
        match self.user {
            UserPolicy::Plain => None,
            UserPolicy::Drop => {
                applied.insert(Applied::UserDropped);
                Some(REPLACEMENT.to_owned())
            }
            // A hash was made here already.
            UserPolicy::Hash if holds_hash(id) || id.is_empty() => None,
            UserPolicy::Hash => {
                applied.insert(Applied::UserHashed);
                Some(self.key.user(id))
            }
        }
    }

    /// Removes users of URLs, values under names of secrets and persons, tokens and mail addresses from the fully
    /// decoded text.
    fn clean_structure(&self, kind: Kind, text: &str, marks: Marks, applied: &mut Changes) -> Option<String> {
        let mut changed: Option<String> = None;
        let encoded = marks.has(PERCENT | ENCODED);
        if marks.has(AT) || encoded {
            replace_found(text, &mut changed, |view| {
                let users = find_url_users(view);
                if !users.is_empty() {
                    applied.insert(Applied::SecretParameters);
                }
                users
            });
        }
        if self.user != UserPolicy::Plain && (marks.has(AT) || encoded) {
            replace_found(text, &mut changed, |view| {
                let hash = |address: &str| match self.user {
                    UserPolicy::Drop => REPLACEMENT.to_owned(),
                    _ => self.key.hash_user(&normalize_address(address)),
                };
                let found = mail::find_addresses(view, kind == Kind::Any, &hash);
                if !found.is_empty() {
                    applied.insert(match self.user {
                        UserPolicy::Drop => Applied::MailDropped,
                        _ => Applied::MailHashed,
                    });
                }
                found
            });
        }
        if marks.has(HASH)
            && let Cow::Owned(bare) = without_fragment(Cow::Borrowed(changed.as_deref().unwrap_or(text)))
        {
            applied.insert(Applied::SecretParameters);
            changed = Some(bare);
        }
        if marks.has(EQUALS | NAMED) || encoded {
            replace_found(text, &mut changed, |view| find_named_values(view, self, kind, applied));
        }
        if marks.has(TOKEN | EQUALS | NAMED) || encoded {
            replace_found(text, &mut changed, |view| {
                let tokens = find_tokens(view);
                if !tokens.is_empty() {
                    applied.insert(Applied::TokensReplaced);
                }
                tokens
                    .into_iter()
                    .map(|place| (place, REPLACEMENT.to_owned()))
                    .collect()
            });
        }
        changed
    }

    /// Returns what is stored instead of a value of this name; none where the value may stay.
    fn named_value(&self, name: &str, value: &str, in_query: bool, applied: &mut Changes) -> Option<String> {
        if is_secret(name) {
            applied.insert(Applied::SecretParameters);
            return Some(REPLACEMENT.to_owned());
        }
        if names_person(name) {
            return self.person(value, applied);
        }
        let kept = self.anonymous.is_none() || !in_query || classify_parameter(name, value) != ParameterPolicy::No;
        (!kept).then(|| REPLACEMENT.to_owned())
    }

    fn clean_addresses(&self, kind: Kind, text: &str, applied: &mut Changes) -> Option<String> {
        if self.address == AddressPolicy::Full {
            return None;
        }
        let short = |address: &str| {
            let parsed: Option<IpAddr> = address.parse().ok();
            let (kept, _) = parsed.map_or((None, None), |address| self.address.apply(address));
            kept.map_or_else(|| REPLACEMENT.to_owned(), |kept| kept.to_string())
        };
        let found = find_ip_addresses(kind, text, &self.own);
        replace(text, &found, short).inspect(|_| {
            applied.insert(Applied::AddressTexts);
        })
    }
}

/// The marks of what a text may contain, by its characters: most texts of most hits have none, and are scanned only once.
#[derive(Clone, Copy)]
struct Marks {
    /// The classes of the characters in it.
    seen: u16,
    dots: usize,
    colons: usize,
}

const EQUALS: u16 = 1;
const HASH: u16 = 2;
const AT: u16 = 4;
const PERCENT: u16 = 8;
const TOKEN: u16 = 16;
const DOT: u16 = 32;
const COLON: u16 = 64;
/// A character that ends a parameter or its name.
const BETWEEN: u16 = 128;
/// A fullwidth form, or an escape of JSON.
const ENCODED: u16 = 256;
/// A name before a colon that may be a secret's.
const NAMED: u16 = 512;

/// The class of each byte; most bytes have none.
const CLASSES: [u16; 256] = {
    let mut classes = [0; 256];
    let (between, mut place) = (b"&?;/ \t\r\n\"'{},()<>", 0);
    while place < between.len() {
        classes[between[place] as usize] = BETWEEN;
        place += 1;
    }
    classes[b'=' as usize] = EQUALS | BETWEEN;
    classes[b'%' as usize] = PERCENT | BETWEEN;
    classes[b'#' as usize] = HASH;
    classes[b'@' as usize] = AT;
    classes[b'.' as usize] = DOT;
    classes[b':' as usize] = COLON;
    classes[b'\\' as usize] = ENCODED;
    classes[0xEF] = ENCODED;
    classes[0xE3] = ENCODED;
    // `eyJ`, `Bearer` and `Basic`.
    classes[b'J' as usize] = TOKEN;
    classes[b'b' as usize] = TOKEN;
    classes[b'B' as usize] = TOKEN;
    classes
};

impl Marks {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (mut seen, mut dots, mut colons) = (0, 0, 0);
        if begins_with_scheme(bytes) {
            seen |= TOKEN;
        }
        for (place, byte) in bytes.iter().enumerate() {
            match CLASSES[usize::from(*byte)] {
                0 => {}
                DOT => dots += 1,
                COLON => {
                    colons += 1;
                    if may_be_named(bytes, place) {
                        seen |= NAMED;
                    }
                }
                TOKEN => {
                    let begins = |word: &[u8]| {
                        let next = bytes.get(place + 1..place + 1 + word.len());
                        next.is_some_and(|next| next.eq_ignore_ascii_case(word))
                    };
                    let found = match byte {
                        b'J' => bytes[..place].ends_with(b"ey"),
                        _ => begins(b"earer") || begins(b"asic"),
                    };
                    seen |= if found { TOKEN } else { 0 };
                }
                class => seen |= class,
            }
        }
        Self { seen, dots, colons }
    }

    const fn has(self, class: u16) -> bool {
        self.seen & class != 0
    }

    const fn has_structure(self) -> bool {
        self.has(EQUALS | HASH | AT | PERCENT | TOKEN | ENCODED | NAMED)
    }

    const fn may_have_addresses(self) -> bool {
        self.dots >= 3 || self.colons >= 2
    }

    const fn any(self) -> bool {
        self.has_structure() || self.may_have_addresses()
    }
}

/// Returns true if a parameter's name and value, each clean by itself, are also clean as `name=value`: the name is one
/// word, and the value has no character of any pattern.
pub fn is_clean_pair(name: &str, value: &str) -> bool {
    let marks = Marks::new(name);
    let one_word = !marks.any() && !marks.has(BETWEEN) && marks.dots + marks.colons == 0;
    one_word && !Marks::new(value).any()
}

/// Returns true if a text is one of the hashes that stand for persons.
fn is_hash(text: &str) -> bool {
    text.strip_prefix("u-")
        .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns whether a text is made of such hashes alone, with characters between them.
fn holds_hash(text: &str) -> bool {
    let mut parts = text.split([' ', '=', '&', '?', '/']);
    is_hash(text) || text.contains("u-") && parts.all(is_hash)
}

/// A range found in a decoded text, and its replacement.
pub(super) type Found = (Range<usize>, String);

/// Replaces the findings in a text, or in its changed version.
fn replace_found(text: &str, changed: &mut Option<String>, find: impl FnOnce(&View<'_>) -> Vec<Found>) {
    let before = changed.as_deref().unwrap_or(text);
    let view = View::new(before);
    if let Some(after) = apply(before, &view, &find(&view)) {
        *changed = Some(after);
    }
}

/// Returns the text with the findings replaced; none if that changes nothing.
fn apply(text: &str, view: &View<'_>, found: &[Found]) -> Option<String> {
    if found.is_empty() {
        return None;
    }
    let mut replaced = String::with_capacity(text.len());
    let mut done = 0;
    for (place, with) in found {
        let place = view.origin(place);
        if place.start < done {
            continue;
        }
        // A character of more than one byte is replaced whole.
        let (start, end) = (
            text.floor_char_boundary(place.start),
            text.ceil_char_boundary(place.end),
        );
        replaced.push_str(&text[done..start.max(done)]);
        replaced.push_str(with);
        done = end;
    }
    replaced.push_str(&text[done..]);
    (replaced != text).then_some(replaced)
}

/// Returns all forms in which a user's id or mail address may have been hashed, the normal one first, each with its name: a
/// `+` in an address may have arrived as a blank, and an international domain as letters or in ASCII.
pub fn user_forms(id: &str) -> Vec<(&'static str, String)> {
    let blanks = |address: &str| {
        let (local, domain) = address.rsplit_once('@')?;
        Some(format!("{}@{domain}", local.replace('+', " ")))
    };
    let normal = normalize_user(id).into_owned();
    let given = id.trim().to_lowercase();
    let mut forms = vec![("normal form: small letters, decoded, host in ASCII", normal.clone())];
    forms.push(("small letters, else as given", given.clone()));
    forms.extend(blanks(&normal).map(|form| ("normal form with `+` as a blank", form)));
    forms.extend(blanks(&given).map(|form| ("as given with `+` as a blank", form)));
    let mut known = BTreeSet::new();
    forms.retain(|(_, form)| known.insert(form.clone()));
    forms
}

/// Returns the id as it is hashed: without blanks around it, in lower case; a mail address in its normal form, which
/// does not depend on how it was written.
pub fn normalize_user(id: &str) -> Cow<'_, str> {
    let id = id.trim();
    let simple = |byte: u8| byte.is_ascii_graphic() && !b"%\\&<:\"".contains(&byte);
    if id.bytes().all(simple) {
        return if id.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(id.to_ascii_lowercase())
        } else {
            Cow::Borrowed(id)
        };
    }
    let view = View::new(id);
    let decoded = view.text(&(0..view.bytes().len()));
    if !decoded.contains('@') {
        return Cow::Owned(id.to_lowercase());
    }
    Cow::Owned(normalize_address(&decoded))
}

/// Returns the text with these places replaced; none if there are none, or the text does not change.
fn replace(text: &str, places: &[Range<usize>], with: impl Fn(&str) -> String) -> Option<String> {
    if places.is_empty() {
        return None;
    }
    let mut replaced = String::with_capacity(text.len());
    let mut done = 0;
    for place in places {
        replaced.push_str(&text[done..place.start]);
        replaced.push_str(&with(&text[place.clone()]));
        done = place.end;
    }
    replaced.push_str(&text[done..]);
    (replaced != text).then_some(replaced)
}

/// Returns a URL, or any text with parameters in it, without user information, secret parameters or a fragment of
/// parameters.
///
/// ```
/// use pixel::hit::privacy::clean_url;
/// assert_eq!(clean_url("https://me:pw@a.example/?token=1&q=2#id_token=3"), "https://a.example/?token=[redacted]&q=2");
/// assert_eq!(clean_url("https://a.example/?next=https://me:pw@b.example/"), "https://a.example/?next=https://b.example/");
/// assert_eq!(clean_url("/?a=1?to%6Ben=2&next=%2F%3Ftoken%3D3"), "/?a=1?to%6Ben=[redacted]&next=%2F%3Ftoken%3D[redacted]");
/// assert_eq!(clean_url("//me:pw@a.example/?x=https%253A%252F%252Fu%253Apw%2540h%252F"), "//a.example/?x=https%253A%252F%252Fh%252F");
/// assert_eq!(clean_url("just text"), "just text");
/// ```
pub fn clean_url(text: &str) -> Cow<'_, str> {
    let mut bare = without_fragment(Cow::Borrowed(text));
    let view = View::new(&bare);
    if let Some(changed) = apply(&bare, &view, &find_url_users(&view)) {
        bare = Cow::Owned(changed);
    }
    let cleaner = Cleaner {
        user: UserPolicy::Plain,
        key: Key([0; 32]),
        address: AddressPolicy::Full,
        own: Vec::new(),
        anonymous: None,
    };
    let view = View::new(&bare);
    let found = find_named_values(&view, &cleaner, Kind::Any, &mut Changes::new());
    apply(&bare, &view, &found).map_or(bare, Cow::Owned)
}

/// Returns an address without its query and fragment, plain or encoded.
pub(crate) fn without_query(text: &str) -> &str {
    let view = View::new(text);
    let end = view
        .bytes()
        .iter()
        .position(|byte| matches!(byte, b'?' | b'#' | b'&' | b';' | b'='));
    let end = end.map_or(text.len(), |end| view.origin(&(end..end)).start);
    &text[..text.floor_char_boundary(end)]
}

/// Removes a fragment of parameters.
fn without_fragment(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.split_once('#') {
        // An entity is not a fragment.
        Some((before, fragment)) if fragment.contains('=') && !before.ends_with('&') => Cow::Owned(before.to_owned()),
        _ => text,
    }
}

/// Returns true if `//` after this byte is a part of a word, such as a mail address, and begins no authority.
const fn continues_word(byte: u8) -> bool {
    mail::is_local_part_byte(byte) && byte != b'='
}

/// Finds the user information of every URL, also of one without a scheme (`//user:password@host/`).
fn find_url_users(view: &View<'_>) -> Vec<Found> {
    let bytes = view.bytes();
    let mut found: Vec<Found> = Vec::new();
    // The beginning of an authority, and true if a query began before it: there, the next parameter ends it.
    let (mut authority, mut query): (Option<usize>, bool) = (None, false);
    for (place, byte) in bytes.iter().enumerate() {
        match byte {
            // A removal before a slash can create a double slash.
            b'/' if place > 0
                && (bytes[place - 1] == b'/' && !(place > 1 && continues_word(bytes[place - 2]))
                    || found.last().is_some_and(|(last, _)| last.end == place)) =>
            {
                authority = Some(place + 1);
            }
            b'/' | b'#' | b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'<' | b'>' => authority = None,
            b'?' => (authority, query) = (None, true),
            b'&' if query => authority = None,
            b'@' => {
                if let Some(begin) = authority {
                    if let Some((last, _)) = found.last_mut()
                        && last.start == begin
                    {
                        last.end = place + 1;
                    } else if begin < place {
                        found.push((begin..place + 1, String::new()));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The longest name before a colon, in bytes.
const MAX_KEY_BYTES: usize = 64;

const fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Returns the name before a colon, and whether it is in quotes, as in JSON.
fn key_before(bytes: &[u8], colon: usize) -> Option<(Range<usize>, bool)> {
    let lower_bound = colon.saturating_sub(MAX_KEY_BYTES);
    let mut end = colon;
    while end > lower_bound && bytes[end - 1] == b' ' {
        end -= 1;
    }
    let quote = bytes[lower_bound..end]
        .last()
        .copied()
        .filter(|byte| matches!(byte, b'"' | b'\''));
    let Some(quote) = quote else {
        let length = bytes[lower_bound..end]
            .iter()
            .rev()
            .take_while(|byte| is_key_byte(**byte))
            .count();
        let begin = end - length;
        // A host with its port, and the last part of a longer word.
        let other = begin > 0 && matches!(bytes[begin - 1], b'/' | b'.' | b'@');
        return (length > 0 && !other).then_some((begin..end, false));
    };
    end -= 1;
    while end > lower_bound && bytes[end - 1] == b'\\' {
        end -= 1;
    }
    let begin = lower_bound + bytes[lower_bound..end].iter().rposition(|byte| *byte == quote)? + 1;
    Some((begin..end, true))
}

/// Returns whether a name before a colon may be a secret's or a person's.
fn may_be_named(bytes: &[u8], colon: usize) -> bool {
    match colon.checked_sub(1).map(|place| bytes[place]) {
        Some(b'"' | b'\'' | b' ') => true,
        Some(byte) if is_key_byte(byte) => key_before(bytes, colon).is_some_and(|(key, _)| may_be_secret(&bytes[key])),
        _ => false,
    }
}

/// Returns whether a text begins with the quote that ends a name: then the characters before it are part of the name.
fn ends_name(text: &[u8]) -> bool {
    let slashes = text.iter().take_while(|byte| **byte == b'\\').count();
    let quoted = text.get(slashes).is_some_and(|byte| matches!(byte, b'"' | b'\''));
    let blanks = text.iter().skip(slashes + 1).take_while(|byte| **byte == b' ').count();
    quoted && text.get(slashes + 1 + blanks) == Some(&b':')
}

/// Returns where a value begins and ends.
fn value_range(
    bytes: &[u8],
    view: &View<'_>,
    mark: usize,
    person: bool,
    in_braces: bool,
    quoted: bool,
) -> Range<usize> {
    let mut begin = mark + 1;
    while matches!(bytes.get(begin), Some(b' ' | b'\t')) {
        begin += 1;
    }
    let mut slashes = 0;
    while bytes.get(begin + slashes) == Some(&b'\\') {
        slashes += 1;
    }
    if let Some(quote @ (b'"' | b'\'')) = bytes.get(begin + slashes) {
        // The quote that closes it has no more backslashes before it than the one that opens it.
        let first = begin + slashes + 1;
        let mut before = 0;
        for (place, byte) in bytes.iter().enumerate().skip(first) {
            if byte == quote && before <= slashes {
                return first..place - before.min(place - first);
            }
            before = if *byte == b'\\' { before + 1 } else { 0 };
        }
        return first..bytes.len();
    }
    if bytes[mark] == b':' && matches!(bytes.get(begin), Some(b'[' | b'{')) {
        return begin..closing_bracket(bytes, begin);
    }
    if bytes[mark] == b'=' {
        begin = mark + 1;
    }
    let depth = view.depth(mark);
    let rest = &bytes[begin..];
    let at = rest.iter().position(|byte| *byte == b'@' || *byte == b' ');
    let mail_first = at.is_some_and(|at| rest[at] == b'@');
    let ends = |(place, byte): (usize, &u8)| match byte {
        b'&' => view.depth(begin + place) <= depth,
        b'\r' | b'\n' => true,
        b'"' => quoted,
        b',' | b'}' => in_braces || person && *byte == b',',
        b';' | b'#' => person,
        b' ' => person && mail_first,
        _ => false,
    };
    let length = rest.iter().enumerate().position(|(place, byte)| ends((place, byte)));
    begin..length.map_or(bytes.len(), |length| begin + length)
}

/// Returns where the bracket is closed that opens at `begin`; the end of the text where it is not.
fn closing_bracket(bytes: &[u8], begin: usize) -> usize {
    let (mut depth, mut quoted) = (0_usize, false);
    for (place, byte) in bytes.iter().enumerate().skip(begin) {
        match byte {
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return place + 1;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// Finds the values of `name=value`, `name: value` and `"name":"value"` whose names show that they may not be stored
/// unchanged, wherever such a pair can occur, also within the encoded values of others.
fn find_named_values(view: &View<'_>, cleaner: &Cleaner, kind: Kind, applied: &mut Changes) -> Vec<Found> {
    let bytes = view.bytes();
    let mut found = Vec::new();
    let (mut name, mut place) = (0, 0);
    let (mut in_braces, mut quoted, mut in_query) = (false, false, false);
    while let Some(byte) = bytes.get(place) {
        let key = match byte {
            b'=' => Some((name..place, true)),
            b':' if bytes.get(place + 1..place + 3) != Some(b"//") => key_before(bytes, place),
            _ => None,
        };
        let mut end = place + 1;
        let in_name = key.is_some() && ends_name(&bytes[place + 1..]);
        if let Some((key, may_name_person)) = key.filter(|(key, _)| !key.is_empty() && !in_name) {
            let key = view.text(&key);
            let person = may_name_person && cleaner.user != UserPolicy::Plain && names_person(&key);
            let unwanted = *byte == b'=' && in_query && kind == Kind::Any && cleaner.anonymous.is_some();
            if person || unwanted || is_secret(&key) {
                let range = value_range(bytes, view, place, person, in_braces, quoted);
                let value = view.text(&range);
                if !value.is_empty()
                    && value != REPLACEMENT
                    && let Some(with) = cleaner.named_value(&key, &value, unwanted, applied)
                {
                    end = range.end;
                    found.push((range, with));
                }
            }
        }
        match byte {
            b'{' => in_braces = true,
            b'"' => quoted = true,
            b'?' | b'&' => in_query = true,
            _ => {}
        }
        if end > place + 1 || CLASSES[usize::from(*byte)] & BETWEEN != 0 && *byte != b'%' {
            name = end;
        }
        place = end;
    }
    found
}

/// Removes the codes that may identify one person.
fn without_codes(text: &str, anonymous: &Anonymous) -> Option<String> {
    let found = find_codes(text, |code| {
        can_name_person(code) && anonymous.of_mail.as_deref() != Some(code)
    });
    replace(text, &found, |_| REPLACEMENT.to_owned())
}

/// Returns the ranges of signed codes, plain or encoded, that are `wanted`.
fn find_codes(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let (mut found, mut place) = (Vec::new(), 0);
    while place < bytes.len() {
        let (mut code, mut end) = (String::new(), place);
        while let Some((character, length)) = decode_code_character(&bytes[end..]) {
            code.push(character);
            end += length;
        }
        if code.starts_with(code::MARK) && wanted(&code) {
            found.push(place..end);
        }
        // The two digits after `%` are not part of what follows.
        place = match bytes.get(end) {
            Some(b'%') => end + escape_length(&bytes[end..]),
            _ => end + 1,
        };
    }
    found
}

/// Returns the character of a code at the beginning of a text, plain or encoded, and its encoded length.
fn decode_code_character(text: &[u8]) -> Option<(char, usize)> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match text {
        [b'%', ..] => {
            let length = escape_length(text);
            let byte = hex(*text.get(length.checked_sub(2)?)?, *text.get(length - 1)?)?;
            is_part(byte).then_some((char::from(byte), length))
        }
        [byte, ..] => is_part(*byte).then_some((char::from(*byte), 1)),
        [] => None,
    }
}

/// Returns the length of an encoded character, however often it is encoded; that of `%` alone if it is not one.
fn escape_length(text: &[u8]) -> usize {
    let mut length = 1;
    while text[length..].starts_with(b"25") {
        length += 2;
    }
    match text.get(length..length + 2) {
        Some([high, low]) if hex(*high, *low).is_some() => length + 2,
        _ => 1,
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// The words before a secret in headers.
const SCHEMES: [&[u8]; 12] = [
    b"bearer",
    b"basic",
    b"token",
    b"apikey",
    b"api-key",
    b"digest",
    b"negotiate",
    b"ntlm",
    b"hmac",
    b"hawk",
    b"sharedkey",
    b"key",
];

/// Returns the scheme at the beginning, without a blank behind it.
fn find_scheme(bytes: &[u8]) -> Option<&'static [u8]> {
    let first = bytes.first()?.to_ascii_lowercase();
    if !matches!(first, b'a' | b'b' | b'd' | b'h' | b'k' | b'n' | b's' | b't') {
        return None;
    }
    let known = |scheme: &&&[u8]| {
        bytes
            .get(..scheme.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(scheme))
    };
    SCHEMES.iter().find(known).copied()
}

fn begins_with_scheme(bytes: &[u8]) -> bool {
    find_scheme(bytes).is_some_and(|scheme| matches!(bytes.get(scheme.len()), Some(b' ' | b'+' | b':' | b'%')))
}

/// The bytes of a word that decide whether it is a token.
const MAX_WORD_BYTES: usize = 256;

/// Finds tokens that are recognizable by form: JSON Web Tokens, and words after `Bearer`, `Basic`, `Token` and the like.
fn find_tokens(view: &View<'_>) -> Vec<Range<usize>> {
    let bytes = view.bytes();
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+/=~".contains(byte);
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut push = |place: Range<usize>| {
        if found.last().is_none_or(|last| last.end <= place.start) {
            found.push(place);
        }
    };
    // The run of token characters that was measured last: what begins in it ends with it. Measuring it again at each
    // beginning would take quadratic time.
    let mut run = 0..0;
    let mut run_length = |begin: usize| {
        if !run.contains(&begin) {
            run = begin..begin + bytes[begin..].iter().take_while(|byte| of_token(byte)).count();
        }
        run.end.max(begin) - begin
    };
    let mut starts = true;
    for place in 0..bytes.len() {
        if bytes[place..].starts_with(b"eyJ") {
            let length = run_length(place);
            if length >= 20 {
                push(place..place + length);
            }
        }
        if starts && let Some(scheme) = find_scheme(&bytes[place..]) {
            let blank = place + scheme.len();
            if matches!(bytes.get(blank), Some(b' ' | b'+' | b':')) {
                let blanks = bytes[blank + 1..].iter().take_while(|byte| **byte == b' ').count();
                let begin = blank + 1 + blanks;
                let length = run_length(begin);
                let alone =
                    begin + length == bytes.len() && (place == 0 || matches!(bytes[place - 1], b'=' | b'"' | b':'));
                if is_token(
                    scheme,
                    &bytes[place..blank],
                    &bytes[begin..begin + length.min(MAX_WORD_BYTES)],
                    alone,
                ) {
                    push(begin..begin + length);
                }
            }
        }
        starts = !bytes[place].is_ascii_alphanumeric();
    }
    found
}

/// Returns whether a word after a scheme is a secret, and not a word of a sentence.
fn is_token(scheme: &[u8], written: &[u8], word: &[u8], alone: bool) -> bool {
    let digits = word.iter().any(u8::is_ascii_digit);
    let small = word.iter().all(u8::is_ascii_lowercase);
    let signs = word.iter().any(|byte| b"-_=/+~".contains(byte));
    let likely = match word.len() {
        0 => return false,
        1..4 => false,
        4..8 => digits || word.iter().all(u8::is_ascii_uppercase),
        8..16 => digits || signs || !small,
        _ => true,
    };
    let certain = matches!(scheme, b"apikey" | b"api-key" | b"bearer" | b"sharedkey");
    let header = written.first().is_some_and(u8::is_ascii_uppercase) && !small;
    match scheme {
        b"bearer" if word.len() >= 8 => true,
        b"basic" if word.len() >= 12 => true,
        // Far from the beginning of a value these are words of sentences.
        b"key" => likely && alone && (digits || signs),
        _ => likely && (digits || alone || certain || word.len() >= 16 && !small) || alone && (certain || header),
    }
}

/// Returns true if the text before a number shows that it is a program's version: it ends in `Name/` or `v="`.
fn is_version(before: &str) -> bool {
    if before.ends_with("v=\"") {
        return true;
    }
    let Some(before) = before.strip_suffix('/') else {
        return false;
    };
    let of_name = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    let ahead = before.trim_end_matches(of_name);
    let begins_word = ahead.is_empty() || ahead.ends_with([' ', ';', '(', ',']);
    begins_word && before[ahead.len()..].starts_with(|first: char| first.is_ascii_alphabetic())
}

/// Returns the ranges of IP addresses that are not the host of a URL: the visitor's own, and those recognizable by form.
fn find_ip_addresses(kind: Kind, text: &str, own: &[String]) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let of_address = |byte: u8| byte.is_ascii_hexdigit() || byte == b'.' || byte == b':';
    let mut found = Vec::new();
    let (mut place, mut escape) = (0, 0);
    while place < bytes.len() {
        if let [b'%', high, low, ..] = bytes[place..]
            && hex(high, low).is_some()
        {
            (place, escape) = (place + 3, place + 3);
            continue;
        }
        let within = place > escape && bytes[place - 1].is_ascii_alphanumeric();
        if !of_address(bytes[place]) || within {
            place += 1;
            continue;
        }
        let length = bytes[place..].iter().take_while(|byte| of_address(**byte)).count();
        let word = text[place..place + length].trim_end_matches(['.', ':']);
        // A port after an IPv4 address is not part of it.
        let bare = match word.split_once(':') {
            Some((bare, port)) if bare.contains('.') && !port.contains(':') => bare,
            _ => word,
        };
        let host = || text[..place].ends_with("://") || text[..place].ends_with("://[");
        let version = || kind == Kind::Agent && is_version(&text[..place]);
        let count = |wanted: u8| bare.bytes().filter(|byte| *byte == wanted).count();
        let can_be = count(b'.') == 3 || count(b':') >= 2;
        if can_be
            && (own.iter().any(|own| own == bare) || !(host() || version()))
            && let Ok(address) = bare.parse::<IpAddr>()
            && !address.is_loopback()
            && !address.is_unspecified()
        {
            found.push(place..place + bare.len());
        }
        place += length;
    }
    found
}
