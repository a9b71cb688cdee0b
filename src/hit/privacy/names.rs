//! Recognizes by its name a parameter, header or member that holds a secret or a person's id.
//!
//! A name is decoded, then compared in lower case: distinctive words (`token`, `password`) anywhere in it, short ones
//! (`sid`, `otp`) only as a whole word, since they also occur in harmless words.

use super::decode::View;

/// The maximum length of a name, in bytes; a longer one that may hold a secret word is treated as secret without a
/// closer look.
const MAX_NAME_BYTES: usize = 512;

/// Words that make a name a secret's name wherever they occur in a part of it.
const SECRET_PARTS: [&str; 33] = [
    "accesskey",
    "apikey",
    "bearer",
    "cardnumber",
    "contrasena",
    "cookie",
    "credential",
    "creditcard",
    "csrf",
    "hmac",
    "kennwort",
    "keysecret",
    "mnemonic",
    "motdepasse",
    "passcode",
    "passkey",
    "passphrase",
    "passwd",
    "passwor",
    "privatekey",
    "pwd",
    "secret",
    "seedphrase",
    "sessid",
    "sessionid",
    "sessionkey",
    "signature",
    "signingkey",
    "token",
    "verifier",
    "wachtwoord",
    "xsrf",
    "jwt",
];

/// Words distinctive enough to be found across the separators of a name (`pass-word`, `api_key`).
const JOINED_PARTS: [&str; 11] = [
    "accesskey",
    "apikey",
    "cardnumber",
    "creditcard",
    "motdepasse",
    "passcode",
    "passphrase",
    "password",
    "privatekey",
    "sessionid",
    "signingkey",
];

/// Harmless words that contain one of [`SECRET_PARTS`]; they are removed before the comparison.
const HARMLESS_PARTS: [&str; 22] = [
    "acceptcookie",
    "cookieaccept",
    "cookiebanner",
    "cookiebot",
    "cookieconsent",
    "cookieenabled",
    "cookieless",
    "cookienotice",
    "cookiepolicy",
    "cookiesaccept",
    "cookiesenabled",
    "cookiesettings",
    "cookiessupported",
    "cookiesupport",
    "forbearer",
    "nocookie",
    "secretar",
    "secretion",
    "tokenis",
    "tokeniz",
    "maxtokens",
    "tokencount",
];

/// Words that make a name a secret's name where they are a whole word of it.
const SECRET_WORDS: [&str; 38] = [
    "2fa",
    "apisid",
    "asid",
    "auth",
    "cred",
    "creds",
    "cvc",
    "cvv",
    "cvv2",
    "hotp",
    "hsid",
    "iban",
    "jsid",
    "lsid",
    "mfa",
    "nonce",
    "otp",
    "otpcode",
    "otps",
    "osid",
    "phpsid",
    "psid",
    "pw",
    "pws",
    "salt",
    "saml",
    "samlrequest",
    "samlresponse",
    "sapisid",
    "senha",
    "sid",
    "sidcc",
    "sig",
    "ssid",
    "ssn",
    "tfa",
    "totp",
    "usid",
];

/// The owners of a `pass`, `pw`, `pin`, `key`, `otp`, `sid` or `sig` that may be written directly before it.
const OWNERS: [&str; 62] = [
    "access",
    "account",
    "activation",
    "admin",
    "api",
    "app",
    "auth",
    "aws",
    "client",
    "confirm",
    "consumer",
    "crypto",
    "current",
    "customer",
    "db",
    "decryption",
    "deploy",
    "device",
    "email",
    "encryption",
    "ftp",
    "gpg",
    "hash",
    "hmac",
    "host",
    "http",
    "ldap",
    "licence",
    "license",
    "login",
    "mail",
    "master",
    "member",
    "my",
    "mysql",
    "new",
    "old",
    "pgp",
    "php",
    "private",
    "proxy",
    "recovery",
    "reset",
    "root",
    "rsa",
    "secret",
    "security",
    "server",
    "service",
    "session",
    "shared",
    "sign",
    "signing",
    "site",
    "sms",
    "smtp",
    "sql",
    "ssh",
    "storage",
    "usr",
    "user",
    "web",
];

/// Words before `code` that make it a secret.
const CODE_OWNERS: [&str; 16] = [
    "2fa",
    "access",
    "activation",
    "auth",
    "backup",
    "confirm",
    "confirmation",
    "login",
    "mfa",
    "otp",
    "recovery",
    "reset",
    "security",
    "sms",
    "verification",
    "verify",
];

/// Words before a `key` that is not a secret.
const HARMLESS_KEYS: [&str; 51] = [
    "ad",
    "alt",
    "array",
    "arrow",
    "attribute",
    "bucket",
    "cache",
    "campaign",
    "category",
    "column",
    "composite",
    "content",
    "ctrl",
    "data",
    "dict",
    "enter",
    "escape",
    "event",
    "external",
    "field",
    "foreign",
    "group",
    "hot",
    "i18n",
    "idempotency",
    "index",
    "item",
    "lang",
    "lookup",
    "map",
    "menu",
    "message",
    "meta",
    "natural",
    "order",
    "page",
    "partition",
    "primary",
    "product",
    "property",
    "public",
    "query",
    "row",
    "search",
    "section",
    "segment",
    "short",
    "sort",
    "surrogate",
    "tab",
    "translation",
];

/// Words next to `pass` that make it a ticket or a verb.
const HARMLESS_PASSES: [&str; 23] = [
    "battle", "boarding", "bus", "city", "day", "event", "fail", "filter", "first", "high", "low", "mountain", "rail",
    "rate", "season", "second", "ski", "through", "travel", "type", "visitor", "week", "weekend",
];

/// Words next to `session` that make it a figure of analytics.
const HARMLESS_SESSIONS: [&str; 23] = [
    "campaign",
    "channel",
    "conference",
    "count",
    "counts",
    "default",
    "depth",
    "duration",
    "engaged",
    "index",
    "length",
    "manual",
    "medium",
    "name",
    "number",
    "pages",
    "source",
    "start",
    "time",
    "title",
    "total",
    "type",
    "views",
];

/// Returns whether a header or parameter of this name carries a secret.
///
/// ```
/// use pixel::hit::privacy::is_secret;
/// assert!(["Authorization", "X-Api-Key", "accessToken", "PHPSESSIONID", "__Secure-session"].iter().all(|name| is_secret(name)));
/// assert!(["accesstoken", "AWSAccessKeyId", "oauth_verifier", "to%256ben", "user[password]"].iter().all(|name| is_secret(name)));
/// assert!(!["author", "keyword", "utm_source", "tokenizer", "monkey"].iter().any(|name| is_secret(name)));
/// ```
pub fn is_secret(name: &str) -> bool {
    if needs_decoding(name) {
        let decoded = decode_name(name);
        return may_be_secret(decoded.as_bytes()) && names_secret(&decoded);
    }
    may_be_secret(name.as_bytes()) && names_secret(name)
}

fn needs_decoding(name: &str) -> bool {
    name.bytes().any(|byte| byte == b'%' || byte == b'\\' || byte >= 0x80)
}

/// Decodes a name, and removes invisible characters.
fn decode_name(name: &str) -> String {
    let view = View::new(name);
    let decoded = String::from_utf8_lossy(view.bytes());
    decoded
        .chars()
        .filter(|character| {
            let invisible = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
            !invisible && !character.is_control()
        })
        .collect()
}

/// Returns whether a name contains what every secret's name contains. Most names do not, so splitting them into words
/// would be in vain. Every name of every hit is checked here, so most of its letters are read only once.
pub(super) fn may_be_secret(name: &[u8]) -> bool {
    let mut before = 0;
    for (place, byte) in name.iter().enumerate() {
        let small = byte.to_ascii_lowercase();
        // The first two letters of each part.
        let parts: &[&[u8]] = match (before, small) {
            (b'a', b'u') => &[b"auth"],
            (b'b', b'e') => &[b"bearer"],
            (b'c', b'a') => &[b"card"],
            (b'c', b'o') => &[b"cookie", b"code", b"contras"],
            (b'c', b'r') => &[b"cred"],
            (b'c', b's') => &[b"csrf"],
            (b'c', b'v') => &[b"cvc", b"cvv"],
            (b'f', b'a') => &[b"fa"],
            (b'h', b'm') => &[b"hmac"],
            (b'i', b'b') => &[b"iban"],
            (b'j', b'w') => &[b"jwt"],
            (b'k', b'e') => &[b"key", b"kenn"],
            (b'm', b'n') => &[b"mnemonic"],
            (b'm', b'o') => &[b"mot"],
            (b'n', b'o') => &[b"nonce"],
            (b'o', b't') => &[b"otp"],
            (b'p', b'a') => &[b"pass"],
            (b'p', b'h') => &[b"phrase"],
            (b'p', b'i') => &[b"pin"],
            (b'p', b'w') => &[b"pw"],
            (b's', b'a') => &[b"salt", b"saml"],
            (b's', b'e') => &[b"secret", b"sess", b"seed", b"senha"],
            (b's', b'i') => &[b"sig", b"sid"],
            (b's', b's') => &[b"ssn"],
            (b't', b'o') => &[b"token"],
            (b'v', b'e') => &[b"verifi"],
            (b'w', b'a') => &[b"wacht"],
            (b'x', b's') => &[b"xsrf"],
            _ => &[],
        };
        let begins = |part: &&[u8]| {
            let found = name.get(place - 1..place - 1 + part.len());
            found.is_some_and(|found| found.eq_ignore_ascii_case(part))
        };
        if parts.iter().any(begins) {
            return true;
        }
        before = small;
    }
    false
}

fn names_secret(name: &str) -> bool {
    if name.len() > MAX_NAME_BYTES {
        return true;
    }
    let segments = split_at_separators(name);
    let words = split_words(name);
    holds_secret_part(&segments)
        || words.iter().any(|word| is_secret_word(word))
        || segments.iter().any(|segment| is_secret_word(segment))
        || is_secret_in_context(&words)
        || is_secret_in_context(&segments)
        || JOINED_PARTS.iter().any(|part| segments.concat().contains(part))
}

/// Returns the parts of a name between characters that are neither letters nor digits, in lower case.
fn split_at_separators(name: &str) -> Vec<String> {
    name.split(|character: char| !character.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Returns the words of a name: split at separators and before a capital after a small letter (`accessToken`).
fn split_words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for character in name.chars() {
        let starts = character.is_ascii_uppercase() && before.is_ascii_lowercase();
        if (starts || !character.is_alphanumeric()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if character.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
        before = character;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn holds_secret_part(segments: &[String]) -> bool {
    let found = |text: &str| SECRET_PARTS.iter().any(|part| text.contains(part)) || holds_auth(text);
    if !segments.iter().any(|segment| found(segment)) {
        return false;
    }
    let mut joined = segments.concat();
    let mut harmless = false;
    for part in HARMLESS_PARTS {
        if joined.contains(part) {
            joined = joined.replace(part, " ");
            harmless = true;
        }
    }
    !harmless || found(&joined)
}

/// Returns whether `auth` occurs as itself and not as the beginning of `author` or `authentic`.
fn holds_auth(text: &str) -> bool {
    text.match_indices("auth").any(|(place, found)| {
        let rest = &text[place + found.len()..];
        let author = rest.starts_with("or") && !rest.starts_with("oriz") && !rest.starts_with("oris");
        let authentic = rest.starts_with("entic") && !rest.starts_with("enticat") && !rest.starts_with("enticity");
        !(author || authentic)
    })
}

/// Returns the word without digits around it: `pass1` and `2pass` are `pass`.
fn without_digits(word: &str) -> &str {
    word.trim_matches(|character: char| character.is_ascii_digit())
}

fn is_secret_word(word: &str) -> bool {
    let bare = without_digits(word);
    let known = |text: &str| SECRET_WORDS.contains(&text);
    if known(word) || known(bare) {
        return true;
    }
    // Written together with its owner: `userpass`, `masterkey`, `smsotp`.
    let owned = ["pass", "pw", "pin", "key", "keys", "keyid", "otp", "totp", "sid", "sig"]
        .iter()
        .any(|short| {
            bare.strip_suffix(short)
                .is_some_and(|owner| OWNERS.contains(&owner) && bare != "newsid" || *short == "sig" && owner.len() > 2)
        });
    let session = bare.ends_with("session") && !bare.ends_with("obsession") && !bare.ends_with("possession");
    let code = bare
        .strip_suffix("code")
        .is_some_and(|owner| CODE_OWNERS.contains(&owner));
    let otp = bare
        .strip_prefix("otp")
        .is_some_and(|rest| ["value", "input", "hash"].contains(&rest));
    owned || code || otp || session && bare != "session"
}

/// Checks words together with their neighbours, for words that are ambiguous alone.
fn is_secret_in_context(words: &[String]) -> bool {
    let bare: Vec<&str> = words.iter().map(|word| without_digits(word)).collect();
    let has = |list: &[&str]| bare.iter().any(|word| list.contains(word));
    bare.iter().enumerate().any(|(place, word)| {
        let before = place.checked_sub(1).map(|place| bare[place]);
        let after = bare.get(place + 1).copied();
        match *word {
            "pass" => !has(&HARMLESS_PASSES),
            "session" | "sessions" => !has(&HARMLESS_SESSIONS),
            "pin" => before.is_none_or(|owner| OWNERS.contains(&owner)) && after.is_none_or(|next| next == "code"),
            // A key by itself, and a key of something, unless it is known to be harmless: `sort_key`.
            "key" | "keys" => {
                let ends =
                    after.is_none_or(|next| matches!(next, "id" | "data" | "value" | "hash" | "pem" | "material"));
                ends && match before {
                    Some(owner) => owner.len() > 1 && !HARMLESS_KEYS.contains(&owner),
                    None => after.is_none() && *word == "key",
                }
            }
            "code" => before.is_some_and(|owner| CODE_OWNERS.contains(&owner)),
            "phrase" => before.is_some_and(|owner| ["seed", "recovery", "pass", "secret", "backup"].contains(&owner)),
            "word" => before == Some("pass"),
            _ => false,
        }
    })
}

/// Names that hold a person's id or address, without separators.
const PERSON_NAMES: [&str; 79] = [
    "aaid",
    "ajsaid",
    "ajsuid",
    "bsftuid",
    "cellphone",
    "clientid",
    "crmid",
    "custid",
    "deviceid",
    "displayname",
    "distinctid",
    "dob",
    "dateofbirth",
    "birthdate",
    "birthday",
    "elqcontactid",
    "email",
    "emailaddr",
    "emailhash",
    "emailid",
    "emailmd5",
    "emailsha256",
    "emailto",
    "emails",
    "epik",
    "externalid",
    "familyname",
    "fax",
    "fbc",
    "fbp",
    "firstname",
    "forename",
    "fullname",
    "ga",
    "gaid",
    "givenname",
    "handy",
    "hsenc",
    "idfa",
    "idfv",
    "imei",
    "imsi",
    "kx",
    "lastname",
    "login",
    "loginid",
    "loginname",
    "mail",
    "mailaddress",
    "mailto",
    "mceid",
    "mcuid",
    "middlename",
    "mkttok",
    "mobileno",
    "mobilenumber",
    "mobilephone",
    "msisdn",
    "nickname",
    "olyanonid",
    "olyencid",
    "phone",
    "recipient",
    "recipients",
    "screenname",
    "sfmcsub",
    "subid",
    "subscriber",
    "surname",
    "tel",
    "telephone",
    "udid",
    "uid",
    "user",
    "username",
    "usr",
    "uuid",
    "veroconv",
    "veroid",
];

/// Nouns that name a person's id when one of [`ID_SUFFIXES`] follows.
const PERSON_NOUNS: [&str; 50] = [
    "account",
    "advertiser",
    "advertising",
    "android",
    "anon",
    "anonymous",
    "buyer",
    "client",
    "contact",
    "cust",
    "customer",
    "device",
    "donor",
    "driver",
    "employee",
    "follower",
    "friend",
    "guest",
    "household",
    "identity",
    "install",
    "installation",
    "invitee",
    "lead",
    "login",
    "loyalty",
    "member",
    "membership",
    "owner",
    "participant",
    "passenger",
    "patient",
    "people",
    "person",
    "player",
    "profile",
    "prospect",
    "reader",
    "recipient",
    "respondent",
    "seller",
    "shopper",
    "staff",
    "student",
    "subscriber",
    "subscription",
    "teacher",
    "user",
    "viewer",
    "visitor",
];

/// Words that can follow a person's noun.
const ID_SUFFIXES: [&str; 22] = [
    "id",
    "ids",
    "key",
    "no",
    "nr",
    "num",
    "number",
    "uuid",
    "guid",
    "uid",
    "hash",
    "email",
    "emailaddress",
    "mail",
    "phone",
    "phonenumber",
    "mobile",
    "name",
    "handle",
    "identifier",
    "ref",
    "eid",
];

/// Names that end like a person's but do not hold a person's id.
const HARMLESS_PERSONS: [&str; 5] = [
    "advertiserid",
    "advertisername",
    "profilename",
    "devicename",
    "accountname",
];

/// Returns whether a parameter of this name holds a person's id or address.
///
/// ```
/// use pixel::hit::privacy::names_person;
/// assert!(["email_address", "user[id]", "customerId", "mc_eid", "phone_number"].iter().all(|name| names_person(name)));
/// assert!(!["utm_source", "user_agent", "email_type", "campaign_id", "telemetry"].iter().any(|name| names_person(name)));
/// ```
pub fn names_person(name: &str) -> bool {
    if !may_name_person(name.as_bytes()) {
        return false;
    }
    let (mut letters, mut length) = ([0; 48], 0);
    let mut push = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            if let Some(place) = letters.get_mut(length) {
                *place = byte.to_ascii_lowercase();
            }
            length += 1;
        }
    };
    if needs_decoding(name) {
        decode_name(name).bytes().for_each(&mut push);
    } else {
        name.bytes().for_each(&mut push);
    }
    // The end of a longer name decides; names that are too long are nobody's.
    let Some(letters) = letters
        .get(..length)
        .and_then(|letters| std::str::from_utf8(letters).ok())
    else {
        return false;
    };
    is_person_name(letters)
}

/// Returns whether a name can be a person's, by its last two letters. Every name of every hit is checked here.
fn may_name_person(name: &[u8]) -> bool {
    let mut ends = name
        .iter()
        .rev()
        .filter(|byte| byte.is_ascii_alphanumeric() || **byte >= 0x80);
    let (Some(last), Some(before)) = (ends.next(), ends.next()) else {
        return false;
    };
    match last.to_ascii_lowercase() {
        0x80.. => true,
        last => PERSON_ENDINGS.contains(&[before.to_ascii_lowercase(), last]) || before.is_ascii_digit(),
    }
}

/// The last two letters of all names of persons.
const PERSON_ENDINGS: [[u8; 2]; 44] = [
    *b"id", *b"il", *b"ls", *b"ne", *b"el", *b"me", *b"er", *b"nt", *b"ts", *b"no", *b"nr", *b"um", *b"ey", *b"sh",
    *b"d5", *b"56", *b"dr", *b"to", *b"ob", *b"th", *b"te", *b"ay", *b"ax", *b"bc", *b"bp", *b"ga", *b"fa", *b"fv",
    *b"ei", *b"si", *b"nc", *b"kx", *b"in", *b"le", *b"ef", *b"ik", *b"dy", *b"ok", *b"nv", *b"sr", *b"ub", *b"ss",
    *b"ds", *b"dn",
];

fn is_person_name(letters: &str) -> bool {
    if PERSON_NAMES.contains(&letters) {
        return true;
    }
    if HARMLESS_PERSONS.iter().any(|harmless| letters.ends_with(harmless)) {
        return false;
    }
    // `shop_email`, `billing_email_address`: the address of some person.
    let email = ["email", "emailaddress", "mailaddress", "phonenumber", "emailhash"]
        .iter()
        .any(|end| letters.ends_with(end));
    email
        || ID_SUFFIXES.iter().any(|suffix| {
            letters
                .strip_suffix(suffix)
                .is_some_and(|rest| PERSON_NOUNS.iter().any(|noun| rest.ends_with(noun)))
        })
}

/// Parameters that are stored although the visitor asks not to be tracked: they show where a page or a mail was shown
/// and what happened, and do not distinguish visitors. Addresses are stored without their query.
const HARMLESS_PARAMETERS: [&str; 40] = [
    "action",
    "code",
    "dl",
    "dt",
    "event",
    "lang",
    "language",
    "mtm_campaign",
    "mtm_cid",
    "mtm_content",
    "mtm_group",
    "mtm_keyword",
    "mtm_kwd",
    "mtm_medium",
    "mtm_placement",
    "mtm_source",
    "pk_campaign",
    "pk_cid",
    "pk_content",
    "pk_keyword",
    "pk_kwd",
    "pk_medium",
    "pk_source",
    "ref",
    "referrer",
    "screen",
    "source",
    "title",
    "ul",
    "url",
    "urlref",
    "utm_campaign",
    "utm_content",
    "utm_creative_format",
    "utm_id",
    "utm_marketing_tactic",
    "utm_medium",
    "utm_source",
    "utm_source_platform",
    "utm_term",
];

/// Parameters of [`HARMLESS_PARAMETERS`] that hold an address; it is stored without its query.
const ADDRESS_PARAMETERS: [&str; 5] = ["dl", "ref", "referrer", "url", "urlref"];

/// The treatment of a parameter of an anonymous visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterPolicy {
    /// The parameter is stored.
    Value,
    /// The parameter is stored without its query.
    Address,
    /// The parameter is not stored.
    No,
}

/// Returns the treatment of a parameter of an anonymous visitor.
pub(crate) fn classify_parameter(name: &str, value: &str) -> ParameterPolicy {
    if HARMLESS_PARAMETERS.binary_search(&name).is_err() {
        ParameterPolicy::No
    } else if ADDRESS_PARAMETERS.contains(&name) {
        ParameterPolicy::Address
    } else if matches!(name, "dt" | "title" | "code") || is_plain(value) {
        ParameterPolicy::Value
    } else {
        ParameterPolicy::No
    }
}

/// The longest value of a campaign's parameter that is stored for a visitor who asks not to be tracked, in bytes.
const MAX_PLAIN_BYTES: usize = 100;

/// Returns whether a value looks like a word of the campaign's author and not like an id.
pub(crate) fn is_plain(value: &str) -> bool {
    let of_word = |character: char| character.is_alphanumeric() || " ._-+~|:,/()!".contains(character);
    if value.len() > MAX_PLAIN_BYTES || !value.chars().all(of_word) {
        return false;
    }
    let (mut digits, mut run, mut changes, mut before) = (0, 0, 0, ' ');
    for character in value.chars() {
        digits = if character.is_ascii_digit() { digits + 1 } else { 0 };
        run = if character.is_ascii_alphanumeric() { run + 1 } else { 0 };
        let mixed = character.is_ascii_alphanumeric() && before.is_ascii_alphanumeric();
        if mixed && character.is_ascii_digit() != before.is_ascii_digit() {
            changes += 1;
        }
        if digits >= 9 || run >= 32 || changes >= 4 {
            return false;
        }
        before = character;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_up_is_sorted() {
        assert!(HARMLESS_PARAMETERS.is_sorted());
    }

    #[test]
    fn a_campaigns_words_are_plain_and_ids_are_not() {
        for word in [
            "spring",
            "Spring 2026",
            "newsletter-20260301",
            "sale_50",
            "été",
            "a/b v2",
            "cpc",
        ] {
            assert!(is_plain(word), "{word}");
        }
        for id in [
            "550e8400-e29b-41d4-a716-446655440000",
            "anna@x.org",
            "4711471147",
            "k3j9x2m4",
            "a=b",
        ] {
            assert!(!is_plain(id), "{id}");
        }
    }

    /// Names of secrets, as applications write them.
    const SECRETS: &str = "accesstoken ACCESSTOKEN authtoken sessiontoken idtoken refreshtoken csrftoken xsrftoken usertoken \
        apitoken resettoken tokens token1 Token2 clientsecret sharedsecret webhooksecret userpassword newpassword mypwd \
        secretkey privatekey accesskey encryptionkey signingkey sessionkey AWSAccessKeyId authcookie sessioncookie authkey \
        oauth oauthtoken oauth_verifier master_key ssh_key passcode pass code_verifier otp sid sig access_token accessToken \
        client_secret token[] user[password] X-Amz-Security-Token X-Amz-Signature X-Amz-Credential key api_key apikey apiKey \
        API-KEY x-api-key password2 passwd passwrd_token pwd pw userpw user_pass db_pass userpass dbpass pass1 smtppass jwt id_token \
        sessionid session_id PHPSESSID JSESSIONID connect.sid phpsid sessid asp.net_sessionid session usersession sms_otp \
        smsotp totp otp_code mfa_code 2fa verification_code reset_code resetcode login_code auth_code authcode pin user_pin \
        cvv cvc card_number ssn iban hmac urlsig sign_key aws_secret_access_key masterkey sshkey licensekey license_key \
        authenticity_token authorization xauthorization x-authorization basicauth auth auth_user nonce passphrase pass-word \
        seed_phrase SAMLResponse to%6ben to%256ben %74%6f%6b%65%6e %2574oken pass%77ord tok\u{200b}en \u{ff54}oken credentials creds \
        bearer_token private-key aCcEsStOkEn PASSWORT kennwort motdepasse mot_de_passe hub.verify_token cookie set-cookie";

    /// Names that contain such letters and are harmless.
    const HARMLESS: &str = "author authority authors author_id coauthor authentic tokenize tokenizer tokenized passage \
        passenger_count compass bypass passive keyboard keyword keywords keynote monkey turkey hockey donkey hotkey sort_key \
        primary_key cache_key public_key design designer signal signup sign side sidebar insider \
        utm_source utm_medium utm_campaign utm_term utm_content utm_id gclid fbclid url ref referrer action event title lang \
        language screen page page_title product category price currency session_count session_duration sessions_total \
        session_start session_number engaged_session_count cookie_consent cookieConsent cookies_enabled cookieEnabled \
        secretary secretariat code coupon_code promo_code country_code zip_code postcode pincode_area codec encode opinion \
        spin pinterest pin_it shopping footprint hotpot laptop salty essay obsession possession boarding_pass season_pass \
        pass_type pass_through v tid cid dl dt dr ul sr de rand id idsite rec h m s position option options assignment \
        newsid adsid source medium version plan search q query fan alfa default fax_no_x";

    const PERSONS: &str = "email_address user_email user[id] user.id customer_id subscriberid memberid contact_id \
        phone_number device_id mc_eid e-mail email mail mailto login phone recipient subscriber subscriber_id tel uid user \
        user_id userid username visitor_id email-id emailaddress USERID UserId customerEmail billing_email member_number \
        clientId client_id _ga uuid _kx mkt_tok vero_id _hsenc us%65rid user%5Bid%5D patient_id employeeId account_id \
        profile_id anonymous_id distinct_id first_name lastName full_name msisdn idfa advertising_id subscriberkey \
        contact[email] recipient_id";

    const NOBODY: &str = "utm_source utm_medium user_agent user_type email_type email_campaign campaign_id mc_cid product_id \
        order_id page_id event_id item_id post_id session_count telemetry hotel mobile is_mobile smartphone iphone q id \
        url ref referrer action event title language screen code name file_name page_name event_name domain content plan \
        version variant test experiment_id category_id placement creative_id adgroup ad_id network keyword position gaps \
        advertiser_id hidden android_version usage useful";

    #[test]
    fn names_of_secrets_are_recognized_and_harmless_ones_are_not() {
        let wrong: Vec<_> = SECRETS.split(' ').filter(|name| !is_secret(name)).collect();
        assert!(wrong.is_empty(), "no secrets: {wrong:?}");
        let wrong: Vec<_> = HARMLESS.split_whitespace().filter(|name| is_secret(name)).collect();
        assert!(wrong.is_empty(), "secrets: {wrong:?}");
    }

    #[test]
    fn names_of_persons_are_recognized_and_others_are_not() {
        let wrong: Vec<_> = PERSONS.split_whitespace().filter(|name| !names_person(name)).collect();
        assert!(wrong.is_empty(), "nobody's: {wrong:?}");
        let wrong: Vec<_> = NOBODY.split_whitespace().filter(|name| names_person(name)).collect();
        assert!(wrong.is_empty(), "somebody's: {wrong:?}");
    }

    #[test]
    fn the_first_look_lets_every_secret_through() {
        for part in SECRET_PARTS.iter().chain(&JOINED_PARTS) {
            assert!(may_be_secret(part.as_bytes()), "{part}");
        }
        for word in SECRET_WORDS {
            assert!(may_be_secret(word.as_bytes()), "{word}");
        }
    }
}
