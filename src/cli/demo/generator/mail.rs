//! The newsletter and the mails of the shop, and how they are opened.

use chrono::{DateTime, Utc};

use super::agents::{APPLE, GMAIL, Place, SCANNERS, YAHOO, fill};
use super::draft::Draft;
use super::people::{DAY, HOUR, Mailbox, Occasion, Person, address};
use super::random::Random;
use super::{HitKind, Planned, Window};
use crate::hit::code::{Contents, Keys, Listing};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// All campaigns of a demo and the list of people they go to.
#[derive(Debug)]
pub(super) struct Mailing {
    seed: u64,
    window: Window,
    /// The number of people on the list: a power of two.
    list: u32,
    keys: Keys,
    /// The campaigns that are sent to the list, then those that are sent to one person at a time.
    campaigns: Vec<Campaign>,
}

/// Mails of one text.
#[derive(Debug)]
struct Campaign {
    id: String,
    name: &'static str,
    coding: Coding,
    /// The time at which it is sent to everybody; none if every mail has its own.
    sent: Option<i64>,
    weight: u64,
}

/// The code of a text's mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// The campaign's id, the same in all of them.
    Word,
    /// A signed code in each.
    Signed,
    /// A signed code that expires after this time, in milliseconds.
    Expiring(i64),
    /// A signed code that is revoked for some people after this time, in milliseconds.
    Revoked(i64),
}

/// A mail to one person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mail {
    campaign: u16,
    pub(super) recipient: u32,
    /// The whole seconds from its sending to the hit.
    age: u32,
}

/// The mails to the list, sent in turn, each with its weight.
const TEXTS: [(u64, &str, Coding); 7] = [
    (100, "newsletter", Coding::Word),
    (70, "product-news", Coding::Word),
    (110, "spring-sale", Coding::Word),
    (100, "newsletter", Coding::Word),
    (55, "webinar-invite", Coding::Expiring(2 * DAY)),
    (40, "survey", Coding::Signed),
    (85, "last-chance", Coding::Word),
];

/// The mails that answer what somebody has done. A reminder's code is revoked when the basket has been paid for.
const ANSWERS: [(u64, &str, Coding); 4] = [
    (40, "receipt", Coding::Signed),
    (25, "welcome", Coding::Word),
    (25, "basket-reminder", Coding::Revoked(2 * HOUR)),
    (10, "password-reset", Coding::Expiring(HOUR)),
];

/// The percentage of revocable codes that are revoked.
const REVOKED: u64 = 40;

/// The percentage of scanners that write a code in lower case before they open it, which makes it a different code.
const MANGLED: u64 = 10;

/// The id of the key that signs codes; the key is derived from the seed.
const KEY: u8 = 100;

/// The days between two campaigns.
const PAUSE_DAYS: i64 = 3;

/// The times from delivery to opening: share, from, to. Half of the opens are in the first three hours, and some after
/// weeks.
const OPENS: [(u64, i64, i64); 9] = [
    (13, 20 * SECOND, 10 * MINUTE),
    (20, 10 * MINUTE, HOUR),
    (18, HOUR, 3 * HOUR),
    (17, 3 * HOUR, 8 * HOUR),
    (14, 8 * HOUR, DAY),
    (9, DAY, 2 * DAY),
    (5, 2 * DAY, 4 * DAY),
    (3, 4 * DAY, 10 * DAY),
    (1, 10 * DAY, 25 * DAY),
];

impl Mailing {
    pub(super) fn new(seed: u64, window: Window, events: u32) -> Self {
        let mut random = Random::new(seed, 0x6d61_696c);
        let count = ((window.end - window.start) / (PAUSE_DAYS * DAY)).clamp(1, 400);
        let campaigns = (0..count)
            .zip(TEXTS.iter().cycle())
            .map(|(turn, (weight, name, coding))| {
                let sent = send_time(window, turn, count, &mut random);
                Campaign {
                    id: format!("{name}-{}", super::time(sent).format("%m%d")),
                    name,
                    coding: *coding,
                    sent: Some(sent),
                    weight: weight * (80 + random.below(40)),
                }
            });
        let mut campaigns: Vec<_> = campaigns.collect();
        campaigns.extend(ANSWERS.iter().map(|(weight, name, coding)| Campaign {
            id: (*name).to_owned(),
            name,
            coding: *coding,
            sent: None,
            weight: *weight,
        }));
        let each = u64::from(events) / count.unsigned_abs();
        let list = u32::try_from(each.max(64)).unwrap_or(u32::MAX / 4).next_power_of_two();
        Self {
            seed,
            window,
            list,
            keys: keys(seed),
            campaigns,
        }
    }

    /// Returns the keys that check the codes. Everybody can make this key, so it is good only for a demo's hits.
    pub(super) const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Plans `count` hits: four fifths for the list's campaigns.
    pub(super) fn plan(&self, count: usize, plan: &mut Vec<Planned>) {
        let end = plan.len() + count;
        let all: u64 = self.to_list().map(|(_, campaign, _)| campaign.weight).sum();
        for (place, campaign, sent) in self.to_list() {
            let share = (count as u64 * 4 / 5) * campaign.weight / all;
            let share = usize::try_from(share).unwrap_or_default();
            self.plan_campaign(place, sent, plan.len() + share, plan);
        }
        self.plan_answers(end, plan);
    }

    fn to_list(&self) -> impl Iterator<Item = (u16, &Campaign, i64)> {
        (0..)
            .zip(&self.campaigns)
            .filter_map(|(place, campaign)| Some((place, campaign, campaign.sent?)))
    }

    /// Goes through the list, in an order that differs between campaigns, until the plan has `end` hits.
    fn plan_campaign(&self, campaign: u16, sent: i64, end: usize, plan: &mut Vec<Planned>) {
        let mut random = Random::new(self.seed ^ 0x6361_6d70, campaign.into());
        let mut recipient = u32::try_from(random.below(self.list.into())).unwrap_or_default();
        while plan.len() < end {
            // An odd step visits every number below a power of two.
            recipient = recipient.wrapping_add(0x9e37_79b1) & (self.list - 1);
            // Sending to everybody takes a while.
            let delivered = sent + random.between(0, 20 * MINUTE);
            let person = Person::new(self.seed, recipient.into());
            let hits = self.hits(campaign, &person, recipient, delivered, &mut random);
            let room = end - plan.len();
            plan.extend(hits.into_iter().filter(|hit| self.window.holds(hit.time)).take(room));
        }
    }

    /// Returns the hits of one mail to one person.
    fn hits(
        &self,
        campaign: u16,
        person: &Person,
        recipient: u32,
        delivered: i64,
        random: &mut Random,
    ) -> Vec<Planned> {
        let mut hits = Vec::new();
        let mut hit = |time: i64, what: fn(Mail) -> HitKind| {
            let age = time.div_euclid(SECOND) - delivered.div_euclid(SECOND);
            let mail = Mail {
                campaign,
                recipient,
                age: u32::try_from(age).unwrap_or_default(),
            };
            hits.push(Planned { time, what: what(mail) });
        };
        if person.scanned {
            for _ in 0..=random.rather_low(3) {
                let time = delivered + random.between(SECOND, 45 * SECOND);
                hit(time, HitKind::Scan);
            }
        }
        match person.mailbox {
            Mailbox::Apple => hit(delivered + preload_delay(random), HitKind::Open),
            _ if random.chance(38) => {
                for _ in 0..=repeats(random) {
                    hit(self.open_time(person, delivered, random), HitKind::Open);
                }
            }
            _ => {}
        }
        hits
    }

    /// Plans mails that are sent to one person, throughout the window.
    fn plan_answers(&self, end: usize, plan: &mut Vec<Planned>) {
        let mut random = Random::new(self.seed, 0x616e_7377);
        let choices = (0_u16..)
            .zip(&self.campaigns)
            .filter(|(_, campaign)| campaign.sent.is_none());
        let choices: Vec<_> = choices.collect();
        while plan.len() < end {
            let campaign = random.weighted(&choices, |(_, campaign)| campaign.weight).0;
            let recipient = u32::try_from(random.below(self.list.into())).unwrap_or_default();
            let person = Person::new(self.seed, recipient.into());
            let delivered = self.window.active_time(&person, &mut random);
            let hits = self.hits(campaign, &person, recipient, delivered, &mut random);
            let room = end - plan.len();
            plan.extend(hits.into_iter().filter(|hit| self.window.holds(hit.time)).take(room));
        }
    }

    /// Returns the time at which a person opens a delivered mail.
    fn open_time(&self, person: &Person, delivered: i64, random: &mut Random) -> i64 {
        for _ in 0..16 {
            let (_, least, most) = *random.weighted(&OPENS, |open| open.0);
            let time = delivered + random.between(least, most);
            if self.window.holds(time) && person.is_active(time, random) {
                return time;
            }
        }
        self.window.since(delivered, random)
    }

    /// Builds the request for the image in a mail, at a time.
    pub(super) fn open(&self, mail: Mail, time: i64, person: &Person, random: &mut Random) -> Draft {
        let mut draft = match person.mailbox {
            Mailbox::Gmail => proxy(GMAIL, "US", 15_169, random),
            Mailbox::Yahoo => proxy(YAHOO, "US", 26_101, random),
            Mailbox::Apple => build_relayed(person, random),
            Mailbox::Program => at_home(person, Occasion::Mail),
            Mailbox::Browser => at_home(person, Occasion::Web),
        };
        if person.mailbox == Mailbox::Browser {
            let webmail = [
                "https://outlook.live.com/",
                "https://navigator.gmx.net/",
                "https://mail.proton.me/",
            ];
            draft.header("referer", *random.pick(&webmail));
        }
        self.ask(draft, mail, self.code(mail, time, person), person)
    }

    /// Builds the request of a gateway's scanner.
    pub(super) fn scan(&self, mail: Mail, time: i64, person: &Person, random: &mut Random) -> Draft {
        let agent = fill(SCANNERS[random.index(SCANNERS.len())], random);
        let network = *random.pick(&[8_075, 16_509, 14_618, 22_843]);
        let mut draft = Draft::for_machine(agent, address(random), "US", network);
        draft.header("accept", "*/*");
        if random.chance(25) {
            draft.method = "HEAD";
        }
        let mut code = self.code(mail, time, person);
        if random.chance(MANGLED) {
            code.make_ascii_lowercase();
        }
        self.ask(draft, mail, code, person)
    }

    /// Returns the status of a mail's code at the time of the hit: none is listed, and some are revoked.
    pub(super) fn listing(&self, mail: Mail) -> Listing {
        let Coding::Revoked(after) = self.campaigns[usize::from(mail.campaign)].coding else {
            return Listing::None;
        };
        let mut random = Random::new(self.seed ^ 0x7265_766f, mail.recipient.into());
        if i64::from(mail.age) * SECOND >= after && random.chance(REVOKED) {
            Listing::Revoked
        } else {
            Listing::None
        }
    }

    /// Returns the code in the mail to this person, for a hit at this time.
    fn code(&self, mail: Mail, time: i64, person: &Person) -> String {
        let campaign = &self.campaigns[usize::from(mail.campaign)];
        let sent = time.div_euclid(SECOND) - i64::from(mail.age);
        let expires = match campaign.coding {
            Coding::Word => return campaign.id.clone(),
            Coding::Signed | Coding::Revoked(_) => None,
            Coding::Expiring(after) => Some(sent + after / SECOND),
        };
        let contents = Contents {
            campaign: Some(campaign.name.to_owned()),
            recipient: self.keys.recipient(&person.user()).ok(),
            sent: moment(sent),
            expires: expires.and_then(moment),
        };
        self.keys.sign(&contents).unwrap_or_else(|_| campaign.id.clone())
    }

    /// Requests the image of the code in the mail to this person.
    fn ask(&self, draft: Draft, mail: Mail, code: String, person: &Person) -> Draft {
        let campaign = &self.campaigns[usize::from(mail.campaign)];
        let to_list = campaign.sent.is_some();
        let mut draft = draft.with_code("/pixel/{code}", code + ".gif");
        draft.parameter("userid", person.user());
        draft.parameter("utm_source", if to_list { "newsletter" } else { "shop" });
        draft.parameter("utm_medium", "email");
        draft.parameter("utm_campaign", campaign.name);
        if to_list {
            // Two texts are tested against each other.
            let first = person.own(campaign.weight).chance(50);
            draft.parameter("utm_content", if first { "a" } else { "b" });
            draft.parameter("utm_id", campaign.id.clone());
        }
        draft
    }
}

/// Returns the key of a seed.
fn keys(seed: u64) -> Keys {
    let mut random = Random::new(seed, 0x006b_6579);
    let mut secret = [0; 32];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    Keys::new(KEY, secret)
}

/// Converts a time, if a code can contain it; that ends in 2106.
fn moment(seconds: i64) -> Option<DateTime<Utc>> {
    let seconds = u32::try_from(seconds).ok()?;
    DateTime::from_timestamp(seconds.into(), 0)
}

/// Returns the sending time of a campaign: evenly distributed over the window, in the morning of a near weekday if there is
/// one.
fn send_time(window: Window, turn: i64, count: i64, random: &mut Random) -> i64 {
    let length = window.end - window.start;
    let even = window.start + length / count * turn + length / count / 4;
    let mut day = even.div_euclid(DAY);
    // The epoch was a Thursday: days 2 and 3 of its week are Saturday and Sunday.
    while matches!(day.rem_euclid(7), 2 | 3) {
        day += 1;
    }
    let morning = day * DAY + 6 * HOUR + random.between(0, 4) * HOUR;
    if window.holds(morning) && window.holds(morning + HOUR) {
        morning
    } else {
        even
    }
}

/// Returns the delay of Apple Mail, which loads images when it is connected and charged: soon, or within a day.
fn preload_delay(random: &mut Random) -> i64 {
    let (_, least, most) = *random.weighted(&PRELOADS, |preload| preload.0);
    random.between(least, most)
}

const PRELOADS: [(u64, i64, i64); 3] = [
    (55, 5 * SECOND, 15 * MINUTE),
    (30, 15 * MINUTE, 4 * HOUR),
    (15, 4 * HOUR, 22 * HOUR),
];

/// Returns how often a mail is opened again: mostly never, seldom many times.
fn repeats(random: &mut Random) -> u64 {
    match random.below(100) {
        0..68 => 0,
        68..86 => 1,
        86..94 => 2,
        94..98 => 3,
        _ => 4 + random.rather_low(12),
    }
}

/// Builds the request of Gmail's or Yahoo's proxy, which does not reveal the person it fetches for.
fn proxy(agent: &str, country: &'static str, network: u32, random: &mut Random) -> Draft {
    let mut draft = Draft::for_machine(agent.to_owned(), address(random), country, network);
    draft.header("accept-encoding", "gzip, deflate, br");
    draft
}

/// Builds the request of Apple's relays, which reveal the country of the person and no more.
fn build_relayed(person: &Person, random: &mut Random) -> Draft {
    let network = *random.pick(&[36_183, 13_335, 54_113]);
    let mut draft = Draft::for_machine(APPLE.to_owned(), address(random), person.country.code, network);
    draft.header(
        "accept",
        "image/webp,image/avif,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5",
    );
    draft.header("accept-language", person.language);
    draft
}

/// Builds the request of a person's own program or browser.
fn at_home(person: &Person, occasion: Occasion) -> Draft {
    let (agent, text) = person.agent(occasion);
    let mut draft = Draft::for_person(person, text);
    match occasion {
        Occasion::Mail => draft.add_accept_headers("*/*", person.language),
        Occasion::Web => {
            draft.add_accept_headers(
                "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
                person.language,
            );
            draft.header("sec-fetch-dest", "image");
        }
    }
    add_privacy_signals(&mut draft, person, agent.place);
    draft
}

/// Adds the headers with which a person's software asks not to be tracked, if it does.
pub(super) fn add_privacy_signals(draft: &mut Draft, person: &Person, place: Place) {
    if person.dnt && place != Place::Couch {
        draft.header("dnt", "1");
    }
    if person.gpc && place != Place::Couch {
        draft.header("sec-gpc", "1");
    }
}
