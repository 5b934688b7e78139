//! A TCP proxy that cuts its first connections after a number of bytes: a network fault from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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
        let target = format!(
            "{}:{}",
            to.host_str().expect("a host"),
            to.port_or_known_default().expect("a port")
        );
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
