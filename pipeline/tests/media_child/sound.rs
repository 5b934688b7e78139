//! Sound of every shape that people upload, judged by what is heard: decoded samples, their level, pitch and time.

use std::f32::consts::FRAC_1_SQRT_2 as HALF_POWER;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use pipeline::media::protocol::{RenditionKind, Task};
use pipeline::video::FailureCause;

use crate::clips::{Clips, Said, run, transcode};
use crate::heard::{Heard, pitch, rms};

const X264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";
/// A tenth of a second of tone at 1 s, 2 s and so on, and silence else.
const BEEPS: &str = "0.8*sin(2*PI*1000*t)*lt(mod(t,1),0.1)*gte(t,0.5)";

fn heard(clips: &Clips, source: &Path) -> Heard {
    Heard::of(clips, &transcode(source))
}

#[track_caller]
fn near(found: f32, expected: f32, what: &str) {
    assert!((found - expected).abs() <= 0.02 + expected * 0.05, "{what}: {found}, not {expected}");
}

/// Absolute times of a file may be off by what its container cannot say of the encoder's priming; picture and sound are
/// then off together, and `sync.rs` measures how they stand to each other.
#[track_caller]
fn at(found: &[i64], expected_ms: &[i64], most_ms: i64, what: &str) {
    assert_eq!(found.len(), expected_ms.len(), "{what}: {found:?}");
    for (found, expected) in found.iter().zip(expected_ms) {
        let off = (found - expected * 1000).abs();
        assert!(off <= most_ms * 1000, "{what}: {found} µs, not {expected} ms");
    }
}

/// One expression per channel.
fn channels(clips: &Clips, layout: &str, expressions: &[&str]) -> PathBuf {
    clips.make(
        &format!("{layout}.wav"),
        &format!(
            "-f lavfi -i aevalsrc='{}':c={layout}:s=48000:d=3 -c:a pcm_f32le",
            expressions.join("|")
        ),
    )
}

/// What is left for an encoder that gives peaks back a little higher than it got them.
const HEADROOM: f32 = 0.89;

/// Everything as loud as it goes, at the same time: the worst that a mix can be given.
#[test]
fn surround_that_is_loud_everywhere_does_not_clip() {
    let clips = Clips::new();
    for (layout, count) in
        [("5.1", 6), ("5.1(side)", 6), ("6.1", 7), ("7.1", 8), ("quad", 4), ("3.0", 3)]
    {
        let heard = heard(&clips, &channels(&clips, layout, &vec!["sin(2*PI*440*t)"; count]));
        assert_eq!(heard.channels.len(), 2, "{layout}");
        let peak = heard.peak();
        assert!(peak <= 1.0, "{layout}: a peak of {peak}");
        // And all of it but one decibel is there: nothing is squeezed, and nothing lost.
        for channel in 0..2 {
            let level = rms(heard.between(channel, 500, 2500));
            near(level, HALF_POWER * HEADROOM, layout);
        }
    }
}

/// Where each speaker of 5.1 and 7.1 is heard, by the usual rule: centre and surround at −3 dB, all scaled to fit; no LFE.
#[test]
fn every_speaker_of_surround_is_heard_on_its_side() {
    let clips = Clips::new();
    let (side, half) = (1.0 / (1.0 + 2.0 * HALF_POWER), HALF_POWER / (1.0 + 2.0 * HALF_POWER));
    let (wide, narrow) = (1.0 / (1.0 + 3.0 * HALF_POWER), HALF_POWER / (1.0 + 3.0 * HALF_POWER));
    let (off, tone) = ("0", "0.8*sin(2*PI*440*t)");
    for (layout, count, speaker, left, right) in [
        ("5.1", 6, 0, side, 0.0),
        ("5.1", 6, 1, 0.0, side),
        ("5.1", 6, 2, half, half),
        ("5.1", 6, 3, 0.0, 0.0),
        ("5.1", 6, 4, half, 0.0),
        ("5.1", 6, 5, 0.0, half),
        ("7.1", 8, 0, wide, 0.0),
        ("7.1", 8, 2, narrow, narrow),
        ("7.1", 8, 3, 0.0, 0.0),
        ("7.1", 8, 7, 0.0, narrow),
    ] {
        let mut expressions = vec![off; count];
        expressions[speaker] = tone;
        let heard = heard(&clips, &channels(&clips, layout, &expressions));
        for (channel, share) in [(0, left), (1, right)] {
            let level = rms(heard.between(channel, 500, 2500));
            near(
                level,
                0.8 * HALF_POWER * HEADROOM * share,
                &format!("{layout}, speaker {speaker}, side {channel}"),
            );
        }
    }
}

#[test]
fn one_channel_stays_one_and_as_loud_and_two_stay_apart() {
    let clips = Clips::new();
    let mono = heard(&clips, &channels(&clips, "mono", &["0.5*sin(2*PI*440*t)"]));
    assert_eq!(mono.channels.len(), 1);
    near(rms(mono.between(0, 500, 2500)), 0.354, "mono");
    let stereo = heard(&clips, &channels(&clips, "stereo", &["0.5*sin(2*PI*440*t)", "0"]));
    assert_eq!(stereo.channels.len(), 2);
    near(rms(stereo.between(0, 500, 2500)), 0.354, "left");
    near(rms(stereo.between(1, 500, 2500)), 0.0, "right");
}

#[test]
fn every_rate_keeps_pitch_level_and_length() {
    let clips = Clips::new();
    for rate in [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000] {
        let clip = clips.make(
            &format!("{rate}.wav"),
            &format!("-f lavfi -i aevalsrc='0.5*sin(2*PI*1000*t)':s={rate}:d=3"),
        );
        let heard = heard(&clips, &clip);
        let middle = heard.between(0, 500, 2500);
        near(rms(middle), 0.354, &format!("{rate} Hz"));
        assert!((pitch(middle) - 1000).abs() <= 2, "{rate} Hz: {}", pitch(middle));
        assert!((heard.duration_ms() - 3_021).abs() <= 45, "{rate} Hz: {}", heard.duration_ms());
    }
}

#[test]
fn files_of_nothing_but_sound_are_heard_whole_and_on_time() {
    let clips = Clips::new();
    for (name, options) in [
        ("a.mp3", "-c:a libmp3lame"),
        ("b.flac", "-c:a flac"),
        ("c.wav", "-c:a pcm_s24le"),
        ("d.wav", "-c:a pcm_u8"),
        ("e.ogg", "-c:a libvorbis"),
        ("f.ogg", "-ar 48000 -c:a libopus"),
        ("g.m4a", "-c:a aac"),
        ("i.mka", "-c:a libvorbis"),
        ("j.webm", "-ar 48000 -c:a libopus"),
        ("k.mov", "-c:a pcm_s16be"),
        ("l.mka", "-c:a ac3"),
        ("m.mkv", "-c:a eac3"),
    ] {
        let clip =
            clips.make(name, &format!("-f lavfi -i aevalsrc='{BEEPS}':s=44100:d=5.05 {options}"));
        let said = transcode(&clip);
        assert_eq!(said.renditions.keys().collect::<Vec<_>>(), ["audio"], "{name}");
        let heard = Heard::of(&clips, &said);
        at(&heard.source_onsets(), &[1000, 2000, 3000, 4000, 5000], 8, name);
        let channel = &heard.channels[0];
        assert!((heard.duration_ms() - 5_071).abs() <= 65, "{name}: {}", heard.duration_ms());
        assert!(rms(&channel[channel.len() - 480..]) < 0.6, "{name} is cut");
        near(rms(heard.between(0, 2010, 2090)), 0.566, name);
    }
}

/// What an encoder puts before the first sample is in no container part of the sound.
#[test]
fn the_priming_of_the_source_is_not_heard() {
    let clips = Clips::new();
    for (name, options) in [
        ("aac.mp4", "-c:a aac"),
        ("opus.mkv", "-ar 48000 -c:a libopus"),
        ("opus.ogg", "-ar 48000 -c:a libopus"),
        ("vorbis.ogg", "-c:a libvorbis"),
        ("mp3.mp3", "-c:a libmp3lame"),
    ] {
        // A burst at the very beginning: if priming came before it, so would silence.
        let clip = clips.make(
            name,
            &format!("-f lavfi -i aevalsrc='0.8*sin(2*PI*1000*t)*lt(mod(t,1),0.1)':s=44100:d=2.5 {options}"),
        );
        at(&heard(&clips, &clip).source_onsets(), &[0, 1000, 2000], 8, name);
    }
    // Apple's encoder declares 2,112 samples.
    let clip =
        clips.make("apple.mp4", &format!("-f lavfi -i aevalsrc='{BEEPS}':s=44100:d=2.5 -c:a aac"));
    let mut bytes = std::fs::read(&clip).unwrap();
    let list = bytes.windows(4).position(|w| w == b"elst").unwrap();
    let media_time = list + 4 + 4 + 4 + 4;
    assert_eq!(bytes[media_time..media_time + 4], 1024_u32.to_be_bytes());
    bytes[media_time..media_time + 4].copy_from_slice(&2112_u32.to_be_bytes());
    let onsets = heard(&clips, &clips.write("apple.mp4", &bytes)).source_onsets();
    let earlier_ms = (2112 - 1024) * 1000 / 44_100;
    at(&onsets, &[1000 - earlier_ms, 2000 - earlier_ms], 2, "2,112 samples");
}

#[test]
fn sound_that_begins_later_or_earlier_than_the_picture_keeps_its_time() {
    let clips = Clips::new();
    let picture = "-f lavfi -i testsrc2=320x240:r=25:d=5";
    let sound = format!("-f lavfi -i aevalsrc='{BEEPS}':s=44100:d=5");
    for (name, filters, expected) in [
        ("late.mp4", "-af atrim=start=1.5", vec![2000, 3000, 4000]),
        ("late.mkv", "-af atrim=start=1.5", vec![2000, 3000, 4000]),
        ("late.ts", "-af atrim=start=1.5", vec![2000, 3000, 4000]),
        ("early.mp4", "-vf trim=start=1.52", vec![1000, 2000, 3000, 4000]),
        ("early.mkv", "-vf trim=start=1.52", vec![1000, 2000, 3000, 4000]),
    ] {
        let clip = clips.make(name, &format!("{picture} {sound} {filters} {X264} -c:a aac"));
        let said = transcode(&clip);
        at(&Heard::of(&clips, &said).source_onsets(), &expected, 25, name);
        assert_eq!(said.renditions["480p"].segments[0].start_us, 0, "{name}");
    }
}

/// A recorder that stops writing sound where nobody speaks, for less and for more than any bound here.
#[test]
fn gaps_in_the_sound_are_silence_of_the_same_length() {
    let clips = Clips::new();
    for (name, from, to, expected) in [
        ("five.mkv", 2, 7, vec![1000, 7000, 8000]),
        ("fourteen.mkv", 2, 16, vec![1000, 16_000, 17_000]),
    ] {
        let seconds = to + 2;
        let clip = clips.make(
            name,
            &format!(
                "-f lavfi -i testsrc2=160x120:r=10:d={seconds} -f lavfi -i aevalsrc='{BEEPS}':s=48000:d={seconds} \
                 -af asetnsamples=480,aselect='lt(t,{from})+gte(t,{to})' {X264} -c:a pcm_s16le"
            )
        );
        let said = transcode(&clip);
        let heard = Heard::of(&clips, &said);
        at(&heard.source_onsets(), &expected, 3, name);
        let hole = heard.between(0, from * 1000 + 100, to * 1000 - 100);
        assert!(rms(hole) < 0.001, "{name}: {}", rms(hole));
        assert!(
            said.done.unwrap().duration_ms.abs_diff(u64::try_from(seconds).unwrap() * 1000) < 150
        );
    }
}

fn joined(clips: &Clips, name: &str, parts: &[PathBuf]) -> PathBuf {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| std::fs::read(part).unwrap()).collect();
    clips.write(name, &bytes)
}

/// Two recordings, one after the other in a file, each with a clock of its own that starts at the same time.
#[test]
fn a_clock_that_starts_again_loses_neither_picture_nor_sound() {
    let clips = Clips::new();
    let part = |name: &str, seconds: i64| {
        clips.make(
            name,
            &format!(
                "-f lavfi -i color=black:s=64x48:r=25:d={seconds},drawbox=c=white:t=fill:enable='eq(mod(n,25),12)' \
                 -f lavfi -i aevalsrc='0.8*sin(2*PI*1000*(t-0.48))*lt(mod(t+0.52,1),0.1)':s=48000:d={seconds} {X264} -c:a ac3"
            ),
        )
    };
    for seconds in [4, 12] {
        let clip = joined(&clips, "twice.ts", &[part("a.ts", seconds), part("b.ts", seconds)]);
        let said = transcode(&clip);
        let heard = Heard::of(&clips, &said);
        let (flashes, _) = crate::heard::flashes(&clips, &said);
        let beeps = heard.onsets();
        let count = usize::try_from(seconds * 2).unwrap();
        assert_eq!((flashes.len(), beeps.len()), (count, count), "{seconds} s twice");
        for (flash, beep) in flashes.iter().zip(&beeps) {
            assert!((flash - beep).abs() <= 25_000, "{seconds} s: {flash} and {beep}");
        }
        let duration_ms = i64::try_from(said.done.unwrap().duration_ms).unwrap();
        assert!((duration_ms - seconds * 2000).abs() < 200, "{duration_ms}");
    }
}

#[test]
fn rate_and_channels_may_change_on_the_way() {
    let clips = Clips::new();
    let part = |name: &str, rate: u32, count: u32, offset: u32| {
        clips.make(
            name,
            &format!(
                "-f lavfi -i aevalsrc='{BEEPS}':s={rate}:d=3 -ac {count} -c:a ac3 -output_ts_offset {offset}"
            ),
        )
    };
    let clip = joined(
        &clips,
        "changing.ts",
        &[part("a.ts", 44_100, 2, 0), part("b.ts", 48_000, 1, 3), part("c.ts", 32_000, 6, 6)],
    );
    let heard = heard(&clips, &clip);
    assert_eq!(heard.channels.len(), 2);
    at(&heard.source_onsets(), &[1000, 2000, 4000, 5000, 7000, 8000], 12, "changing");
    let loud = |ms: i64| rms(heard.between(0, ms + 10, ms + 90));
    near(loud(2000), 0.566 * HALF_POWER, "stereo made of mono");
    // One speaker's power on two: 3 dB less on each.
    near(loud(5000), 0.566 * HALF_POWER, "mono in the middle of stereo");
}

/// `default` marks the track, else it is the first; the one with more channels is not the better one.
#[test]
fn of_several_sound_tracks_the_default_is_taken_else_the_first() {
    let clips = Clips::new();
    for (name, marks, expected) in [
        ("second.mkv", "-disposition:a:0 0 -disposition:a:1 default", 880),
        ("first.mkv", "-disposition:a:0 default -disposition:a:1 0", 440),
        ("none.mkv", "-disposition:a:0 0 -disposition:a:1 0 -default_mode passthrough", 440),
        ("both.mp4", "", 440),
    ] {
        let clip = clips.make(
            name,
            &format!(
                "-f lavfi -i aevalsrc='0.5*sin(2*PI*440*t)':s=48000:d=2:c=mono \
                 -f lavfi -i aevalsrc='0.5*sin(2*PI*880*t)|0.5*sin(2*PI*880*t)':s=48000:d=2:c=stereo -map 0 -map 1 -c:a aac {marks}"
            ),
        );
        let heard = heard(&clips, &clip);
        assert!((pitch(heard.between(0, 500, 1500)) - expected).abs() <= 2, "{name}");
        let pcm = run(&clip, Task::ExtractAudio).pcm;
        let crossings = pcm[0].1.windows(2).filter(|s| (s[0] < 0) != (s[1] < 0)).count();
        assert!(
            crossings.abs_diff(usize::try_from(expected * 2).unwrap()) <= 6,
            "{name}: {crossings}"
        );
    }
}

/// Bytes out of step make float samples of any size, and some that are no numbers. The rest is heard, and in no time.
#[test]
fn samples_beyond_all_measure_are_no_bomb() {
    let clips = Clips::new();
    let clip = channels(&clips, "stereo", &["0.5*sin(2*PI*440*t)"; 2]);
    let mut bytes = std::fs::read(clip).unwrap();
    let data = bytes.windows(4).position(|w| w == b"data").unwrap() + 8;
    // From the second second on, one byte too many.
    bytes.insert(data + 48_000 * 8, 0x7f);
    bytes[data + 24_000 * 8..data + 24_000 * 8 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let begun = std::time::Instant::now();
    let heard = heard(&clips, &clips.write("shifted.wav", &bytes));
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    near(rms(heard.between(0, 550, 950)), 0.354, "what is whole");
    assert!((heard.duration_ms() - 3_021).abs() <= 45, "{}", heard.duration_ms());
}

/// A WAV file of the oldest kind says how many channels there are, and not where their speakers stand.
fn channels_without_places(count: u16) -> Vec<u8> {
    let (rate, seconds) = (48_000_u32, 1);
    let block = count * 2;
    let data = u32::from(block) * rate * seconds;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + data).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend(1_u16.to_le_bytes());
    wav.extend(count.to_le_bytes());
    wav.extend(rate.to_le_bytes());
    wav.extend((rate * u32::from(block)).to_le_bytes());
    wav.extend(block.to_le_bytes());
    wav.extend(16_u16.to_le_bytes());
    wav.extend(b"data");
    wav.extend(data.to_le_bytes());
    let samples = (0..rate * seconds).flat_map(|n| {
        // A square wave of 480 Hz.
        let sample: i16 = if n / 50 % 2 == 0 { 16_000 } else { -16_000 };
        std::iter::repeat_n(sample.to_le_bytes(), count.into()).flatten()
    });
    wav.extend(samples);
    wav
}

#[test]
fn channels_without_names_are_heard_or_refused_in_words() {
    let clips = Clips::new();
    let mut refused = String::new();
    for count in (1..=10).chain([12, 16, 17, 24, 32, 63, 64, 200]) {
        let wav = clips.write("plain.wav", &channels_without_places(count));
        for said in [transcode(&wav), run(&wav, Task::ExtractAudio)] {
            match &said.failed {
                None => check_heard(&clips, &said, count),
                Some((cause, detail)) => {
                    assert_eq!(*cause, FailureCause::UnsupportedFormat, "{count}: {detail}");
                    assert!(detail.contains(&count.to_string()), "{detail}");
                    write!(refused, "{count} ").unwrap();
                }
            }
        }
    }
    assert_eq!(refused, "64 64 200 200 ", "more than libav mixes");
}

fn check_heard(clips: &Clips, said: &Said, count: u16) {
    if said.renditions.is_empty() {
        assert!(
            said.pcm[0].1.iter().any(|sample| sample.unsigned_abs() > 1_000),
            "{count}: no sound"
        );
        return;
    }
    let heard = Heard::of(clips, said);
    let expected = if count == 1 { 1 } else { 2 };
    let RenditionKind::Audio { channels, .. } = said.renditions["audio"].kind else { panic!() };
    assert_eq!(channels, expected, "{count} channels");
    for channel in 0..usize::from(expected) {
        assert!(rms(heard.between(channel, 200, 800)) > 0.1, "{count} channels, {channel}");
    }
    assert!(heard.peak() <= 1.0, "{count} channels: {}", heard.peak());
}
