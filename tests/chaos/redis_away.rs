//! The ways in which Redis loses what it holds, or does not do what it is asked: webhooks are taken all the same, and work
//! goes on by itself when it is back.

use std::time::Duration;

use rustix::process::Signal;

use crate::inject::{OUTAGE, POLL, Strike, strike};
use crate::plan::{Fault, Injection};
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// FLUSHALL.
    Flush,
    /// kill -9; its file brings back what it knew.
    Kill,
    /// Started again without its files.
    Empty,
    /// SIGSTOP: it keeps its connections and answers nothing.
    Hung,
    /// A replica of nobody: READONLY.
    ReadOnly,
    /// At its `maxmemory`.
    Full,
    /// It cannot write its snapshot: MISCONF.
    Misconf,
    /// SCRIPT FLUSH: the next calls get NOSCRIPT.
    Scripts,
    /// Away for long.
    Away,
}

/// Below this a run would not show all of them.
pub(crate) const WAYS: usize = 9;

impl Loss {
    /// Once away for long, then all in turn: nine losses of data in fourteen.
    fn of(variant: usize) -> Self {
        const TURN: [Loss; 14] = [
            Loss::Flush,
            Loss::Kill,
            Loss::Empty,
            Loss::Hung,
            Loss::ReadOnly,
            Loss::Full,
            Loss::Misconf,
            Loss::Scripts,
            Loss::Flush,
            Loss::Kill,
            Loss::Empty,
            Loss::Flush,
            Loss::Kill,
            Loss::Empty,
        ];
        variant.checked_sub(1).map_or(Loss::Away, |number| TURN[number % TURN.len()])
    }

    /// Whether every id that was in it is gone.
    pub(crate) fn empties(self) -> bool {
        matches!(self, Loss::Flush | Loss::Empty)
    }

    /// Whether there is a return to count from.
    pub(crate) fn is_outage(self) -> bool {
        !matches!(self, Loss::Flush | Loss::Scripts)
    }
}

impl World {
    /// The strike counts from the return, where there was an outage.
    pub(crate) async fn lose_redis(&mut self, injection: Injection) -> Vec<Strike> {
        self.feeder.upload(Fault::Redis, injection.uploads, "mp4").await;
        let loss = Loss::of(injection.variant);
        let mut strike = strike(Fault::Redis, "");
        strike.loss = Some(loss);
        match loss {
            Loss::Flush => self.services.command_redis(&["FLUSHALL"]).await,
            Loss::Scripts => self.services.command_redis(&["SCRIPT", "FLUSH"]).await,
            Loss::Kill | Loss::Empty => {
                self.services.kill_redis().await;
                self.services.start_redis(loss == Loss::Empty).await;
            }
            Loss::Hung => {
                self.services.signal_redis(Signal::STOP);
                self.upload_meanwhile(OUTAGE).await;
                self.services.signal_redis(Signal::CONT);
            }
            Loss::ReadOnly => {
                self.services.command_redis(&["REPLICAOF", "127.0.0.1", "1"]).await;
                self.upload_meanwhile(OUTAGE).await;
                self.services.command_redis(&["REPLICAOF", "NO", "ONE"]).await;
            }
            Loss::Full => {
                self.services.command_redis(&["CONFIG", "SET", "maxmemory", "1"]).await;
                self.upload_meanwhile(OUTAGE).await;
                self.services.command_redis(&["CONFIG", "SET", "maxmemory", "256mb"]).await;
            }
            Loss::Misconf => {
                self.services.break_snapshots().await;
                self.upload_meanwhile(OUTAGE).await;
                self.services.mend_snapshots().await;
            }
            Loss::Away => {
                self.services.kill_redis().await;
                self.upload_meanwhile(self.settings.long_outage).await;
                self.services.start_redis(false).await;
            }
        }
        if loss.is_outage() {
            strike.at = pipeline::clock::now();
        }
        vec![strike]
    }

    /// One every two seconds while the outage lasts: each must be taken, or this does not end.
    async fn upload_meanwhile(&self, outage: Duration) {
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < outage {
            let pause = tokio::time::sleep(
                Duration::from_secs(2).min(outage.saturating_sub(begun.elapsed())),
            );
            tokio::join!(self.feeder.upload(Fault::Redis, 1, "mp4"), pause);
        }
        tokio::time::sleep(POLL).await;
    }
}
