//! Which campaign a visit belongs to, and the ad click that brought it.

use std::borrow::Cow;

use crate::request::{Pairs, last};

/// What is named of a campaign; what is not is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Campaign<'a> {
    /// Where it ran.
    pub source: Option<Cow<'a, str>>,
    /// How it reached people.
    pub medium: Option<Cow<'a, str>>,
    /// What it is called.
    pub name: Option<Cow<'a, str>>,
    /// The words searched for.
    pub term: Option<Cow<'a, str>>,
    /// Which of its links or pictures.
    pub content: Option<Cow<'a, str>>,
    /// Its id.
    pub id: Option<Cow<'a, str>>,
    /// The ad clicks' ids, by the name of their parameter.
    pub clicks: Vec<(&'static str, Cow<'a, str>)>,
}

/// The parameters in which ad networks send a click's id.
pub const CLICK_IDS: [&str; 6] = ["gclid", "fbclid", "msclkid", "ttclid", "twclid", "li_fat_id"];

/// Reads a campaign from the hit's query, else from that of the tracked page: Google's names, Matomo's, and the plain ones
/// `source` and `ref`. A `ref` that is a URL says where the page's visitor came from instead.
///
/// ```
/// let query = [("mtm_campaign".to_owned(), "spring".to_owned())];
/// let page = [("ref".to_owned(), "partner".to_owned())];
/// let campaign = pixel::campaign::of(&query, &page);
/// assert_eq!((campaign.name.as_deref(), campaign.source.as_deref()), (Some("spring"), Some("partner")));
/// ```
pub fn of<'a>(query: &'a [(String, String)], page: &'a [(String, String)]) -> Campaign<'a> {
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

/// The decoded query of a page.
pub fn page_query(page: Option<&str>) -> Pairs {
    let query = page
        .and_then(|page| page.split_once('?'))
        .map(|(_, query)| query.split('#').next().unwrap_or_default());
    query.map_or_else(Pairs::new, |query| crate::request::parse_query(query, &mut Vec::new()))
}
