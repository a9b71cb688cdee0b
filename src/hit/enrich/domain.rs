//! The registrable domain of a host: its public suffix and one more label.
//!
//! `src/hit/enrich/rules/suffixes.txt` holds the rules of the public suffix list that have more than one label
//! (publicsuffix.org; the list is under the Mozilla Public License 2.0) in another form: one line per suffix, with the
//! labels that may come before it. `*` is any label. After a label, `+` marks a rule of the list's private section,
//! where the owner of a domain gives away names below it; `!` an exception to the previous rule; `~` a label that is
//! not a suffix itself. The lines are sorted, and so are the labels of a line: the text is its own index, and a look-up
//! builds nothing.

const SUFFIXES: &str = include_str!("rules/suffixes.txt");

/// The registrable domain of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registrable<'a> {
    /// The name of the domain.
    pub name: &'a str,
    /// True if the suffix is in the list's private section: the label before it is then not its owner's name.
    pub private: bool,
}

/// Returns the registrable domain of a lower-case host, as in URLs; none for addresses, single labels and suffixes.
///
/// ```
/// use pixel::hit::enrich::domain::registrable;
/// let name = |host| registrable(host).map(|domain| domain.name);
/// assert_eq!(name("www.shop.example.co.uk"), Some("example.co.uk"));
/// assert_eq!(name("news.example"), Some("news.example"));
/// assert_eq!(name("www.city.kawasaki.jp"), Some("city.kawasaki.jp"));
/// assert_eq!(name("pages.alice.github.io"), Some("alice.github.io"));
/// assert_eq!((name("co.uk"), name("localhost"), name("192.0.2.7")), (None, None, None));
/// ```
pub fn registrable(host: &str) -> Option<Registrable<'_>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let ends_in_digit = host.ends_with(|last: char| last.is_ascii_digit() || last == ']');
    if ends_in_digit || host.split('.').any(str::is_empty) {
        return None;
    }
    let before = |suffix: &str| host[..host.len() - suffix.len()].strip_suffix('.');
    let longer = |rest: &str| &host[rest.rfind('.').map_or(0, |dot| dot + 1)..];
    // The last label is always a suffix.
    let mut suffix = &host[host.rfind('.').map_or(0, |dot| dot + 1)..];
    let mut private = false;
    let mut path = suffix;
    while let Some(rest) = before(path) {
        let next = longer(rest);
        let label = &next[..next.len() - path.len() - 1];
        match children(path).and_then(|labels| find_kind(labels, label)) {
            Some(LabelKind::Suffix { private: is_private }) => (suffix, private) = (next, is_private),
            Some(LabelKind::Between) => {}
            Some(LabelKind::Exception) => {
                suffix = path;
                break;
            }
            None => break,
        }
        path = next;
    }
    let name = before(suffix).map(longer)?;
    Some(Registrable { name, private })
}

/// Returns the labels that may come before a suffix.
fn children(suffix: &str) -> Option<&'static str> {
    let key = |line: &'static str| line.split_once(' ').map_or(line, |(key, _)| key);
    search(SUFFIXES, '\n', suffix, key)?
        .split_once(' ')
        .map(|(_, labels)| labels)
}

/// Returns the entry of a sorted text that has this key.
fn search(
    text: &'static str,
    between: char,
    wanted: &str,
    key: fn(&'static str) -> &'static str,
) -> Option<&'static str> {
    let (mut low, mut high) = (0, text.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let begin = text[..middle].rfind(between).map_or(0, |end| end + 1);
        let end = text[begin..].find(between).map_or(text.len(), |end| begin + end);
        let entry = &text[begin..end];
        match key(entry).cmp(wanted) {
            std::cmp::Ordering::Equal => return Some(entry),
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = begin,
        }
    }
    None
}

/// The effect of a label on a suffix.
enum LabelKind {
    Suffix { private: bool },
    Between,
    Exception,
}

fn find_kind(labels: &'static str, label: &str) -> Option<LabelKind> {
    let key = |entry: &'static str| entry.trim_end_matches(['+', '!', '~']);
    let of = |entry: &str| match entry.as_bytes().last() {
        Some(b'~') => LabelKind::Between,
        Some(b'!') => LabelKind::Exception,
        last => LabelKind::Suffix {
            private: last == Some(&b'+'),
        },
    };
    let own = search(labels, ' ', label, key).map(of);
    // It is sorted before all others.
    let any = || {
        let first = labels.split(' ').next()?;
        (key(first) == "*").then(|| of(first))
    };
    match own {
        None | Some(LabelKind::Between) => any().or(own),
        known => known,
    }
}
