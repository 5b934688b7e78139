//! The keys that we write ourselves.

#[path = "../../pipeline/src/storage/key.rs"]
pub mod key;
