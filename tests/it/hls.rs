//! Opens a published video again with libav (through ffprobe) and holds it against what the playlists promise.

use std::collections::BTreeMap;
use std::process::Command;

use m3u8_rs::{MasterPlaylist, MediaPlaylist, Playlist};
use url::Url;

/// A published video, read back over HTTP as a player would.
pub(crate) struct Published {
    pub(crate) master: MasterPlaylist,
    /// By name: 480p, 720p, 1080p, audio.
    pub(crate) renditions: BTreeMap<String, Rendition>,
}

pub(crate) struct Rendition {
    pub(crate) url: Url,
    pub(crate) playlist: MediaPlaylist,
    pub(crate) packets: Vec<Packet>,
    /// `RFC 6381` string as the init segment's own boxes say, for a picture rendition.
    pub(crate) codecs_of_init: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) pts: f64,
    pub(crate) dts: f64,
    pub(crate) duration: f64,
    pub(crate) key: bool,
}

impl Published {
    pub(crate) async fn read(master_url: &Url) -> Self {
        let Playlist::MasterPlaylist(master) = parse(&get(master_url).await) else {
            panic!("{master_url} is no master playlist");
        };
        let uris = master.variants.iter().map(|variant| variant.uri.clone());
        let sounds = master
            .alternatives
            .iter()
            .filter(|media| media.media_type == m3u8_rs::AlternativeMediaType::Audio)
            .filter_map(|media| media.uri.clone());
        let mut renditions = BTreeMap::new();
        for uri in uris.chain(sounds) {
            let name = uri.trim_end_matches(".m3u8").to_owned();
            let url = master_url.join(&uri).expect("a relative URI");
            renditions.insert(name, Rendition::read(url).await);
        }
        Self { master, renditions }
    }

    /// The lowest rung's playlist while the video may still grow.
    pub(crate) async fn read_growing(master_url: &Url) -> MediaPlaylist {
        let Playlist::MasterPlaylist(master) = parse(&get(master_url).await) else {
            panic!("{master_url} is no master playlist");
        };
        let url = master_url.join(&master.variants[0].uri).expect("a relative URI");
        match parse(&get(&url).await) {
            Playlist::MediaPlaylist(playlist) => playlist,
            Playlist::MasterPlaylist(_) => panic!("{url} is no media playlist"),
        }
    }

    /// The picture renditions, lowest first.
    pub(crate) fn pictures(&self) -> Vec<(&str, &Rendition)> {
        let mut pictures: Vec<_> = self
            .renditions
            .iter()
            .filter(|(name, _)| name.as_str() != "audio")
            .map(|(name, rendition)| (name.as_str(), rendition))
            .collect();
        pictures
            .sort_by_key(|(name, _)| name.trim_end_matches('p').parse::<u32>().expect("e.g. 480p"));
        pictures
    }

    /// Everything that must hold of any published video whose presented duration is `seconds` (within `tolerance`).
    pub(crate) fn assert_sound(&self, seconds: f64, tolerance: f64) {
        for (name, rendition) in &self.renditions {
            assert!(rendition.playlist.end_list, "{name}: the playlist has no end");
            assert_eq!(rendition.playlist.target_duration, 4, "{name}: target duration");
            let listed: f64 =
                rendition.playlist.segments.iter().map(|segment| f64::from(segment.duration)).sum();
            assert!(
                (listed - seconds).abs() <= tolerance,
                "{name}: lists {listed} s of {seconds} s"
            );
            for segment in &rendition.playlist.segments {
                assert!(segment.duration < 4.5, "{name}: a segment of {} s", segment.duration);
            }
            rendition.assert_packets(name, seconds, tolerance);
        }
        self.assert_aligned();
        self.assert_codecs();
    }

    /// All picture renditions have their key frames, and are cut, at the same times.
    fn assert_aligned(&self) {
        let pictures = self.pictures();
        let Some((first_name, first)) = pictures.first() else { return };
        for (name, rendition) in &pictures[1..] {
            assert_eq!(rendition.key_times(), first.key_times(), "{name} against {first_name}");
            let cuts = |rendition: &Rendition| -> Vec<i64> {
                let durations = rendition.playlist.segments.iter().map(|segment| segment.duration);
                #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a short clip")]
                durations.map(|seconds| (f64::from(seconds) * 1000.0).round() as i64).collect()
            };
            assert_eq!(cuts(rendition), cuts(first), "{name} is cut elsewhere than {first_name}");
        }
    }

    /// The master's CODECS, RESOLUTION and BANDWIDTH are what the segments are.
    fn assert_codecs(&self) {
        for variant in &self.master.variants {
            let name = variant.uri.trim_end_matches(".m3u8");
            let codecs = variant.codecs.as_deref().expect("CODECS");
            if let Some(of_init) = &self.renditions[name].codecs_of_init {
                assert_eq!(codecs.split(',').next(), Some(of_init.as_str()), "{name}: CODECS");
            }
            let average = variant.average_bandwidth.expect("AVERAGE-BANDWIDTH");
            assert!(variant.bandwidth >= average, "{name}: peak {} < {average}", variant.bandwidth);
        }
    }
}

impl Rendition {
    async fn read(url: Url) -> Self {
        let Playlist::MediaPlaylist(playlist) = parse(&get(&url).await) else {
            panic!("{url} is no media playlist");
        };
        let map = playlist.segments[0].map.as_ref().expect("EXT-X-MAP");
        let init = get(&url.join(&map.uri).expect("a relative URI")).await;
        let packets = probe_packets(&url).await;
        Self { codecs_of_init: avc_codecs(&init), url, playlist, packets }
    }

    /// Times of the key frames in milliseconds.
    pub(crate) fn key_times(&self) -> Vec<i64> {
        let keys = self.packets.iter().filter(|packet| packet.key);
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a short clip")]
        keys.map(|packet| (packet.pts * 1000.0).round() as i64).collect()
    }

    /// Width and height, as a decoder sees them.
    pub(crate) fn dimensions(&self) -> (u32, u32) {
        let text = ffprobe(&["-show_entries", "stream=width,height", "-of", "csv=p=0"], &self.url);
        let line = text.lines().find(|line| line.contains(',')).expect("a picture stream");
        let mut numbers = line.split(',').map(|number| number.trim().parse().expect("a number"));
        (numbers.next().expect("width"), numbers.next().expect("height"))
    }

    fn assert_packets(&self, name: &str, seconds: f64, tolerance: f64) {
        assert!(!self.packets.is_empty(), "{name}: no packets");
        for pair in self.packets.windows(2) {
            assert!(pair[1].dts > pair[0].dts, "{name}: dts {} after {}", pair[1].dts, pair[0].dts);
        }
        let start = self.packets.iter().map(|packet| packet.pts).fold(f64::INFINITY, f64::min);
        let end = self
            .packets
            .iter()
            .map(|packet| packet.pts + packet.duration)
            .fold(f64::NEG_INFINITY, f64::max);
        let lasts = end - start;
        assert!((lasts - seconds).abs() <= tolerance, "{name}: plays {lasts} s of {seconds} s");
    }
}

async fn get(url: &Url) -> Vec<u8> {
    let response = reqwest::get(url.clone()).await.expect("the object can be fetched");
    assert_eq!(response.status(), 200, "{url}");
    response.bytes().await.expect("the whole body").to_vec()
}

fn parse(bytes: &[u8]) -> Playlist {
    m3u8_rs::parse_playlist_res(bytes).expect("a playlist that parses")
}

async fn probe_packets(url: &Url) -> Vec<Packet> {
    let url = url.clone();
    #[expect(clippy::disallowed_methods, reason = "awaited to its end right here")]
    let text = tokio::task::spawn_blocking(move || {
        let entries = "packet=pts_time,dts_time,duration_time,flags";
        ffprobe(&["-show_entries", entries, "-of", "json"], &url)
    })
    .await
    .expect("ffprobe ends");
    let probed: serde_json::Value = serde_json::from_str(&text).expect("ffprobe writes JSON");
    let packets = probed["packets"].as_array().expect("packets").iter();
    packets
        .map(|packet| {
            let number = |name: &str| packet[name].as_str().and_then(|text| text.parse().ok());
            Packet {
                pts: number("pts_time").expect("a pts"),
                dts: number("dts_time").expect("a dts"),
                duration: number("duration_time").unwrap_or(0.0),
                key: packet["flags"].as_str().is_some_and(|flags| flags.starts_with('K')),
            }
        })
        .collect()
}

fn ffprobe(arguments: &[&str], url: &Url) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error"])
        .args(arguments)
        .arg(url.as_str())
        .output()
        .expect("ffprobe is on the PATH: make test installs it");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "ffprobe {url}: {complaints}");
    String::from_utf8(output.stdout).expect("text")
}

/// `avc1.PPCCLL` from the `avcC` box: profile, constraints and level are its second to fourth byte (ISO 14496-15).
fn avc_codecs(init: &[u8]) -> Option<String> {
    let at = init.windows(4).position(|window| window == b"avcC")?;
    let [_, profile, constraints, level] = init.get(at + 4..at + 8)?.try_into().ok()?;
    Some(format!("avc1.{profile:02x}{constraints:02x}{level:02x}"))
}
