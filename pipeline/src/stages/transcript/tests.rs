//! Transcripts as strict readers see them, with text from people who wish us ill.

use super::*;

fn line(start_ms: u64, end_ms: u64, text: &str) -> Line {
    Line { interval: Interval { start_ms, end_ms }, text: text.to_owned(), confidence: None }
}

fn transcript(lines: Vec<Line>) -> Transcript {
    let segments = segments(lines, 0, 60_000);
    Transcript {
        schema: Transcript::schema(),
        video_id: "018f0000-0000-7000-8000-000000000001".parse().expect("a UUID"),
        attempt: 3,
        engine: "http".into(),
        model: Some("whisper-1".into()),
        language_hint: None,
        language: Some("en".into()),
        duration: Seconds { ms: 60_000 },
        status: Status::Ok,
        speech_seconds: Seconds { ms: 7_400 },
        text: Transcript::text_of(&segments),
        segments,
        vad: VoiceDetector { model: "silero-6".into(), threshold: 0.5 },
        source: TranscriptSource { sha256: "00".into() },
        created_at: time::macros::datetime!(2026-11-21 12:00 UTC),
    }
}

fn vtt(lines: Vec<Line>) -> String {
    String::from_utf8(transcript(lines).to_vtt()).expect("UTF-8")
}

/// Reads a file as a strict player does: blocks apart by blank lines, each with a number, a timing line and text.
fn read(vtt: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = vtt.trim_end_matches('\n').split("\n\n");
    assert_eq!(blocks.next(), Some("WEBVTT"));
    assert_eq!(blocks.next(), Some("NOTE attempt 3"));
    let mut cues = Vec::new();
    for (index, block) in blocks.enumerate() {
        let mut lines = block.lines().map(str::to_owned);
        assert_eq!(lines.next(), Some((index + 1).to_string()));
        let timing = lines.next().expect("a timing line");
        let text: Vec<String> = lines.collect();
        assert!(!text.is_empty() && text.iter().all(|line| !line.contains("-->")), "{block}");
        cues.push((timing, text));
    }
    cues
}

#[test]
fn the_json_is_version_one() {
    let json: serde_json::Value =
        serde_json::from_slice(&transcript(vec![line(1_240, 3_900, "Hello.")]).to_json())
            .expect("JSON");
    let expected = serde_json::json!({
        "schema": "clipstream.transcript/1", "video_id": "018f0000-0000-7000-8000-000000000001", "attempt": 3,
        "engine": "http", "model": "whisper-1", "language_hint": null, "language": "en", "duration": 60.0,
        "status": "ok", "speech_seconds": 7.4, "text": "Hello.",
        "segments": [{"id": 0, "start": 1.24, "end": 3.9, "text": "Hello.", "confidence": null, "words": null}],
        "vad": {"model": "silero-6", "threshold": 0.5}, "source": {"sha256": "00"},
        "created_at": "2026-11-21T12:00:00Z"
    });
    assert_eq!(json, expected);
}

#[test]
fn what_is_written_is_read_back_and_anything_else_is_not() {
    let written = transcript(vec![line(1, 30_001, "Hello."), line(59_999, 60_000, "Bye.")]);
    assert_eq!(Transcript::from_json(&written.to_json()), Some(written.clone()));
    assert_eq!(attempt_of_json(&written.to_json()), Some(3));
    assert_eq!(attempt_of_vtt(&written.to_vtt()), Some(3));
    let foreign =
        String::from_utf8(written.to_json()).expect("UTF-8").replace("script/1", "script/2");
    assert_eq!(Transcript::from_json(foreign.as_bytes()), None);
    assert_eq!(attempt_of_json(foreign.as_bytes()), Some(3));
    for bytes in [&b""[..], b"WEBVTT\n", b"{}", b"\xff\xff", b"WEBVTT\n\nNOTE attempt x\n"] {
        assert_eq!((attempt_of_json(bytes), attempt_of_vtt(bytes)), (None, None));
    }
}

#[test]
fn times_are_on_the_videos_timeline_and_within_it() {
    let place = |lines, offset, duration| {
        let segments = segments(lines, offset, duration);
        segments.iter().map(|s| (s.id, s.start.ms, s.end.ms)).collect::<Vec<_>>()
    };
    let lines = vec![
        line(0, 100, "a"),
        line(200, 900, "b"),
        line(950, 2_000, "c"),
        line(2_000, 2_100, "d"),
    ];
    assert_eq!(
        place(lines.clone(), 250, 1_500),
        [(0, 250, 350), (1, 450, 1_150), (2, 1_200, 1_500)]
    );
    assert_eq!(place(lines, -150, 10_000), [(0, 50, 750), (1, 800, 1_850), (2, 1_850, 1_950)]);
}

#[test]
fn a_transcript_without_text_is_a_header() {
    assert_eq!(vtt(vec![]), "WEBVTT\n\nNOTE attempt 3\n");
    assert_eq!(vtt(vec![line(0, 1_000, "")]), "WEBVTT\n\nNOTE attempt 3\n");
    assert!(!transcript(vec![line(0, 1_000, " \n ")]).has_text());
}

#[test]
fn cues_have_dots_hours_and_numbers() {
    let cues = read(&vtt(vec![line(1_240, 3_900, "Hello."), line(10_000, 10_001, "Bye.")]));
    assert_eq!(cues[0], ("00:00:01.240 --> 00:00:03.900".into(), vec!["Hello.".into()]));
    assert_eq!(cues[1].0, "00:00:10.000 --> 00:00:10.001");
    let late = vtt::write(3, &segments([line(359_999_000, 360_000_500, "x")], 0, u64::MAX));
    assert!(late.contains("\n99:59:59.000 --> 100:00:00.500\n"), "{late}");
}

#[test]
fn hostile_text_stays_text() {
    let hostile = [
        "--> <b>&\n\nNOTE",
        "00:00:00.000 --> 99:00:00.000\r\nWEBVTT",
        "\u{2028}STYLE\u{2029}::cue{}\u{0}\u{b}\u{85}",
        "\n\n\n",
        "\u{202e}txet\u{202c} \u{feff}",
        "&lt;script&gt;</v>",
    ];
    let lines = hostile
        .iter()
        .enumerate()
        .map(|(i, text)| line(i as u64 * 2_000, i as u64 * 2_000 + 1_000, text));
    let file = vtt(lines.collect());
    let cues = read(&file);
    assert_eq!(cues.len(), 5);
    assert_eq!(cues[0].1, ["--&gt; &lt;b&gt;&amp; NOTE"]);
    assert_eq!(cues[2].1, ["STYLE ::cue{}"]);
    assert_eq!(cues[3].1, ["txet"]);
    assert_eq!(cues[4].1, ["&amp;lt;script&amp;gt;&lt;/v&gt;"]);
    assert!(file.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn long_speech_is_cut_into_cues_that_can_be_read() {
    let text = "the quick brown fox jumps over the lazy dog ".repeat(6) + &"x".repeat(100);
    let cues = read(&vtt(vec![line(0, 30_000, &text), line(40_000, 59_000, "Hm.")]));
    for (timing, lines) in &cues {
        assert!(
            lines.len() <= 2 && lines.iter().all(|line| line.chars().count() <= 42),
            "{lines:?}"
        );
        let (start, end) = timing.split_once(" --> ").expect("times");
        assert!(start < end, "{timing}");
    }
    let words =
        cues.iter().flat_map(|(_, lines)| lines).map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(words.replace(' ', ""), text.replace(' ', "") + "Hm.");
    assert_eq!(cues.last().expect("some").0, "00:00:40.000 --> 00:00:47.000");
    let ends: Vec<_> =
        cues.iter().map(|(timing, _)| timing.split_once(" --> ").expect("times")).collect();
    assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ends:?}");
}
