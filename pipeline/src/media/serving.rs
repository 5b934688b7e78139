//! The parent's side of the child's input: answers one range after the other, for as long as the child asks.
//! What goes wrong is told to whoever listens to the child before the child hears of it, so that the cause is known when the
//! child complains.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::MediaError;
use super::input::Input;
use super::owed::Owed;
use super::protocol::{Request, write_frame};
use super::ranges::{Answer, ByteRange};
use crate::video::FailureCause;

/// How much of an input a child may look at before it says what it holds. Seeking back and forth is counted once.
const PROBE_MIB: usize = 64;
const MIB: u64 = 1024 * 1024;
/// Whoever listens to the child may be slower than the child.
const FACTS_ON_THEIR_WAY: Duration = Duration::from_secs(5);

/// What the parent says first.
pub fn opening(request: &Request, size_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, request, &[])?;
    bytes.extend_from_slice(&size_bytes.to_le_bytes());
    Ok(bytes)
}

/// An input that is being served; dropping it ends that.
pub(super) struct Serving {
    probed: watch::Sender<bool>,
    /// `None` once it is known that there is no failure, or what it is.
    failure: Option<oneshot::Receiver<MediaError>>,
    owed: Owed,
    _task: JoinSet<()>,
}

impl Serving {
    /// `probed`: whether as much may be read as there is, from the start.
    pub(super) fn start(socket: UnixStream, input: impl Input, probed: bool) -> Self {
        let (probed, may_read) = watch::channel(probed);
        let (fail, failure) = oneshot::channel();
        let mut task = JoinSet::new();
        let owed = Owed::default();
        task.spawn(serve(socket, owed.counted(input), may_read, fail));
        Self { probed, failure: Some(failure), owed, _task: task }
    }

    /// The child has said what the input holds: it may read all of it.
    pub(super) fn probed(&self) {
        self.probed.send_replace(true);
    }

    /// Resolves when the child cannot be served any more; never when nothing is wrong. Safe to drop and call again.
    pub(super) async fn failed(&mut self) -> MediaError {
        if let Some(failure) = self.failure.as_mut() {
            let failure = failure.await;
            self.failure = None;
            if let Ok(error) = failure {
                return error;
            }
        }
        std::future::pending().await
    }

    /// For how long the child had to wait, since this was asked last.
    pub(super) fn owed(&self) -> Duration {
        self.owed.take()
    }

    /// What has gone wrong so far.
    pub(super) fn failure(&mut self) -> Option<MediaError> {
        match self.failure.as_mut()?.try_recv() {
            Err(TryRecvError::Empty) => None,
            // It may be asked only once.
            ended => {
                self.failure = None;
                ended.ok()
            }
        }
    }
}

/// Until the child closes its end, or something is wrong. `probed` lifts the bound on what may be read.
pub async fn serve(
    mut socket: UnixStream,
    mut input: impl Input,
    mut probed: watch::Receiver<bool>,
    failure: oneshot::Sender<MediaError>,
) {
    let mut probe = HashSet::new();
    loop {
        let mut asked = [0; ByteRange::ENCODED_BYTES];
        // A child that is gone ends this; its exit status says why.
        if socket.read_exact(&mut asked).await.is_err() {
            return;
        }
        let read = match ByteRange::decode(asked, input.size_bytes()) {
            Ok(range) if within_budget(&mut probe, range, &mut probed).await => {
                input.read(range.offset, range.length).await.map_err(MediaError::Input)
            }
            Ok(_) => Err(MediaError::Failed {
                cause: FailureCause::LimitExceeded,
                detail: format!(
                    "more than {PROBE_MIB} MiB would have to be read to find out what the file holds"
                ),
            }),
            Err(bad) => Err(MediaError::Crashed(format!("it asked for {bad}"))),
        };
        let sent = match read {
            Ok(bytes) => send(&mut socket, Answer::Bytes, &bytes).await,
            Err(error) => {
                // Nobody listens any more: then nobody is there to be misled either.
                drop(failure.send(error));
                drop(send(&mut socket, Answer::Failed, &[]).await);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn send(socket: &mut UnixStream, answer: Answer, bytes: &[u8]) -> io::Result<()> {
    socket.write_all(&[answer as u8]).await?;
    socket.write_all(bytes).await
}

async fn within_budget(
    probe: &mut HashSet<u64>,
    range: ByteRange,
    probed: &mut watch::Receiver<bool>,
) -> bool {
    if *probed.borrow() {
        return true;
    }
    let last = range.offset + u64::from(range.length) - 1;
    probe.extend(range.offset / MIB..=last / MIB);
    if probe.len() <= PROBE_MIB {
        return true;
    }
    matches!(timeout(FACTS_ON_THEIR_WAY, probed.wait_for(|probed| *probed)).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// A child that asks this and closes its end, once the parent has dealt with it.
    async fn served(asked: &[u8]) -> Serving {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let serving = Serving::start(ours, vec![0; 8], true);
        theirs.write_all(asked).await.unwrap();
        drop(theirs);
        // The task held the other end.
        serving.probed.closed().await;
        serving
    }

    #[tokio::test]
    async fn a_child_that_closes_its_end_is_no_failure_however_often_it_is_asked() {
        let asked = ByteRange { offset: 0, length: 8 }.encode();
        for asked in [&[][..], &asked] {
            let mut serving = served(asked).await;
            for _ in 0..2 {
                assert!(serving.failure().is_none());
                assert!(serving.failed().now_or_never().is_none());
            }
        }
    }

    #[tokio::test]
    async fn a_failure_is_told_once_whichever_way_it_is_asked() {
        let asked = ByteRange { offset: 8, length: 8 }.encode();
        let mut serving = served(&asked).await;
        assert!(matches!(serving.failure(), Some(MediaError::Crashed(_))));
        assert!(serving.failed().now_or_never().is_none());
        let mut serving = served(&asked).await;
        assert!(matches!(serving.failed().now_or_never(), Some(MediaError::Crashed(_))));
        assert!(serving.failure().is_none());
    }
}
