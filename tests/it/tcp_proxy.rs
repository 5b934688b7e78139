//! TCP proxies that are network faults from outside: one cuts its first connections after a number of bytes, one goes
//! away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

pub(crate) struct CuttingProxy {
    port: u16,
    cuts: Arc<AtomicUsize>,
    /// Ends with the proxy.
    _accepting: JoinSet<()>,
}

impl CuttingProxy {
    /// Each of the first `cuts` connections that carry more than `after` bytes towards the client breaks there.
    pub(crate) async fn start(to: &Url, after: usize, cuts: usize) -> Self {
        let target = target(to);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let cuts = Arc::new(AtomicUsize::new(cuts));
        let left = cuts.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (target, left) = (target.clone(), left.clone());
                connections.spawn(async move {
                    let server = TcpStream::connect(target).await.expect("the server is up");
                    relay(client, server, after, &left).await;
                });
            }
        });
        Self { port, cuts, _accepting: accepting }
    }

    pub(crate) fn endpoint(&self) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}", self.port)).expect("a URL")
    }

    pub(crate) fn cuts_left(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn target(to: &Url) -> String {
    let host = to.host_str().expect("a host");
    format!("{host}:{}", to.port_or_known_default().expect("a port"))
}

/// Ends both connections when either side closes, or at the cut.
async fn relay(client: TcpStream, server: TcpStream, after: usize, cuts: &AtomicUsize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let upwards = tokio::io::copy(&mut from_client, &mut to_server);
    let downwards = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut carried = 0;
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            carried += length;
            let one_less = |left: usize| left.checked_sub(1);
            if carried > after
                && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
            {
                return;
            }
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = upwards => {}
        () = downwards => {}
    }
}

/// A proxy before a service that can be made to go away and to come back.
pub(crate) struct SwitchingProxy {
    port: u16,
    up: watch::Sender<bool>,
    /// Ends with the proxy.
    _accepting: JoinSet<()>,
}

impl SwitchingProxy {
    /// Up at first.
    pub(crate) async fn start(to: &Url) -> Self {
        let target = target(to);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (up, state) = watch::channel(true);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (target, mut state) = (target.clone(), state.clone());
                connections.spawn(async move {
                    if !*state.borrow_and_update() {
                        return;
                    }
                    let server = TcpStream::connect(target).await.expect("the server is up");
                    let no_cuts = AtomicUsize::new(0);
                    tokio::select! {
                        () = relay(client, server, usize::MAX, &no_cuts) => {}
                        _ = state.wait_for(|up| !up) => {}
                    }
                });
            }
        });
        Self { port, up, _accepting: accepting }
    }

    pub(crate) fn endpoint(&self) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}", self.port)).expect("a URL")
    }

    /// Away: every connection is cut, and those that come are closed at once.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }
}
