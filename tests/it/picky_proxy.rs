//! A proxy before MinIO that answers some requests by itself: a server that is there and refuses one object.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

/// Carries one request per connection.
pub(crate) struct PickyProxy {
    port: u16,
    /// Ends with the proxy.
    _accepting: JoinSet<()>,
}

impl PickyProxy {
    /// Answers every request of this method, whose path and query hold this text, with this status.
    pub(crate) async fn start(
        to: &Url,
        method: &'static str,
        text: &str,
        status: &'static str,
    ) -> Self {
        let host = to.host_str().expect("a host");
        let target = format!("{host}:{}", to.port_or_known_default().expect("a port"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let text = text.to_owned();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (target, text) = (target.clone(), text.clone());
                connections.spawn(async move {
                    let refused = |line: &str| line.starts_with(method) && line.contains(&text);
                    // A connection that breaks is the client's to notice.
                    drop(carry(client, target, refused, status).await);
                });
            }
        });
        Self { port, _accepting: accepting }
    }

    pub(crate) fn endpoint(&self) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}", self.port)).expect("a URL")
    }
}

async fn carry(
    mut client: TcpStream,
    target: String,
    refused: impl Fn(&str) -> bool,
    status: &str,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.iter().position(|byte| *byte == b'\r').expect("a line at least");
    if refused(&String::from_utf8_lossy(&head[..line])) {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes()).await;
    }
    let mut server = TcpStream::connect(target).await?;
    server.write_all(&head[..line]).await?;
    server.write_all(b"\r\nconnection: close").await?;
    server.write_all(&head[line..]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
