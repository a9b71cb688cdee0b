//! The fields of the event document: name, type, meaning. They are declared once: the index template, the reference in the
//! documentation and the checks use this table, and a test compares it with the output of [`super::Event::new`].

/// The type of a field in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A time in ISO 8601 with milliseconds.
    Date,
    /// Milliseconds since 1970.
    EpochMillis,
    /// A text searched as a whole; a text of more characters than this is kept but not searched.
    Keyword(u16),
    /// An IP address.
    Ip,
    /// A whole number.
    Long,
    /// True or false.
    Boolean,
    /// An object that is kept as received and not indexed.
    Raw,
}

impl Kind {
    /// Returns the name of the type in a mapping.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Date | Self::EpochMillis => "date",
            Self::Keyword(_) => "keyword",
            Self::Ip => "ip",
            Self::Long => "long",
            Self::Boolean => "boolean",
            Self::Raw => "object",
        }
    }
}

/// One field of the event document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, with dots between its parts.
    pub name: &'static str,
    /// The type in an index.
    pub kind: Kind,
    /// A description of the content.
    pub meaning: &'static str,
}

const fn field(name: &'static str, kind: Kind, meaning: &'static str) -> Field {
    Field { name, kind, meaning }
}

const SHORT: Kind = Kind::Keyword(256);
const LONG: Kind = Kind::Keyword(1024);

/// Every field, in the order of the documentation.
pub const FIELDS: [Field; 67] = [
    field("@timestamp", Kind::Date, "when the request was received"),
    field("date", Kind::EpochMillis, "the same"),
    field(
        "event.id",
        Kind::Keyword(512),
        "identifies the hit; also the document's id",
    ),
    field("event.action", SHORT, "`open`, `view`, or the caller's word"),
    field("event.ingested", Kind::Date, "when the event was made to be written"),
    field("event.ingress", SHORT, "through which ingress the request came"),
    field("event.dataset", SHORT, "`demo` of events that `pixel demo` made up"),
    field("event.cut", SHORT, "where something was too long and was cut"),
    field("event.oddities", SHORT, "what was wrong with the request"),
    field("pixel.code", SHORT, "which pixel"),
    field(
        "pixel.signature",
        SHORT,
        "of a signed code `valid`, `expired` or `invalid`, of one that its owner has revoked `revoked`; of any other, where codes are listed, `listed` or `unknown`, else `none`",
    ),
    field(
        "pixel.sent",
        Kind::Date,
        "when the mail with this code was sent, where the code says so",
    ),
    field(
        "pixel.seconds_since_sent",
        Kind::Long,
        "seconds from sending to this hit",
    ),
    field(
        "client.ip",
        Kind::Ip,
        "the visitor's address after the privacy policy, by default its network",
    ),
    field(
        "client.geo.country_iso_code",
        SHORT,
        "the visitor's country, two letters",
    ),
    field("client.as.number", Kind::Long, "the visitor's network"),
    field("user_agent.original", LONG, "the `User-Agent` header"),
    field("user_agent.name", SHORT, "browser or program"),
    field("user_agent.version", SHORT, "its version"),
    field("user_agent.os.name", SHORT, "operating system"),
    field("user_agent.os.version", SHORT, "its version"),
    field(
        "user_agent.device.type",
        SHORT,
        "`desktop`, `phone`, `tablet`, `tv`, `console`, `wearable`, `speaker`, `car` or `reader`",
    ),
    field(
        "visit.class",
        SHORT,
        "`human`, `privacy_proxy`, `automation` or `prefetch`",
    ),
    field("visit.reasons", SHORT, "why it was classed so"),
    field("visit.rules", SHORT, "the version of the rules that classed it"),
    field("visitor.id", SHORT, "tells visitors of one day apart; rotates daily"),
    field(
        "user.id",
        SHORT,
        "the parameter `userid`, `user_id`, `uid` or `email-id`, by default as a keyed hash",
    ),
    field("url.full", LONG, "the tracked page"),
    field("url.scheme", SHORT, "its scheme"),
    field("url.domain", SHORT, "its host"),
    field("url.path", LONG, "its path"),
    field("url.query", LONG, "its query"),
    field("page.title", LONG, "its title, as the parameter `title` or `dt` says"),
    field(
        "browser.language",
        SHORT,
        "the language that the visitor's browser prefers (`language`, `ul`)",
    ),
    field(
        "browser.screen",
        SHORT,
        "how wide the screen is (`screen`): `compact`, `medium`, `expanded`, `large` or `extra-large`",
    ),
    field("http.request.method", SHORT, "`GET`, `HEAD` or, of a beacon, `POST`"),
    field("http.request.referrer", LONG, "the `Referer` header"),
    field("referrer.domain", SHORT, "where the page's visitor came from"),
    field(
        "referrer.medium",
        SHORT,
        "`search`, `social`, `email`, `ai`, `internal`, `referral` or `direct`",
    ),
    field("referrer.name", SHORT, "the source's name"),
    field(
        "campaign.source",
        SHORT,
        "`utm_source`, `mtm_source`, `pk_source`, `source` or `ref`, of the hit or of the page",
    ),
    field("campaign.medium", SHORT, "`utm_medium`, `mtm_medium` or `pk_medium`"),
    field(
        "campaign.name",
        SHORT,
        "`utm_campaign`, `mtm_campaign` or `pk_campaign`, else the campaign of a signed code, else of a listed one",
    ),
    field("campaign.term", SHORT, "`utm_term`, `mtm_kwd` or `pk_kwd`"),
    field(
        "campaign.content",
        SHORT,
        "`utm_content`, `mtm_content` or `pk_content`",
    ),
    field("campaign.id", SHORT, "`utm_id`, `mtm_cid` or `pk_cid`"),
    field("campaign.click_id.gclid", SHORT, "Google Ads' click id"),
    field("campaign.click_id.fbclid", SHORT, "Meta's click id"),
    field("campaign.click_id.msclkid", SHORT, "Microsoft Advertising's click id"),
    field("campaign.click_id.ttclid", SHORT, "TikTok's click id"),
    field("campaign.click_id.twclid", SHORT, "X's click id"),
    field("campaign.click_id.li_fat_id", SHORT, "LinkedIn's click id"),
    field("labels", LONG, "every query parameter once, as `name=value`"),
    field("privacy.applied", SHORT, "what was removed before the event was stored"),
    field("privacy.gpc", Kind::Boolean, "whether the visitor sent `Sec-GPC: 1`"),
    field("privacy.dnt", Kind::Boolean, "whether the visitor sent `DNT: 1`"),
    field(
        "params",
        Kind::Raw,
        "path parameters, query and headers as they came, minus secrets",
    ),
    field("stage-variables", Kind::Raw, "the stage's variables"),
    field(
        "context",
        Kind::Raw,
        "what the ingress says of the request, minus the caller's identity",
    ),
    field("body-json", Kind::Raw, "the body, when there is one"),
    field("pixel.campaign", SHORT, "the campaign that a signed code names"),
    field(
        "pixel.recipient",
        SHORT,
        "the recipient's hash that a signed code carries",
    ),
    field("campaign.click_id.dclid", SHORT, "Google Marketing Platform's click id"),
    field(
        "campaign.click_id.gbraid",
        SHORT,
        "Google Ads' id of clicks that lead to an app",
    ),
    field(
        "campaign.click_id.wbraid",
        SHORT,
        "Google Ads' id of clicks in an app that lead to a page",
    ),
    field("campaign.click_id.yclid", SHORT, "Yandex Direct's click id"),
    field(
        "page.key",
        LONG,
        "the tracked page by host and path, without query and fragment; none of a mailbox in a browser",
    ),
];
