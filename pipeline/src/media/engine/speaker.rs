//! The child's mouth: messages to the parent, one frame each. It never buffers: a finished segment must not wait.

use std::io::Write;

use super::EngineError;
use crate::media::protocol::{Message, write_frame};

pub(in crate::media) struct Speaker<'a> {
    to: &'a mut (dyn Write + Send),
}

impl<'a> Speaker<'a> {
    pub(in crate::media) fn new(to: &'a mut (dyn Write + Send)) -> Self {
        Self { to }
    }

    pub(in crate::media) fn say(
        &mut self,
        message: &Message,
        payload: &[u8],
    ) -> Result<(), EngineError> {
        write_frame(&mut self.to, message, payload).map_err(EngineError::Pipe)
    }
}
