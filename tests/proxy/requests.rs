//! What passes a proxy, as far as a trap must know: which statement a message runs, and when it has been answered.

use std::collections::HashMap;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Postgres,
    /// One request at a time on a connection, read as text.
    Redis,
    Http,
}

/// Codes of the first message that ask for encryption; the server answers with one byte and the client starts again.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// How an answer of Postgres ends, before the byte that tells about transactions.
const READY: [u8; 5] = [b'Z', 0, 0, 0, 5];

/// Where an HTTP message of which this is known is half there: its head, and half of what follows. 0 while nothing follows
/// the head.
pub(super) fn half_of(message: &[u8]) -> usize {
    let head = message.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    match head {
        Some(head) if head < message.len() => head + (message.len() - head) / 2,
        _ => 0,
    }
}

/// The requests of one connection.
pub(super) struct Requests {
    wire: Wire,
    unread: Vec<u8>,
    greeted: bool,
    /// Prepared statements by their names: later messages only name them.
    prepared: HashMap<String, String>,
}

impl Requests {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, unread: Vec::new(), greeted: false, prepared: HashMap::new() }
    }

    /// What begins to run with this chunk.
    pub(super) fn read(&mut self, chunk: &[u8]) -> Vec<String> {
        match self.wire {
            Wire::Redis | Wire::Http => vec![String::from_utf8_lossy(chunk).into_owned()],
            Wire::Postgres => {
                self.unread.extend_from_slice(chunk);
                let mut running = Vec::new();
                while let Some((kind, body)) = self.message() {
                    running.extend(self.statement(kind, &body));
                }
                running
            }
        }
    }

    /// Whether these bytes, all since the request, are its whole answer.
    pub(super) fn is_answered_by(&self, answer: &[u8]) -> bool {
        match self.wire {
            Wire::Redis | Wire::Http => !answer.is_empty(),
            Wire::Postgres => {
                let end = answer.len().saturating_sub(READY.len() + 1);
                answer[end..].starts_with(&READY)
            }
        }
    }

    /// The next whole message: kind and body. The very first has no kind.
    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = usize::from(self.greeted);
        let length = self.unread.get(head..head + 4)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
        let end = head + usize::try_from(length).expect("it fits");
        let body = self.unread.get(head + 4..end)?.to_vec();
        let kind = if self.greeted { self.unread[0] } else { 0 };
        self.unread.drain(..end);
        if !self.greeted {
            let code = body.get(..4).map(|code| code.try_into().expect("four bytes"));
            let code = code.map_or(0, u32::from_be_bytes);
            self.greeted = !ENCRYPTION_REQUESTS.contains(&code);
        }
        Some((kind, body))
    }

    fn statement(&mut self, kind: u8, body: &[u8]) -> Option<String> {
        let mut texts = body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        match kind {
            // Parse: a name and a text, which does not run yet.
            b'P' => {
                let (name, text) = (texts.next()?.into_owned(), texts.next()?.into_owned());
                self.prepared.insert(name, text);
                None
            }
            // Bind: a portal and the name.
            b'B' => self.prepared.get(texts.nth(1)?.as_ref()).cloned(),
            b'Q' => Some(texts.next()?.into_owned()),
            _ => None,
        }
    }
}
