//! A TCP proxy that counts what it carries, cuts its first connections after a number of bytes, and can be switched off:
//! network faults from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

pub(crate) struct CuttingProxy {
    port: u16,
    state: Arc<State>,
    /// Ends with the proxy.
    _accepting: JoinSet<()>,
}

struct State {
    after: usize,
    cuts: AtomicUsize,
    carried: AtomicU64,
    weather: watch::Sender<Weather>,
}

/// What the network does to connections, those that exist included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Every connection ends at once.
    Down,
    /// Connections stay and carry nothing towards the client.
    Silent,
}

impl CuttingProxy {
    /// Each of the first `cuts` connections that carry more than `after` bytes towards the client breaks there.
    pub(crate) async fn start(to: &Url, after: usize, cuts: usize) -> Self {
        let target = format!(
            "{}:{}",
            to.host_str().expect("a host"),
            to.port_or_known_default().expect("a port")
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            after,
            cuts: AtomicUsize::new(cuts),
            carried: AtomicU64::new(0),
            weather: watch::Sender::new(Weather::Fair),
        });
        let shared = Arc::clone(&state);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (target, state) = (target.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    let mut weather = state.weather.subscribe();
                    let down = weather.wait_for(|weather| *weather == Weather::Down);
                    let up = async {
                        let server = TcpStream::connect(target).await.expect("the server is up");
                        relay(client, server, &state).await;
                    };
                    tokio::select! {
                        biased;
                        _ = down => {}
                        () = up => {}
                    }
                });
            }
        });
        Self { port, state, _accepting: accepting }
    }

    pub(crate) fn endpoint(&self) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}", self.port)).expect("a URL")
    }

    pub(crate) fn cuts_left(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// Towards the client, headers included.
    pub(crate) fn carried_bytes(&self) -> u64 {
        self.state.carried.load(Ordering::SeqCst)
    }

    pub(crate) fn turn(&self, weather: Weather) {
        self.state.weather.send_replace(weather);
    }
}

/// Ends both connections when either side closes, or at the cut.
async fn relay(client: TcpStream, server: TcpStream, state: &State) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut weather = state.weather.subscribe();
    let upwards = tokio::io::copy(&mut from_client, &mut to_server);
    let downwards = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut carried = 0;
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            carried += length;
            let one_less = |left: usize| left.checked_sub(1);
            if carried > state.after
                && state.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
            {
                return;
            }
            drop(weather.wait_for(|weather| *weather != Weather::Silent).await);
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
            state.carried.fetch_add(length as u64, Ordering::SeqCst);
        }
    };
    tokio::select! {
        _ = upwards => {}
        () = downwards => {}
    }
}
