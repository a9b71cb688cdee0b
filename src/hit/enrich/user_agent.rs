//! Which program, system and kind of device an agent names.
//!
//! Names follow what the reference list of agents (`uap-core`) calls them, so that reports can be compared. The tables are
//! ours: words with ranks instead of regular expressions, all searched in one pass, because building the reference's
//! expressions takes a hundred times as long as looking at a thousand agents does here. What is in no table is named by
//! the agent's own first word, or by the word in it that calls itself a robot.
//!
//! Where a browser has frozen its agent, its client hints (`Sec-CH-UA…`) say what it is (WICG, User-Agent Client Hints).

use std::ops::Range;

use crate::hit::enrich::rules;
use crate::hit::enrich::rules::{RuleMatch, RuleMatches, version};

/// What an agent says of itself. What it does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent {
    /// The browser or program.
    pub name: Option<String>,
    /// Its version: numbers with dots.
    pub version: Option<String>,
    /// The operating system.
    pub os: Option<String>,
    /// Its version.
    pub os_version: Option<String>,
    /// What it runs on.
    pub device: Option<Device>,
}

/// Kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// On a desk or a lap.
    Desktop,
    /// In a hand.
    Phone,
    /// In two hands.
    Tablet,
    /// A television, or a box below one.
    Tv,
    /// A game console.
    Console,
    /// A watch, or glasses.
    Wearable,
    /// A loudspeaker.
    Speaker,
    /// In a car.
    Car,
    /// A reader of electronic books.
    Reader,
}

impl Device {
    /// All of them.
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

    /// The name stored with the event.
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

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|device| device.name() == name)
    }
}

/// Reads an agent, in which `found` was found. `header` gives headers by their names in small letters.
pub fn parse_user_agent<'h>(
    agent: &str,
    found: &RuleMatches<'_>,
    header: impl Fn(&str) -> Option<&'h str>,
) -> UserAgent {
    let browser = found
        .first_match(rules::PROGRAMS)
        .map(owned)
        .or_else(|| robot(agent))
        .or_else(|| {
            found
                .first_match(rules::BROWSERS)
                .map(|answer| owned(explorer(answer, agent)))
        })
        .or_else(|| first_product(agent));
    let system = found.first_match(rules::SYSTEMS);
    let (name, version) = browser.unzip();
    let mut read = UserAgent {
        name,
        version: version.flatten(),
        os: system.as_ref().map(|system| system.meaning.to_owned()),
        os_version: system.and_then(|system| system_version(&system, agent)),
        device: found.meaning(rules::DEVICES).and_then(Device::named),
    };
    hints(&mut read, header);
    read
}

/// Internet Explorer shows itself as an older one to some pages; its engine does not.
fn explorer(mut answer: RuleMatch, agent: &str) -> RuleMatch {
    if answer.meaning == "IE"
        && let Some((_, engine)) = agent.split_once("Trident/")
        && let Some(engine @ 4..=7) = engine.split('.').next().and_then(|engine| engine.parse::<u32>().ok())
    {
        answer.version = Some(format!("{}.0", engine + 4));
    }
    answer
}

fn owned(answer: RuleMatch) -> (String, Option<String>) {
    (answer.meaning.to_owned(), answer.version)
}

/// Windows counts its kernels otherwise than its names, and many of Apple's programs tell only the kernel's version.
fn system_version(system: &RuleMatch, agent: &str) -> Option<String> {
    let kernel = agent
        .split_once(" Darwin/")
        .and_then(|(_, kernel)| kernel.split('.').next()?.parse().ok());
    if let Some(kernel) = kernel {
        return darwin(system.meaning, kernel);
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

/// The version of a system of Apple's by the major version of its kernel.
fn darwin(system: &str, kernel: u32) -> Option<String> {
    match (system, kernel) {
        ("iOS", 10) => Some("4".to_owned()),
        ("iOS", 11) => Some("5".to_owned()),
        ("iOS", 13) => Some("6".to_owned()),
        ("iOS", 14) => Some("7".to_owned()),
        ("iOS", 15) => Some("9".to_owned()),
        ("iOS", 16..=24) => Some((kernel - 6).to_string()),
        ("Mac OS X", 8..=19) => Some(format!("10.{}", kernel - 4)),
        ("Mac OS X", 20..=24) => Some((kernel - 9).to_string()),
        // Since 2025 all of Apple's systems are counted by the year.
        (_, 25..100) => Some((kernel + 1).to_string()),
        _ => None,
    }
}

/// Letters that a robot's name is made of.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" -_![]:".contains(&byte)
}

/// The name by which an agent calls itself a robot, and the version behind it; the surest form first, wherever it stands.
fn robot(agent: &str) -> Option<(String, Option<String>)> {
    let agent = &agent[..agent.floor_char_boundary(rules::MAX_TEXT_BYTES)];
    let small = agent.to_ascii_lowercase();
    // Models of phones are named so, too.
    let phone = small.contains("android") && !small.contains("compatible;") && !small.contains("http");
    // Who says another name first says nothing more by the name of a page or a mail box.
    let named = first_product(agent).is_some();
    let told = |place: &usize| !named || !in_address(&small, *place);
    let (name, end) = versioned(agent, &small, phone)
        .or_else(|| (!phone).then(|| bot(&small, told)).flatten())
        .or_else(|| (!phone).then(|| crawler(&small, told)).flatten())
        .map(|range| (agent[range.clone()].trim_matches([' ', ':', '-', '[', '!']), range.end))?;
    (name.len() >= 3).then(|| (name.to_owned(), version(&agent.as_bytes()[end..])))
}

/// Whether a place is in the address of a page or of a mail box.
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

/// Most letters before the word that tells.
const NAME: usize = 50;

/// Where the bytes for which `fits` holds begin that end at `end`, at most [`NAME`] of them.
fn back(text: &str, end: usize, fits: impl Fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes()[..end].iter().rev();
    end - bytes.take(NAME).take_while(|byte| fits(**byte)).count()
}

/// `Name of a Bot/1.0`: words, the last of which tells, and a number.
fn versioned(agent: &str, small: &str, phone: bool) -> Option<Range<usize>> {
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
    let mut begin = back(small, first, is_name_byte);
    // All that follows without another mark between is one name.
    let run = first + bytes[first..].iter().take_while(|byte| is_name_byte(**byte)).count();
    let (last, end) = words.into_iter().take_while(|(word, _)| *word < run).last()?;
    // What stands before may be the rest of a version.
    let version = back(small, begin, |byte| byte.is_ascii_alphanumeric() || byte == b'.');
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

/// `Name of a Bot`, without a number.
fn bot(small: &str, told: impl Fn(&usize) -> bool) -> Option<Range<usize>> {
    let bytes = small.as_bytes();
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b" -_".contains(&byte);
    let ends = |end: usize| {
        let next = bytes.get(end).copied();
        !next.is_some_and(|next| next.is_ascii_alphanumeric() || b"_.@".contains(&next))
    };
    let mut places = small.match_indices("bot").map(|(place, _)| place).filter(told);
    let first = places.find(|place| ends(place + 3) && *place >= 2 && !small[..*place].ends_with("cu"))?;
    let begin = back(small, first, in_name);
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

/// A word with `spider` or `crawl` in it, and the one before.
fn crawler(small: &str, told: impl Fn(&usize) -> bool) -> Option<Range<usize>> {
    let of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_[]^".contains(&byte);
    let words = ["spider", "scrape", "crawl"];
    let places = |word| small.match_indices(word).map(|(place, _)| place);
    let first = words.into_iter().flat_map(places).filter(told).min()?;
    let word = small[..first].strip_suffix(" the ").map_or(first, str::len);
    let before = small[..word].strip_suffix(' ').map_or(word, str::len);
    let of_many = back(small, before, |byte| {
        byte.is_ascii_alphabetic() || b"_[]^-".contains(&byte)
    });
    let of_many = if of_many < before { of_many } else { word };
    let begin = back(small, word, of_word).min(of_many);
    let end = first
        + small.as_bytes()[first..]
            .iter()
            .take_while(|byte| of_word(**byte))
            .count();
    Some(begin..end)
}

/// The name that an agent begins with, when it is no browser's: `Name/1.0`.
fn first_product(agent: &str) -> Option<(String, Option<String>)> {
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

/// What client hints say, where the agent says less.
fn hints<'h>(read: &mut UserAgent, header: impl Fn(&str) -> Option<&'h str>) {
    let text = |name| {
        header(name)
            .map(|value| value.trim_matches('"'))
            .filter(|value| !value.is_empty())
    };
    if let Some(platform) = text("sec-ch-ua-platform") {
        let version = text("sec-ch-ua-platform-version");
        let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        match (platform, major) {
            // Windows 11 is 13 and more (Microsoft Learn, "Detect Windows 11 using User-Agent Client Hints").
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
    if let Some((name, version)) = brands.and_then(brand).filter(|_| chromium) {
        // A brand that is Chrome itself adds but its version.
        if name != "Chrome" {
            read.name = Some(name.to_owned());
        }
        if let Some(version) = rules::version(version.as_bytes()) {
            read.version = Some(version);
        }
    }
}

/// The brand of a list that says most, and its version: `"Chromium";v="139", "Brave";v="139", "Not=A?Brand";v="8"`.
fn brand(list: &str) -> Option<(&'static str, &str)> {
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
