//! `WebVTT`, <https://www.w3.org/TR/webvtt1/>. Cues are short enough to be read: two lines, seven seconds.

use std::fmt::Write;

use super::Segment;

/// Characters of a line.
const LINE: usize = 42;
const LINES: usize = 2;
const LONGEST_CUE_MS: u64 = 7_000;
/// In a comment block, which players ignore.
const ATTEMPT: &str = "NOTE attempt ";

/// The whole file. Segments without text make no cue.
pub(super) fn write(attempt: i32, segments: &[Segment]) -> String {
    let mut vtt = format!("WEBVTT\n\n{ATTEMPT}{attempt}\n");
    let mut number = 0;
    for segment in segments {
        for cue in cues(segment) {
            number += 1;
            let (start, end) = (clock(cue.start_ms), clock(cue.end_ms));
            let text = cue.lines.iter().map(|line| escape(line)).collect::<Vec<_>>().join("\n");
            write!(vtt, "\n{number}\n{start} --> {end}\n{text}\n").expect("a String takes all");
        }
    }
    vtt
}

/// The attempt that wrote a file.
pub(super) fn attempt(vtt: &[u8]) -> Option<i32> {
    let head = String::from_utf8_lossy(&vtt[..vtt.len().min(64)]);
    head.lines().nth(2)?.strip_prefix(ATTEMPT)?.parse().ok()
}

struct Cue {
    start_ms: u64,
    end_ms: u64,
    lines: Vec<String>,
}

/// Shares a segment's time among its cues by their length in characters.
fn cues(segment: &Segment) -> Vec<Cue> {
    let lines = wrap(&segment.text);
    let length =
        |lines: &[String]| lines.iter().map(|line| line.chars().count() as u64).sum::<u64>();
    let all = length(&lines).max(1);
    let (start_ms, duration_ms) = (segment.start.ms, segment.end.ms - segment.start.ms);
    let at = |characters: u64| start_ms + duration_ms * characters / all;
    let mut said = 0;
    let mut cues = Vec::new();
    for lines in lines.chunks(LINES) {
        let start_ms = at(said);
        said += length(lines);
        // A player refuses a cue that ends when it starts.
        let end_ms = at(said).min(start_ms + LONGEST_CUE_MS).max(start_ms + 1);
        cues.push(Cue { start_ms, end_ms, lines: lines.to_vec() });
    }
    cues
}

/// Lines of at most [`LINE`] characters, broken at blanks; a longer word is broken where the line ends.
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut room = 0;
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        if let Some(line) = lines.last_mut().filter(|_| letters.len() < room) {
            line.push(' ');
            line.push_str(word);
            room -= letters.len() + 1;
            continue;
        }
        for piece in letters.chunks(LINE) {
            lines.push(piece.iter().collect());
            room = LINE - piece.len();
        }
    }
    lines
}

/// The three characters that mean something inside a cue. Without `>` no text can look like a timing line.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `hh:mm:ss.mmm`; hours take as many digits as they need.
fn clock(ms: u64) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
