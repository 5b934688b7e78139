//! An answer that is good for a while, so that two scrapers cost no more than one.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

pub(super) struct Cached<T> {
    lifetime: Duration,
    last: Mutex<Option<(Instant, Option<T>)>>,
}

impl<T: Clone> Cached<T> {
    pub(super) fn for_a(lifetime: Duration) -> Self {
        Self { lifetime, last: Mutex::new(None) }
    }

    /// Asks when the last answer is too old, also when that was none: what is away is not asked more often.
    pub(super) async fn get<E: std::fmt::Display>(
        &self,
        what: &'static str,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < self.lifetime
        {
            return answer.clone();
        }
        let answer =
            ask.await.inspect_err(|error| tracing::debug!(what, %error, "no figures")).ok();
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_kept_also_a_bad_one() {
        let cached = Cached::for_a(Duration::from_hours(1));
        assert_eq!(cached.get("x", async { Err("away") }).await, None::<u8>);
        assert_eq!(cached.get("x", async { Ok::<_, &str>(7) }).await, None);
        let at_once = Cached::for_a(Duration::ZERO);
        assert_eq!(at_once.get("x", async { Ok::<_, &str>(7) }).await, Some(7));
        assert_eq!(at_once.get("x", async { Ok::<_, &str>(8) }).await, Some(8));
    }
}
