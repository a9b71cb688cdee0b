//! The people who read the mails and visit the site: their homes, active hours and software.
//!
//! Addresses are from the ranges that are reserved for documentation (RFC 5737, RFC 3849). Countries and networks are those
//! that `CloudFront` would report for such visitors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::agents::{Agent, PEOPLE, Place};
use super::random::Random;

/// An hour in milliseconds.
pub(super) const HOUR: i64 = 3_600_000;
/// A day in milliseconds.
pub(super) const DAY: i64 = 24 * HOUR;

/// A country with its clock and networks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Country {
    weight: u64,
    /// Its ISO 3166 code.
    pub(super) code: &'static str,
    /// The hours by which its clocks are ahead of UTC.
    hours: i64,
    languages: &'static [&'static str],
    /// The numbers of networks that its people use.
    networks: &'static [u32],
}

const fn country(
    weight: u64,
    code: &'static str,
    hours: i64,
    languages: &'static [&'static str],
    networks: &'static [u32],
) -> Country {
    Country {
        weight,
        code,
        hours,
        languages,
        networks,
    }
}

const ENGLISH: &[&str] = &["en-US,en;q=0.9", "en-US,en;q=0.5", "en-US"];
const BRITISH: &[&str] = &["en-GB,en;q=0.9", "en-GB,en-US;q=0.9,en;q=0.8", "en-GB"];
const GERMAN: &[&str] = &[
    "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
    "de,en-US;q=0.7,en;q=0.3",
    "de-DE,de;q=0.9",
];

const COUNTRIES: [Country; 24] = [
    country(240, "DE", 1, GERMAN, &[3320, 3209, 6805, 8881, 680]),
    country(190, "US", -6, ENGLISH, &[7922, 701, 7018, 20115, 21928]),
    country(110, "GB", 0, BRITISH, &[2856, 5089, 5607, 12576]),
    country(
        70,
        "FR",
        1,
        &["fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7", "fr"],
        &[3215, 12322, 15557, 5410],
    ),
    country(45, "NL", 1, &["nl-NL,nl;q=0.9,en;q=0.8", "nl"], &[1136, 33915]),
    country(40, "AT", 1, GERMAN, &[8447, 6830]),
    country(
        38,
        "CH",
        1,
        &["de-CH,de;q=0.9,en;q=0.8", "fr-CH,fr;q=0.9"],
        &[3303, 6730],
    ),
    country(
        36,
        "IN",
        5,
        &["en-IN,en;q=0.9,hi;q=0.8", "en-GB,en;q=0.9"],
        &[55836, 45609, 24560],
    ),
    country(34, "ES", 1, &["es-ES,es;q=0.9", "es"], &[3352, 12479, 12430]),
    country(
        32,
        "IT",
        1,
        &["it-IT,it;q=0.9,en-US;q=0.8,en;q=0.7"],
        &[3269, 30722, 1267],
    ),
    country(
        28,
        "CA",
        -5,
        &["en-CA,en;q=0.9", "fr-CA,fr;q=0.9,en;q=0.8"],
        &[577, 812, 852],
    ),
    country(24, "PL", 1, &["pl-PL,pl;q=0.9,en-US;q=0.8"], &[5617, 12741]),
    country(22, "BR", -3, &["pt-BR,pt;q=0.9,en;q=0.8"], &[27699, 28573, 18881]),
    country(20, "SE", 1, &["sv-SE,sv;q=0.9,en;q=0.8"], &[3301, 1257]),
    country(18, "AU", 10, &["en-AU,en;q=0.9", "en-GB,en;q=0.9"], &[1221, 4804]),
    country(16, "JP", 9, &["ja,en-US;q=0.9,en;q=0.8", "ja-JP"], &[4713, 2516, 17676]),
    country(
        14,
        "BE",
        1,
        &["nl-BE,nl;q=0.9,fr;q=0.8", "fr-BE,fr;q=0.9"],
        &[5432, 6848],
    ),
    country(12, "DK", 1, &["da-DK,da;q=0.9,en;q=0.8"], &[3292]),
    country(10, "NO", 1, &["nb-NO,nb;q=0.9,en;q=0.8"], &[2119]),
    country(10, "CZ", 1, &["cs-CZ,cs;q=0.9,en;q=0.8"], &[5610]),
    country(8, "PT", 0, &["pt-PT,pt;q=0.9,en;q=0.8"], &[3243]),
    country(8, "MX", -6, &["es-MX,es;q=0.9,en;q=0.8"], &[8151]),
    country(6, "ZA", 2, &["en-ZA,en;q=0.9"], &[37457]),
    country(5, "SG", 8, &["en-SG,en;q=0.9,zh-CN;q=0.8"], &[9506]),
];

/// The way in which a person's mail shows images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mailbox {
    /// In Gmail, through its proxy.
    Gmail,
    /// In Apple Mail with privacy protection, loaded when the mail arrives.
    Apple,
    /// In Yahoo's mail, through its proxy.
    Yahoo,
    /// In a mail program that fetches them itself.
    Program,
    /// In a browser, as most providers' web mail does.
    Browser,
}

const MAILBOXES: [(u64, Mailbox); 5] = [
    (34, Mailbox::Gmail),
    (27, Mailbox::Apple),
    (5, Mailbox::Yahoo),
    (21, Mailbox::Program),
    (13, Mailbox::Browser),
];

/// The kind of program in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// A mail program.
    Mail,
    /// A browser.
    Web,
}

/// One person. The same number is always the same person.
#[derive(Clone, Debug)]
pub(super) struct Person {
    number: u64,
    /// The country they live in.
    pub(super) country: &'static Country,
    /// The network of their provider.
    pub(super) network: u32,
    /// Their address.
    pub(super) address: IpAddr,
    /// The languages that their software accepts.
    pub(super) language: &'static str,
    /// The way in which their mail shows images.
    pub(super) mailbox: Mailbox,
    /// True if a gateway scans their mail, as companies' gateways do.
    pub(super) scanned: bool,
    /// True if they send `DNT`.
    pub(super) dnt: bool,
    /// True if they send `Sec-GPC`.
    pub(super) gpc: bool,
    installations: u64,
}

impl Person {
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7065_6f70_6c65, number);
        let country = random.weighted(&COUNTRIES, |country| country.weight);
        let asks = random.below(100);
        Self {
            number,
            country,
            network: *random.pick(country.networks),
            address: address(&mut random),
            language: country.languages[random.index(country.languages.len())],
            mailbox: random.weighted(&MAILBOXES, |mailbox| mailbox.0).1,
            scanned: random.chance(14),
            dnt: asks < 5,
            gpc: (3..9).contains(&asks),
            installations: random.next(),
        }
    }

    /// Returns the id by which the owner of the pixel knows them.
    pub(super) fn user(&self) -> String {
        format!("u-{}", 10_000 + self.number)
    }

    /// Returns a random sequence that is always theirs.
    pub(super) const fn own(&self, subject: u64) -> Random {
        Random::new(self.installations, subject)
    }

    /// Returns the agent that they use, and its text.
    pub(super) fn agent(&self, occasion: Occasion) -> (&'static Agent, String) {
        let subject = u64::from(occasion == Occasion::Mail);
        let mut random = self.own(subject);
        let fits = |agent: &Agent| (agent.place == Place::Mail) == (occasion == Occasion::Mail);
        let agent = random.weighted(&PEOPLE, |agent| if fits(agent) { agent.weight } else { 0 });
        (agent, agent.text(&mut random))
    }

    /// Returns true if they are active at this time; `random` decides in the hours between day and night.
    pub(super) fn is_active(&self, time: i64, random: &mut Random) -> bool {
        let local = time + self.country.hours * HOUR;
        let hour = usize::try_from(local.rem_euclid(DAY) / HOUR).unwrap_or_default();
        // The epoch was a Thursday.
        let weekday = usize::try_from((local.div_euclid(DAY) + 3).rem_euclid(7)).unwrap_or_default();
        random.below(10_000) < HOURS[hour] * WEEKDAYS[weekday]
    }
}

/// The activity in each hour of the day, in percent.
const HOURS: [u64; 24] = [
    14, 8, 5, 4, 4, 8, 22, 45, 70, 88, 96, 92, 84, 86, 90, 86, 80, 76, 78, 86, 92, 80, 55, 30,
];

/// The activity from Monday to Sunday, in percent.
const WEEKDAYS: [u64; 7] = [96, 100, 98, 94, 82, 52, 58];

/// Returns an address that nobody has.
pub(super) fn address(random: &mut Random) -> IpAddr {
    let part = |random: &mut Random| u16::try_from(random.below(0xffff)).unwrap_or_default();
    if random.chance(38) {
        let network = u16::try_from(random.below(400)).unwrap_or_default();
        let [a, b, c] = [part(random), part(random), part(random)];
        return Ipv6Addr::new(0x2001, 0xdb8, network, a, 0, b, c, 1 + part(random) / 2).into();
    }
    let host = 1 + u8::try_from(random.below(254)).unwrap_or_default();
    let [a, b, c] = *random.pick(&[[192, 0, 2], [198, 51, 100], [203, 0, 113]]);
    Ipv4Addr::new(a, b, c, host).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of 1,000 attempts at this hour and weekday at which a British person is active.
    fn about(hour: i64, weekday: i64) -> usize {
        let person = (0..10_000)
            .map(|number| Person::new(1, number))
            .find(|person| person.country.code == "GB");
        let person = person.expect("there is somebody in every country");
        // 2024-01-01 was a Monday.
        let time = 1_704_067_200_000 + weekday * DAY + hour * HOUR;
        let mut random = Random::new(1, 1);
        (0..1_000).filter(|_| person.is_active(time, &mut random)).count()
    }

    #[test]
    fn people_sleep_at_night_and_rest_on_sundays() {
        assert!(about(10, 1) > 900, "{}", about(10, 1));
        assert!(about(3, 1) < 100, "{}", about(3, 1));
        assert!(about(10, 6) < about(10, 1), "{}", about(10, 6));
    }

    #[test]
    fn a_number_is_always_the_same_person() {
        for number in 0..100 {
            let (one, same) = (Person::new(7, number), Person::new(7, number));
            assert_eq!(one.address, same.address);
            assert_eq!(one.agent(Occasion::Web).1, same.agent(Occasion::Web).1);
        }
    }

    #[test]
    fn addresses_are_those_of_documentation() {
        let mut random = Random::new(1, 1);
        for _ in 0..1_000 {
            let known = match address(&mut random) {
                IpAddr::V4(address) => address.is_documentation(),
                IpAddr::V6(address) => address.segments()[..2] == [0x2001, 0xdb8],
            };
            assert!(known);
        }
    }
}
