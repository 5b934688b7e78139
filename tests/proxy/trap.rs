//! A trap springs at a request that it recognises: before the server has it, in the middle, or after the server carried it
//! out and before the answer, or all of it, is passed on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Where a trap cuts the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server never sees the request.
    Before,
    /// The server sees half of the request's body.
    MidRequest,
    /// The server has answered; the client sees half of the answer's body, and then an orderly end.
    MidAnswer,
    /// The server has answered; the client never sees it.
    After,
}

type Action = Box<dyn Fn(usize) + Send + Sync>;

/// Springs once, on whichever of the proxies that hold it first meets the request.
pub(crate) struct Trap {
    /// Parts of the statement, command or request line.
    request: &'static [&'static str],
    /// Part of the answer; another answer passes, and the trap stays.
    answer: &'static str,
    pub(super) moment: Moment,
    action: Action,
    sprung: AtomicBool,
    told: watch::Sender<Option<usize>>,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.moment, self.request)
    }
}

impl Trap {
    /// `action` is called with the owner of the proxy that it sprang on, before anything else can pass there.
    pub(crate) fn new(
        request: &'static [&'static str],
        answer: &'static str,
        moment: Moment,
        action: impl Fn(usize) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (told, _) = watch::channel(None);
        let sprung = AtomicBool::new(false);
        Arc::new(Self { request, answer, moment, action: Box::new(action), sprung, told })
    }

    /// Waits until it has sprung; on whose proxy.
    pub(crate) async fn sprung(&self) -> usize {
        let mut told = self.told.subscribe();
        let owner = told.wait_for(Option::is_some).await.map(|owner| *owner);
        owner.ok().flatten().expect("the sender lives in this trap")
    }

    pub(super) fn has_sprung(&self) -> bool {
        self.sprung.load(Ordering::SeqCst)
    }

    pub(super) fn is_met_by(&self, requests: &[String]) -> bool {
        requests.iter().any(|text| self.request.iter().all(|part| text.contains(part)))
    }

    /// Whether this is an answer that it waits for.
    pub(super) fn wants(&self, answer: &[u8]) -> bool {
        String::from_utf8_lossy(answer).contains(self.answer)
    }

    /// True for whoever is first.
    pub(super) fn spring(&self, owner: usize) -> bool {
        let first = !self.sprung.swap(true, Ordering::SeqCst);
        if first {
            (self.action)(owner);
            self.told.send_replace(Some(owner));
        }
        first
    }
}
