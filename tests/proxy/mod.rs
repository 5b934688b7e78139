//! A TCP proxy that breaks connections on purpose: late, slow, silent, refused, cut off after a number of bytes or at one
//! statement.
//!
//! It stands between one process and one server, so faults come from outside and production code has no hooks. What it
//! holds back when a connection is cut is lost, as in a network. It is part of every test binary that includes it.

mod connection;
mod requests;
mod trap;

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

use connection::Connection;
pub(crate) use requests::Wire;
pub(crate) use trap::{Moment, Trap};

/// How often a slow connection moves something.
const STEP: Duration = Duration::from_millis(100);

/// What happens to everything that passes, on connections that exist too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Everything takes so much longer.
    Late(Duration),
    /// So many bytes a second.
    Slow(usize),
    /// Nothing arrives and nothing is closed: what a peer sees of a partition.
    Silent,
    /// HTTP requests get this status from whatever stands before the server, which never sees them.
    Refusing(u16),
    /// Every connection is reset at once.
    Down,
}

/// One listener in front of one server.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    /// Ends with the proxy.
    _accepting: JoinSet<()>,
}

struct Shared {
    owner: usize,
    server: (String, u16),
    wire: Wire,
    weather: watch::Sender<Weather>,
    traps: Mutex<Vec<Arc<Trap>>>,
    /// Connections that will break when they have carried more than so much towards the client.
    cuts_left: AtomicUsize,
    cut_after_bytes: usize,
    carried_bytes: AtomicU64,
}

impl Proxy {
    /// `owner` is whose proxy it is, for the actions of traps.
    pub(crate) async fn start(owner: usize, wire: Wire, server_port: u16) -> Self {
        Self::new(owner, wire, (Ipv4Addr::LOCALHOST.to_string(), server_port), 0, 0).await
    }

    /// In front of an HTTP server. Each of the first `cuts` connections that carry more than `after_bytes` towards the
    /// client breaks there.
    pub(crate) async fn cutting(to: &Url, after_bytes: usize, cuts: usize) -> Self {
        let host = to.host_str().expect("a host").to_owned();
        let port = to.port_or_known_default().expect("a port");
        Self::new(0, Wire::Http, (host, port), after_bytes, cuts).await
    }

    async fn new(
        owner: usize,
        wire: Wire,
        server: (String, u16),
        cut_after_bytes: usize,
        cuts: usize,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            owner,
            server,
            wire,
            weather: watch::Sender::new(Weather::Fair),
            traps: Mutex::default(),
            cuts_left: AtomicUsize::new(cuts),
            cut_after_bytes,
            carried_bytes: AtomicU64::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, _accepting: accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn endpoint(&self) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}", self.port)).expect("a URL")
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    pub(crate) fn arm(&self, trap: &Arc<Trap>) {
        self.shared.traps().push(Arc::clone(trap));
    }

    pub(crate) fn cuts_left(&self) -> usize {
        self.shared.cuts_left.load(Ordering::SeqCst)
    }

    /// Towards the client, headers included.
    pub(crate) fn carried_bytes(&self) -> u64 {
        self.shared.carried_bytes.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn traps(&self) -> MutexGuard<'_, Vec<Arc<Trap>>> {
        self.traps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trap_for(&self, requests: &[String]) -> Option<Arc<Trap>> {
        let mut traps = self.traps();
        traps.retain(|trap| !trap.has_sprung());
        traps.iter().find(|trap| trap.is_met_by(requests)).cloned()
    }

    /// Whether a connection that carried so much is one of those to be cut.
    fn is_cut_at(&self, carried_bytes: usize) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        carried_bytes > self.cut_after_bytes
            && self.cuts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }

    /// As the weather lets it through.
    async fn pass(&self, to: &mut TcpStream, mut chunk: &[u8]) -> io::Result<()> {
        let mut weather = self.weather.subscribe();
        while !chunk.is_empty() {
            let now = *weather.borrow_and_update();
            let length = match now {
                Weather::Fair | Weather::Refusing(_) => chunk.len(),
                Weather::Late(by) => {
                    tokio::time::sleep(by).await;
                    chunk.len()
                }
                Weather::Slow(rate) => {
                    tokio::time::sleep(STEP).await;
                    (rate / 10).clamp(1, chunk.len())
                }
                Weather::Silent => {
                    let cleared = weather.wait_for(|weather| *weather != Weather::Silent).await;
                    drop(cleared.map_err(|_| io::ErrorKind::ConnectionAborted)?);
                    continue;
                }
                Weather::Down => return Err(io::ErrorKind::ConnectionReset.into()),
            };
            let (now, later) = chunk.split_at(length);
            to.write_all(now).await?;
            chunk = later;
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let (host, port) = &shared.server;
            // A server that is down refuses: so do we, by closing.
            let server = TcpStream::connect((host.as_str(), *port)).await;
            if let Ok(server) = server {
                // However it ends, both sides end.
                drop(Connection::new(&shared, client, server).relay().await);
            }
        });
    }
}
