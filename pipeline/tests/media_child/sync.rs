//! Picture and sound stay together: a white picture and a beep at the same moment, again and again, through every
//! container, and measured on what comes out decoded. `bench/av_sync.py` runs the same for ten minutes.

use pipeline::media::protocol::Task;
use serde_json::json;

use crate::clips::{Clips, Said, run, transcode};
use crate::heard::{Heard, flashes, onsets};

/// What the issue of a viewer is: more than this is seen.
const MOST_US: i64 = 25_000;

/// A source with flashes and beeps.
struct Case {
    name: &'static str,
    file: &'static str,
    /// Pictures per second, as ffmpeg writes it; and pictures from one flash to the next.
    rate: (&'static str, u32),
    pictures: &'static str,
    /// Samples per second, and a filter.
    sound: (&'static str, &'static str),
    output: &'static str,
}

const X264: &str = "-c:v libx264 -preset veryfast -bf 2 -g 50 -pix_fmt yuv420p";
const PAL: (&str, u32) = ("25", 25);
const NTSC: (&str, u32) = ("30000/1001", 30);
const PLAIN: &str = "null";
const WHOLE: &str = "anull";
/// Most pictures between the flashes are left out, at no regular distance.
const VFR: &str =
    "select=lt(mod(n\\,7)\\,4)*gt(mod(n\\,11)\\,2)+eq(mod(n\\,25)\\,12)+eq(mod(n\\,25)\\,11)";

const CASES: &[Case] = &[
    Case::new("MP4, AAC 48 kHz", "a.mp4", PAL, PLAIN, ("48000", WHOLE), "-c:a aac"),
    Case::new("MP4, AAC 44.1 kHz", "b.mp4", NTSC, PLAIN, ("44100", WHOLE), "-c:a aac"),
    Case::new(
        "fragmented MP4, AAC 44.1 kHz",
        "c.mp4",
        PAL,
        PLAIN,
        ("44100", WHOLE),
        "-c:a aac -movflags frag_keyframe+delay_moov",
    ),
    Case::new("MPEG-TS, AAC 44.1 kHz", "d.ts", PAL, PLAIN, ("44100", WHOLE), "-c:a aac"),
    Case::new(
        "MPEG-TS, AC-3 48 kHz, starts at 30 s",
        "e.ts",
        NTSC,
        PLAIN,
        ("48000", WHOLE),
        "-c:a ac3 -output_ts_offset 30",
    ),
    Case::new("MKV, AAC 44.1 kHz", "f.mkv", PAL, PLAIN, ("44100", WHOLE), "-c:a aac"),
    Case::new("MKV, Opus", "g.mkv", NTSC, PLAIN, ("48000", WHOLE), "-c:a libopus"),
    Case::new("MKV, PCM 96 kHz", "h.mkv", PAL, PLAIN, ("96000", WHOLE), "-c:a pcm_s24le"),
    Case::new("MKV, Vorbis 44.1 kHz", "i.mkv", PAL, PLAIN, ("44100", WHOLE), "-c:a libvorbis"),
    Case::new(
        "MP4 VFR, AAC 44.1 kHz",
        "j.mp4",
        PAL,
        VFR,
        ("44100", WHOLE),
        "-c:a aac -fps_mode vfr",
    ),
    Case::new("MKV VFR, AAC 48 kHz", "k.mkv", PAL, VFR, ("48000", WHOLE), "-c:a aac -fps_mode vfr"),
    Case::new("FLV, AAC 44.1 kHz", "l.flv", PAL, PLAIN, ("44100", WHOLE), "-c:a aac"),
    Case::new("AVI, MP3 44.1 kHz", "m.avi", PAL, PLAIN, ("44100", WHOLE), "-c:a libmp3lame -bf 0"),
    Case::new(
        "MP4, sound from 0.3 s",
        "n.mp4",
        PAL,
        PLAIN,
        ("44100", "atrim=start=0.3"),
        "-c:a aac",
    ),
    Case::new(
        "MKV, picture from 0.7 s",
        "o.mkv",
        PAL,
        "trim=start=0.68",
        ("44100", WHOLE),
        "-c:a aac",
    ),
];

impl Case {
    const fn new(
        name: &'static str,
        file: &'static str,
        rate: (&'static str, u32),
        pictures: &'static str,
        sound: (&'static str, &'static str),
        output: &'static str,
    ) -> Self {
        Self { name, file, rate, pictures, sound, output }
    }

    fn make(&self, clips: &Clips, seconds: u32) -> std::path::PathBuf {
        let (rate, every) = self.rate;
        let Case { pictures, output, .. } = self;
        let (sound, filter) = self.sound;
        // The flash is picture 12 of each round; its time is a fraction that ffmpeg's expressions work out too.
        let (at, period) = (format!("12/({rate})"), format!("{every}/({rate})"));
        clips.make(
            self.file,
            &format!(
                "-f lavfi -i color=black:s=64x48:r={rate}:d={seconds},drawbox=c=white:t=fill:enable='eq(mod(n,{every}),12)' \
                 -f lavfi -i aevalsrc='0.8*sin(2*PI*1000*(t-{at}))*lt(mod(t-{at}+{period},{period}),0.1)':d={seconds}:s={sound} -vf {pictures} -af {filter} \
                 {X264} {output}"
            ),
        )
    }
}

/// Beep minus flash, for each flash.
fn offsets(flashes: &[i64], beeps: &[i64]) -> Vec<i64> {
    flashes
        .iter()
        .filter_map(|flash| {
            let nearest = beeps.iter().min_by_key(|beep| (*beep - flash).abs())?;
            Some(nearest - flash)
        })
        .collect()
}

struct Measured {
    name: &'static str,
    flashes: usize,
    first_us: i64,
    last_us: i64,
    worst_us: i64,
    /// Of the samples that speech recognition gets, against the pictures of the transcode.
    recognition_worst_us: i64,
}

fn measure(clips: &Clips, case: &Case, seconds: u32) -> Measured {
    let clip = case.make(clips, seconds);
    let said = transcode(&clip);
    let heard = Heard::of(clips, &said);
    let (mut flashes, shift_us) = flashes(clips, &said);
    // The file may end in the middle of the last beep, or just before it.
    let end_us = heard.start_us + heard.duration_ms() * 1000;
    flashes.retain(|flash| flash + 200_000 < end_us);
    let found = offsets(&flashes, &heard.onsets());
    let on_source: Vec<i64> = flashes.iter().map(|flash| flash - shift_us).collect();
    let recognition = offsets(&on_source, &recognition_onsets(&run(&clip, Task::ExtractAudio)));
    let worst = |offsets: &[i64]| offsets.iter().copied().max_by_key(|offset| offset.abs());
    Measured {
        name: case.name,
        flashes: flashes.len(),
        first_us: found[0],
        last_us: found[found.len() - 1],
        worst_us: worst(&found).unwrap(),
        recognition_worst_us: worst(&recognition).unwrap(),
    }
}

fn recognition_onsets(said: &Said) -> Vec<i64> {
    assert_eq!(said.failed, None);
    let samples: Vec<f32> = said
        .pcm
        .iter()
        .flat_map(|(_, samples)| samples.iter().map(|sample| f32::from(*sample) / 32_768.0))
        .collect();
    onsets(&samples, 16_000, said.pcm[0].0)
}

#[test]
fn flash_and_beep_come_out_together_to_the_end_of_every_container() {
    let seconds = setting("AV_SYNC_SECONDS").map_or(20, |text| text.parse().unwrap());
    let clips = Clips::new();
    let measured: Vec<Measured> = CASES.iter().map(|case| measure(&clips, case, seconds)).collect();
    if let Some(path) = setting("AV_SYNC_RESULTS") {
        let ms = |us: i64| f64::from(i32::try_from(us).unwrap()) / 1000.0;
        let rows: Vec<_> = measured
            .iter()
            .map(|row| {
                json!({
                    "source": row.name,
                    "flashes": row.flashes,
                    "first_ms": ms(row.first_us),
                    "last_ms": ms(row.last_us),
                    "worst_ms": ms(row.worst_us),
                    "recognition_worst_ms": ms(row.recognition_worst_us),
                })
            })
            .collect();
        std::fs::write(path, serde_json::to_vec(&rows).unwrap()).unwrap();
    }
    for row in &measured {
        let Measured { name, flashes, first_us, last_us, worst_us, recognition_worst_us } = row;
        let text = format!(
            "{name}: {first_us} µs at the start, {last_us} at the end, {worst_us} at worst, \
             {recognition_worst_us} for recognition"
        );
        assert!(*flashes >= seconds as usize - 2, "{name}: {flashes} flashes");
        assert!(worst_us.abs() <= MOST_US && recognition_worst_us.abs() <= MOST_US, "{text}");
    }
}

fn setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "how bench/av_sync.py asks for the long run")]
    std::env::var(name).ok()
}
