//! One connection through the proxy: what passes, and what ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::requests::{Requests, Wire, half_of};
use super::trap::{Moment, Trap};
use super::{Shared, Weather};

const CHUNK_BYTES: usize = 16 * 1024;
/// How long a refused client may take to take leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the proxy ends a connection.
enum Cut {
    /// A reset: what is on its way is lost.
    Reset,
    /// What was passed arrives, and then the end.
    Orderly,
}

pub(super) struct Connection<'a> {
    shared: &'a Shared,
    client: TcpStream,
    server: TcpStream,
    requests: Requests,
    /// A trap whose request has been passed on, and the answer so far.
    waiting: Option<(Arc<Trap>, Vec<u8>)>,
    /// A trap that springs in the body of a request whose head has been passed on.
    in_body: Option<Arc<Trap>>,
    carried_bytes: usize,
}

impl<'a> Connection<'a> {
    pub(super) fn new(shared: &'a Shared, client: TcpStream, server: TcpStream) -> Self {
        for stream in [&client, &server] {
            // Without it every small answer waits for an acknowledgement.
            stream.set_nodelay(true).expect("a TCP socket");
        }
        let requests = Requests::new(shared.wire);
        Self { shared, client, server, requests, waiting: None, in_body: None, carried_bytes: 0 }
    }

    pub(super) async fn relay(mut self) -> io::Result<()> {
        let (mut upwards, mut downwards) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        let mut weather = self.shared.weather.subscribe();
        let cut = loop {
            let cut = tokio::select! {
                () = until_down(&mut weather) => Some(Cut::Reset),
                read = self.client.read(&mut upwards) => match read? {
                    0 => return Ok(()),
                    length => self.up(&upwards[..length]).await?,
                },
                read = self.server.read(&mut downwards) => match read? {
                    0 => return Ok(()),
                    length => self.down(&downwards[..length]).await?,
                },
            };
            if let Some(cut) = cut {
                break cut;
            }
        };
        match cut {
            Cut::Reset => self.client.set_zero_linger(),
            Cut::Orderly => self.take_leave().await,
        }
    }

    async fn up(&mut self, chunk: &[u8]) -> io::Result<Option<Cut>> {
        let now = *self.shared.weather.borrow();
        if let (Wire::Http, Weather::Refusing(status)) = (self.shared.wire, now) {
            let answer = format!(
                "HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            self.client.write_all(answer.as_bytes()).await?;
            return Ok(Some(Cut::Orderly));
        }
        if let Some(trap) = self.in_body.take()
            && trap.spring(self.shared.owner)
        {
            self.shared.pass(&mut self.server, &chunk[..chunk.len() / 2]).await?;
            return Ok(Some(Cut::Reset));
        }
        let requests = self.requests.read(chunk);
        if let Some(trap) = self.shared.trap_for(&requests) {
            let owner = self.shared.owner;
            match trap.moment {
                Moment::Before if trap.spring(owner) => return Ok(Some(Cut::Reset)),
                Moment::MidRequest if half_of(chunk) == 0 => self.in_body = Some(trap),
                Moment::MidRequest if trap.spring(owner) => {
                    self.shared.pass(&mut self.server, &chunk[..half_of(chunk)]).await?;
                    return Ok(Some(Cut::Reset));
                }
                Moment::Before | Moment::MidRequest => {}
                Moment::MidAnswer | Moment::After => self.waiting = Some((trap, Vec::new())),
            }
        }
        self.shared.pass(&mut self.server, chunk).await?;
        Ok(None)
    }

    async fn down(&mut self, chunk: &[u8]) -> io::Result<Option<Cut>> {
        let Some((trap, mut answer)) = self.waiting.take() else {
            return self.answer(chunk).await;
        };
        answer.extend_from_slice(chunk);
        let enough = match trap.moment {
            Moment::MidAnswer => half_of(&answer) > 0,
            Moment::Before | Moment::MidRequest | Moment::After => {
                self.requests.is_answered_by(&answer)
            }
        };
        if !enough {
            self.waiting = Some((trap, answer));
            return Ok(None);
        }
        if !trap.wants(&answer) || !trap.spring(self.shared.owner) {
            return self.answer(&answer).await;
        }
        if trap.moment == Moment::MidAnswer {
            self.shared.pass(&mut self.client, &answer[..half_of(&answer)]).await?;
            return Ok(Some(Cut::Orderly));
        }
        Ok(Some(Cut::Reset))
    }

    async fn answer(&mut self, chunk: &[u8]) -> io::Result<Option<Cut>> {
        self.carried_bytes += chunk.len();
        if self.shared.is_cut_at(self.carried_bytes) {
            return Ok(Some(Cut::Orderly));
        }
        self.shared.pass(&mut self.client, chunk).await?;
        self.shared.carried_bytes.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        Ok(None)
    }

    /// Unread bytes would make a reset of it, and the client might never see what it was told last.
    async fn take_leave(mut self) -> io::Result<()> {
        self.client.shutdown().await?;
        let mut rest = vec![0; CHUNK_BYTES];
        let gone = async {
            while self.client.read(&mut rest).await? > 0 {}
            Ok(())
        };
        tokio::time::timeout(FAREWELL, gone).await.unwrap_or(Ok(()))
    }
}

async fn until_down(weather: &mut watch::Receiver<Weather>) {
    drop(weather.wait_for(|weather| *weather == Weather::Down).await);
}
