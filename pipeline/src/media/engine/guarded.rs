//! A stream as libav may call it: it asks for permission before every step, and no panic of it gets into C code, where
//! it would end the process without a word.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(super) struct Guarded<T, I> {
    pub(super) stream: T,
    pub(super) interrupt: I,
}

impl<T, I: Fn() -> bool> Guarded<T, I> {
    fn guarded<R>(&mut self, step: impl FnOnce(&mut T) -> io::Result<R>) -> io::Result<R> {
        if asked(&self.interrupt) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        catch_unwind(AssertUnwindSafe(|| step(&mut self.stream)))
            .unwrap_or_else(|_| Err(io::Error::other("the stream panicked")))
    }
}

/// A question that panics is answered with yes.
pub(super) fn asked(interrupt: &impl Fn() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(interrupt)).unwrap_or(true)
}

impl<T: Read, I: Fn() -> bool> Read for Guarded<T, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.guarded(|stream| stream.read(buffer))
    }
}

impl<T: Seek, I: Fn() -> bool> Seek for Guarded<T, I> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.guarded(|stream| stream.seek(to))
    }
}

impl<T: Write, I: Fn() -> bool> Write for Guarded<T, I> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.guarded(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.guarded(Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("in a read")
        }
    }

    impl Seek for Panics {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            panic!("in a seek")
        }
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let mut stream = Guarded { stream: Panics, interrupt: || false };
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(stream.rewind().unwrap_err().kind(), io::ErrorKind::Other);
        let mut stream = Guarded { stream: io::empty(), interrupt: || panic!("when asked") };
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    /// Through libav: without the guard the first read ends this process.
    #[test]
    fn libav_sees_a_panic_as_an_error() {
        let opened = super::super::ffi::open_input(Panics, &[], || false);
        assert!(opened.is_err());
    }

    #[test]
    fn nothing_is_read_once_time_is_up() {
        let bytes = io::Cursor::new(vec![0; 1 << 16]);
        assert!(super::super::ffi::open_input(bytes, &[], || true).is_err());
        let mut stream = Guarded { stream: io::repeat(0), interrupt: || true };
        assert!(stream.read(&mut [0]).is_err());
    }
}
