//! A connection out of the pool, which goes back only if all was well on it. A server that has become a replica answers
//! PING and refuses every write: a connection to it would be lent again and again, while the name of the service leads to
//! another server by now.

use deadpool_redis::Connection;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};

pub(super) struct Lent {
    /// `None` once something went wrong on it.
    connection: Option<Connection>,
    database: i64,
}

impl Lent {
    pub(super) fn new(connection: Connection) -> Self {
        Self { database: connection.get_db(), connection: Some(connection) }
    }

    fn connection(&mut self) -> RedisResult<&mut Connection> {
        let gone = || RedisError::from((ErrorKind::Io, "something went wrong on this connection"));
        self.connection.as_mut().ok_or_else(gone)
    }

    /// Takes the connection out of the pool for good if this is an error. A script that the server does not know is none.
    fn judge<'a>(&mut self, answers: RedisResult<impl IntoIterator<Item = &'a Value>>) {
        let unwell = |value: &Value| match value {
            Value::ServerError(error) => error.code() != "NOSCRIPT",
            _ => false,
        };
        if answers.map_or(true, |values| values.into_iter().any(unwell)) {
            drop(self.connection.take().map(Connection::take));
        }
    }
}

impl ConnectionLike for Lent {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let answer = self.connection()?.req_packed_command(cmd).await;
            self.judge(answer.as_ref().map(std::slice::from_ref).map_err(Clone::clone));
            answer
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let answers = self.connection()?.req_packed_commands(cmd, offset, count).await;
            self.judge(answers.as_ref().map_err(Clone::clone));
            answers
        })
    }

    fn get_db(&self) -> i64 {
        self.database
    }
}
