//! Bearer tokens. Only their hashes are stored; a token is 32 random bytes, so a plain hash is as safe as a slow one.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

/// A permission of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Permission to create and change codes.
    CodesWrite,
    /// Permission to read numbers and the list of codes.
    StatsRead,
    /// Permission to read whole events.
    EventsRead,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::CodesWrite, Self::StatsRead, Self::EventsRead];

    /// Returns the scope's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CodesWrite => "codes:write",
            Self::StatsRead => "stats:read",
            Self::EventsRead => "events:read",
        }
    }

    /// Parses a scope's name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// The use of a stored token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A bearer token, until it is revoked.
    Token,
    /// The session of a browser, in a cookie.
    Session,
    /// The secret of a link that begins a session, once.
    Login,
}

impl TokenKind {
    const ALL: [Self; 3] = [Self::Token, Self::Session, Self::Login];

    /// Returns the kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::Login => "login",
        }
    }

    /// Parses a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The lifetime of a session, whether it is used or not.
pub const SESSION_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The time for which the link of `pixel login` can be used.
pub const LOGIN_LIFETIME: TimeDelta = TimeDelta::minutes(15);

/// A token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptToken {
    /// The token's id, which is not a secret.
    pub id: String,
    /// The name that the owner gave it.
    pub name: String,
    /// The use of the token.
    pub kind: TokenKind,
    /// The hash of its text.
    pub hash: [u8; 32],
    /// The token's permissions.
    pub scopes: Vec<Scope>,
    /// The time of its creation.
    pub created: DateTime<Utc>,
    /// The time of its expiry; none if it does not expire.
    pub expires: Option<DateTime<Utc>>,
    /// The hash of the token that started the session; the session ends when that token is revoked.
    pub parent: Option<[u8; 32]>,
}

impl KeptToken {
    /// Returns a new token from its text, without name and parent.
    pub fn new(kind: TokenKind, text: &str, scopes: &[Scope], now: DateTime<Utc>) -> Self {
        let hash = hash_token(text);
        let lifetime = match kind {
            TokenKind::Token => None,
            TokenKind::Session => Some(SESSION_LIFETIME),
            TokenKind::Login => Some(LOGIN_LIFETIME),
        };
        Self {
            id: encode_hex(&hash).split_at(8).0.to_owned(),
            name: String::new(),
            kind,
            hash,
            scopes: scopes.to_vec(),
            created: now,
            expires: lifetime.and_then(|lifetime| now.checked_add_signed(lifetime)),
            parent: None,
        }
    }

    /// Returns true if the token is of this kind and has not expired.
    pub fn is_valid(&self, kind: TokenKind, now: DateTime<Utc>) -> bool {
        self.kind == kind && self.expires.is_none_or(|expires| now < expires)
    }
}

/// The name of the session cookie.
pub const SESSION_COOKIE: &str = "pixel_session";

/// Returns a session's token from a header `Cookie`.
pub fn find_session(cookies: &str) -> Option<&str> {
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, token) = pairs.find(|(name, _)| *name == SESSION_COOKIE)?;
    Some(token).filter(|token| !token.is_empty())
}

/// Returns the header `Set-Cookie` for a session's token; without a token, the cookie is deleted.
pub fn session_cookie(token: Option<&str>, secure: bool) -> String {
    let (token, seconds) = token.map_or(("", 0), |token| (token, SESSION_LIFETIME.num_seconds()));
    let secure = if secure { "; Secure" } else { "" };
    format!("{SESSION_COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// The prefix of every token, by which secret scanners find it.
const MARK: &str = "pixel_";

/// Returns a token made from random bytes.
pub fn encode_token(random: [u8; 32]) -> String {
    format!("{MARK}{}", URL_SAFE_NO_PAD.encode(random))
}

/// Returns the hash of a token, which is all that is stored.
pub fn hash_token(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Returns the token in a header `Authorization`.
pub fn parse_bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

/// The tokens that are not stored with the events.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<([u8; 32], Vec<Scope>)>);

impl Tokens {
    /// Parses `HASH=SCOPE+SCOPE,…`, as `pixel token new` prints it.
    ///
    /// # Errors
    ///
    /// A message with the correct form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let entry = part.split_once('=').and_then(|(hash, scopes)| {
                let scopes: Option<Vec<Scope>> = scopes.split('+').map(Scope::parse).collect();
                Some((decode_hex(hash)?, scopes?))
            });
            tokens.0.push(
                entry
                    .ok_or("give `HASH=SCOPE+SCOPE`, several with commas between them; `pixel token new` prints it")?,
            );
        }
        Ok(tokens)
    }

    /// Adds a token.
    pub fn add(&mut self, hash: [u8; 32], scopes: &[Scope]) {
        self.0.push((hash, scopes.to_vec()));
    }

    /// Returns true if there are no tokens.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the permissions of a token by its hash. The comparison need not take constant time: nobody can choose a
    /// hash.
    pub fn scopes(&self, hash: &[u8; 32]) -> Option<&[Scope]> {
        self.0
            .iter()
            .find(|(known, _)| known == hash)
            .map(|(_, scopes)| scopes.as_slice())
    }
}

/// Returns a hash in the form that [`Tokens::parse`] reads.
pub fn encode_hex(hash: &[u8; 32]) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Parses the output of [`encode_hex`].
pub(crate) fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2).filter(|_| digits)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        let token = encode_token([7; 32]);
        let text = format!(
            "{}=stats:read+events:read, {}=codes:write",
            encode_hex(&hash_token(&token)),
            encode_hex(&[1; 32])
        );
        let tokens = Tokens::parse(&text).expect("it is well formed");
        assert_eq!(
            tokens.scopes(&hash_token(&token)),
            Some([Scope::StatsRead, Scope::EventsRead].as_slice())
        );
        assert_eq!(tokens.scopes(&hash_token("other")), None);
        assert!(Tokens::parse(" ").is_ok_and(|tokens| tokens.is_empty()));
        for wrong in [
            "x=stats:read",
            &encode_hex(&[1; 32]),
            &format!("{}=all", encode_hex(&[1; 32])),
        ] {
            assert!(Tokens::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_holds_a_token() {
        assert_eq!(parse_bearer("bearer  abc"), Some("abc"));
        assert_eq!(
            (
                parse_bearer("Bearer"),
                parse_bearer("Bearer "),
                parse_bearer("Basic abc")
            ),
            (None, None, None)
        );
    }
}
