//! Finds mail addresses in decoded texts, and normalizes each.

use std::borrow::Cow;

use super::decode::View;
use crate::hit::privacy::redact::Found;

/// The longest part before `@` (RFC 5321 allows 64 bytes); a quote or blank farther back is ignored.
const MAX_LOCAL_BYTES: usize = 256;

/// An ambiguous text is hashed as at most this many addresses.
const MAX_READINGS: usize = 4;

/// Returns an address as it is hashed: in lower case, the host in its ASCII form, and `+` where it arrived as a blank.
pub(super) fn normalize_address(address: &str) -> String {
    let small = address.trim().to_lowercase();
    let bare = small.strip_prefix("mailto:").unwrap_or(&small);
    // `Anna <anna@shop.example>`
    let bare = match (bare.find('<'), bare.ends_with('>')) {
        (Some(open), true) => &bare[open + 1..bare.len() - 1],
        _ => bare,
    };
    let Some((local, domain)) = bare.rsplit_once('@') else {
        return bare.to_owned();
    };
    let local: Cow<'_, str> = if local.contains(' ') && !local.starts_with('"') {
        local.trim().replace(' ', "+").into()
    } else {
        local.into()
    };
    let domain = domain.trim_end_matches('.');
    let ascii = (!domain.is_ascii()).then(|| ascii_domain(domain)).flatten();
    format!("{local}@{}", ascii.as_deref().unwrap_or(domain))
}

/// Returns the ASCII form of an international domain.
fn ascii_domain(domain: &str) -> Option<String> {
    let url = reqwest::Url::parse(&format!("http://{domain}/")).ok()?;
    url.host_str().map(ToOwned::to_owned)
}

/// Finds mail addresses. An ambiguous text is replaced by the hashes of all its readings, so that nothing of it is
/// readable and each address can be found again.
pub(super) fn find_addresses(view: &View<'_>, blanks: bool, hash: &dyn Fn(&str) -> String) -> Vec<Found> {
    let bytes = view.bytes();
    let mut found: Vec<Found> = Vec::new();
    let mut lower_bound = 0;
    for at in 0..bytes.len() {
        if bytes[at] != b'@' || at < lower_bound {
            continue;
        }
        let Some(end) = domain_end(bytes, at + 1) else { continue };
        let Some(local) = Local::find(view, lower_bound, at, end, blanks) else {
            continue;
        };
        let address = |begin: usize| view.text(&(begin..end)).into_owned();
        let mut with = String::new();
        if local.user {
            with.push_str(super::REPLACEMENT);
            with.push(':');
        }
        for (number, begin) in local.readings.iter().enumerate() {
            if number > 0 {
                with.push(char::from(bytes[begin - 1]));
            }
            let hashed = hash(&address(*begin));
            with.push_str(&hashed);
        }
        found.push((local.begin..end, with));
        lower_bound = end;
    }
    found
}

/// The local part of an address, before `@`.
struct Local {
    /// The beginning of the replaced range.
    begin: usize,
    /// The possible beginnings of the address.
    readings: Vec<usize>,
    /// True if a user's name comes before it, as in `user:password@host`.
    user: bool,
}

impl Local {
    fn find(view: &View<'_>, lower_bound: usize, at: usize, end: usize, blanks: bool) -> Option<Self> {
        let bytes = view.bytes();
        let lower_bound = lower_bound.max(at.saturating_sub(MAX_LOCAL_BYTES * 4));
        let mut run_end = at;
        // `anna(home)@shop.example`
        if bytes[lower_bound..at].last() == Some(&b')') {
            run_end = lower_bound + bytes[lower_bound..at].iter().rposition(|byte| *byte == b'(')?;
        }
        if bytes[lower_bound..run_end].last() == Some(&b'"') {
            let begin = quoted_begin(bytes, lower_bound, run_end);
            return Some(Self {
                begin,
                readings: vec![begin],
                user: false,
            });
        }
        // A blank before `@` is allowed, and never occurs before a host in a sentence.
        while run_end > lower_bound && bytes[run_end - 1] == b' ' && bytes[at..end].contains(&b'.') {
            run_end -= 1;
        }
        // A character that was encoded once more than the `@` was written like that, as in `a%0Ab@shop.example`.
        let depth = view.depth(at);
        let within = |place: &usize| is_local_part_byte(bytes[*place]) || view.depth(*place) > depth;
        let run = (lower_bound..run_end)
            .rev()
            .take_while(within)
            .last()
            .unwrap_or(run_end);
        let run = run
            + bytes[run..run_end]
                .iter()
                .take_while(|byte| **byte & 0xC0 == 0x80)
                .count();
        if run == run_end {
            return None;
        }
        let (begin, split): (usize, &[u8]) = if let Some(begin) = begin_in_url(view, lower_bound, run, run_end) {
            (begin, b"/=&?#")
        } else {
            let begin = begin_in_text(view, run, run_end);
            if blanks && let Some(begin) = begin_with_blanks(bytes, lower_bound, begin, end) {
                (begin, b" ")
            } else {
                (begin, b"/=&?")
            }
        };
        if begin >= run_end {
            return None;
        }
        let user = user_begin(bytes, lower_bound, begin);
        Some(Self {
            begin: user.unwrap_or(begin),
            readings: readings(bytes, begin, run_end, split),
            user: user.is_some(),
        })
    }
}

/// Returns the possible beginnings of an address in a range: the first position, and those after the last separators.
fn readings(bytes: &[u8], begin: usize, end: usize, split: &[u8]) -> Vec<usize> {
    let is_split = |byte: u8| split.contains(&byte) || !is_local_part_byte(byte);
    let splits = |place: &usize| is_split(bytes[*place - 1]) && !is_split(bytes[*place]);
    let mut places: Vec<usize> = (begin + 1..end).rev().filter(splits).take(MAX_READINGS - 1).collect();
    places.push(begin);
    places.reverse();
    places
}

/// Returns where the address begins in a run of characters that is the rest of a URL or a path; none if it is not one.
fn begin_in_url(view: &View<'_>, lower_bound: usize, run: usize, end: usize) -> Option<usize> {
    let bytes = view.bytes();
    let port = bytes[run..end].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after_port = run > lower_bound && bytes[run - 1] == b':' && port > 0 && bytes.get(run + port) == Some(&b'/');
    if !matches!(bytes[run], b'/' | b'?') && !after_port {
        return None;
    }
    let start = if after_port { run + port } else { run };
    let depth = view.depth(start);
    let structural = |place: usize, wanted: &[u8]| wanted.contains(&bytes[place]) && view.depth(place) <= depth;
    let path = if bytes[start..end].starts_with(b"//") {
        (start + 2..end).find(|place| structural(*place, b"/?#"))?
    } else {
        start
    };
    let query = (path..end).rev().find(|place| structural(*place, b"?&#"));
    let named = query.and_then(|query| (query + 1..end).find(|place| structural(*place, b"=")));
    let mut begin = match (query, named) {
        (_, Some(equals)) => equals + 1,
        // A parameter without a name may be the rest of an address that was not encoded.
        (Some(query), None) => {
            (path..query)
                .rev()
                .find(|place| structural(*place, b"=/"))
                .unwrap_or(path)
                + 1
        }
        (None, None) => path + 1,
    };
    while begin + 1 < end && b"/=&?#".contains(&bytes[begin]) {
        begin += 1;
    }
    Some(begin)
}

/// Returns where the address begins in a run of characters that is not in a URL.
fn begin_in_text(view: &View<'_>, run: usize, end: usize) -> usize {
    let bytes = view.bytes();
    let mut begin = run;
    // `contact=anna@shop.example`
    if let Some(equals) = bytes[run..end].iter().position(|byte| *byte == b'=') {
        let name = view.text(&(run..run + equals));
        if super::names_person(&name)
            || super::is_secret(&name)
            || ["to", "from", "cc", "bcc", "contact", "address"].contains(&&*name)
        {
            begin += equals + 1;
        }
    }
    while begin + 1 < end && b"'{}=&?#/".contains(&bytes[begin]) {
        begin += 1;
    }
    begin
}

/// Returns where a quoted local part begins that ends at `end`.
fn quoted_begin(bytes: &[u8], lower_bound: usize, end: usize) -> usize {
    let slashes = |place: usize| {
        bytes[lower_bound..place]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count()
    };
    let own = slashes(end - 1);
    let mut place = (end - 1).saturating_sub(own);
    while place > lower_bound {
        place -= 1;
        if bytes[place] == b'"' {
            let before = slashes(place);
            if before <= own {
                return place - before;
            }
            place -= before;
        }
    }
    let stop = bytes[lower_bound..end].iter().rposition(|byte| *byte == b' ');
    stop.map_or(lower_bound, |place| lower_bound + place + 1)
}

/// Returns where the words begin before an address whose `+` arrived as a blank: the whole value is words and the address.
fn begin_with_blanks(bytes: &[u8], lower_bound: usize, run: usize, end: usize) -> Option<usize> {
    if run == lower_bound || bytes[run - 1] != b' ' || !matches!(bytes.get(end), None | Some(b'&' | b'"' | b'#' | b';'))
    {
        return None;
    }
    let of_word = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80 || b" ._-+'~!$*".contains(&byte);
    let stop = bytes[lower_bound..run].iter().rposition(|byte| !of_word(*byte));
    let begin = stop.map_or(lower_bound, |place| lower_bound + place + 1);
    let begin = begin + bytes[begin..run].iter().take_while(|byte| **byte == b' ').count();
    let is_value = begin == 0 || begin > lower_bound && matches!(bytes[begin - 1], b'=' | b'"' | b':' | b' ');
    (is_value && begin < run).then_some(begin)
}

/// Returns where a user's name before a colon begins: `user:password@host`.
fn user_begin(bytes: &[u8], lower_bound: usize, run: usize) -> Option<usize> {
    const KNOWN: [&[u8]; 13] = [
        b"mailto", b"to", b"from", b"cc", b"bcc", b"mail", b"email", b"e-mail", b"sip", b"sips", b"xmpp", b"acct",
        b"contact",
    ];
    if run == lower_bound || bytes[run - 1] != b':' {
        return None;
    }
    let of_word = |byte: u8| byte.is_ascii_graphic() && !b"/\"'=&?<>(){}[],;".contains(&byte) || byte >= 0x80;
    let stop = bytes[lower_bound..run].iter().rposition(|byte| !of_word(*byte));
    let begin = stop.map_or(lower_bound, |place| lower_bound + place + 1);
    let word = &bytes[begin..run - 1];
    let text = String::from_utf8_lossy(word);
    let known = KNOWN.iter().any(|known| word.eq_ignore_ascii_case(known))
        || super::is_secret(&text)
        || super::names_person(&text);
    (!word.is_empty() && !known).then_some(begin)
}

/// Returns whether a byte can stand in a mail address's first part (RFC 5322, 3.2.3), or an international one's.
pub(super) const fn is_local_part_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || byte >= 0x80
        || matches!(
            byte,
            b'.' | b'!'
                | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'_'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
                | b'~'
        )
}

/// Returns the end of the domain that begins at `begin`: labels with dots between them, one label that is not a number,
/// or an address in brackets.
fn domain_end(text: &[u8], begin: usize) -> Option<usize> {
    if text.get(begin) == Some(&b'[') {
        let length = text[begin..].iter().take(64).position(|byte| *byte == b']')?;
        return Some(begin + length + 1);
    }
    let of_label = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80 || *byte == b'-' || *byte == b'_';
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
    let named = dots > 0 || text[begin..end].iter().any(|byte| !byte.is_ascii_digit());
    (named && end > begin).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        let view = View::new(text);
        let hash = |address: &str| format!("<{}>", normalize_address(address));
        let found = find_addresses(&view, true, &hash);
        let (mut written, mut done) = (String::new(), 0);
        for (place, with) in found {
            let place = view.origin(&place);
            written.push_str(&text[done..place.start]);
            written.push_str(&with);
            done = place.end;
        }
        written + &text[done..]
    }

    #[test]
    fn addresses_are_found_whole() {
        for (text, expected) in [
            ("anna@shop.example", "<anna@shop.example>"),
            ("mary.o'brien@example.org", "<mary.o'brien@example.org>"),
            (
                "https://shop.example/?x=mary.o'brien@example.org&b=1",
                "https://shop.example/?x=<mary.o'brien@example.org>&b=1",
            ),
            (
                "https://shop.example/a?to=anna%40shop.example&b=1",
                "https://shop.example/a?to=<anna@shop.example>&b=1",
            ),
            (
                "https://shop.example/u/anna@x.org/b",
                "https://shop.example/<u/anna@x.org>/<anna@x.org>/b",
            ),
            ("https://shop.example/#anna@x.org", "https://shop.example/#<anna@x.org>"),
            (
                "write to anna@shop.example, please",
                "write to <anna@shop.example>, please",
            ),
            ("anna news@example.org", "<anna+news@example.org> <news@example.org>"),
            (
                "https://x.example/?m=anna news@example.org&b=1",
                "https://x.example/?m=<anna+news@example.org> <news@example.org>&b=1",
            ),
            (
                "news-anna=x.org@list.example",
                "<news-anna=x.org@list.example>=<x.org@list.example>",
            ),
            ("contact=anna@x.org", "contact=<anna@x.org>"),
            ("mary/brien@x.org", "<mary/brien@x.org>/<brien@x.org>"),
            ("o&brien@x.org", "<o&brien@x.org>&<brien@x.org>"),
            ("\"john doe\"@x.org", "<\"john doe\"@x.org>"),
            ("{\"m\":\"anna@x.org\"}", "{\"m\":\"<anna@x.org>\"}"),
            ("anna@ex%C3%A4mple.org", "<anna@xn--exmple-cua.org>"),
            ("anna%252540example.org", "<anna@example.org>"),
            ("anna\u{ff20}example.org", "<anna@example.org>"),
            ("anna@localhost", "<anna@localhost>"),
            ("u:PW@h/", "[redacted]:<pw@h>/"),
            ("mailto:anna@x.org?subject=a", "mailto:<anna@x.org>?subject=a"),
            ("react@18", "react@18"),
            ("https://medium.example/@user/post", "https://medium.example/@user/post"),
            (
                "next=https%3A%2F%2Fshop.example%2F%3Fto%3Danna%40x.org%26b%3D1",
                "next=https%3A%2F%2Fshop.example%2F%3Fto%3D<anna@x.org>%26b%3D1",
            ),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }
}
