//! The only place that reads the wall clock. Leases never use it: those go by the database's clock.

use time::OffsetDateTime;

/// Now, in UTC: for time stamps in documents and for the expiry of presigned URLs.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
#[must_use]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
