//! The user agents of browsers, devices and mail programs.
//!
//! The forms are the public ones; `{names}` in braces are replaced by versions and models. Newer and more common ones come
//! first and are chosen more often, so that a few dozen forms make thousands of different agents.

use std::fmt::Write;

use super::random::Random;

/// The kind of device or program that uses an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A browser on a desktop or laptop computer.
    Desktop,
    /// A phone or a tablet.
    Mobile,
    /// A television or a game console.
    Couch,
    /// A mail program that fetches images itself.
    Mail,
}

/// One form of agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agent {
    /// The frequency relative to the other agents.
    pub(super) weight: u64,
    /// The kind of device or program that uses it.
    pub(super) place: Place,
    /// Its text, with names in braces.
    form: &'static str,
}

const fn agent(weight: u64, place: Place, form: &'static str) -> Agent {
    Agent { weight, place, form }
}

use Place::{Couch, Desktop, Mail, Mobile};

/// The browsers and mail programs of people.
pub(super) const PEOPLE: [Agent; 62] = [
    agent(
        220,
        Desktop,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36",
    ),
    agent(
        70,
        Desktop,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36 Edg/{edge}",
    ),
    agent(
        75,
        Desktop,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36",
    ),
    agent(
        65,
        Desktop,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{safari} Safari/605.1.15",
    ),
    agent(
        45,
        Desktop,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{firefox}.0) Gecko/20100101 Firefox/{firefox}.0",
    ),
    agent(
        12,
        Desktop,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:{firefox}.0) Gecko/20100101 Firefox/{firefox}.0",
    ),
    agent(
        12,
        Desktop,
        "Mozilla/5.0 (X11; Linux x86_64; rv:{firefox}.0) Gecko/20100101 Firefox/{firefox}.0",
    ),
    agent(
        7,
        Desktop,
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:{firefox}.0) Gecko/20100101 Firefox/{firefox}.0",
    ),
    agent(
        14,
        Desktop,
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36",
    ),
    agent(
        8,
        Desktop,
        "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36",
    ),
    agent(
        9,
        Desktop,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36 OPR/{opera}.0.0.0",
    ),
    agent(
        5,
        Desktop,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36 Vivaldi/7.{digit}.{build}",
    ),
    agent(
        5,
        Desktop,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 YaBrowser/25.{digit}.0.0 Safari/537.36",
    ),
    agent(
        4,
        Desktop,
        "Mozilla/5.0 (Windows NT 6.1; Win64; x64; rv:115.0) Gecko/20100101 Firefox/115.0",
    ),
    agent(
        2,
        Desktop,
        "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
    ),
    agent(
        3,
        Desktop,
        "Mozilla/5.0 (Windows NT 6.1; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/109.0.0.0 Safari/537.36",
    ),
    agent(
        3,
        Desktop,
        "Mozilla/5.0 (Windows NT 10.0; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chromium} Safari/537.36",
    ),
    agent(
        2,
        Desktop,
        "Mozilla/5.0 (X11; FreeBSD amd64; rv:{firefox}.0) Gecko/20100101 Firefox/{firefox}.0",
    ),
    agent(
        150,
        Mobile,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{safari} Mobile/15E148 Safari/604.1",
    ),
    agent(
        150,
        Mobile,
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Mobile Safari/537.36",
    ),
    agent(
        20,
        Mobile,
        "Mozilla/5.0 (Linux; Android {android}; {model}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chromium} Mobile Safari/537.36",
    ),
    agent(
        22,
        Mobile,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/{chromium} Mobile/15E148 Safari/604.1",
    ),
    agent(
        25,
        Mobile,
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/{samsung}.0 Chrome/{chrome}.0.0.0 Mobile Safari/537.36",
    ),
    agent(
        10,
        Mobile,
        "Mozilla/5.0 (Android {android}; Mobile; rv:{firefox}.0) Gecko/{firefox}.0 Firefox/{firefox}.0",
    ),
    agent(
        6,
        Mobile,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/{firefox}.0 Mobile/15E148 Safari/605.1.15",
    ),
    agent(
        6,
        Mobile,
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Mobile Safari/537.36 EdgA/{edge}",
    ),
    agent(
        5,
        Mobile,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{safari} EdgiOS/{edge} Mobile/15E148 Safari/605.1.15",
    ),
    agent(
        5,
        Mobile,
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Mobile Safari/537.36 OPR/{opera}.0.0.0",
    ),
    agent(
        8,
        Mobile,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) GSA/{gsa} Mobile/15E148 Safari/604.1",
    ),
    agent(
        9,
        Mobile,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/{iosbuild} Instagram {gsa} (iPhone14,5; iOS {ios}; en_US; en; scale=3.00; 1170x2532; {build}{digit}{digit})",
    ),
    agent(
        9,
        Mobile,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/{iosbuild} [FBAN/FBIOS;FBAV/{gsa};FBDV/iPhone15,3;FBMD/iPhone;FBSN/iOS;FBSV/18.{digit};FBSS/3;FBLC/en_US]",
    ),
    agent(
        12,
        Mobile,
        "Mozilla/5.0 (Linux; Android {android}; {model} Build/{androidbuild}; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/{chromium} Mobile Safari/537.36",
    ),
    agent(
        8,
        Mobile,
        "Mozilla/5.0 (Linux; Android {android}; {model} Build/{androidbuild}; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/{chromium} Mobile Safari/537.36 Instagram {gsa} Android ({android}; 420dpi; 1080x2209; samsung; {model}; en_US; {build}{digit}{digit})",
    ),
    agent(
        8,
        Mobile,
        "Mozilla/5.0 (Linux; Android {android}; {model} Build/{androidbuild}; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/{chromium} Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/{gsa};]",
    ),
    agent(
        4,
        Mobile,
        "Mozilla/5.0 (Linux; U; Android {android}; de-de; {model} Build/{androidbuild}) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/{chromium} Mobile Safari/537.36 XiaoMi/MiuiBrowser/14.{digit}.{digit}-gn",
    ),
    agent(
        4,
        Mobile,
        "Mozilla/5.0 (Linux; Android {android}; {model}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chromium} HuaweiBrowser/15.{digit}.0.{build} Mobile Safari/537.36",
    ),
    agent(
        4,
        Mobile,
        "Mozilla/5.0 (Linux; U; Android {android}; en-US; {model}) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100.0.4896.58 UCBrowser/13.{digit}.0.{build} Mobile Safari/537.36",
    ),
    agent(
        4,
        Mobile,
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Mobile DuckDuckGo/5 Safari/537.36",
    ),
    agent(
        14,
        Mobile,
        "Mozilla/5.0 (iPad; CPU OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{safari} Mobile/15E148 Safari/604.1",
    ),
    agent(
        5,
        Mobile,
        "Mozilla/5.0 (iPad; CPU OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/{chromium} Mobile/15E148 Safari/604.1",
    ),
    agent(
        8,
        Mobile,
        "Mozilla/5.0 (Linux; Android {android}; SM-X{digit}10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chromium} Safari/537.36",
    ),
    agent(
        3,
        Mobile,
        "Mozilla/5.0 (Linux; Android 9; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/{chrome}.{digit}.1 like Chrome/{chromium} Safari/537.36",
    ),
    agent(
        2,
        Mobile,
        "Mozilla/5.0 (Mobile; Nokia 2780 Flip; rv:109.0) Gecko/109.0 Firefox/109.0 KAIOS/4.0",
    ),
    agent(
        5,
        Couch,
        "Mozilla/5.0 (SMART-TV; LINUX; Tizen {tizen}) AppleWebKit/537.36 (KHTML, like Gecko) 76.0.3809.146/{tizen} TV Safari/537.36",
    ),
    agent(
        4,
        Couch,
        "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chromium} Safari/537.36 WebAppManager",
    ),
    agent(
        2,
        Couch,
        "Mozilla/5.0 (Linux; Android 12; BRAVIA 4K VH2 Build/STT2.230203.001) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chromium} Safari/537.36",
    ),
    agent(
        2,
        Couch,
        "Mozilla/5.0 (Linux; Android 9; AFTKA Build/PS7{build}; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/{chromium} Mobile Safari/537.36",
    ),
    agent(1, Couch, "Roku/DVP-14.{digit} (14.{digit}.0.{build}-88)"),
    agent(
        2,
        Couch,
        "Mozilla/5.0 (PlayStation; PlayStation 5/9.{digit}0) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.4 Safari/605.1.15",
    ),
    agent(
        2,
        Couch,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome}.0.0.0 Safari/537.36 Edge/44.18363.8131",
    ),
    agent(
        1,
        Couch,
        "Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/609.4 (KHTML, like Gecko) NF/6.0.3.{digit} NintendoBrowser/5.1.0.{build}",
    ),
    agent(
        60,
        Mail,
        "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; WOW64; Trident/7.0; .NET4.0C; .NET4.0E; .NET CLR 2.0.50727; .NET CLR 3.0.30729; .NET CLR 3.5.30729; Microsoft Outlook 16.0.{outlook}; ms-office; MSOffice 16)",
    ),
    agent(
        22,
        Mail,
        "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.{outlook}; Pro)",
    ),
    agent(
        18,
        Mail,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:{firefox}.0) Gecko/20100101 Thunderbird/{firefox}.{digit}.0",
    ),
    agent(
        26,
        Mail,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{firefox}.0) Gecko/20100101 Thunderbird/{firefox}.{digit}.{digit}",
    ),
    agent(
        12,
        Mail,
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.{digit}.{digit}",
    ),
    agent(
        50,
        Mail,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/{iosbuild}",
    ),
    agent(
        12,
        Mail,
        "Mozilla/5.0 (iPad; CPU OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/{iosbuild}",
    ),
    agent(
        24,
        Mail,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    ),
    agent(
        22,
        Mail,
        "Mozilla/5.0 (Linux; Android {android}; {model} Build/{androidbuild}; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/{chromium} Mobile Safari/537.36 SamsungMail/6.{digit}.{digit}",
    ),
    agent(
        12,
        Mail,
        "Mozilla/5.0 (Linux; Android {android}; {model} Build/{androidbuild}; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/{chromium} Mobile Safari/537.36 Outlook-Android/2.0",
    ),
    agent(
        10,
        Mail,
        "Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Outlook-iOS/2.0",
    ),
];

/// Gmail's image proxy, which fetches the images of every mail that is opened in Gmail.
pub(super) const GMAIL: &str =
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";
/// Apple Mail's privacy protection, which loads images when mail arrives.
pub(super) const APPLE: &str = "Mozilla/5.0";
/// Yahoo's image proxy.
pub(super) const YAHOO: &str = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html";

/// The user agents of the scanners of mail gateways: mostly browsers that no person uses any more.
pub(super) const SCANNERS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0.3945.88 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chromium} Safari/537.36 Edge/18.19582",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/49.0.2623.112 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/{chromium} Safari/537.36",
    "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; Trident/5.0)",
    "python-requests/2.{digit}{digit}.0",
];

/// Crawlers, previewers and scripts, with their frequencies.
pub(super) const CRAWLERS: [(u64, &str); 26] = [
    (
        20,
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    ),
    (
        14,
        "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chromium} Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    ),
    (6, "Googlebot-Image/1.0"),
    (
        14,
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/{chromium} Safari/537.36",
    ),
    (6, "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)"),
    (
        4,
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    ),
    (4, "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)"),
    (
        6,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)",
    ),
    (
        12,
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; +https://openai.com/gptbot",
    ),
    (
        6,
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; OAI-SearchBot/1.0; +https://openai.com/searchbot",
    ),
    (
        8,
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    ),
    (
        5,
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
    ),
    (5, "Mozilla/5.0 (compatible; Bytespider; spider-feedback@bytedance.com)"),
    (10, "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)"),
    (
        9,
        "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    ),
    (
        4,
        "Mozilla/5.0 (compatible; DotBot/1.2; +https://opensiteexplorer.org/dotbot; help@moz.com)",
    ),
    (
        6,
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    ),
    (4, "Twitterbot/1.0"),
    (
        3,
        "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    ),
    (3, "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"),
    (3, "WhatsApp/2.23.20.0"),
    (
        4,
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/{chromium} Safari/537.36",
    ),
    (4, "python-requests/2.{digit}{digit}.0"),
    (3, "curl/8.{digit}.0"),
    (3, "Go-http-client/1.1"),
    (2, "Wget/1.21.{digit}"),
];

/// Services that check that a page is up.
pub(super) const MONITORS: [&str; 4] = [
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
    "Amazon-Route53-Health-Check-Service (ref 5f1c2a9e-7d1b-4c6f-9a57-0e6f2f0f8d11; report http://amzn.to/1vsZADi)",
    "Mozilla/5.0 (compatible; StatusCake; +https://www.statuscake.com)",
];

impl Agent {
    /// Returns the text of one installation; `random` must be the installation's own.
    pub(super) fn text(&self, random: &mut Random) -> String {
        fill(self.form, random)
    }
}

/// Fills in the names of a form; a name that occurs twice gets the same value.
pub(super) fn fill(form: &str, random: &mut Random) -> String {
    let mut text = String::with_capacity(form.len() + 16);
    let mut rest = form;
    let chosen = random.next();
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        text.push_str(before);
        let mut own = Random::new(chosen, subject(name));
        put(name, if name == "digit" { &mut *random } else { &mut own }, &mut text);
        rest = after;
    }
    text.push_str(rest);
    text
}

/// Returns the number of the random sequence for a name: browsers built on Chromium share one version of it.
const fn subject(name: &str) -> u64 {
    match name.as_bytes() {
        b"chrome" | b"chromium" | b"edge" => 0,
        other => other.len() as u64,
    }
}

/// The versions of iOS in use.
const IOS: [&str; 14] = [
    "18_6_2", "18_5", "18_6", "18_4_1", "18_3_2", "18_3_1", "18_1_1", "17_7_2", "17_6_1", "17_5_1", "16_7_10", "16_6",
    "15_8_3", "14_8_1",
];

const SAFARI: [&str; 12] = [
    "18.6", "18.5", "18.4", "18.3.1", "18.3", "18.2", "18.1.1", "17.6", "17.5", "17.4.1", "16.6", "15.6.1",
];

const IOS_BUILDS: [&str; 8] = [
    "15E148", "22G100", "22F76", "22E252", "22D72", "21H221", "21G93", "20H350",
];

const MODELS: [&str; 24] = [
    "SM-S928B",
    "SM-A546B",
    "SM-S911B",
    "SM-A155F",
    "SM-G991B",
    "SM-A346B",
    "Pixel 8",
    "SM-A536B",
    "Pixel 7a",
    "Pixel 9 Pro",
    "SM-G780G",
    "SM-A127F",
    "Redmi Note 12",
    "2201117TG",
    "23021RAA2Y",
    "M2101K6G",
    "CPH2581",
    "CPH2363",
    "moto g84 5G",
    "moto g(60)",
    "VOG-L29",
    "ELE-L29",
    "RMX3511",
    "V2158",
];

const ANDROID_BUILDS: [&str; 8] = [
    "AP3A.240905.015.A2",
    "UP1A.231005.007",
    "TP1A.220624.014",
    "SP1A.210812.016",
    "UQ1A.240205.004",
    "TKQ1.221114.001",
    "RP1A.200720.012",
    "BP2A.250605.031",
];

const TIZEN: [&str; 6] = ["8.0", "7.0", "6.5", "6.0", "5.5", "5.0"];

/// Writes the value of a name.
fn put(name: &str, random: &mut Random, text: &mut String) {
    let chrome = 143 - random.rather_low(28);
    let known = |list: &[&'static str], random: &mut Random| {
        let place = random.rather_low(list.len() as u64);
        usize::try_from(place).map_or(list[0], |place| list[place])
    };
    // Writing to a string cannot fail.
    let _ = match name {
        "chrome" => write!(text, "{chrome}"),
        "chromium" => {
            // The build number grows with the version, at about 75 a month.
            let build = 7_499 - (143 - chrome) * 62;
            write!(text, "{chrome}.0.{build}.{}", 20 + random.below(180))
        }
        "edge" => write!(text, "{chrome}.0.0.0"),
        "firefox" => write!(text, "{}", 145 - random.rather_low(30)),
        "opera" => write!(text, "{}", 124 - random.rather_low(16)),
        "samsung" => write!(text, "{}", 29 - random.rather_low(8)),
        "android" => write!(text, "{}", 16 - random.rather_low(7)),
        "gsa" => write!(
            text,
            "{}.0.{}.{}",
            400 - random.rather_low(60),
            random.below(90),
            random.below(120)
        ),
        "outlook" => write!(text, "{}", 19_231 - random.rather_low(4_000)),
        "build" => write!(text, "{}", 1_000 + random.below(9_000)),
        "digit" => write!(text, "{}", random.below(10)),
        "ios" => write!(text, "{}", known(&IOS, random)),
        "iosbuild" => write!(text, "{}", known(&IOS_BUILDS, random)),
        "safari" => write!(text, "{}", known(&SAFARI, random)),
        "model" => write!(text, "{}", known(&MODELS, random)),
        "androidbuild" => write!(text, "{}", known(&ANDROID_BUILDS, random)),
        "tizen" => write!(text, "{}", known(&TIZEN, random)),
        other => unreachable!("no agent has `{other}`, see the test"),
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_filled_in() {
        let forms = PEOPLE.iter().map(|agent| agent.form).chain(SCANNERS);
        let forms = forms.chain(CRAWLERS.iter().map(|(_, form)| *form)).chain(MONITORS);
        for form in forms {
            let text = fill(form, &mut Random::new(1, 1));
            assert!(!text.contains(['{', '}']) && text.is_ascii(), "{text}");
        }
    }

    #[test]
    fn there_are_thousands_of_agents() {
        let texts = (0..20_000).map(|installation| {
            let random = &mut Random::new(3, installation);
            random.weighted(&PEOPLE, |agent| agent.weight).text(random)
        });
        let different = texts.collect::<BTreeSet<_>>().len();
        assert!(different > 3_000, "{different}");
    }

    #[test]
    fn a_version_that_stands_twice_is_the_same() {
        for installation in 0..100 {
            let text = fill("rv:{firefox}.0 Firefox/{firefox}.0", &mut Random::new(1, installation));
            let (left, right) = text.split_once(' ').expect("two words");
            assert_eq!(left.strip_prefix("rv:"), right.strip_prefix("Firefox/"));
        }
    }
}
