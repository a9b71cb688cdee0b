//! Reads program, operating system and kind of device from a user agent.
//!
//! Names follow the reference list of user agents (`uap-core`), so that reports can be compared. The tables are our
//! own: ranked words instead of regular expressions, all searched in one pass, because building the reference's
//! expressions takes a hundred times as long as reading a thousand user agents does here. A user agent in no table is
//! named by its own first word, or by the word in it that identifies it as a robot.
//!
//! Where a browser has frozen its user agent, its client hints (`Sec-CH-UA…`) are used (WICG, User-Agent Client Hints).

use std::ops::Range;

use crate::hit::enrich::rules;
use crate::hit::enrich::rules::{RuleMatch, RuleMatches, version};

/// The properties that a user agent reports; those not reported are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent {
    /// The name of the browser or program.
    pub name: Option<String>,
    /// The version of the program: numbers with dots.
    pub version: Option<String>,
    /// The name of the operating system.
    pub os: Option<String>,
    /// The version of the operating system.
    pub os_version: Option<String>,
    /// The kind of device.
    pub device: Option<Device>,
}

/// The kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// A desktop computer or a laptop.
    Desktop,
    /// A mobile phone.
    Phone,
    /// A tablet computer.
    Tablet,
    /// A television, or a set-top box.
    Tv,
    /// A game console.
    Console,
    /// A watch or glasses.
    Wearable,
    /// A smart speaker.
    Speaker,
    /// A car.
    Car,
    /// An e-book reader.
    Reader,
}

impl Device {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Desktop,
        Self::Phone,
        Self::Tablet,
        Self::Tv,
        Self::Console,
        Self::Wearable,
        Self::Speaker,
        Self::Car,
        Self::Reader,
    ];

    /// Returns the name stored with the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Tv => "tv",
            Self::Console => "console",
            Self::Wearable => "wearable",
            Self::Speaker => "speaker",
            Self::Car => "car",
            Self::Reader => "reader",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|device| device.name() == name)
    }
}

/// Parses a user agent; `found` holds its matches. `header` returns headers by their names in lower case.
pub fn parse_user_agent<'h>(
    agent: &str,
    found: &RuleMatches<'_>,
    header: impl Fn(&str) -> Option<&'h str>,
) -> UserAgent {
    let browser = found
        .first_match(rules::PROGRAMS)
        .map(to_name_and_version)
        .or_else(|| find_robot(agent))
        .or_else(|| {
            found
                .first_match(rules::BROWSERS)
                .map(|matched| to_name_and_version(correct_explorer_version(matched, agent)))
        })
        .or_else(|| parse_first_product(agent));
    let system = found.first_match(rules::SYSTEMS);
    let (name, version) = browser.unzip();
    let mut read = UserAgent {
        name,
        version: version.flatten(),
        os: system.as_ref().map(|system| system.meaning.to_owned()),
        os_version: system.and_then(|system| system_version(&system, agent)),
        device: found.meaning(rules::DEVICES).and_then(Device::parse),
    };
    apply_client_hints(&mut read, header);
    read
}

/// Corrects the version of Internet Explorer, which pretends to be an older one for some pages; its engine does not.
fn correct_explorer_version(mut matched: RuleMatch, agent: &str) -> RuleMatch {
    if matched.meaning == "IE"
        && let Some((_, engine)) = agent.split_once("Trident/")
        && let Some(engine @ 4..=7) = engine.split('.').next().and_then(|engine| engine.parse::<u32>().ok())
    {
        matched.version = Some(format!("{}.0", engine + 4));
    }
    matched
}

fn to_name_and_version(matched: RuleMatch) -> (String, Option<String>) {
    (matched.meaning.to_owned(), matched.version)
}

/// Returns the version of the system: Windows numbers its kernels differently, and many of Apple's programs report only the
/// kernel's version.
fn system_version(system: &RuleMatch, agent: &str) -> Option<String> {
    let kernel = agent
        .split_once(" Darwin/")
        .and_then(|(_, kernel)| kernel.split('.').next()?.parse().ok());
    if let Some(kernel) = kernel {
        return darwin_system_version(system.meaning, kernel);
    }
    let version = system.version.as_deref()?;
    if system.meaning != "Windows" {
        return Some(version.to_owned());
    }
    let name = match version {
        "5.0" => "2000",
        "5.1" | "5.2" => "XP",
        "6.0" => "Vista",
        "6.1" => "7",
        "6.2" => "8",
        "6.3" => "8.1",
        "6.4" | "10.0" => "10",
        "4.90" => "ME",
        "4.0" => "NT 4.0",
        other => other,
    };
    Some(name.to_owned())
}

/// Returns the version of an Apple system by the major version of its kernel.
fn darwin_system_version(system: &str, kernel: u32) -> Option<String> {
    match (system, kernel) {
        ("iOS", 10) => Some("4".to_owned()),
        ("iOS", 11) => Some("5".to_owned()),
        ("iOS", 13) => Some("6".to_owned()),
        ("iOS", 14) => Some("7".to_owned()),
        ("iOS", 15) => Some("9".to_owned()),
        ("iOS", 16..=24) => Some((kernel - 6).to_string()),
        ("Mac OS X", 8..=19) => Some(format!("10.{}", kernel - 4)),
        ("Mac OS X", 20..=24) => Some((kernel - 9).to_string()),
        // Since 2025 all of Apple's systems are numbered by year.
        (_, 25..100) => Some((kernel + 1).to_string()),
        _ => None,
    }
}

/// Returns true for a byte that a robot's name may contain.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" -_![]:".contains(&byte)
}

/// Finds the name by which a user agent identifies itself as a robot, and the version after it. The most certain form
/// is tried first, wherever it is.
fn find_robot(agent: &str) -> Option<(String, Option<String>)> {
    let agent = &agent[..agent.floor_char_boundary(rules::MAX_TEXT_BYTES)];
    let small = agent.to_ascii_lowercase();
    // Models of phones have such names as well.
    let phone = small.contains("android") && !small.contains("compatible;") && !small.contains("http");
    // If the user agent begins with another name, the address of a page or a mailbox does not identify a robot.
    let named = parse_first_product(agent).is_some();
    let identifies = |place: &usize| !named || !in_address(&small, *place);
    let (name, end) = find_versioned_robot(agent, &small, phone)
        .or_else(|| (!phone).then(|| find_bot(&small, identifies)).flatten())
        .or_else(|| (!phone).then(|| find_crawler(&small, identifies)).flatten())
        .map(|range| (agent[range.clone()].trim_matches([' ', ':', '-', '[', '!']), range.end))?;
    (name.len() >= 3).then(|| (name.to_owned(), version(&agent.as_bytes()[end..])))
}

/// Returns true if a position is in the address of a page or of a mailbox.
fn in_address(text: &str, place: usize) -> bool {
    let ends = |byte: &u8| b" ;,()<>".contains(byte);
    let begin = text.as_bytes()[..place]
        .iter()
        .rposition(ends)
        .map_or(0, |before| before + 1);
    let rest = &text[begin..];
    let word = &rest[..rest.bytes().position(|byte| ends(&byte)).unwrap_or(rest.len())];
    word.contains('@') || word.contains("://") || word.contains("www.")
}

/// The longest name before the word that identifies a robot, in bytes.
const MAX_NAME_BYTES: usize = 50;

/// Returns the beginning of the bytes before `end` for which `fits` is true, at most [`MAX_NAME_BYTES`] of them.
fn find_begin(text: &str, end: usize, fits: impl Fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes()[..end].iter().rev();
    end - bytes.take(MAX_NAME_BYTES).take_while(|byte| fits(**byte)).count()
}

/// Finds `Name of a Bot/1.0`: words, the last of which identifies a robot, and a number.
fn find_versioned_robot(agent: &str, small: &str, phone: bool) -> Option<Range<usize>> {
    const WORDS: [&str; 6] = ["archiver", "indexer", "scraper", "bot", "spider", "crawl"];
    let bytes = small.as_bytes();
    let numbered = |end: usize| {
        let slash = bytes.get(end) == Some(&b'/');
        (slash || !phone && bytes.get(end) == Some(&b' ')) && bytes.get(end + 1).is_some_and(u8::is_ascii_digit)
    };
    let mut words: Vec<_> = WORDS
        .into_iter()
        .flat_map(|word| small.match_indices(word))
        .map(|(begin, word)| {
            let end = begin + word.len();
            let more = bytes[end..].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
            (begin, end + if word == "crawl" { more } else { 0 })
        })
        .filter(|(_, end)| numbered(*end))
        .collect();
    words.sort_unstable();
    let (first, _) = *words.first()?;
    let mut begin = find_begin(small, first, is_name_byte);
    // Everything up to the next other character is one name.
    let run = first + bytes[first..].iter().take_while(|byte| is_name_byte(**byte)).count();
    let (last, end) = words.into_iter().take_while(|(word, _)| *word < run).last()?;
    // The characters before may be the rest of a version.
    let version = find_begin(small, begin, |byte| byte.is_ascii_alphanumeric() || byte == b'.');
    if version > 0 && bytes[version - 1] == b'/' {
        let rest = bytes[version..last].iter();
        let behind = version
            + rest
                .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.')
                .count();
        begin = begin.max(behind.min(last));
    }
    (!agent[begin..end].trim().is_empty()).then_some(begin..end)
}

/// Finds `Name of a Bot`, without a number.
fn find_bot(small: &str, identifies: impl Fn(&usize) -> bool) -> Option<Range<usize>> {
    let bytes = small.as_bytes();
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b" -_".contains(&byte);
    let ends = |end: usize| {
        let next = bytes.get(end).copied();
        !next.is_some_and(|next| next.is_ascii_alphanumeric() || b"_.@".contains(&next))
    };
    let mut places = small.match_indices("bot").map(|(place, _)| place).filter(identifies);
    let first = places.find(|place| ends(place + 3) && *place >= 2 && !small[..*place].ends_with("cu"))?;
    let begin = find_begin(small, first, in_name);
    let begin = begin
        + bytes[begin..first]
            .iter()
            .take_while(|byte| !byte.is_ascii_alphabetic())
            .count();
    let run = first + bytes[first..].iter().take_while(|byte| in_name(**byte)).count();
    let last = places
        .take_while(|place| *place < run)
        .filter(|place| ends(place + 3))
        .last();
    Some(begin..last.unwrap_or(first) + 3)
}

/// Finds a word that contains `spider` or `crawl`, and the one before it.
fn find_crawler(small: &str, identifies: impl Fn(&usize) -> bool) -> Option<Range<usize>> {
    let of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_[]^".contains(&byte);
    let words = ["spider", "scrape", "crawl"];
    let places = |word| small.match_indices(word).map(|(place, _)| place);
    let first = words.into_iter().flat_map(places).filter(identifies).min()?;
    let word = small[..first].strip_suffix(" the ").map_or(first, str::len);
    let before = small[..word].strip_suffix(' ').map_or(word, str::len);
    let of_many = find_begin(small, before, |byte| {
        byte.is_ascii_alphabetic() || b"_[]^-".contains(&byte)
    });
    let of_many = if of_many < before { of_many } else { word };
    let begin = find_begin(small, word, of_word).min(of_many);
    let end = first
        + small.as_bytes()[first..]
            .iter()
            .take_while(|byte| of_word(**byte))
            .count();
    Some(begin..end)
}

/// Returns the name at the beginning of a user agent, if it is not a browser's: `Name/1.0`.
fn parse_first_product(agent: &str) -> Option<(String, Option<String>)> {
    let (name, rest) = agent.split_once('/').unwrap_or((agent, ""));
    let fits = (2..=40).contains(&name.len()) && name.bytes().all(|byte| is_name_byte(byte) || byte == b'.');
    let general = ["Mozilla", "Dalvik", "http:", "https:"].contains(&name);
    let name = name
        .strip_suffix("-iPad")
        .or_else(|| name.strip_suffix("-iPhone"))
        .unwrap_or(name)
        .trim();
    (fits && !general && name.bytes().any(|byte| byte.is_ascii_alphabetic()))
        .then(|| (name.to_owned(), version(rest.as_bytes())))
}

/// Adds the client hints where the user agent gives less.
fn apply_client_hints<'h>(read: &mut UserAgent, header: impl Fn(&str) -> Option<&'h str>) {
    let text = |name| {
        header(name)
            .map(|value| value.trim_matches('"'))
            .filter(|value| !value.is_empty())
    };
    if let Some(platform) = text("sec-ch-ua-platform") {
        let version = text("sec-ch-ua-platform-version");
        let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        match (platform, major) {
            // Windows 11 has version 13 or higher (Microsoft Learn, "Detect Windows 11 using User-Agent Client Hints").
            ("Windows", Some(13..)) => (read.os, read.os_version) = (Some("Windows".to_owned()), Some("11".to_owned())),
            ("Windows", Some(1..)) => (read.os, read.os_version) = (Some("Windows".to_owned()), Some("10".to_owned())),
            ("Android", Some(1..)) | ("macOS", Some(11..)) => {
                read.os = Some(if platform == "macOS" { "Mac OS X" } else { platform }.to_owned());
                read.os_version = version.and_then(|text| rules::version(text.as_bytes()));
            }
            _ => {}
        }
    }
    match (text("sec-ch-ua-mobile"), read.device) {
        (Some("?1"), None | Some(Device::Desktop)) => read.device = Some(Device::Phone),
        (Some("?0"), None) => read.device = Some(Device::Desktop),
        _ => {}
    }
    let brands = header("sec-ch-ua-full-version-list").or_else(|| header("sec-ch-ua"));
    let chromium = read.name.as_deref().is_some_and(|name| name.starts_with("Chrome"));
    if let Some((name, version)) = brands.and_then(find_brand).filter(|_| chromium) {
        // The brand Chrome itself adds only its version.
        if name != "Chrome" {
            read.name = Some(name.to_owned());
        }
        if let Some(version) = rules::version(version.as_bytes()) {
            read.version = Some(version);
        }
    }
}

/// Returns the most specific brand of a list, and its version: `"Chromium";v="139", "Brave";v="139", "Not=A?Brand";v="8"`.
fn find_brand(list: &str) -> Option<(&'static str, &str)> {
    const BRANDS: [(&str, &str); 12] = [
        ("Microsoft Edge", "Edge"),
        ("Opera", "Opera"),
        ("Brave", "Brave"),
        ("Vivaldi", "Vivaldi"),
        ("YaBrowser", "Yandex Browser"),
        ("Yandex", "Yandex Browser"),
        ("Samsung Internet", "Samsung Internet"),
        ("DuckDuckGo", "DuckDuckGo"),
        ("Whale", "Whale"),
        ("Avast Secure Browser", "Avast Secure Browser"),
        ("HeadlessChrome", "HeadlessChrome"),
        ("Google Chrome", "Chrome"),
    ];
    BRANDS.into_iter().find_map(|(brand, name)| {
        let rest = list.split_once(&format!("\"{brand}\";v=\""))?.1;
        Some((name, rest.split('"').next().unwrap_or_default()))
    })
}
