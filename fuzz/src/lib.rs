//! The sources under test, compiled in by path: the whole library with all its doors takes a quarter of an hour under a
//! sanitizer, and the frames of the child protocol are private to it. Each module beside them states what must hold.

#[path = "../../pipeline/src/event/mod.rs"]
pub mod event;
pub mod key_decoding;
pub mod media;
pub mod storage;
#[path = "../../pipeline/src/video.rs"]
#[expect(unused_imports, reason = "its macro is for the stages and jobs, which are not here")]
pub mod video;
pub mod webhook_body;
