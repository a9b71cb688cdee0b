//! Signed codes: the code of a pixel that contains its campaign, recipient and time of sending, and that nobody else
//! can make.
//!
//! Checking a code needs its key and no look-up, so a hit does not wait for a store. A signed code begins with
//! [`MARK`]; every other code is the owner's own word, and has no signature to check.
//!
//! ```text
//! _ base64url( form 1 | key 1 | sent 4? | expires 4? | recipient 8? | campaign 0 to 64 | authentication 10 )
//! _ base64url(          key 1 | random 4                                             | authentication 6  )   16 characters
//! ```
//!
//! Times are seconds since 1970, big-endian. The authentication is the beginning of an HMAC-SHA-256 over everything before
//! it: 80 bits, the minimum that RFC 2104 recommends, since each guess must be a request. The short form only proves
//! that it is genuine, is issued one at a time and is kept in a list; it has 48 bits.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The first character of every signed code.
pub const MARK: char = '_';

/// The characters of a code in the short form; all others are longer.
pub const SHORT_CODE_BYTES: usize = 16;

/// The maximum length of a campaign's name, in bytes.
pub const CAMPAIGN_BYTES: usize = 64;

/// The minimum length of a secret, in bytes.
pub const MIN_SECRET_BYTES: usize = 16;

const LONG_TAG_BYTES: usize = 10;
const SHORT_TAG_BYTES: usize = 6;

/// The bits of the form: the parts that are present. All others are zero.
const SENT: u8 = 1;
const EXPIRES: u8 = 2;
const RECIPIENT: u8 = 4;

type HmacSha256 = Hmac<Sha256>;

/// The contents of a signed code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The campaign, at most [`CAMPAIGN_BYTES`], without control characters.
    pub campaign: Option<String>,
    /// The recipient, as a keyed hash.
    pub recipient: Option<Recipient>,
    /// The time of sending, in seconds.
    pub sent: Option<DateTime<Utc>>,
    /// The time of expiry, in seconds.
    pub expires: Option<DateTime<Utc>>,
}

/// A recipient's keyed hash; displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient([u8; 8]);

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// The result of checking a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signature {
    /// No check is possible: the code is the owner's own word, or there is no key.
    #[default]
    None,
    /// One of our keys made it.
    Valid,
    /// One of our keys made it, and it has expired.
    Expired,
    /// It looks like a signed code, but none of our keys made it.
    Invalid,
    /// Its owner has revoked it, signed or not; known only where the list of codes is kept.
    Revoked,
    /// No check is possible, and it is in its owner's list.
    Listed,
    /// No check is possible, and its owner's list, which is not empty, does not contain it.
    Unknown,
}

/// The status of a code in its owner's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// There is no list, or it is empty: codes are the owner's own words.
    #[default]
    None,
    /// The code is in the list.
    Listed,
    /// The code is in the list, and revoked.
    Revoked,
    /// The code is not in the list, but others are.
    Missing,
}

/// The entry of a code in its owner's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeStatus {
    /// The status of the code.
    pub listing: Listing,
    /// The campaign noted with the code.
    pub campaign: Option<String>,
}

impl From<Listing> for CodeStatus {
    fn from(listing: Listing) -> Self {
        Self {
            listing,
            campaign: None,
        }
    }
}

impl Signature {
    /// Every result.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Valid,
        Self::Expired,
        Self::Invalid,
        Self::Revoked,
        Self::Listed,
        Self::Unknown,
    ];

    /// Returns the word stored in an event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::Revoked => "revoked",
            Self::Listed => "listed",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the result with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signature| signature.name() == name)
    }

    /// Combines the result with the list's status. A checked signature takes precedence, unless the code is revoked.
    #[must_use]
    pub const fn with(self, listing: Listing) -> Self {
        match (listing, self) {
            (Listing::Revoked, _) => Self::Revoked,
            (Listing::Listed, Self::None) => Self::Listed,
            (Listing::Missing, Self::None) => Self::Unknown,
            _ => self,
        }
    }
}

/// A checked code. The contents of an invalid one are not trusted, so they are not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The result of the check.
    pub signature: Signature,
    /// The contents; empty unless the code is valid or expired.
    pub contents: Contents,
}

impl Checked {
    /// Returns true if this code may identify one person: it names a recipient, or it has the form that can, and none
    /// of our keys shows that it does not. The owner's own words and the short form identify mails.
    pub fn may_name_person(&self, code: &str) -> bool {
        let is_ours = matches!(self.signature, Signature::Valid | Signature::Expired);
        let is_read = is_ours || self.contents != Contents::default();
        self.contents.recipient.is_some() || !is_read && can_name_person(code)
    }
}

/// One key, derived for each purpose.
#[derive(Clone)]
struct Key {
    id: u8,
    /// The HMAC states, already keyed.
    sign: HmacSha256,
    recipient: HmacSha256,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.id)
    }
}

impl Key {
    fn new(id: u8, secret: &[u8]) -> Self {
        // Each purpose has a key of its own, derived from the one secret.
        let purpose = |purpose: &[u8]| new_hmac(&new_hmac(secret).chain_update(purpose).finalize().into_bytes());
        Self {
            id,
            sign: purpose(b"pixel code v1: authentication"),
            recipient: purpose(b"pixel code v1: recipient"),
        }
    }

    fn sign_bytes(&self, mut bytes: Vec<u8>, tag: usize) -> String {
        let whole = self.sign.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&whole[..tag]);
        let mut code = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
        code.push(MARK);
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut code);
        code
    }

    fn hash_recipient(&self, recipient: &str) -> Recipient {
        let named = self.recipient.clone().chain_update(recipient.trim().to_lowercase());
        let mut beginning = [0; 8];
        beginning.copy_from_slice(&named.finalize().into_bytes()[..8]);
        Recipient(beginning)
    }

    /// Checks the authentication in constant time, regardless of how much of it is right.
    fn verify(&self, bytes: &[u8], tag: &[u8]) -> bool {
        self.sign.clone().chain_update(bytes).verify_truncated_left(tag).is_ok()
    }
}

fn new_hmac(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"))
}

/// The keys: the first one signs, all of them check, so that keys can be replaced.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

/// The reason why keys, or the contents to sign, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeError(String);

impl fmt::Display for CodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for CodeError {}

fn error<T>(message: impl Into<String>) -> Result<T, CodeError> {
    Err(CodeError(message.into()))
}

impl Keys {
    /// Creates a set of one key.
    pub fn new(id: u8, secret: [u8; 32]) -> Self {
        Self(vec![Key::new(id, &secret)])
    }

    /// Parses `ID:SECRET,ID:SECRET`: ids from 0 to 255, secrets in base64.
    ///
    /// # Errors
    ///
    /// [`CodeError`], which does not quote a secret.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let mut keys: Vec<Key> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((id, secret)) = part.split_once(':') else {
                return error("give `ID:SECRET`, several with commas between them; `pixel code key` makes one");
            };
            let Ok(id) = id.trim().parse() else {
                return error("the id of each key is a number from 0 to 255");
            };
            let secret = secret.trim().trim_end_matches('=');
            let decoded = STANDARD_NO_PAD
                .decode(secret)
                .or_else(|_| URL_SAFE_NO_PAD.decode(secret));
            let Some(secret) = decoded.ok().filter(|secret| secret.len() >= MIN_SECRET_BYTES) else {
                return error(format!(
                    "the secret of key {id} must be base64 of at least {MIN_SECRET_BYTES} bytes"
                ));
            };
            if keys.iter().any(|key| key.id == id) {
                return error(format!("there are two keys {id}; give each an id of its own"));
            }
            keys.push(Key::new(id, &secret));
        }
        Ok(Self(keys))
    }

    /// Returns true if nothing can be signed or checked.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn first(&self) -> Result<&Key, CodeError> {
        let none =
            || CodeError("there is no key to sign with: set `PIXEL_CODE_KEYS`; `pixel code key` makes one".into());
        self.0.first().ok_or_else(none)
    }

    /// Returns the keyed hash of a recipient, in lower case and without spaces around it. It differs between keys.
    ///
    /// # Errors
    ///
    /// Fails if there is no key.
    pub fn recipient(&self, recipient: &str) -> Result<Recipient, CodeError> {
        Ok(self.first()?.hash_recipient(recipient))
    }

    /// Returns the keyed hashes of a recipient, one for each key.
    pub fn recipients(&self, recipient: &str) -> Vec<Recipient> {
        self.0.iter().map(|key| key.hash_recipient(recipient)).collect()
    }

    /// Signs a code.
    ///
    /// # Errors
    ///
    /// Fails if there is no key, a time is out of range (1970 to 2106), or the campaign's name is too long or has control
    /// characters.
    pub fn sign(&self, contents: &Contents) -> Result<String, CodeError> {
        let key = self.first()?;
        let mut bytes = vec![0, key.id];
        let mut form = 0;
        for (bit, time) in [(SENT, contents.sent), (EXPIRES, contents.expires)] {
            if let Some(time) = time {
                let Ok(seconds) = u32::try_from(time.timestamp()) else {
                    return error("a code's times are from 1970 to 2106");
                };
                form |= bit;
                bytes.extend_from_slice(&seconds.to_be_bytes());
            }
        }
        if let Some(Recipient(hash)) = contents.recipient {
            form |= RECIPIENT;
            bytes.extend_from_slice(&hash);
        }
        let campaign = contents.campaign.as_deref().unwrap_or_default();
        if campaign.len() > CAMPAIGN_BYTES {
            return error(format!("a campaign's name has at most {CAMPAIGN_BYTES} bytes"));
        }
        if campaign.contains(char::is_control) {
            return error("a campaign's name has no control characters");
        }
        bytes.extend_from_slice(campaign.as_bytes());
        bytes[0] = form;
        Ok(key.sign_bytes(bytes, LONG_TAG_BYTES))
    }

    /// Signs a code of the short form, of 16 characters; `random` must not have been used before.
    ///
    /// # Errors
    ///
    /// Fails if there is no key.
    pub fn short(&self, random: [u8; 4]) -> Result<String, CodeError> {
        let key = self.first()?;
        let bytes = [&[key.id][..], &random].concat();
        Ok(key.sign_bytes(bytes, SHORT_TAG_BYTES))
    }

    /// Checks the code of a hit that was received at the time `at`.
    pub fn check(&self, code: &str, at: DateTime<Utc>) -> Checked {
        let marked = code
            .strip_prefix(MARK)
            .filter(|_| !self.is_empty() && looks_signed(code));
        let Some(encoded) = marked else {
            return Checked::default();
        };
        match self.decode(encoded) {
            None => Checked {
                signature: Signature::Invalid,
                contents: Contents::default(),
            },
            Some(contents) => Checked {
                signature: if contents.expires.is_some_and(|expires| expires < at) {
                    Signature::Expired
                } else {
                    Signature::Valid
                },
                contents,
            },
        }
    }

    /// Returns the contents of an encoded code if one of our keys made it.
    fn decode(&self, encoded: &str) -> Option<Contents> {
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let short = encoded.len() + 1 == SHORT_CODE_BYTES;
        let (id, tag) = if short {
            (0, SHORT_TAG_BYTES)
        } else {
            (1, LONG_TAG_BYTES)
        };
        let (signed, tag) = bytes.split_at_checked(bytes.len().checked_sub(tag)?)?;
        let id = *signed.get(id)?;
        let key = self.0.iter().find(|key| key.id == id)?;
        if !key.verify(signed, tag) {
            return None;
        }
        if short {
            Some(Contents::default())
        } else {
            parse_contents(signed)
        }
    }
}

/// Returns true if a code has the length and characters of a signed one. An owner's own word of this form is marked as
/// invalid if there are keys, and counted anyway.
pub fn looks_signed(code: &str) -> bool {
    let encoded = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    code.starts_with(MARK) && code.len() >= SHORT_CODE_BYTES && code.bytes().all(encoded)
}

/// Returns true if a code has a form that can contain a recipient.
pub fn can_name_person(code: &str) -> bool {
    looks_signed(code) && code.len() > SHORT_CODE_BYTES
}

fn parse_contents(signed: &[u8]) -> Option<Contents> {
    let (&form, rest) = signed.split_first()?;
    let mut rest = rest.get(1..)?;
    if form & !(SENT | EXPIRES | RECIPIENT) != 0 {
        return None;
    }
    let mut time = |bit| {
        if form & bit == 0 {
            return Some(None);
        }
        let (bytes, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        Some(DateTime::from_timestamp(u32::from_be_bytes(*bytes).into(), 0))
    };
    let (sent, expires) = (time(SENT)?, time(EXPIRES)?);
    let mut recipient = None;
    if form & RECIPIENT != 0 {
        let (bytes, after) = rest.split_first_chunk::<8>()?;
        rest = after;
        recipient = Some(Recipient(*bytes));
    }
    let campaign = std::str::from_utf8(rest).ok()?;
    Some(Contents {
        campaign: (!campaign.is_empty()).then(|| campaign.to_owned()),
        recipient,
        sent,
        expires,
    })
}

/// Returns a key in the form that [`Keys::parse`] reads.
pub fn key_text(id: u8, secret: [u8; 32]) -> String {
    format!("{id}:{}", URL_SAFE_NO_PAD.encode(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap_or_default()
    }

    fn keys(text: &str) -> Keys {
        Keys::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    const FIRST: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg==";
    const SECOND: &str = "2:ZmVkY2JhOTg3NjU0MzIxMA";

    /// Codes once issued must stay valid for ever. These were made by another program, with Python's `hmac`.
    #[test]
    fn codes_that_were_issued_stay_good() {
        let keys = keys(FIRST);
        let contents = Contents {
            campaign: Some("spring".to_owned()),
            recipient: Some(keys.recipient(" Ann@Example.org ").expect("a key")),
            sent: Some(time(1_780_000_000)),
            expires: Some(time(1_790_000_000)),
        };
        let code = keys.sign(&contents).expect("a key");
        assert_eq!(code, "_BwFqGKUAarE7gJpXuXPbyxp-c3ByaW5ntSjZnCjpmEMNHg");
        assert_eq!(keys.short([1, 2, 3, 4]).expect("a key"), "_AQECAwQamaFh3aI");
        assert_eq!(contents.recipient.expect("one").to_string(), "9a57b973dbcb1a7e");
    }

    #[test]
    fn keys_follow_each_other_and_a_forgotten_one_makes_nothing_valid() {
        let old = keys(FIRST);
        let code = old.sign(&Contents::default()).expect("a key");
        let short = old.short([9; 4]).expect("a key");
        assert_eq!(short.len(), SHORT_CODE_BYTES);
        for code in [&code, &short] {
            let by = |text: &str| keys(text).check(code, time(0)).signature;
            assert_eq!(by(FIRST), Signature::Valid);
            assert_eq!(by(&format!("{SECOND},{FIRST}")), Signature::Valid);
            assert_eq!(by(SECOND), Signature::Invalid);
            assert_eq!(
                by("1:ZmVkY2JhOTg3NjU0MzIxMA"),
                Signature::Invalid,
                "same id, another secret"
            );
            assert_eq!(Keys::default().check(code, time(0)).signature, Signature::None);
        }
        let new = keys(&format!("{SECOND},{FIRST}"))
            .sign(&Contents::default())
            .expect("a key");
        assert_eq!(
            old.check(&new, time(0)).signature,
            Signature::Invalid,
            "the first signs"
        );
    }

    #[test]
    fn a_code_is_good_through_its_last_second() {
        let keys = keys(FIRST);
        let code = keys
            .sign(&Contents {
                expires: Some(time(100)),
                ..Contents::default()
            })
            .expect("a key");
        assert_eq!(keys.check(&code, time(100)).signature, Signature::Valid);
        let expired = keys.check(&code, time(101));
        assert_eq!(
            (expired.signature, expired.contents.expires),
            (Signature::Expired, Some(time(100)))
        );
    }

    #[test]
    fn what_cannot_be_a_key_is_told_without_the_secret() {
        for (text, says) in [
            ("hush-hush-hush-hush", "ID:SECRET"),
            ("256:MDEyMzQ1Njc4OWFiY2RlZg", "0 to 255"),
            ("1:aHVzaA", "16 bytes"),
            ("1:not base64 at all!!!!!!!!!!", "base64"),
            ("1:MDEyMzQ1Njc4OWFiY2RlZg,1:ZmVkY2JhOTg3NjU0MzIxMA", "two keys 1"),
        ] {
            let message = Keys::parse(text).expect_err(text).to_string();
            assert!(
                message.contains(says) && !message.contains("hush") && !message.contains("MDEy"),
                "{text}: {message}"
            );
        }
        assert!(Keys::parse(" , ").is_ok_and(|keys| keys.is_empty()));
        assert!(!format!("{:?}", keys(FIRST)).contains("MDEy"));
    }

    #[test]
    fn what_does_not_fit_is_not_signed() {
        let keys = keys(FIRST);
        let named = |campaign: &str| Contents {
            campaign: Some(campaign.to_owned()),
            ..Contents::default()
        };
        assert!(keys.sign(&named(&"x".repeat(64))).is_ok());
        assert!(keys.sign(&named(&"x".repeat(65))).is_err());
        assert!(keys.sign(&named("a\nb")).is_err());
        assert!(
            keys.sign(&Contents {
                sent: Some(time(-1)),
                ..Contents::default()
            })
            .is_err()
        );
        assert!(Keys::default().sign(&Contents::default()).is_err());
    }

    fn contents() -> impl Strategy<Value = Contents> {
        let time = || proptest::option::of((0..=i64::from(u32::MAX)).prop_map(time));
        let recipient = proptest::option::of(any::<[u8; 8]>().prop_map(Recipient));
        (proptest::option::of("[^\\p{Cc}]{1,16}"), recipient, time(), time()).prop_map(
            |(campaign, recipient, sent, expires)| Contents {
                campaign,
                recipient,
                sent,
                expires,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_signed_is_read_again(contents in contents()) {
            let keys = keys(FIRST);
            let code = keys.sign(&contents).expect("it fits");
            prop_assert!(code.len() >= SHORT_CODE_BYTES && looks_signed(&code), "{}", code);
            prop_assert_eq!(keys.check(&code, time(0)), Checked { signature: Signature::Valid, contents });
        }

        #[test]
        fn any_changed_character_makes_a_code_invalid(
            contents in contents(), short: bool, place: proptest::sample::Index, to in "[A-Za-z0-9_-]",
        ) {
            let keys = keys(FIRST);
            let code = if short { keys.short([7; 4]) } else { keys.sign(&contents) }.expect("it fits");
            let place = 1 + place.index(code.len() - 1);
            let changed = format!("{}{to}{}", &code[..place], &code[place + 1..]);
            prop_assume!(changed != code);
            let checked = keys.check(&changed, time(0));
            prop_assert_eq!(checked, Checked { signature: Signature::Invalid, contents: Contents::default() });
        }

        #[test]
        fn no_text_of_a_visitor_is_believed(code in "\\PC*|_[A-Za-z0-9_-]{0,200}") {
            let checked = keys(FIRST).check(&code, time(0));
            let expected = if looks_signed(&code) { Signature::Invalid } else { Signature::None };
            prop_assert_eq!(checked.signature, expected);
        }
    }
}
