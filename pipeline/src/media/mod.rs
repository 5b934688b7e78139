//! The door to libav. Every byte of untrusted media is parsed in a child process of the same binary: [`child`] is what
//! runs there (through `engine`), [`process`] is how the parent starts it, listens to it and ends it, [`serving`] how the
//! child gets the bytes: it has no file, no path and no network.
//! The crate `ffmpeg_next` is seen nowhere else.

pub mod cage;
pub mod child;
mod conversation;
mod cores;
mod cost;
mod engine;
mod frames;
pub mod input;
mod obituary;
mod owed;
pub mod process;
pub mod protocol;
pub mod ranges;
pub mod serving;
pub mod thumbnail;
mod watch;

pub use input::{Input, InputError};
pub use process::{Media, MediaConfig, MediaError, MediaProcess};
pub use protocol::Limits;
