//! What a file is by its first bytes, before libav sees any of them.
//!
//! libav's own probing believes anything that looks like a playlist, a manifest or a script, and those name other files.
//! They are text; media is not. So text and images end here, whatever the file is called.

use std::io::{self, Read, Seek, SeekFrom};

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sniffed {
    Empty,
    /// Certainly nothing that we accept; the words say what it looks like.
    Refused(&'static str),
    /// ISO base media: MP4, MOV, 3GP. With fragments the demuxer must not read the whole file to index it.
    Mp4 {
        fragmented: bool,
    },
    /// Another container that we accept.
    Known,
    /// Perhaps an elementary stream; libav must be sure of it.
    Unknown,
}

const HEAD_BYTES: u64 = 1024;
/// Top-level boxes looked at before an MP4 counts as unfragmented.
const MOST_BOXES: usize = 64;
/// A moov box is read no further than this for its `mvex`.
const MOST_CHILDREN: usize = 256;

pub(super) fn sniff(file: &mut (impl Read + Seek)) -> io::Result<Sniffed> {
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    let sniffed = match by_magic(&head) {
        Sniffed::Mp4 { .. } => Sniffed::Mp4 { fragmented: is_fragmented(file)? },
        other => other,
    };
    file.rewind()?;
    Ok(sniffed)
}

fn by_magic(head: &[u8]) -> Sniffed {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|h| h.starts_with(magic));
    if head.is_empty() {
        return Sniffed::Empty;
    }
    if let Some(picture) = image(head) {
        return Sniffed::Refused(picture);
    }
    if is_text(head) {
        return Sniffed::Refused("text (a playlist, a manifest, a script or a document)");
    }
    let boxes: [&[u8]; 8] =
        [b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"wide", b"skip"];
    if boxes.iter().any(|name| at(4, name)) {
        return Sniffed::Mp4 { fragmented: false };
    }
    let riff = at(0, b"RIFF") && (at(8, b"AVI ") || at(8, b"WAVE"));
    let transport = at(0, b"\x47") && at(188, b"\x47") && at(376, b"\x47")
        || at(4, b"\x47") && at(196, b"\x47") && at(388, b"\x47");
    let others: [&[u8]; 6] =
        [b"\x1a\x45\xdf\xa3", b"OggS", b"FLV\x01", b"fLaC", b"ID3", b"\0\0\x01\xba"];
    if riff || transport || others.iter().any(|magic| at(0, magic)) {
        return Sniffed::Known;
    }
    Sniffed::Unknown
}

fn image(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|h| h.starts_with(magic));
    let heif: [&[u8]; 5] = [b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif", b"ftypavis"];
    match () {
        () if at(0, b"\x89PNG\r\n\x1a\n") => Some("a PNG image"),
        () if at(0, b"\xff\xd8\xff") => Some("a JPEG image"),
        () if at(0, b"GIF8") => Some("a GIF image"),
        () if at(0, b"RIFF") && at(8, b"WEBP") => Some("a WebP image"),
        () if at(0, b"BM") && at(6, b"\0\0\0\0") => Some("a BMP image"),
        () if at(0, b"II*\0") || at(0, b"MM\0*") => Some("a TIFF image"),
        () if heif.iter().any(|brand| at(4, brand)) => Some("a HEIF or AVIF image"),
        () => None,
    }
}

/// Valid UTF-8 without control characters: no container begins so.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The head may end in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
}

/// Whether an MP4 has fragments: a `moof` at the top, or `mvex` inside `moov`.
fn is_fragmented(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut at = 0;
    for _ in 0..MOST_BOXES {
        let Some((name, content, next)) = read_box(file, at, end)? else { break };
        match &name {
            b"moof" => return Ok(true),
            b"moov" => return has_child(file, content, next, *b"mvex"),
            _ => at = next,
        }
    }
    Ok(false)
}

fn has_child(
    file: &mut (impl Read + Seek),
    from: u64,
    end: u64,
    wanted: [u8; 4],
) -> io::Result<bool> {
    let mut at = from;
    for _ in 0..MOST_CHILDREN {
        match read_box(file, at, end)? {
            Some((name, _, _)) if name == wanted => return Ok(true),
            Some((_, _, next)) => at = next,
            None => break,
        }
    }
    Ok(false)
}

/// Name, start of the content and end of the box at `at`; none where no whole header fits.
fn read_box(
    file: &mut (impl Read + Seek),
    at: u64,
    end: u64,
) -> io::Result<Option<([u8; 4], u64, u64)>> {
    let mut header = [0; 16];
    if at.saturating_add(16) > end {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut header)?;
    let [s0, s1, s2, s3, n0, n1, n2, n3, long @ ..] = header;
    let (size, header_bytes) = match u32::from_be_bytes([s0, s1, s2, s3]) {
        0 => (end - at, 8),
        1 => (u64::from_be_bytes(long), 16),
        size => (u64::from(size), 8),
    };
    if size < header_bytes {
        return Ok(None);
    }
    let next = at.saturating_add(size).min(end);
    Ok(Some(([n0, n1, n2, n3], at + header_bytes, next)))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn sniffed(bytes: &[u8]) -> Sniffed {
        sniff(&mut Cursor::new(bytes)).unwrap()
    }

    fn mp4_box(name: &[u8], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len() + 8).unwrap();
        [&size.to_be_bytes()[..], name, content].concat()
    }

    #[test]
    fn everything_that_can_name_another_file_is_refused_as_text() {
        for text in [
            "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
            "\u{feff}#EXTM3U\n",
            "<?xml version=\"1.0\"?><MPD/>",
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n",
            "ffconcat version 1.0\nfile 'x'\n",
            "  \n\t<svg/>",
            "RTSPtextRTSP://127.0.0.1/",
        ] {
            assert!(matches!(sniffed(text.as_bytes()), Sniffed::Refused(_)), "{text}");
        }
    }

    #[test]
    fn a_character_cut_by_the_head_is_still_text() {
        let text = "ä".repeat(600);
        assert!(matches!(sniffed(&text.as_bytes()[..1025]), Sniffed::Refused(_)));
    }

    #[test]
    fn images_are_named() {
        assert_eq!(sniffed(b"\x89PNG\r\n\x1a\nxx"), Sniffed::Refused("a PNG image"));
        assert_eq!(sniffed(b"RIFF\0\0\0\0WEBPVP8 "), Sniffed::Refused("a WebP image"));
        assert_eq!(
            sniffed(b"\0\0\0\x18ftypavif\0\0\0\0"),
            Sniffed::Refused("a HEIF or AVIF image")
        );
    }

    #[test]
    fn containers_are_known_and_noise_is_not() {
        assert_eq!(sniffed(b""), Sniffed::Empty);
        assert_eq!(sniffed(b"RIFF\0\0\0\0WAVEfmt "), Sniffed::Known);
        assert_eq!(sniffed(b"\x1a\x45\xdf\xa3\x01"), Sniffed::Known);
        assert_eq!(sniffed(&[0x9c, 0x01, 0xfe, 0x00, 0x47]), Sniffed::Unknown);
    }

    #[test]
    fn fragments_are_seen_by_mvex_or_by_a_moof() {
        let ftyp = mp4_box(b"ftyp", b"isom\0\0\0\0");
        let plain = mp4_box(b"moov", &mp4_box(b"mvhd", &[0; 100]));
        let moov =
            mp4_box(b"moov", &[mp4_box(b"mvhd", &[0; 100]), mp4_box(b"mvex", &[0; 32])].concat());
        let fragment = mp4_box(b"moof", &[0; 32]);
        assert_eq!(sniffed(&[&ftyp[..], &plain].concat()), Sniffed::Mp4 { fragmented: false });
        assert_eq!(sniffed(&[&ftyp[..], &moov].concat()), Sniffed::Mp4 { fragmented: true });
        assert_eq!(sniffed(&[&ftyp[..], &fragment].concat()), Sniffed::Mp4 { fragmented: true });
    }

    #[test]
    fn boxes_that_lie_about_their_size_end_the_walk() {
        for size in [[0, 0, 0, 3], [0, 0, 0, 1], [0xff; 4]] {
            let file = [&size[..], b"ftyp", &[0; 64]].concat();
            assert_eq!(sniffed(&file), Sniffed::Mp4 { fragmented: false });
        }
    }
}
