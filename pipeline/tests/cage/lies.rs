//! What a child can do to its parent with nothing but its pipes: lies, endless talk, and silence.

use std::io::Write;
use std::time::Duration;

use pipeline::media::cage::Level;
use pipeline::media::protocol::{Message, RenditionKind, write_frame};

use crate::hostile::stdout;

pub(crate) struct Lie {
    pub(crate) name: &'static str,
    tell: fn(&mut dyn Write),
    /// Part of what the parent says about it.
    pub(crate) found: &'static str,
}

impl Lie {
    pub(crate) fn tell(&self) {
        (self.tell)(&mut stdout());
    }
}

pub(crate) fn find(name: &str) -> &'static Lie {
    LIES.iter().find(|lie| lie.name == name).expect("a lie of that name")
}

pub(crate) const LIES: &[Lie] = &[
    Lie {
        name: "length over the bound",
        tell: |out| raw(out, &[0xff; 8]),
        found: "over the bound",
    },
    Lie {
        name: "text instead of frames",
        tell: |out| raw(out, b"HTTP/1.1 200 OK\r\n\r\n"),
        found: "nonsense",
    },
    Lie {
        name: "header that is no message",
        tell: |out| raw(out, b"\x02\0\0\0\0\0\0\0{}"),
        found: "nonsense",
    },
    Lie { name: "number that is none", tell: not_a_number, found: "nonsense" },
    Lie {
        name: "name that leads elsewhere",
        tell: |out| init(out, "../../raw-uploads/x", "avc1.64001e"),
        found: "a rendition",
    },
    Lie {
        name: "codecs with a line break",
        tell: |out| init(out, "480p", "avc1\n#EXT-X-KEY"),
        found: "codecs",
    },
    Lie { name: "segment before its init", tell: |out| segment(out, 1), found: "has not begun" },
    Lie { name: "numbers with a gap", tell: with_a_gap, found: "instead of 1" },
    Lie {
        name: "picture without its bytes",
        tell: |out| say(out, &Message::Poster { width: 4096, height: 4096 }, b"x"),
        found: "a picture",
    },
    Lie {
        name: "another task's answer",
        tell: |out| say(out, &Message::Pcm { start_us: 0 }, &[0; 64]),
        found: "pcm for",
    },
    Lie {
        name: "caged twice",
        tell: |out| say(out, &Message::Caged(Level::default()), b""),
        found: "second time",
    },
    Lie { name: "endless progress", tell: endless_progress, found: "reports of progress" },
    Lie { name: "endless stderr", tell: endless_stderr, found: "floods stderr" },
    Lie { name: "endless frame", tell: endless_frame, found: "no progress" },
    Lie {
        name: "silence",
        tell: |_| std::thread::sleep(Duration::from_hours(1)),
        found: "no progress",
    },
    Lie { name: "end without a word", tell: |_| {}, found: "exit status: 0" },
];

/// The parent is gone: so is the reason to go on.
fn raw(out: &mut dyn Write, bytes: &[u8]) {
    if out.write_all(bytes).is_err() {
        std::process::exit(0);
    }
}

fn say(out: &mut dyn Write, message: &Message, payload: &[u8]) {
    let mut frame = Vec::new();
    write_frame(&mut frame, message, payload).expect("a frame");
    raw(out, &frame);
}

fn not_a_number(out: &mut dyn Write) {
    let kind = RenditionKind::Video { width: 640, height: 480, frame_rate: f64::NAN };
    say(out, &rendition("480p", "avc1.64001e", kind), b"init");
}

fn init(out: &mut dyn Write, name: &str, codecs: &str) {
    let kind = RenditionKind::Video { width: 640, height: 480, frame_rate: 25.0 };
    say(out, &rendition(name, codecs, kind), b"init");
}

fn rendition(name: &str, codecs: &str, kind: RenditionKind) -> Message {
    Message::Init {
        rendition: name.into(),
        codecs: codecs.into(),
        kind,
        planned_bits_per_second: 1_000_000,
    }
}

fn segment(out: &mut dyn Write, number: u32) {
    let message =
        Message::Segment { rendition: "480p".into(), number, start_us: 0, duration_us: 2_000_000 };
    say(out, &message, b"segment");
}

fn with_a_gap(out: &mut dyn Write) {
    init(out, "480p", "avc1.64001e");
    segment(out, 3);
}

fn endless_progress(out: &mut dyn Write) {
    loop {
        say(out, &Message::Progress { done_ms: 1, total_ms: 2 }, b"");
    }
}

fn endless_stderr(_: &mut dyn Write) {
    let noise = [b'x'; 4096];
    while std::io::stderr().write_all(&noise).is_ok() {}
}

/// The longest payload is promised, and a little of it comes.
fn endless_frame(out: &mut dyn Write) {
    let header = br#"{"pcm":{"start_us":0}}"#;
    raw(out, &u32::try_from(header.len()).expect("short").to_le_bytes());
    raw(out, &(64_u32 << 20).to_le_bytes());
    raw(out, header);
    raw(out, &[0; 1024]);
    std::thread::sleep(Duration::from_hours(1));
}
