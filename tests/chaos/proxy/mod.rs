//! A TCP proxy that breaks connections on purpose: slow, silent, reset, or cut at one statement.
//!
//! It stands between one process and one server, so faults come from outside and production code has no hooks. A trap
//! springs at a request that it recognises: before the server has it, or after the server carried it out and before the
//! answer is passed on. What it holds back when a connection is cut is lost, as in a network.

mod requests;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use requests::Requests;
pub(crate) use requests::Wire;

const CHUNK_BYTES: usize = 64 * 1024;

/// What happens to everything that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Nothing arrives and nothing is closed: what a peer sees of a partition.
    Silent,
}

/// Where a trap cuts the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server never sees the request.
    Before,
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
    moment: Moment,
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

    fn spring(&self, owner: usize) -> bool {
        let first = !self.sprung.swap(true, Ordering::SeqCst);
        if first {
            (self.action)(owner);
            self.told.send_replace(Some(owner));
        }
        first
    }
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
    server_port: u16,
    wire: Wire,
    weather: watch::Sender<Weather>,
    traps: Mutex<Vec<Arc<Trap>>>,
}

impl Proxy {
    /// `owner` is whose proxy it is, for the actions of traps.
    pub(crate) async fn start(owner: usize, wire: Wire, server_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (weather, _) = watch::channel(Weather::Fair);
        let shared =
            Arc::new(Shared { owner, server_port, wire, weather, traps: Mutex::default() });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, _accepting: accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    pub(crate) fn arm(&self, trap: &Arc<Trap>) {
        self.shared.traps().push(Arc::clone(trap));
    }
}

impl Shared {
    fn traps(&self) -> MutexGuard<'_, Vec<Arc<Trap>>> {
        self.traps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trap_for(&self, requests: &[String]) -> Option<Arc<Trap>> {
        let mut traps = self.traps();
        traps.retain(|trap| !trap.sprung.load(Ordering::SeqCst));
        let met = |trap: &&Arc<Trap>| {
            requests.iter().any(|text| trap.request.iter().all(|part| text.contains(part)))
        };
        traps.iter().find(met).cloned()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A server that is down refuses: so do we, by closing.
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.server_port)).await;
            if let Ok(server) = server {
                // However it ends, both sides end.
                drop(Connection::new(&shared, client, server).relay().await);
            }
        });
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    client: TcpStream,
    server: TcpStream,
    requests: Requests,
    /// A trap whose request has been passed on, and the answer so far.
    waiting: Option<(Arc<Trap>, Vec<u8>)>,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, client: TcpStream, server: TcpStream) -> Self {
        for stream in [&client, &server] {
            // Without it every small answer waits for an acknowledgement.
            stream.set_nodelay(true).expect("a TCP socket");
        }
        Self { shared, client, server, requests: Requests::new(shared.wire), waiting: None }
    }

    async fn relay(mut self) -> io::Result<()> {
        let (mut upwards, mut downwards) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        loop {
            tokio::select! {
                read = self.client.read(&mut upwards) => match read? {
                    0 => return Ok(()),
                    length => if self.up(&upwards[..length]).await? { return self.cut() },
                },
                read = self.server.read(&mut downwards) => match read? {
                    0 => return Ok(()),
                    length => if self.down(&downwards[..length]).await? { return self.cut() },
                },
            }
        }
    }

    /// True: a trap sprang.
    async fn up(&mut self, chunk: &[u8]) -> io::Result<bool> {
        let requests = self.requests.read(chunk);
        if let Some(trap) = self.shared.trap_for(&requests) {
            match trap.moment {
                Moment::Before if trap.spring(self.shared.owner) => return Ok(true),
                Moment::Before => {}
                Moment::After => self.waiting = Some((trap, Vec::new())),
            }
        }
        self.shared.pass(&mut self.server, chunk).await?;
        Ok(false)
    }

    /// True: a trap sprang.
    async fn down(&mut self, chunk: &[u8]) -> io::Result<bool> {
        let Some((trap, mut answer)) = self.waiting.take() else {
            self.shared.pass(&mut self.client, chunk).await?;
            return Ok(false);
        };
        answer.extend_from_slice(chunk);
        if !self.requests.is_answered_by(&answer) {
            self.waiting = Some((trap, answer));
            return Ok(false);
        }
        if String::from_utf8_lossy(&answer).contains(trap.answer) && trap.spring(self.shared.owner)
        {
            return Ok(true);
        }
        self.shared.pass(&mut self.client, &answer).await?;
        Ok(false)
    }

    /// A reset and not an orderly end.
    fn cut(self) -> io::Result<()> {
        self.client.set_zero_linger()
    }
}

impl Shared {
    async fn pass(&self, to: &mut TcpStream, chunk: &[u8]) -> io::Result<()> {
        let mut weather = self.weather.subscribe();
        let now = *weather.borrow_and_update();
        match now {
            Weather::Fair => {}
            Weather::Silent => {
                let cleared = weather.wait_for(|weather| *weather != Weather::Silent).await;
                drop(cleared.map_err(|_| io::ErrorKind::ConnectionAborted)?);
            }
        }
        to.write_all(chunk).await
    }
}
