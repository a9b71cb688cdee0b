//! Reads the code of a finished event, and marks the event by the status of that code in its owner's list.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Event;
use crate::hit::code::{CodeStatus, Signature};

#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow)]
    pixel: &'a RawValue,
    #[serde(borrow, default)]
    campaign: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Campaign<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Pixel<'a> {
    #[serde(borrow, default)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    signature: Option<&'a RawValue>,
}

/// Returns the document's text from `pixel` on, and its parsed value.
fn parse_pixel(document: &str) -> Option<(&str, Pixel<'_>)> {
    let Top { pixel, .. } = serde_json::from_str(document).ok()?;
    let text = pixel.get();
    // Serde would read an array as the values of an object.
    let read = text.starts_with('{').then(|| serde_json::from_str(text).ok());
    Some((text, read.flatten()?))
}

impl Event {
    /// Returns the code as it is stored: if the hit's code named a person, the stored one differs.
    pub fn code(&self) -> Option<String> {
        let (_, Pixel { code, .. }) = parse_pixel(&self.document)?;
        code.map(Cow::into_owned)
    }

    /// Marks the event by its code's status in the list. Nothing else in the document changes.
    pub fn mark(&mut self, status: &CodeStatus) {
        if let Some(campaign) = &status.campaign {
            self.name_campaign(campaign);
        }
        let listing = status.listing;
        let Some((text, Pixel { signature, .. })) = parse_pixel(&self.document) else {
            return;
        };
        let written = signature.and_then(|text| serde_json::from_str(text.get()).ok());
        let before = written.and_then(Signature::named).unwrap_or(Signature::None);
        let after = before.with(listing);
        if after == before {
            return;
        }
        let mark = format!("\"{}\"", after.name());
        let place = |part: &str| part.as_ptr().addr() - self.document.as_ptr().addr();
        let (range, mark) = if let Some(signature) = signature.map(RawValue::get) {
            let begin = place(signature);
            (begin..begin + signature.len(), mark)
        } else {
            let begin = place(text) + 1;
            (begin..begin, format!("\"signature\":{mark},"))
        };
        self.document.replace_range(range, &mark);
    }

    /// Adds the name of the campaign, unless the event already has one.
    fn name_campaign(&mut self, campaign: &str) {
        let Ok(Top { pixel, campaign: known }) = serde_json::from_str(&self.document) else {
            return;
        };
        let name = Value::from(campaign).to_string();
        let place = |part: &str| part.as_ptr().addr() - self.document.as_ptr().addr();
        let (place, member) = match known.map(RawValue::get) {
            None => {
                let pixel = pixel.get();
                (place(pixel) + pixel.len(), format!(",\"campaign\":{{\"name\":{name}}}"))
            }
            Some(text) => {
                let read = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
                let Some(Campaign { name: None }) = read else { return };
                let comma = if text[1..].trim_start().starts_with('}') {
                    ""
                } else {
                    ","
                };
                (place(text) + 1, format!("\"name\":{name}{comma}"))
            }
        };
        self.document.insert_str(place, &member);
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::hit::code::Listing;

    fn event(document: &str) -> Event {
        Event {
            id: "a".to_owned(),
            time: DateTime::from_timestamp(1_780_000_000, 0).expect("a time"),
            document: document.to_owned(),
        }
    }

    #[test]
    fn a_mark_changes_nothing_else() {
        for (before, after) in [
            (
                r#"{"n":1.10,"pixel":{"code":"a","signature":"none"},"params":{"pixel":{"signature":"none"}}}"#,
                r#"{"n":1.10,"pixel":{"code":"a","signature":"revoked"},"params":{"pixel":{"signature":"none"}}}"#,
            ),
            (
                r#"{"params":{"pixel":{"signature":"none"}},"pixel": { "signature" : "valid" , "code": "a" } }"#,
                r#"{"params":{"pixel":{"signature":"none"}},"pixel": { "signature" : "revoked" , "code": "a" } }"#,
            ),
            (
                r#"{"pixel":{"code":"a"}}"#,
                r#"{"pixel":{"signature":"revoked","code":"a"}}"#,
            ),
        ] {
            let mut event = event(before);
            assert_eq!(event.code().as_deref(), Some("a"), "{before}");
            event.mark(&Listing::Revoked.into());
            assert_eq!(event.document, after);
            event.mark(&Listing::Revoked.into());
            assert_eq!(event.document, after);
        }
    }

    #[test]
    fn the_list_names_the_campaign_of_an_event_without_one() {
        let status = CodeStatus {
            listing: Listing::Listed,
            campaign: Some("Spring \"26\"".to_owned()),
        };
        for (before, after) in [
            (
                r#"{"pixel":{"code":"a","signature":"none"}}"#,
                r#"{"pixel":{"code":"a","signature":"listed"},"campaign":{"name":"Spring \"26\""}}"#,
            ),
            (
                r#"{"campaign":{"source":"mail"},"pixel":{"code":"a","signature":"none"}}"#,
                r#"{"campaign":{"name":"Spring \"26\"","source":"mail"},"pixel":{"code":"a","signature":"listed"}}"#,
            ),
            (
                r#"{"campaign":{ },"pixel":{"code":"a","signature":"none"}}"#,
                r#"{"campaign":{"name":"Spring \"26\"" },"pixel":{"code":"a","signature":"listed"}}"#,
            ),
            (
                r#"{"campaign":{"name":"mine"},"pixel":{"code":"a","signature":"none"}}"#,
                r#"{"campaign":{"name":"mine"},"pixel":{"code":"a","signature":"listed"}}"#,
            ),
        ] {
            let mut event = event(before);
            event.mark(&status);
            assert_eq!(event.document, after);
            event.mark(&status);
            assert_eq!(event.document, after);
        }
    }

    #[test]
    fn what_was_signed_stays_so_unless_it_is_revoked() {
        for (before, listing, after) in [
            ("none", Listing::Listed, "listed"),
            ("none", Listing::Missing, "unknown"),
            ("none", Listing::None, "none"),
            ("valid", Listing::Missing, "valid"),
            ("invalid", Listing::Listed, "invalid"),
            ("valid", Listing::Revoked, "revoked"),
        ] {
            let document = |signature| format!(r#"{{"pixel":{{"code":"a","signature":"{signature}"}}}}"#);
            let mut event = event(&document(before));
            event.mark(&listing.into());
            assert_eq!(event.document, document(after), "{listing:?}");
        }
    }

    #[test]
    fn what_is_no_event_of_ours_has_no_code() {
        for document in [
            "{}",
            "[]",
            "no JSON",
            r#"{"pixel":7}"#,
            r#"{"pixel":["a","none"]}"#,
            r#"{"pixel":{"code":7}}"#,
            r#"{"code":"a"}"#,
        ] {
            let mut event = event(document);
            assert_eq!(event.code(), None, "{document}");
            event.mark(&Listing::Revoked.into());
            assert_eq!(event.document, document);
        }
    }
}
