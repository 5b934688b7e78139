//! From an event or a listing to a committed row: the same statement for both, so that racing is harmless.
//! Nothing here waits for MinIO or Redis: MinIO's queue moves only as fast as this answers.

use crate::db::{Announcer, Db, DbError};
use crate::event::{CreatedObject, Notification, Record};

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Rows committed for this many new videos; the rest were known.
    Accepted { created: usize, known: usize },
    /// An empty or test body, or events that are none of our business: nothing to do.
    Nothing,
    /// Stored for an operator. What else the body announced is committed all the same.
    Quarantined { reason: String },
}

/// Takes the body of one authenticated webhook call. After `Ok` everything in it is committed.
///
/// Only a Postgres that cannot be used makes it fail. A body that we cannot use is stored and accepted: a refusal would make MinIO repeat
/// it every 3 s for ever, before all later events.
pub async fn deliver(db: &Db, bucket: &str, body: &[u8]) -> Result<Delivery, DbError> {
    let reading = Reading::of(bucket, body);
    let delivery = accept(db, &reading).await?;
    // Last, so that a crash above leaves nothing half told: MinIO repeats the whole body and every step is repeatable.
    if let Delivery::Quarantined { reason } = &delivery {
        let id = db.quarantine(body, reason).await?;
        tracing::warn!(event.id = id, reason, "event quarantined");
    }
    Ok(delivery)
}

/// Takes a quarantined event once more, for an operator who mended the cause. `None`: no such event.
/// It counts as replayed only when everything in it could be used.
pub async fn replay(db: &Db, bucket: &str, id: i64) -> Result<Option<Delivery>, DbError> {
    let Some(event) = db.quarantined_event(id).await? else { return Ok(None) };
    let delivery = accept(db, &Reading::of(bucket, &event.body)).await?;
    if !matches!(delivery, Delivery::Quarantined { .. }) {
        db.mark_replayed(id).await?;
        tracing::info!(event.id = id, "quarantined event replayed");
    }
    Ok(Some(delivery))
}

async fn accept(db: &Db, reading: &Reading) -> Result<Delivery, DbError> {
    let (mut created, mut refusals) = (0, Vec::from_iter(reading.refusal.clone()));
    for object in &reading.objects {
        let accepted = match db.accept_object(object, Announcer::Webhook).await {
            Ok(accepted) => accepted,
            Err(error) if error.is_outage() => return Err(error),
            // The same object would be refused at every repetition, and all later events wait behind it.
            Err(error) => {
                refusals.push(format!("the object {:?} cannot be stored: {error}", object.key));
                continue;
            }
        };
        created += usize::from(accepted.created);
        tracing::info!(
            video.id = %accepted.video,
            object.key = object.key,
            size_bytes = object.size_bytes,
            created = accepted.created,
            "upload announced by webhook"
        );
    }
    Ok(if !refusals.is_empty() {
        Delivery::Quarantined { reason: refusals.join("; ") }
    } else if reading.objects.is_empty() {
        Delivery::Nothing
    } else {
        Delivery::Accepted { created, known: reading.objects.len() - created }
    })
}

/// What a body says, sorted by what is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    objects: Vec<CreatedObject>,
    refusal: Option<String>,
}

impl Reading {
    fn of(bucket: &str, body: &[u8]) -> Self {
        // Older servers and S3 look-alikes POST nothing, to see whether somebody is there.
        if body.trim_ascii().is_empty() {
            return Self::default();
        }
        let notification = match serde_json::from_slice::<Notification>(body) {
            Ok(notification) => notification,
            Err(error) => return Self::refused(format!("the body is no event: {error}")),
        };
        let records = notification.records(bucket);
        if records.is_empty() {
            return Self::refused("the body has no records".to_owned());
        }
        let mut reading = Self::default();
        let mut reasons = Vec::new();
        for record in records {
            match record {
                Record::Created(object) => reading.objects.push(object),
                Record::Ignored(why) => tracing::debug!(?why, "event ignored"),
                Record::Unusable(reason) => reasons.push(reason),
            }
        }
        reading.refusal = (!reasons.is_empty()).then(|| reasons.join("; "));
        reading
    }

    fn refused(reason: String) -> Self {
        Self { objects: Vec::new(), refusal: Some(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        Reading::of("clipstream", body.as_bytes()).refusal.expect("a refusal")
    }

    #[test]
    fn an_empty_body_asks_for_nothing() {
        for body in ["", " ", "\r\n"] {
            assert_eq!(Reading::of("clipstream", body.as_bytes()), Reading::default());
        }
    }

    #[test]
    fn what_is_no_event_is_refused_with_the_reason() {
        assert!(refusal("{").contains("no event"));
        assert!(refusal("[1, 2]").contains("no event"));
        assert!(refusal("{}").contains("no records"));
        assert!(
            refusal(r#"{"Records":[{"s3":{"object":{"size":-1}}}]}"#).contains("cannot be read")
        );
    }

    #[test]
    fn a_deeply_nested_body_is_refused_and_does_not_overflow_the_stack() {
        assert!(refusal(&"[".repeat(500_000)).contains("no event"));
        let nested = format!(r#"{{"Records":{}"#, r#"[{"s3":"#.repeat(100_000));
        assert!(refusal(&nested).contains("no event"));
    }

    #[test]
    fn a_bad_record_does_not_hide_a_good_one() {
        let object = |bucket: &str| {
            format!(
                r#"{{"eventName":"s3:ObjectCreated:Put","s3":{{"bucket":{{"name":"{bucket}"}},
                "object":{{"key":"raw-uploads%2Fa.mp4","eTag":"e"}}}}}}"#
            )
        };
        let (bad, good) = (object("holiday"), object("clipstream"));
        let body = format!(r#"{{"Records":[{{"s3":7}},{bad},{good}]}}"#);
        let reading = Reading::of("clipstream", body.as_bytes());
        assert_eq!(reading.objects.len(), 1);
        let refusal = reading.refusal.expect("a refusal");
        assert!(refusal.contains("cannot be read") && refusal.contains("holiday"), "{refusal}");
    }

    #[test]
    fn an_event_of_another_kind_asks_for_nothing() {
        let body = r#"{"Records":[{"eventName":"s3:ObjectCreated:PutTagging"}]}"#;
        assert_eq!(Reading::of("clipstream", body.as_bytes()), Reading::default());
    }
}
