//! Sessions of browsers: the secret of a link, or a token, is exchanged for a cookie.
//!
//! A browser sends the cookie with every request to this server, from any site's page. A request that changes something
//! is therefore answered only if the browser says that a page of this server sent it.

use chrono::{DateTime, Utc};

use super::{ApiRequest, ApiResponse, Manager, Problem};
use crate::config::token;
use crate::config::token::{KeptToken, Scope, TokenKind, session_cookie};
use crate::query::QueryError;
use crate::query::store::Store;

/// The origin of a request, according to the browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameOrigin {
    /// A page of this server.
    Yes,
    /// A page of another server.
    No,
    /// Unknown: the headers do not say.
    #[default]
    Unknown,
}

impl SameOrigin {
    /// Decides by the header `Sec-Fetch-Site`, else by `Origin` and `Host`. `public_url` is another name of this
    /// server.
    pub fn decide(site: Option<&str>, origin: Option<&str>, host: Option<&str>, public_url: Option<&str>) -> Self {
        let is = |same: bool| if same { Self::Yes } else { Self::No };
        match (site, origin) {
            (Some(site), _) => is(site == "same-origin"),
            (None, None) => Self::Unknown,
            (None, Some(origin)) => {
                let authority = origin.split_once("://").map(|(_, authority)| authority);
                let of_host = authority.is_some() && authority == host;
                let of_public_url = public_url
                    .and_then(|url| url.strip_prefix(origin))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                is(of_host || of_public_url)
            }
        }
    }
}

/// The answer of a server without sessions.
pub(super) const NOT_HERE: &str = "there are no sessions here; send a bearer token with each request";

/// The name of a session in the list of tokens.
const NAME: &str = "browser";

impl ApiRequest {
    /// Returns the token in the header `Authorization`.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.authorization.as_deref().and_then(token::parse_bearer)
    }
}

impl Manager {
    /// Returns the scopes of a bearer token.
    pub(super) async fn scopes_of_token(
        &self,
        request: &ApiRequest,
        hash: &[u8; 32],
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<Scope>>, QueryError> {
        if let Some(scopes) = self.tokens.scopes(hash) {
            return Ok(Some(scopes.to_vec()));
        }
        if !request.keeps_tokens {
            return Ok(None);
        }
        let kept = store.token(hash).await?;
        Ok(kept
            .filter(|token| token.is_valid(TokenKind::Token, now))
            .map(|token| token.scopes))
    }

    /// Returns the scopes of the session whose cookie was sent. It ends with the token by which it was begun.
    pub(super) async fn scopes_of_session(
        &self,
        request: &ApiRequest,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<Scope>>, QueryError> {
        let Some(token) = request.session.as_deref().filter(|_| request.keeps_tokens) else {
            return Ok(None);
        };
        let kept = store.token(&token::hash_token(token)).await?;
        let Some(session) = kept.filter(|token| token.is_valid(TokenKind::Session, now)) else {
            return Ok(None);
        };
        let Some(parent) = session.parent else {
            return Ok(Some(session.scopes));
        };
        let allowed = self.scopes_of_token(request, &parent, store, now).await?;
        Ok(allowed.map(|allowed| {
            session
                .scopes
                .into_iter()
                .filter(|scope| allowed.contains(scope))
                .collect()
        }))
    }

    /// Begins a session. This uses up a link's secret, but not a token.
    pub(super) async fn sign_in(
        &self,
        request: &ApiRequest,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<ApiResponse, Problem> {
        if !request.keeps_tokens {
            return Err(Problem::NotFound(NOT_HERE));
        }
        if request.same_origin == SameOrigin::No {
            return Err(Problem::OtherOrigin);
        }
        let hash = token::hash_token(request.bearer().ok_or(Problem::Unauthorized)?);
        let (scopes, parent) = match self.scopes_of_token(request, &hash, store, now).await? {
            Some(scopes) => (Some(scopes), Some(hash)),
            None => (self.use_login(&hash, store, now).await?, None),
        };
        let Some(scopes) = scopes else {
            return Err(self.count_wrong_token(request, now));
        };
        let token = token::encode_token(self.bytes()?);
        let session = KeptToken {
            name: NAME.to_owned(),
            parent,
            ..KeptToken::new(TokenKind::Session, &token, &scopes, now)
        };
        store.add_token(&session).await?;
        Ok(no_content().with("set-cookie", session_cookie(Some(&token), request.secure)))
    }

    /// Returns the scopes of a link's secret and deletes it.
    async fn use_login(
        &self,
        hash: &[u8; 32],
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<Scope>>, QueryError> {
        let login = store.token(hash).await?;
        let Some(login) = login.filter(|token| token.is_valid(TokenKind::Login, now)) else {
            return Ok(None);
        };
        // Of two concurrent requests, only one deletes the secret.
        let used = store.delete_token(hash).await?;
        Ok(used.then_some(login.scopes))
    }
}

/// Ends the session whose cookie was sent, and deletes the cookie.
pub(super) async fn sign_out(request: &ApiRequest, store: &impl Store) -> Result<ApiResponse, Problem> {
    if !request.keeps_tokens {
        return Err(Problem::NotFound(NOT_HERE));
    }
    if let Some(token) = &request.session {
        if request.same_origin != SameOrigin::Yes {
            return Err(Problem::OtherOrigin);
        }
        let hash = token::hash_token(token);
        // The cookie can only delete a session, not another token.
        if store
            .token(&hash)
            .await?
            .is_some_and(|token| token.kind == TokenKind::Session)
        {
            store.delete_token(&hash).await?;
        }
    }
    Ok(no_content().with("set-cookie", session_cookie(None, request.secure)))
}

fn no_content() -> ApiResponse {
    ApiResponse {
        status: 204,
        headers: vec![("cache-control", "no-store".to_owned())],
        body: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_this_server_is_told_from_others() {
        let host = Some("stats.example:8080");
        let public = Some("https://pixel.example/prod");
        for (site, origin, expected) in [
            (Some("same-origin"), None, SameOrigin::Yes),
            (Some("same-site"), Some("http://stats.example:8080"), SameOrigin::No),
            (Some("cross-site"), None, SameOrigin::No),
            (Some("none"), None, SameOrigin::No),
            (None, Some("http://stats.example:8080"), SameOrigin::Yes),
            (None, Some("https://pixel.example"), SameOrigin::Yes),
            (None, Some("https://pixel.exampl"), SameOrigin::No),
            (None, Some("https://other.example"), SameOrigin::No),
            (None, Some("null"), SameOrigin::No),
            (None, None, SameOrigin::Unknown),
        ] {
            assert_eq!(
                SameOrigin::decide(site, origin, host, public),
                expected,
                "{site:?} {origin:?}"
            );
        }
        assert_eq!(SameOrigin::decide(None, Some("null"), None, None), SameOrigin::No);
    }
}
