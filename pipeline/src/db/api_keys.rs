//! API keys: made once, kept as a SHA-256, looked up by it. The key itself is never stored and never logged;
//! who loses one makes another.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Db, DbError};
use crate::video::OwnerId;

/// What every key starts with, so that people and secret scanners know one when they see it.
pub const API_KEY_PREFIX: &str = "cs_";

/// A key that was just made. The only moment at which it can be read.
pub struct NewApiKey {
    pub id: Uuid,
    /// `cs_` and 256 random bits in hexadecimal.
    pub key: String,
    pub owner: OwnerId,
    /// Whether the owner was made with it.
    pub owner_created: bool,
}

/// A key in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyEntry {
    pub id: Uuid,
    pub name: String,
    pub owner: String,
    pub created_at: OffsetDateTime,
    pub revoked_at: Option<OffsetDateTime>,
}

impl Db {
    /// Makes a key for the owner of this name, and the owner if there is none.
    pub async fn create_api_key(&self, owner: &str, name: &str) -> Result<NewApiKey, DbError> {
        let id = Uuid::now_v7();
        let key = random_key()?;
        // The update that changes nothing makes the row come back also when it was there before.
        let (owner, owner_created): (Uuid, bool) = sqlx::query_as(
            "with o as (
                 insert into owners (id, name) values ($1, $2)
                 on conflict (name) do update set name = excluded.name
                 returning id, (xmax = 0) as created),
             k as (
                 insert into api_keys (id, owner_id, name, key_sha256) select $3, o.id, $4, $5 from o)
             select id, created from o",
        )
        .bind(OwnerId::new().0)
        .bind(owner)
        .bind(id)
        .bind(name)
        .bind(api_key_sha256(&key).as_slice())
        .fetch_one(self.pool())
        .await?;
        Ok(NewApiKey { id, key, owner: OwnerId(owner), owner_created })
    }

    /// Whose key this is; `None` for an unknown and for a revoked one.
    pub async fn owner_of_api_key(&self, key: &str) -> Result<Option<OwnerId>, DbError> {
        let owner: Option<Uuid> = sqlx::query_scalar(
            "select owner_id from api_keys where key_sha256 = $1 and revoked_at is null",
        )
        .bind(api_key_sha256(key).as_slice())
        .fetch_optional(self.pool())
        .await?;
        Ok(owner.map(OwnerId))
    }

    /// All keys, the oldest first, revoked ones too.
    pub async fn api_keys(&self) -> Result<Vec<ApiKeyEntry>, DbError> {
        type Row = (Uuid, String, String, OffsetDateTime, Option<OffsetDateTime>);
        let rows: Vec<Row> = sqlx::query_as(
            "select k.id, k.name, o.name, k.created_at, k.revoked_at
               from api_keys k join owners o on o.id = k.owner_id
              order by k.id",
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, name, owner, created_at, revoked_at)| ApiKeyEntry {
                id,
                name,
                owner,
                created_at,
                revoked_at,
            })
            .collect())
    }

    /// Refuses the key from now on. Whether there is such a key; revoking twice keeps the first time.
    pub async fn revoke_api_key(&self, id: Uuid) -> Result<bool, DbError> {
        let revoked = sqlx::query(
            "update api_keys set revoked_at = coalesce(revoked_at, now()) where id = $1",
        )
        .bind(id)
        .execute(self.pool())
        .await?;
        Ok(revoked.rows_affected() == 1)
    }
}

/// The key is 256 random bits, so one plain hash is enough: there is nothing to guess.
fn api_key_sha256(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn random_key() -> Result<String, DbError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| DbError::Statement(format!("no random bytes for a key: {error}")))?;
    Ok(bytes.iter().fold(String::from(API_KEY_PREFIX), |mut key, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(key, "{byte:02x}");
        key
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_256_bits_after_its_prefix_and_no_two_are_the_same() {
        let (one, other) = (random_key().expect("random"), random_key().expect("random"));
        assert_eq!(one.len(), API_KEY_PREFIX.len() + 64);
        assert!(one.starts_with(API_KEY_PREFIX));
        assert!(one[3..].bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(one, other);
    }
}
