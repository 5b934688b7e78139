//! One question to a server on loopback and the beginning of its answer. Enough to know whether it is ready.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(2);

/// Sends `question` and reads until `enough` says so, the other side closes, or 4 KiB have come.
pub(super) async fn ask(
    port: u16,
    question: &str,
    enough: impl Fn(&str) -> bool,
) -> Result<String, String> {
    let talk = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(question.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            let count = stream.read(&mut chunk).await?;
            answer.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&answer);
            if count == 0 || answer.len() > 4096 || enough(&text) {
                return Ok::<_, std::io::Error>(text.into_owned());
            }
        }
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// The first line of an answer, for an error text.
pub(super) fn first_line(answer: &str) -> String {
    answer.lines().next().unwrap_or("it closed the connection").to_owned()
}
