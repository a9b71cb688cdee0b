//! Where visitors come from: registrable domains by the list's own cases, and the media of hosts.

use pixel::config::token::encode_hex;
use pixel::hit::enrich::domain::registrable;
use pixel::hit::enrich::referrer::{Medium, Referrer, Trail, find_referrer};
use sha2::{Digest, Sha256};

/// The cases that publicsuffix.org publishes for the list (`test_psl.txt`, in the public domain), those of hosts that cannot
/// be in a URL left out: host, and its registrable domain or `-`.
const LISTS_OWN: &str = "
    COM -  example.COM example.com  WwW.example.COM example.com
    .com -  .example -  .example.com -  .example.example -
    example -  example.example example.example  b.example.example example.example  a.b.example.example example.example
    biz -  domain.biz domain.biz  b.domain.biz domain.biz  a.b.domain.biz domain.biz
    com -  example.com example.com  b.example.com example.com  a.b.example.com example.com
    uk.com -  example.uk.com example.uk.com  b.example.uk.com example.uk.com  a.b.example.uk.com example.uk.com
    test.ac test.ac
    mm -  c.mm -  b.c.mm b.c.mm  a.b.c.mm b.c.mm
    jp -  test.jp test.jp  www.test.jp test.jp  ac.jp -  test.ac.jp test.ac.jp  www.test.ac.jp test.ac.jp
    kyoto.jp -  test.kyoto.jp test.kyoto.jp  ide.kyoto.jp -  b.ide.kyoto.jp b.ide.kyoto.jp
    a.b.ide.kyoto.jp b.ide.kyoto.jp  c.kobe.jp -  b.c.kobe.jp b.c.kobe.jp  a.b.c.kobe.jp b.c.kobe.jp
    city.kobe.jp city.kobe.jp  www.city.kobe.jp city.kobe.jp
    ck -  test.ck -  b.test.ck b.test.ck  a.b.test.ck b.test.ck  www.ck www.ck  www.www.ck www.ck
    us -  test.us test.us  www.test.us test.us  ak.us -  test.ak.us test.ak.us  www.test.ak.us test.ak.us
    k12.ak.us -  test.k12.ak.us test.k12.ak.us  www.test.k12.ak.us test.k12.ak.us
    食狮.com.cn 食狮.com.cn  食狮.公司.cn 食狮.公司.cn  www.食狮.公司.cn 食狮.公司.cn  shishi.公司.cn shishi.公司.cn
    公司.cn -  食狮.中国 食狮.中国  www.食狮.中国 食狮.中国  shishi.中国 shishi.中国  中国 -
    xn--85x722f.com.cn xn--85x722f.com.cn  xn--85x722f.xn--55qx5d.cn xn--85x722f.xn--55qx5d.cn
    www.xn--85x722f.xn--55qx5d.cn xn--85x722f.xn--55qx5d.cn  shishi.xn--55qx5d.cn shishi.xn--55qx5d.cn
    xn--55qx5d.cn -  xn--85x722f.xn--fiqs8s xn--85x722f.xn--fiqs8s  www.xn--85x722f.xn--fiqs8s xn--85x722f.xn--fiqs8s
    shishi.xn--fiqs8s shishi.xn--fiqs8s  xn--fiqs8s -";

/// Of the private section: below these everybody has a name of their own.
const PRIVATE: &str = "
    github.io -  alice.github.io alice.github.io  a.b.github.io b.github.io  blogspot.com -  x.blogspot.com x.blogspot.com
    shop.myshopify.com shop.myshopify.com  www.x.pages.dev x.pages.dev  a.b.netlify.app b.netlify.app
    amazonaws.com amazonaws.com  www.amazonaws.com amazonaws.com
    d111.cloudfront.net d111.cloudfront.net  bucket.s3.amazonaws.com bucket.s3.amazonaws.com";

/// A host as URLs have it.
fn spelt(host: &str) -> String {
    let url = reqwest::Url::parse(&format!("https://{host}/")).expect("a URL");
    url.host_str().expect("a host").to_owned()
}

#[test]
fn registrable_domains_are_those_of_the_public_suffix_list() {
    let words: Vec<_> = [LISTS_OWN, PRIVATE]
        .iter()
        .flat_map(|text| text.split_whitespace())
        .collect();
    assert_eq!(words.len(), 2 * 89);
    for pair in words.chunks_exact(2) {
        let expected = (pair[1] != "-").then(|| spelt(pair[1]));
        let host = spelt(pair[0]);
        assert_eq!(
            registrable(&host).map(|domain| domain.name),
            expected.as_deref(),
            "{}",
            pair[0]
        );
    }
}

fn source(origin: &str, page: &str) -> Option<Referrer> {
    find_referrer(Trail {
        origin: Some(origin),
        page: Some(page),
        header: None,
    })
}

/// Medium, and the hosts that are to have it.
const MEDIA: [(Medium, &str); 6] = [
    (
        Medium::Search,
        "https://www.google.com/ https://google.co.uk/search?q=x https://www.google.com:443/ http://www.google.de:8080/
        https://images.google.fr/ https://www.bing.com/search https://cn.bing.com/ https://search.yahoo.com/
        https://r.search.yahoo.com/x https://uk.search.yahoo.com/ https://search.yahoo.co.jp/ https://duckduckgo.com/
        https://html.duckduckgo.com/ https://yandex.ru/search https://www.yandex.com.tr/ https://ya.ru/
        https://www.baidu.com/s https://m.baidu.com/ https://www.ecosia.org/ https://search.brave.com/ https://kagi.com/
        https://m.search.naver.com/ https://suche.web.de/ https://suche.gmx.net/ https://go.mail.ru/
        android-app://com.google.android.googlequicksearchbox/",
    ),
    (
        Medium::Social,
        "https://www.facebook.com/ https://l.facebook.com/l.php https://m.facebook.com:443/ https://t.co/x https://x.com/
        https://www.linkedin.com/feed https://lnkd.in/x https://www.youtube.com/watch https://old.reddit.com/r/x
        https://www.pinterest.de/ https://br.pinterest.com/ https://bsky.app/ https://mastodon.social/@x
        https://news.ycombinator.com/ https://web.telegram.org/ android-app://com.slack/ android-app://com.twitter.android
        android-app://org.telegram.messenger/x android-app://com.linkedin.android/",
    ),
    (
        Medium::Email,
        "https://mail.google.com/mail/u/0 https://outlook.live.com/mail https://outlook.office.com:443/
        https://mail.yahoo.com/ https://mail.yahoo.co.jp/ https://mail.aol.com/ https://www.icloud.com/mail
        https://mail.proton.me/ https://navigator.web.de/mail https://deref-web.de/x https://navigator.gmx.net/
        https://e.mail.ru/ https://email.t-online.de/ https://mail.qq.com/ android-app://com.google.android.gm/
        android-app://com.microsoft.office.outlook/",
    ),
    (
        Medium::Ai,
        "https://chatgpt.com/ https://chat.openai.com/c https://claude.ai/chat https://gemini.google.com/app
        https://copilot.microsoft.com/ https://www.perplexity.ai/search https://perplexity.ai:443/ https://chat.deepseek.com/
        https://notebooklm.google.com/ android-app://com.openai.chatgpt/",
    ),
    (
        Medium::Internal,
        "https://shop.example/ https://www.shop.example/x https://blog.shop.example:8443/ http://shop.example:80/",
    ),
    (
        Medium::Referral,
        "https://news.example/ http://203.0.113.9/ http://localhost:3000/ https://docs.google.com/document
        https://drive.google.com/ https://news.yahoo.com/x https://www.yahoo.com/ https://finance.yahoo.co.jp/
        https://web.de/magazine https://www.web.de/ https://www.gmx.net/magazine https://www.t-online.de/nachrichten
        https://mail.ru/ https://disk.yandex.ru/ https://market.yandex.ru/ https://tieba.baidu.com/ https://blog.naver.com/
        https://www.seznam.cz/ https://drive.proton.me/ https://developer.bing.com/ https://notgoogle.com/
        https://google.com.evil.example/ https://google.blogspot.com/ https://pinterest.github.io/ https://google.example.com/
        android-app://com.example.reader/",
    ),
];

#[test]
fn every_medium_is_told_by_its_hosts() {
    for (medium, urls) in MEDIA {
        for url in urls.split_whitespace() {
            let found = source(url, "https://www.shop.example/spring");
            assert_eq!(found.map(|found| found.medium), Some(medium), "{url}");
        }
    }
    let direct = source(" ", "https://shop.example/").expect("it is told");
    assert_eq!(
        (direct.medium, direct.name, direct.domain),
        (Medium::Direct, None, None)
    );
    assert_eq!(source("no URL", "https://shop.example/"), None);
}

/// Those who share a suffix share no site.
#[test]
fn neighbours_below_a_private_suffix_are_strangers() {
    for (origin, page, medium, domain) in [
        ("bob.github.io", "alice.github.io", Medium::Referral, "bob.github.io"),
        (
            "www.alice.github.io",
            "alice.github.io",
            Medium::Internal,
            "alice.github.io",
        ),
        ("b.blogspot.com", "a.blogspot.com", Medium::Referral, "b.blogspot.com"),
        ("github.io", "alice.github.io", Medium::Referral, "github.io"),
        ("github.io", "github.io", Medium::Internal, "github.io"),
        ("docs.google.com", "www.google.com", Medium::Internal, "google.com"),
    ] {
        let found = source(&format!("https://{origin}/"), &format!("https://{page}/")).expect("it is told");
        assert_eq!(
            (found.medium, found.domain.as_deref()),
            (medium, Some(domain)),
            "{origin}, {page}"
        );
    }
}

/// The version of the rules. Whoever changes a rule sees this fail: change the version in `src/visit.rs`, tell users to run
/// `pixel reclassify`, and write both here.
const VERSION: &str = "2026-11-21.3";

/// What it stands for: each file, and the beginning of its SHA-256.
const FILES: [(&str, &str); 7] = [
    ("browsers.rules", "7355fe638d0deef4"),
    ("devices.rules", "0a8f69f3619a6d9e"),
    ("programs.rules", "6fc7f54d989990c3"),
    ("referrers.rules", "67bd8285c14100c6"),
    ("suffixes.txt", "5dac668a269aa231"),
    ("systems.rules", "dc377064eae6ca50"),
    ("visits.rules", "9ea9193c56f5dfff"),
];

#[test]
fn other_rules_have_another_version() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/hit/enrich/rules");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of the rules")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name")
                .to_owned();
            let hash = encode_hex(&Sha256::digest(std::fs::read(&path).expect("it is read")).into());
            (name, hash[..16].to_owned())
        })
        .collect();
    found.sort();
    let known: Vec<_> = FILES
        .iter()
        .map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned()))
        .collect();
    assert_eq!((pixel::hit::enrich::classify::RULES, found), (VERSION, known));
}
