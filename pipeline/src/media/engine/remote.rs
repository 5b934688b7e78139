//! The input as the child sees it: bytes that the parent has and hands out in ranges. Nothing is opened, and nothing but
//! the socket that the child was started with is read. What cannot be had is an error, never the end of the file.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::media::ranges::{Answer, ByteRange, MAX_RANGE_BYTES};

/// A socket to the parent.
pub(in crate::media) trait Socket: Read + Write + Send {}

impl<T: Read + Write + Send> Socket for T {}

/// A file that lies with the parent.
pub(in crate::media) struct RemoteFile {
    socket: Box<dyn Socket>,
    size_bytes: u64,
    position: u64,
}

impl RemoteFile {
    /// After the request, the parent says how large the input is.
    pub(in crate::media) fn open(mut socket: impl Socket + 'static) -> io::Result<Self> {
        let mut size_bytes = [0; 8];
        socket.read_exact(&mut size_bytes)?;
        let size_bytes = u64::from_le_bytes(size_bytes);
        Ok(Self { socket: Box::new(socket), size_bytes, position: 0 })
    }

    fn fill(&mut self, range: ByteRange, buffer: &mut [u8]) -> io::Result<()> {
        self.socket.write_all(&range.encode())?;
        let mut answer = [0];
        self.socket.read_exact(&mut answer)?;
        match Answer::decode(answer[0]) {
            Some(Answer::Bytes) => self.socket.read_exact(buffer),
            Some(Answer::Failed) => Err(io::Error::other("the parent could not read it")),
            None => Err(io::Error::other("the parent gave no answer that we know")),
        }
    }
}

impl Read for RemoteFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size_bytes.saturating_sub(self.position);
        let length = u32::try_from(left.min(buffer.len() as u64)).unwrap_or(u32::MAX);
        let range = ByteRange { offset: self.position, length: length.min(MAX_RANGE_BYTES) };
        if range.length == 0 {
            return Ok(0);
        }
        let length = range.length as usize;
        // Of one kind whatever it was: some kinds have a meaning of their own to libav, such as "try again".
        self.fill(range, &mut buffer[..length]).map_err(io::Error::other)?;
        self.position += u64::from(range.length);
        Ok(length)
    }
}

impl Seek for RemoteFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size_bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// A parent that has these bytes and fails at and after an offset.
    fn parent(bytes: &'static [u8], fails_at: u64) -> RemoteFile {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&(bytes.len() as u64).to_le_bytes()).unwrap();
        thread::spawn(move || {
            let mut asked = [0; ByteRange::ENCODED_BYTES];
            while ours.read_exact(&mut asked).is_ok() {
                let range = ByteRange::decode(asked, bytes.len() as u64).unwrap();
                if range.offset >= fails_at {
                    ours.write_all(&[Answer::Failed as u8]).unwrap();
                    continue;
                }
                let start = usize::try_from(range.offset).unwrap();
                ours.write_all(&[Answer::Bytes as u8]).unwrap();
                ours.write_all(&bytes[start..start + range.length as usize]).unwrap();
            }
        });
        RemoteFile::open(theirs).unwrap()
    }

    #[test]
    fn it_reads_and_seeks_like_a_file() {
        let mut file = parent(b"0123456789", u64::MAX);
        let mut bytes = Vec::new();
        assert_eq!(file.seek(SeekFrom::End(-4)).unwrap(), 6);
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"6789");
        assert_eq!(file.seek(SeekFrom::Current(-9)).unwrap(), 1);
        let mut two = [0; 2];
        file.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"12");
        file.seek(SeekFrom::Start(400)).unwrap();
        assert_eq!(
            file.read(&mut two).unwrap(),
            0,
            "beyond the end there is nothing, as in a file"
        );
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_never_the_end() {
        let mut file = parent(b"0123456789", 4);
        let mut four = [0; 4];
        file.read_exact(&mut four).unwrap();
        for _ in 0..2 {
            assert_eq!(file.read(&mut four).unwrap_err().kind(), io::ErrorKind::Other);
        }
    }

    #[test]
    fn a_parent_that_is_gone_is_an_error() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&9_u64.to_le_bytes()).unwrap();
        let mut file = RemoteFile::open(theirs).unwrap();
        drop(ours);
        assert_eq!(file.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::Other);
    }
}
