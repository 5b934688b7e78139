//! The door to libav. Every byte of untrusted media is parsed in a child process of the same binary: [`child`] is what
//! runs there (through `engine`), [`process`] is how the parent starts it, listens to it and ends it.
//! The crate `ffmpeg_next` is seen nowhere else.

pub mod child;
mod cost;
mod engine;
mod frames;
pub mod process;
pub mod protocol;
pub mod thumbnail;
mod watch;

pub use process::{Media, MediaConfig, MediaError, MediaProcess};
pub use protocol::Limits;
