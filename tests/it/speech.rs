//! The door to speech against what it is for: a real voice, sounds that are none, and a real engine.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pipeline::speech::{Heard, Interval, Speech, SpeechConfig, SpeechEngine, SpeechError};
use tokio_util::bytes::Bytes;
use url::Url;

pub(crate) const FOX: &str = "the quick brown fox jumps over the lazy dog";
const WINDOW: &str = "please open the window because it is getting warm in here";
/// One second as the media child sends it.
const SECOND: usize = 32_000;

/// Where the set-up puts what it fetches.
fn cache() -> PathBuf {
    let under = |variable: &str| {
        std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    let cache = under("XDG_CACHE_HOME").or_else(|| under("HOME").map(|home| home.join(".cache")));
    cache.expect("HOME is set").join("clipstream")
}

pub(crate) fn vad_model() -> PathBuf {
    let model = cache().join("models/silero_vad_v6.onnx");
    assert!(model.is_file(), "{} is missing: run `make setup`", model.display());
    model
}

fn speech(engine: SpeechEngine) -> Speech {
    Speech::new(SpeechConfig { engine, vad_model: vad_model() })
}

/// 16 kHz mono samples made by ffmpeg from filters or files.
fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(arguments)
        .args(["-ar", "16000", "-ac", "1", "-f", "s16le", "-"])
        .output()
        .expect("ffmpeg is installed by the set-up");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn generated(filter: &str) -> Vec<u8> {
    ffmpeg(&["-f", "lavfi", "-i", filter])
}

/// A sentence as flite says it.
pub(crate) fn voice(sentence: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let wav = directory.path().join("voice.wav");
    let status =
        Command::new("flite").args(["-voice", "slt", "-t", sentence, "-o"]).arg(&wav).status();
    assert!(status.expect("flite is installed by the set-up").success());
    ffmpeg(&["-i", wav.to_str().expect("a plain path")])
}

fn silence(seconds: usize) -> Vec<u8> {
    vec![0; seconds * SECOND]
}

/// Adds the second sound to the first at a fraction of its loudness.
fn mix(loud: &[u8], soft: &[u8], volume: f32) -> Vec<u8> {
    let sample = |bytes: &[u8]| f32::from(i16::from_le_bytes([bytes[0], bytes[1]]));
    let soft = soft.chunks_exact(2).cycle();
    let mixed = loud.chunks_exact(2).zip(soft).map(|(a, b)| sample(a) + volume * sample(b));
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what an i16 holds")]
    mixed.flat_map(|value| (value.clamp(-32_768.0, 32_767.0) as i16).to_le_bytes()).collect()
}

async fn hear(speech: &Speech, pcm: &[u8]) -> Heard {
    let directory = tempfile::tempdir().expect("a directory");
    let mut listening = speech.listen(directory.path().join("sound")).await.expect("the model");
    // Odd sizes: nothing depends on how the sound is cut into chunks.
    for chunk in pcm.chunks(31_998) {
        listening.push(Bytes::copy_from_slice(chunk)).await.expect("heard");
    }
    listening.finish().await.expect("heard")
}

#[tokio::test]
async fn sentences_are_found_where_they_are() {
    let (fox, window) = (voice(FOX), voice(WINDOW));
    let ms = |pcm: &[u8]| pcm.len() as u64 / 32;
    let pcm = [silence(2), fox.clone(), silence(3), window.clone(), silence(1)].concat();
    let heard = hear(&speech(SpeechEngine::Stub), &pcm).await;
    let expected = [
        Interval { start_ms: 2_000, end_ms: 2_000 + ms(&fox) },
        Interval { start_ms: 5_000 + ms(&fox), end_ms: 5_000 + ms(&fox) + ms(&window) },
    ];
    assert_eq!(heard.duration_ms, ms(&pcm));
    assert_eq!(heard.intervals.len(), 2, "{:?}", heard.intervals);
    for (found, expected) in heard.intervals.iter().zip(expected) {
        // flite begins and ends a sentence with up to 0.3 s of silence.
        let near = |a: u64, b: u64| a.abs_diff(b) < 400;
        assert!(
            near(found.start_ms, expected.start_ms) && near(found.end_ms, expected.end_ms),
            "{found:?} {expected:?}"
        );
    }
}

#[tokio::test]
async fn noise_music_and_gunfire_are_not_speech() {
    let sounds = [
        ("silence", silence(8)),
        ("white noise", generated("anoisesrc=d=8:a=0.3:seed=1")),
        ("rumble", generated("anoisesrc=d=8:c=brown:a=0.9:seed=2")),
        ("tone", generated("sine=f=440:d=8")),
        (
            "chord",
            generated("aevalsrc='0.2*sin(2*PI*220*t)+0.2*sin(2*PI*277*t)+0.2*sin(2*PI*330*t)':d=8"),
        ),
        ("gunfire", generated("aevalsrc='0.9*(random(0)*2-1)*exp(-14*mod(t,0.31))':d=8")),
        (
            "growl",
            generated(
                "aevalsrc='0.7*sin(2*PI*(70+30*sin(2*PI*1.3*t))*t)*(0.6+0.4*sin(2*PI*23*t))':d=8",
            ),
        ),
    ];
    let speech = speech(SpeechEngine::Stub);
    for (name, pcm) in sounds {
        assert!(!pcm.is_empty());
        let heard = hear(&speech, &pcm).await;
        assert!(heard.speech_ms() < 400, "{name}: {:?}", heard.intervals);
    }
}

#[tokio::test]
async fn a_voice_is_heard_over_gunfire() {
    let voice = [silence(2), voice(WINDOW), silence(2)].concat();
    let gunfire = generated("aevalsrc='0.9*(random(0)*2-1)*exp(-14*mod(t,0.31))':d=8");
    let heard = hear(&speech(SpeechEngine::Stub), &mix(&voice, &gunfire, 0.05)).await;
    let spoken = voice.len() as u64 / 32 - 4_000;
    let within: u64 = heard
        .intervals
        .iter()
        .map(|i| i.end_ms.min(2_000 + spoken).saturating_sub(i.start_ms.max(2_000)))
        .sum();
    assert!(within * 10 > spoken * 6, "{:?} of {spoken} ms", heard.intervals);
    assert!(heard.speech_ms() - within < 1_000, "{:?}", heard.intervals);
}

#[tokio::test]
async fn a_missing_or_foreign_model_is_told_and_heals_when_it_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let model = directory.path().join("silero_vad_v6.onnx");
    let speech = Speech::new(SpeechConfig { engine: SpeechEngine::Stub, vad_model: model.clone() });
    let refusal = async || match speech.listen(directory.path().join("sound")).await.err() {
        Some(SpeechError::Model(detail)) => detail,
        other => panic!("{other:?}"),
    };
    assert!(refusal().await.contains("make setup"));
    std::fs::write(&model, b"not a model").expect("written");
    assert!(refusal().await.contains("SHA-256"));
    assert!(speech.check().await.is_err());
    std::fs::copy(vad_model(), &model).expect("copied");
    speech.listen(directory.path().join("sound")).await.expect("healed");
    speech.check().await.expect("healed");
}

#[tokio::test]
async fn half_a_sample_is_an_error_and_not_noise() {
    let speech = speech(SpeechEngine::Stub);
    let mut listening = speech.listen(PathBuf::from("unused")).await.expect("the model");
    listening.push(Bytes::from_static(&[0; 3])).await.expect("taken");
    assert!(matches!(listening.finish().await, Err(SpeechError::Internal(_))));
}

/// The small server of `make demo SPEECH=whisper`.
struct Whisper {
    child: Child,
    url: Url,
}

impl Whisper {
    fn start() -> Self {
        let venv = cache().join("whisper");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/whisper_server.py");
        let mut child = Command::new(venv.join("bin/python"))
            .arg(script)
            .arg(venv.join("model"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("run scripts/whisper-setup.sh: {error}"));
        let mut url = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut url).expect("a line");
        Self { child, url: url.trim().parse().expect("a URL") }
    }
}

impl Drop for Whisper {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn a_real_engine_writes_down_what_is_said() {
    let whisper = Whisper::start();
    let speech = speech(SpeechEngine::Http {
        base_url: whisper.url.clone(),
        api_key: None,
        model: "whisper-1".into(),
        language: None,
    });
    speech.check().await.expect("it answers");
    // More than 30 s of silence between: two parts, so that the second one's times are moved.
    let pcm = [silence(2), voice(FOX), silence(40), voice(WINDOW), silence(1)].concat();
    let heard = hear(&speech, &pcm).await;
    let spoken = speech.transcribe(&heard, |_| ()).await.expect("an answer").expect("text");
    assert_eq!(spoken.language.as_deref(), Some("en"));
    let text = spoken.segments.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ");
    let wrong = word_errors(&text, &format!("{FOX} {WINDOW}"));
    assert!(wrong <= 3, "{wrong} of 20 words are wrong: {text}");
    let (first, last) = (&spoken.segments[0], spoken.segments.last().expect("two"));
    assert!((1_500..4_000).contains(&first.interval.start_ms), "{first:?}");
    assert!(
        last.interval.start_ms > 40_000 && last.interval.end_ms <= heard.duration_ms,
        "{last:?}"
    );
    assert!(spoken.segments.iter().all(|s| s.confidence.is_some_and(|c| c > 0.3)));
}

/// Words to change, add or remove to get from one text to the other.
fn word_errors(heard: &str, said: &str) -> usize {
    let words = |text: &str| -> Vec<String> {
        let letters = text.to_lowercase().replace(|c: char| !c.is_alphanumeric(), " ");
        letters.split_whitespace().map(str::to_owned).collect()
    };
    let (heard, said) = (words(heard), words(said));
    let mut row: Vec<usize> = (0..=said.len()).collect();
    for (i, word) in heard.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, expected) in said.iter().enumerate() {
            let changed = diagonal + usize::from(word != expected);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[said.len()]
}
