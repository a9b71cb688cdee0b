//! The campaign of a visit, and the ad click that brought it.

use std::borrow::Cow;

use crate::hit::request::{Pairs, last};

/// The campaign parameters of a hit; those not given are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Campaign<'a> {
    /// The place where the campaign ran.
    pub source: Option<Cow<'a, str>>,
    /// The channel by which it reached people.
    pub medium: Option<Cow<'a, str>>,
    /// The name of the campaign.
    pub name: Option<Cow<'a, str>>,
    /// The search words.
    pub term: Option<Cow<'a, str>>,
    /// The link or picture of the campaign.
    pub content: Option<Cow<'a, str>>,
    /// The id of the campaign.
    pub id: Option<Cow<'a, str>>,
    /// The ids of ad clicks, by the names of their parameters.
    pub clicks: Vec<(&'static str, Cow<'a, str>)>,
}

/// The parameters in which ad networks send the id of a click.
pub const CLICK_IDS: [&str; 10] = [
    "gclid",
    "fbclid",
    "msclkid",
    "ttclid",
    "twclid",
    "li_fat_id",
    "dclid",
    "gbraid",
    "wbraid",
    "yclid",
];

/// Returns true if a parameter of this name holds the id of a click.
pub fn is_click_id(name: &str) -> bool {
    CLICK_IDS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Reads a campaign from the hit's query, else from that of the tracked page: Google's names, Matomo's, and the plain ones
/// `source` and `ref`. A `ref` that is a URL names the page's referrer instead.
///
/// ```
/// let query = [("mtm_campaign".to_owned(), "spring".to_owned())];
/// let page = [("ref".to_owned(), "partner".to_owned())];
/// let campaign = pixel::hit::enrich::campaign::find_campaign(&query, &page);
/// assert_eq!((campaign.name.as_deref(), campaign.source.as_deref()), (Some("spring"), Some("partner")));
/// ```
pub fn find_campaign<'a>(query: &'a [(String, String)], page: &'a [(String, String)]) -> Campaign<'a> {
    let value = |name: &str| {
        let given = |pairs: &'a [(String, String)]| last(pairs, name).filter(|value| !value.is_empty());
        given(query).or_else(|| given(page)).map(Cow::Borrowed)
    };
    let first = |names: &[&str]| names.iter().find_map(|name| value(name));
    let no_url = |text: &Cow<'_, str>| !text.contains("://") && !text.contains("%3A%2F%2F");
    Campaign {
        source: first(&["utm_source", "mtm_source", "pk_source", "source"]).or_else(|| value("ref").filter(no_url)),
        medium: first(&["utm_medium", "mtm_medium", "pk_medium"]),
        name: first(&["utm_campaign", "mtm_campaign", "pk_campaign"]),
        term: first(&["utm_term", "mtm_keyword", "mtm_kwd", "pk_keyword", "pk_kwd"]),
        content: first(&["utm_content", "mtm_content", "pk_content"]),
        id: first(&["utm_id", "mtm_cid", "pk_cid"]),
        clicks: CLICK_IDS
            .into_iter()
            .filter_map(|name| Some((name, value(name)?)))
            .collect(),
    }
}

/// Returns the decoded query of a page.
pub fn page_query(page: Option<&str>) -> Pairs {
    let query = page
        .and_then(|page| page.split_once('?'))
        .map(|(_, query)| query.split('#').next().unwrap_or_default());
    query.map_or_else(Pairs::new, |query| {
        crate::hit::request::parse_query(query, &mut Vec::new())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Pairs {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        given.iter().map(owned).collect()
    }

    #[test]
    fn every_name_of_a_campaign_s_parts_is_read() {
        type Part = for<'a> fn(&'a Campaign<'_>) -> Option<&'a str>;
        let table: [(&[&str], Part); 6] = [
            (
                &["utm_source", "mtm_source", "pk_source", "source", "ref"],
                |campaign| campaign.source.as_deref(),
            ),
            (&["utm_medium", "mtm_medium", "pk_medium"], |campaign| {
                campaign.medium.as_deref()
            }),
            (&["utm_campaign", "mtm_campaign", "pk_campaign"], |campaign| {
                campaign.name.as_deref()
            }),
            (
                &["utm_term", "mtm_keyword", "mtm_kwd", "pk_keyword", "pk_kwd"],
                |campaign| campaign.term.as_deref(),
            ),
            (&["utm_content", "mtm_content", "pk_content"], |campaign| {
                campaign.content.as_deref()
            }),
            (&["utm_id", "mtm_cid", "pk_cid"], |campaign| campaign.id.as_deref()),
        ];
        for (names, part) in table {
            for (place, name) in names.iter().enumerate() {
                let (here, there) = (pairs(&[(name, "here")]), pairs(&[(name, "there")]));
                assert_eq!(part(&find_campaign(&here, &there)), Some("here"), "{name}");
                assert_eq!(part(&find_campaign(&[], &there)), Some("there"), "{name} of the page");
                assert_eq!(
                    part(&find_campaign(&pairs(&[(name, "")]), &[])),
                    None,
                    "{name} without a value"
                );
                // The first name in the list takes precedence.
                for later in &names[place + 1..] {
                    let both = pairs(&[(later, "later"), (name, "first")]);
                    assert_eq!(part(&find_campaign(&both, &[])), Some("first"), "{name} before {later}");
                }
            }
        }
        for url in ["https://a.example/", "https%3A%2F%2Fa.example"] {
            assert_eq!(
                find_campaign(&pairs(&[("ref", url)]), &[]).source,
                None,
                "{url} is where somebody came from"
            );
        }
    }

    #[test]
    fn every_click_s_id_is_read_and_known_as_one() {
        let known = [
            "gclid",
            "dclid",
            "gbraid",
            "wbraid",
            "fbclid",
            "msclkid",
            "ttclid",
            "twclid",
            "yclid",
            "li_fat_id",
        ];
        for name in known {
            let here = pairs(&[(name, "7")]);
            assert_eq!(find_campaign(&here, &[]).clicks, [(name, Cow::Borrowed("7"))]);
            assert_eq!(find_campaign(&[], &here).clicks, [(name, Cow::Borrowed("7"))]);
            assert!(is_click_id(name) && is_click_id(&name.to_uppercase()), "{name}");
        }
        assert_eq!(known.len(), CLICK_IDS.len());
    }
}
