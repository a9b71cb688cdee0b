//! The registrable domain of a host: its public suffix and one label more.
//!
//! `src/rules/suffixes.txt` holds the rules of the public suffix list's ICANN section that have more than one label
//! (publicsuffix.org; the list is under the Mozilla Public License 2.0), in another form: a line per suffix with the labels
//! that may stand before it. `*` is any label, `!` one that the rule before does not hold for, `~` one that is no suffix
//! itself. Lines are sorted, so that the text is its own index: nothing is built to look something up.

const SUFFIXES: &str = include_str!("rules/suffixes.txt");

/// The registrable domain of a host in small letters, as URLs have it; none for addresses, single labels and suffixes.
///
/// ```
/// use pixel::domain::registrable;
/// assert_eq!(registrable("www.shop.example.co.uk"), Some("example.co.uk"));
/// assert_eq!(registrable("news.example"), Some("news.example"));
/// assert_eq!(registrable("www.city.kawasaki.jp"), Some("city.kawasaki.jp"));
/// assert_eq!((registrable("co.uk"), registrable("localhost"), registrable("192.0.2.7")), (None, None, None));
/// ```
pub fn registrable(host: &str) -> Option<&str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let ends_in_digit = host.ends_with(|last: char| last.is_ascii_digit() || last == ']');
    if ends_in_digit || host.split('.').any(str::is_empty) {
        return None;
    }
    let before = |suffix: &str| host[..host.len() - suffix.len()].strip_suffix('.');
    let longer = |rest: &str| &host[rest.rfind('.').map_or(0, |dot| dot + 1)..];
    // The last label is a suffix in any case.
    let mut suffix = &host[host.rfind('.').map_or(0, |dot| dot + 1)..];
    let mut path = suffix;
    while let Some(rest) = before(path) {
        let next = longer(rest);
        let label = &next[..next.len() - path.len() - 1];
        match children(path).and_then(|labels| kind(labels, label)) {
            Some(Kind::Suffix) => suffix = next,
            Some(Kind::Between) => {}
            Some(Kind::Exception) => {
                suffix = path;
                break;
            }
            None => break,
        }
        path = next;
    }
    before(suffix).map(longer)
}

/// The labels that may stand before a suffix.
fn children(suffix: &str) -> Option<&'static str> {
    let (mut low, mut high) = (0, SUFFIXES.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let begin = SUFFIXES[..middle].rfind('\n').map_or(0, |end| end + 1);
        let end = SUFFIXES[begin..].find('\n').map_or(SUFFIXES.len(), |end| begin + end);
        let (key, labels) = SUFFIXES[begin..end].split_once(' ')?;
        match key.cmp(suffix) {
            std::cmp::Ordering::Equal => return Some(labels),
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = begin,
        }
    }
    None
}

/// What a label makes of a suffix.
enum Kind {
    Suffix,
    Between,
    Exception,
}

fn kind(labels: &str, label: &str) -> Option<Kind> {
    let mut any = None;
    for known in labels.split(' ') {
        if known == label {
            return Some(Kind::Suffix);
        }
        match known.split_at_checked(1) {
            Some(("!", exception)) if exception == label => return Some(Kind::Exception),
            Some(("~", between)) if between == label => any = any.or(Some(Kind::Between)),
            Some(("*", "")) => any = Some(Kind::Suffix),
            _ => {}
        }
    }
    any
}
