//! What an engine's answer means: its times put on the sound's timeline, and the text that a Whisper model makes up
//! where nobody speaks left out. Pure.

use serde::Deserialize;

use super::SpokenSegment;
use super::intervals::Interval;

/// Above this, with [`UNSURE`], the model itself believes that nobody spoke.
const NO_SPEECH: f64 = 0.6;
const UNSURE: f64 = -1.0;
/// Text that compresses better than this is a loop.
const REPETITIVE: f64 = 2.4;
/// The same words again, this soon after a cut, were said once.
const SEAM_MS: u64 = 1_000;

/// A transcription: `verbose_json`, or `json`, which has the text alone.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) language: Option<String>,
    segments: Option<Vec<AnswerSegment>>,
}

#[derive(Debug, Deserialize)]
struct AnswerSegment {
    start: f64,
    end: f64,
    text: String,
    avg_logprob: Option<f64>,
    compression_ratio: Option<f64>,
    no_speech_prob: Option<f64>,
}

impl Answer {
    /// Whether the answer says when its text was spoken. Some servers leave the segments out, or count in other units.
    pub(super) fn has_times(&self, part: Interval) -> bool {
        self.text.trim().is_empty()
            || self.segments.iter().flatten().any(|segment| segment.place(part).is_some())
    }

    /// Segments by the engine's own times.
    pub(super) fn timed(self, part: Interval, speech: &[Interval]) -> Vec<SpokenSegment> {
        let segments = self.segments.into_iter().flatten();
        let mut kept: Vec<_> = segments.filter_map(|segment| segment.keep(part, speech)).collect();
        kept.sort_by_key(|segment| segment.interval.start_ms);
        kept
    }

    /// All of the text as one segment over its part.
    pub(super) fn untimed(self, part: Interval) -> Option<SpokenSegment> {
        let text = self.text.trim().to_owned();
        (!text.is_empty()).then_some(SpokenSegment { interval: part, text, confidence: None })
    }
}

impl AnswerSegment {
    fn keep(self, part: Interval, speech: &[Interval]) -> Option<SpokenSegment> {
        let interval = self.place(part)?;
        let text = self.text.trim();
        let made_up = self.no_speech_prob.is_some_and(|p| p > NO_SPEECH)
            && self.avg_logprob.is_some_and(|p| p < UNSURE)
            || self.compression_ratio.is_some_and(|ratio| ratio > REPETITIVE);
        let over_speech =
            speech.iter().any(|s| s.start_ms < interval.end_ms && interval.start_ms < s.end_ms);
        (!text.is_empty() && !made_up && over_speech).then(|| SpokenSegment {
            interval,
            text: text.to_owned(),
            confidence: self.avg_logprob.map(|p| p.exp().clamp(0.0, 1.0)),
        })
    }

    /// On the sound's timeline, within the part; `None` outside of it or upside down.
    fn place(&self, part: Interval) -> Option<Interval> {
        let start_ms = part.start_ms.saturating_add(milliseconds(self.start)?);
        let end_ms = part.start_ms.saturating_add(milliseconds(self.end)?).min(part.end_ms);
        (start_ms < end_ms).then_some(Interval { start_ms, end_ms })
    }
}

/// Of seconds that somebody else wrote; `None` for what is no time.
fn milliseconds(seconds: f64) -> Option<u64> {
    let duration = std::time::Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
    u64::try_from(duration.as_millis()).ok()
}

/// Adds the segments of the next part, without what the end of the last part already said.
pub(super) fn append(to: &mut Vec<SpokenSegment>, part: Vec<SpokenSegment>) {
    let mut part = part.into_iter().peekable();
    if let (Some(last), Some(first)) = (to.last(), part.peek())
        && last.text.eq_ignore_ascii_case(&first.text)
        && first.interval.start_ms.saturating_sub(last.interval.end_ms) <= SEAM_MS
    {
        part.next();
    }
    to.extend(part);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PART: Interval = Interval { start_ms: 60_000, end_ms: 70_000 };

    fn answer(segments: &serde_json::Value) -> Answer {
        serde_json::from_value(json!({"text": "some", "segments": segments})).expect("valid")
    }

    fn timed(segments: &serde_json::Value) -> Vec<(u64, u64, String)> {
        answer(segments)
            .timed(PART, &[Interval { start_ms: 60_000, end_ms: 66_000 }])
            .into_iter()
            .map(|s| (s.interval.start_ms, s.interval.end_ms, s.text))
            .collect()
    }

    #[test]
    fn times_are_moved_to_the_part_clamped_and_sorted() {
        let segments = json!([
            {"start": 4.0, "end": 30.0, "text": " second "},
            {"start": -0.5, "end": 2.25, "text": "first"},
            {"start": 11.0, "end": 12.0, "text": "beyond the end"},
            {"start": 3.0, "end": 3.0, "text": "no time at all"},
            {"start": 2.0, "end": 3.0, "text": "  "},
        ]);
        let expected =
            [(60_000, 62_250, "first".to_owned()), (64_000, 70_000, "second".to_owned())];
        assert_eq!(timed(&segments), expected);
    }

    #[test]
    fn made_up_text_is_dropped() {
        let segments = json!([
            {"start": 0, "end": 1, "text": "Thanks for watching!", "no_speech_prob": 0.9, "avg_logprob": -1.4},
            {"start": 1, "end": 2, "text": "la la la la la la la", "compression_ratio": 3.1},
            {"start": 7, "end": 8, "text": "where nobody speaks"},
            {"start": 2, "end": 3, "text": "sure", "no_speech_prob": 0.9, "avg_logprob": -0.2},
            {"start": 3, "end": 4, "text": "doubtful", "no_speech_prob": 0.1, "avg_logprob": -2.0},
        ]);
        let texts = timed(&segments).into_iter().map(|(_, _, text)| text).collect::<Vec<_>>();
        assert_eq!(texts, ["sure", "doubtful"]);
    }

    #[test]
    fn an_answer_without_usable_times_is_known() {
        assert!(answer(&json!([{"start": 0.0, "end": 1.0, "text": "a"}])).has_times(PART));
        assert!(!answer(&json!([])).has_times(PART));
        assert!(!answer(&json!(null)).has_times(PART));
        let nanoseconds = json!([{"start": 1e9, "end": 2e9, "text": "a"}]);
        assert!(!answer(&nanoseconds).has_times(PART));
        let hostile = json!([{"start": 1e300, "end": 1e301, "text": "a"}]);
        assert!(!answer(&hostile).has_times(PART));
        let silent: Answer = serde_json::from_value(json!({"text": " "})).expect("valid");
        assert!(silent.has_times(PART));
    }

    #[test]
    fn words_repeated_at_a_seam_are_kept_once() {
        let said = |start_ms, text: &str| SpokenSegment {
            interval: Interval { start_ms, end_ms: start_ms + 1_000 },
            text: text.to_owned(),
            confidence: None,
        };
        let mut all = vec![said(0, "Go!")];
        append(&mut all, vec![said(1_500, "go!"), said(3_000, "go!")]);
        assert_eq!(all.len(), 2);
        append(&mut all, vec![said(9_000, "go!")]);
        assert_eq!(all.len(), 3);
        append(&mut all, vec![]);
        assert_eq!(all.len(), 3);
    }
}
