//! Who may ask: the API key in front of every route under `/v1`, and the shared token of the webhook.
//! Deny by default: the middleware stands before the routes, and a handler can only learn its owner from it.

use std::future::{Ready, ready};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError, web};
use pipeline::db::api_keys::API_KEY_PREFIX;
use pipeline::video::OwnerId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Shared;
use super::problem::Problem;

/// Longer than any credential of ours: what is longer is not looked at.
const MAX_CREDENTIAL_BYTES: usize = 512;

/// The owner behind the key of this request. Cannot be had without passing [`require_api_key`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner(pub(super) OwnerId);

impl FromRequest for Owner {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Owner>().copied().ok_or_else(Problem::unauthorized))
    }
}

/// The middleware of `/v1`. Looks the key up by its hash, so nothing about a key can be learnt from timing.
pub(super) async fn require_api_key(
    shared: web::Data<Shared>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut response = match owner(&shared, &request).await {
        Ok(owner) => {
            request.extensions_mut().insert(owner);
            next.call(request).await?.map_into_boxed_body()
        }
        Err(problem) => request.into_response(problem.error_response()),
    };
    // What an answer shows belongs to one owner, and presigned URLs in it end.
    let cache = HeaderValue::from_static("private, no-cache");
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    Ok(response)
}

async fn owner(shared: &Shared, request: &ServiceRequest) -> Result<Owner, Problem> {
    let key = bearer(request.headers())
        .filter(|key| key.starts_with(API_KEY_PREFIX))
        .ok_or_else(Problem::unauthorized)?
        .to_owned();
    let db = shared.state.db.clone();
    let owner = shared.run(async move { db.owner_of_api_key(&key).await }).await??;
    owner.map(Owner).ok_or_else(Problem::unauthorized)
}

/// The webhook's token, kept as its hash.
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Compares hashes in constant time: neither content nor length of the token shows.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let given: [u8; 32] = Sha256::digest(bearer(headers).unwrap_or_default()).into();
        bearer(headers).is_some() & bool::from(given.ct_eq(&self.0))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer")
        && !credential.is_empty()
        && credential.len() <= MAX_CREDENTIAL_BYTES)
        .then_some(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            let value = HeaderValue::from_str(value).expect("a header value");
            headers.insert(header::AUTHORIZATION, value);
        }
        headers
    }

    #[test]
    fn only_the_whole_token_as_a_bearer_is_admitted() {
        let token = Token::new("s3cret-token");
        assert!(token.admits(&headers(Some("Bearer s3cret-token"))));
        assert!(token.admits(&headers(Some("bearer s3cret-token"))));
        let refused = [
            None,
            Some("s3cret-token"),
            Some("Basic s3cret-token"),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer s3cret-toke"),
            Some("Bearer s3cret-token2"),
            Some("Bearer S3CRET-TOKEN"),
        ];
        for value in refused {
            assert!(!token.admits(&headers(value)), "{value:?}");
        }
    }

    #[test]
    fn an_empty_configured_token_admits_nobody() {
        let token = Token::new("");
        assert!(!token.admits(&headers(None)));
        assert!(!token.admits(&headers(Some("Bearer "))));
    }
}
