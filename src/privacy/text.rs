//! Texts without what must not be stored in them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use super::{AddressPolicy, Applied, Key, REPLACEMENT, UserPolicy, is_secret, names_person};
use crate::campaign::is_click_id;
use crate::code::{self, can_name_person};

/// What texts are cleaned by.
#[derive(Clone, Debug)]
pub struct Cleaner {
    /// What becomes of users and mail addresses.
    pub user: UserPolicy,
    /// The key of their hashes.
    pub key: Key,
    /// What becomes of addresses.
    pub address: AddressPolicy,
    /// The visitor's own addresses as texts, as far as they are known.
    pub own: Vec<String>,
    /// What more is removed where nothing is to tell a visitor from others.
    pub anonymous: Option<Anonymous>,
}

/// Where nothing is to tell a visitor from others, ids of clicks go, and codes that may stand for one person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anonymous {
    /// A code that is known to stand for a mail, and stays.
    pub of_mail: Option<String>,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Agent,
}

/// Cleaning a text changed it.
type Changes = BTreeSet<Applied>;

impl Cleaner {
    /// A text as it may be stored. What was done to it is added to `applied`. Cleaning it again changes nothing.
    pub fn clean<'t>(&self, text: &'t str, applied: &mut Changes) -> Cow<'t, str> {
        self.clean_as(Kind::Any, text, applied)
    }

    /// The same for what software says of itself, where four numbers with dots are a version.
    pub fn clean_agent<'t>(&self, text: &'t str, applied: &mut Changes) -> Cow<'t, str> {
        self.clean_as(Kind::Agent, text, applied)
    }

    fn clean_as<'t>(&self, kind: Kind, text: &'t str, applied: &mut Changes) -> Cow<'t, str> {
        let anonymous = self.anonymous.as_ref();
        let mut cleaned = match anonymous.and_then(|anonymous| without_codes(text, anonymous)) {
            Some(changed) => Cow::Owned(changed),
            None => Cow::Borrowed(text),
        };
        let marks = Marks::of(&cleaned);
        if !marks.any() {
            return cleaned;
        }
        if marks.parameters()
            && let Some(changed) = self.secrets(&cleaned, marks, applied)
        {
            cleaned = Cow::Owned(changed);
        }
        if marks.tokens()
            && let Some(changed) = tokens(&cleaned, applied)
        {
            cleaned = Cow::Owned(changed);
        }
        if marks.mail()
            && let Some(changed) = self.mail(&cleaned, applied)
        {
            cleaned = Cow::Owned(changed);
        }
        if marks.addresses()
            && let Some(changed) = self.addresses(kind, &cleaned, applied)
        {
            cleaned = Cow::Owned(changed);
        }
        cleaned
    }

    /// What stands for a person's id; none where it is stored as it came.
    pub fn person(&self, id: &str, applied: &mut Changes) -> Option<String> {
        match self.user {
            UserPolicy::Plain => None,
            UserPolicy::Drop => {
                applied.insert(Applied::UserDropped);
                Some(REPLACEMENT.to_owned())
            }
            // What is hashed already was hashed here.
            UserPolicy::Hash if is_hash(id) || id.is_empty() => None,
            UserPolicy::Hash => {
                applied.insert(Applied::UserHashed);
                Some(self.key.user(id))
            }
        }
    }

    fn secrets(&self, text: &str, marks: Marks, applied: &mut Changes) -> Option<String> {
        let users = if marks.has(AT) {
            without_users(text)
        } else {
            Cow::Borrowed(text)
        };
        let bare = if marks.has(HASH) {
            without_fragment(users)
        } else {
            users
        };
        if let Cow::Owned(_) = bare {
            applied.insert(Applied::SecretParameters);
        }
        let cleaned = clean_parameters(
            &bare,
            |name| is_secret(name) || names_person(name) || self.anonymous.is_some() && is_click_id(name),
            |name, value| {
                if self.anonymous.is_some() && is_click_id(name) {
                    return Some(REPLACEMENT.to_owned());
                }
                if is_secret(name) {
                    applied.insert(Applied::SecretParameters);
                    return Some(REPLACEMENT.to_owned());
                }
                // Not decoded in vain.
                if self.user == UserPolicy::Plain {
                    return None;
                }
                self.person(&percent_decode_str(value).decode_utf8_lossy(), applied)
            },
        );
        cleaned.or(match bare {
            Cow::Owned(bare) => Some(bare),
            Cow::Borrowed(_) => None,
        })
    }

    fn mail(&self, text: &str, applied: &mut Changes) -> Option<String> {
        let (change, with): (_, &dyn Fn(&str) -> String) = match self.user {
            UserPolicy::Plain => return None,
            UserPolicy::Hash => (Applied::MailHashed, &|mail| {
                self.key.user(&percent_decode_str(mail).decode_utf8_lossy())
            }),
            UserPolicy::Drop => (Applied::MailDropped, &|_| REPLACEMENT.to_owned()),
        };
        let found = mail_addresses(text);
        replace(text, &found, with).inspect(|_| {
            applied.insert(change);
        })
    }

    fn addresses(&self, kind: Kind, text: &str, applied: &mut Changes) -> Option<String> {
        if self.address == AddressPolicy::Full {
            return None;
        }
        let short = |address: &str| {
            let parsed: Option<IpAddr> = address.parse().ok();
            let (kept, _) = parsed.map_or((None, None), |address| self.address.apply(address));
            kept.map_or_else(|| REPLACEMENT.to_owned(), |kept| kept.to_string())
        };
        let found = addresses(kind, text, &self.own);
        replace(text, &found, short).inspect(|_| {
            applied.insert(Applied::AddressTexts);
        })
    }
}

/// What a text may hold, by the characters without which it cannot: most texts of most hits hold nothing, and are looked at
/// once.
#[derive(Clone, Copy)]
struct Marks {
    /// The classes of the characters in it.
    seen: u8,
    dots: usize,
    colons: usize,
}

const EQUALS: u8 = 1;
const HASH: u8 = 2;
const AT: u8 = 4;
const PERCENT: u8 = 8;
const TOKEN: u8 = 16;
const DOT: u8 = 32;
const COLON: u8 = 64;
/// Ends a parameter or its name.
const BETWEEN: u8 = 128;

/// The class of each byte; most have none.
const CLASSES: [u8; 256] = {
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
    // `eyJ`, `Bearer` and `Basic`.
    classes[b'J' as usize] = TOKEN;
    classes[b'b' as usize] = TOKEN;
    classes[b'B' as usize] = TOKEN;
    classes
};

impl Marks {
    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (mut seen, mut dots, mut colons) = (0, 0, 0);
        for (place, byte) in bytes.iter().enumerate() {
            match CLASSES[usize::from(*byte)] {
                0 => {}
                DOT => dots += 1,
                COLON => colons += 1,
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

    const fn has(self, class: u8) -> bool {
        self.seen & class != 0
    }

    const fn parameters(self) -> bool {
        self.has(EQUALS | HASH | AT | PERCENT)
    }

    const fn tokens(self) -> bool {
        self.has(TOKEN)
    }

    const fn mail(self) -> bool {
        self.has(AT | PERCENT)
    }

    const fn addresses(self) -> bool {
        self.dots >= 3 || self.colons >= 2
    }

    const fn any(self) -> bool {
        self.parameters() || self.tokens() || self.addresses()
    }
}

/// Whether a parameter of this name and value, which are clean each by itself, is clean as `name=value`, too: the name is one
/// word, and nothing in the value has a part in anything.
pub fn is_clean_pair(name: &str, value: &str) -> bool {
    let marks = Marks::of(name);
    let one_word = !marks.any() && !marks.has(BETWEEN) && marks.dots + marks.colons == 0;
    one_word && !Marks::of(value).any()
}

/// Whether it is one of the hashes that stand for persons.
fn is_hash(text: &str) -> bool {
    text.strip_prefix("u-")
        .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The text with these places replaced; none when there are none, or the text is as before.
fn replace(text: &str, places: &[std::ops::Range<usize>], with: impl Fn(&str) -> String) -> Option<String> {
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

/// A URL, or any text with parameters in it, without user information, secret parameters or a fragment of parameters.
///
/// ```
/// use pixel::privacy::clean_url;
/// assert_eq!(clean_url("https://me:pw@a.example/?token=1&q=2#id_token=3"), "https://a.example/?token=[redacted]&q=2");
/// assert_eq!(clean_url("https://a.example/?next=https://me:pw@b.example/"), "https://a.example/?next=https://b.example/");
/// assert_eq!(clean_url("/?a=1?to%6Ben=2&next=%2F%3Ftoken%3D3"), "/?a=1?to%6Ben=[redacted]&next=%2F%3Ftoken%3D[redacted]");
/// assert_eq!(clean_url("just text"), "just text");
/// ```
pub fn clean_url(text: &str) -> Cow<'_, str> {
    let bare = without_fragment(without_users(text));
    clean_parameters(&bare, is_secret, |_, _| Some(REPLACEMENT.to_owned())).map_or(bare, Cow::Owned)
}

/// Without a fragment of parameters.
fn without_fragment(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.split_once('#') {
        Some((before, fragment)) if fragment.contains('=') => Cow::Owned(before.to_owned()),
        _ => text,
    }
}

/// Without the user information of any URL in the text, be it the text itself or a value in its query.
fn without_users(text: &str) -> Cow<'_, str> {
    let mut cleaned = String::new();
    let mut rest = text;
    let mut in_query = false;
    while let Some((before, after)) = rest.split_once("://") {
        cleaned.push_str(before);
        cleaned.push_str("://");
        in_query |= before.contains('?');
        // In a query, the value that holds a URL ends before the next parameter.
        let ends: &[char] = if in_query {
            &['/', '?', '#', '&']
        } else {
            &['/', '?', '#']
        };
        let authority = after.split(ends).next().unwrap_or_default();
        rest = authority.rfind('@').map_or(after, |at| &after[at + 1..]);
    }
    if cleaned.len() + rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    cleaned.push_str(rest);
    Cow::Owned(cleaned)
}

/// A mark between parameters, plain or encoded, at the beginning of a text: its length.
fn separator(text: &[u8]) -> Option<usize> {
    match text {
        [b'&' | b'?' | b';', ..] => Some(1),
        [b'%', b'2', b'6', ..] | [b'%', b'3', b'F' | b'f', ..] => Some(3),
        [b'%', b'2', b'5', b'2', b'6', ..] | [b'%', b'2', b'5', b'3', b'F' | b'f', ..] => Some(5),
        _ => None,
    }
}

/// The mark between name and value, plain or encoded.
fn equals(text: &[u8]) -> Option<usize> {
    match text {
        [b'=', ..] => Some(1),
        [b'%', b'3', b'D' | b'd', ..] => Some(3),
        [b'%', b'2', b'5', b'3', b'D' | b'd', ..] => Some(5),
        _ => None,
    }
}

/// Replaces values of `name=value`, wherever a parameter can stand, also within the encoded values of others. Only of names
/// that are `wanted` is a replacement asked for.
fn clean_parameters(
    text: &str,
    wanted: impl Fn(&str) -> bool,
    mut replacement: impl FnMut(&str, &str) -> Option<String>,
) -> Option<String> {
    let bytes = text.as_bytes();
    let mut cleaned: Option<String> = None;
    let (mut name, mut kept, mut place) = (0, 0, 0);
    // The end of the value that was looked at last; all values that begin in it end there, too.
    let mut value_end = 0;
    while place < bytes.len() {
        if CLASSES[usize::from(bytes[place])] & BETWEEN == 0 {
            place += 1;
        } else if let Some(length) = separator(&bytes[place..]) {
            place += length;
            name = place;
        } else if let Some(length) = equals(&bytes[place..]) {
            let begin = place + length;
            let named = percent_decode_str(&text[name..place]).decode_utf8_lossy();
            // A value with an encoded URL in it is looked into first.
            let replaced = wanted(&named).then(|| {
                if value_end < begin {
                    value_end = (begin..bytes.len())
                        .find(|end| separator(&bytes[*end..]).is_some())
                        .unwrap_or(bytes.len());
                }
                let end = value_end;
                let value = &text[begin..end];
                let replaced = (value != REPLACEMENT && !value.is_empty())
                    .then(|| replacement(&named, value))
                    .flatten();
                replaced
                    .filter(|replaced| replaced != value)
                    .map(|replaced| (replaced, end))
            });
            if let Some((replaced, end)) = replaced.flatten() {
                let cleaned = cleaned.get_or_insert_with(String::new);
                cleaned.push_str(&text[kept..begin]);
                cleaned.push_str(&replaced);
                kept = end;
                place = end;
            } else {
                place = begin;
                name = begin;
            }
        } else if bytes[place] == b'%' {
            place += 1;
        } else {
            place += 1;
            name = place;
        }
    }
    cleaned.map(|mut cleaned| {
        cleaned.push_str(&text[kept..]);
        cleaned
    })
}

/// Without the codes that may stand for one person.
fn without_codes(text: &str, anonymous: &Anonymous) -> Option<String> {
    let found = codes(text, |code| {
        can_name_person(code) && anonymous.of_mail.as_deref() != Some(code)
    });
    replace(text, &found, |_| REPLACEMENT.to_owned())
}

/// Where signed codes stand, plain or encoded, that are `wanted`.
fn codes(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let (mut found, mut place) = (Vec::new(), 0);
    while place < bytes.len() {
        let (mut code, mut end) = (String::new(), place);
        while let Some((character, length)) = of_code(&bytes[end..]) {
            code.push(character);
            end += length;
        }
        if code.starts_with(code::MARK) && wanted(&code) {
            found.push(place..end);
        }
        // The two digits behind `%` are no part of what follows.
        place = match bytes.get(end) {
            Some(b'%') => end + escape(&bytes[end..]),
            _ => end + 1,
        };
    }
    found
}

/// The character of a code at the beginning of a text, plain or encoded, and its length there.
fn of_code(text: &[u8]) -> Option<(char, usize)> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match text {
        [b'%', ..] => {
            let length = escape(text);
            let byte = hex(*text.get(length.checked_sub(2)?)?, *text.get(length - 1)?)?;
            is_part(byte).then_some((char::from(byte), length))
        }
        [byte, ..] => is_part(*byte).then_some((char::from(*byte), 1)),
        [] => None,
    }
}

/// The length of what an encoded character is written as, however often it is encoded; that of `%` alone where it is none.
fn escape(text: &[u8]) -> usize {
    let mut length = 1;
    while text[length..].starts_with(b"25") {
        length += 2;
    }
    match text.get(length..length + 2) {
        Some([high, low]) if hex(*high, *low).is_some() => length + 2,
        _ => 1,
    }
}

/// Without tokens.
fn tokens(text: &str, applied: &mut Changes) -> Option<String> {
    let found = token_places(text);
    replace(text, &found, |_| REPLACEMENT.to_owned()).inspect(|_| {
        applied.insert(Applied::TokensReplaced);
    })
}

/// Where tokens stand that show themselves by their form: JSON Web Tokens, and what follows `Bearer` and `Basic`.
fn token_places(text: &str) -> Vec<std::ops::Range<usize>> {
    // Most texts hold none of it.
    if !["eyJ", "earer", "EARER", "asic", "ASIC"]
        .iter()
        .any(|mark| text.contains(mark))
    {
        return Vec::new();
    }
    let bytes = text.as_bytes();
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+/=~".contains(byte);
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    let mut mark = |begin: usize, least: usize| {
        // What lies in a token that was found is not looked at again.
        if found.last().is_some_and(|last| last.end > begin) {
            return;
        }
        let length = bytes[begin..].iter().take_while(|byte| of_token(byte)).count();
        if length >= least {
            found.push(begin..begin + length);
        }
    };
    for (place, window) in bytes.windows(3).enumerate() {
        match window {
            b"eyJ" => mark(place, 20),
            b"rer" | b"RER" if ends_with_word(&bytes[..place + 3], b"bearer") => mark(after_blank(bytes, place + 3), 8),
            b"sic" | b"SIC" if ends_with_word(&bytes[..place + 3], b"basic") => mark(after_blank(bytes, place + 3), 12),
            _ => {}
        }
    }
    found
}

fn ends_with_word(text: &[u8], word: &[u8]) -> bool {
    text.len() >= word.len() && text[text.len() - word.len()..].eq_ignore_ascii_case(word)
}

/// The place behind a blank, plain or encoded; the text's end where there is none.
fn after_blank(text: &[u8], place: usize) -> usize {
    match &text[place..] {
        [b' ' | b'+' | b':', ..] => place + 1,
        [b'%', b'2', b'0', ..] => place + 3,
        _ => text.len(),
    }
}

/// Where mail addresses stand, with `@` plain or encoded.
fn mail_addresses(text: &str) -> Vec<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    // Most texts hold none.
    if !bytes.contains(&b'@') && !text.contains("40") {
        return found;
    }
    for place in 0..bytes.len() {
        let sign = match &bytes[place..] {
            [b'@', ..] => 1,
            [b'%', b'4', b'0', ..] => 3,
            [b'%', b'2', b'5', b'4', b'0', ..] => 5,
            _ => continue,
        };
        let begin = local_part(bytes, place).max(found.last().map_or(0, |last| last.end));
        let end = domain_end(bytes, place + sign);
        if let Some(end) = end.filter(|_| begin < place) {
            found.push(begin..end);
        }
    }
    found
}

/// Whether a byte can stand in a mail address's first part, or an international one's.
const fn of_local_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || byte >= 0x80
        || matches!(
            byte,
            b'.' | b'_' | b'+' | b'-' | b'!' | b'#' | b'$' | b'*' | b'~' | b'^' | b'|' | b'`'
        )
}

/// Where the first part begins that ends at `end`.
fn local_part(text: &[u8], end: usize) -> usize {
    let mut begin = end;
    while begin > 0 {
        // An encoded character counts as what it stands for.
        if begin >= 3
            && text[begin - 3] == b'%'
            && let Some(byte) = hex(text[begin - 2], text[begin - 1])
        {
            if !of_local_part(byte) && byte != b'\'' {
                break;
            }
            begin -= 3;
        } else if of_local_part(text[begin - 1]) {
            begin -= 1;
        } else {
            break;
        }
    }
    begin
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Where the domain ends that begins at `begin`: labels with dots between them, the last of letters.
fn domain_end(text: &[u8], begin: usize) -> Option<usize> {
    let of_label = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80 || *byte == b'-';
    let (mut end, mut dots) = (begin, 0);
    loop {
        let length = text[end..].iter().take_while(|byte| of_label(byte)).count();
        if length == 0 {
            break;
        }
        end += length;
        match &text[end..] {
            [b'.', next, ..] if of_label(next) => (end, dots) = (end + 1, dots + 1),
            _ => break,
        }
    }
    (dots > 0 && end > begin).then_some(end)
}

/// Whether what follows is the version of a program: `Name/` or `v="` stands before it.
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

/// Where addresses of the Internet stand that are no host of a URL: the visitor's own, and what has the form of one.
fn addresses(kind: Kind, text: &str, own: &[String]) -> Vec<std::ops::Range<usize>> {
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
        // A port behind an address of four numbers is none of it.
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
