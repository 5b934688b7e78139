//! Files that want something else than to be watched, through the real child: a table of what each is and how it ends.
//! Nothing leaves, nothing beside the file is read, nothing waits, and no refusal takes more memory than a clip would.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pipeline::media::cage::Sandbox;
use pipeline::media::protocol::{Limits, Message, Request, Task};
use pipeline::media::{Media, MediaConfig, MediaError};
use pipeline::video::{FailureCause, MediaFacts};
use tempfile::TempDir;

use crate::support::clipstream;

const VIDEO: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";
/// Nobody may read it, so it may stand in no message.
const CANARY: &str = "the-canary-sang-5e1f0c7a";
const PLENTY: Duration = Duration::from_mins(2);
/// A child that refuses has hardly more than its libraries.
const LITTLE_MIB: u64 = 160;
/// What any file may take.
const MOST_MIB: u64 = 768;

/// A directory with traps in it: a canary of text, one that would play, and listeners that must stay alone.
struct Traps {
    directory: TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Traps {
    fn new() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        tcp.set_nonblocking(true).expect("a listener that does not wait");
        // SDP names the port where packets should come in: whoever follows it takes the port.
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        udp.set_nonblocking(true).expect("a socket that does not wait");
        let traps = Self { directory: tempfile::tempdir().expect("a directory"), tcp, udp };
        fs::write(traps.path("canary.txt"), CANARY).expect("a canary");
        traps.make("canary.ts", &format!("-f lavfi -i testsrc2=320x240:r=25:d=1 {VIDEO}"));
        traps
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file");
        path
    }

    fn make(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-y"])
            .args(arguments.split_whitespace())
            .arg(&path)
            .output()
            .expect("ffmpeg is on the PATH: make test installs it");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        path
    }

    fn bytes(&self, name: &str, arguments: &str) -> Vec<u8> {
        fs::read(self.make(name, arguments)).expect("what ffmpeg made")
    }

    fn url(&self) -> String {
        format!("http://{}/canary.ts", self.tcp.local_addr().expect("bound"))
    }

    #[track_caller]
    fn nobody_came(&self, name: &str) {
        let came = self.tcp.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock), "{name} reached the network");
        let came = self.udp.recv(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock), "{name} sent a packet");
    }
}

/// How a child ended.
struct Ended {
    facts: Option<MediaFacts>,
    end: Result<MediaFacts, (FailureCause, String)>,
    peak_mib: u64,
    took: Duration,
}

/// The whole of it: our binary as the child, the parent's side as the worker has it, and an eye on its memory.
async fn run(traps: &Traps, file: &Path, task: Task) -> Ended {
    let pid_file = traps.path("pid");
    let program = traps.path("media-child.sh");
    // The same process becomes the child, so that its number is known.
    let script = format!(
        "#!/bin/sh\necho $$ > {}\nexec {} \"$@\"\n",
        pid_file.display(),
        clipstream().display()
    );
    if !program.exists() {
        let text = traps.write("script", script.as_bytes());
        let copied = Command::new("install").args(["-m", "700"]).arg(text).arg(&program).status();
        assert!(copied.expect("install is there").success());
    }
    fs::remove_file(&pid_file)
        .or_else(|error| match error.kind() {
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .expect("an old number can be removed");

    let sandbox = Sandbox::Required;
    let media = Media::new(MediaConfig { program, limits: Limits::default(), sandbox });
    let memory = Memory::watch(pid_file);
    let begun = Instant::now();
    let request = Request { limits: media.limits().clone(), task };
    let input = fs::read(file).expect("the file");
    let mut child = media.start(request, input, PLENTY).await.expect("a start");
    let (mut facts, mut done) = (None, None);
    let end = loop {
        match child.next().await {
            Ok(Some((Message::Facts(found), _))) => facts = Some(found),
            Ok(Some((Message::Done(found), _))) => done = Some(found),
            Ok(Some(_)) => {}
            Ok(None) => break Ok(done.expect("the last word")),
            Err(MediaError::Failed { cause, detail }) => break Err((cause, detail)),
            Err(error) => panic!("{}: {error}", file.display()),
        }
    };
    Ended { facts, end, peak_mib: memory.peak_mib(), took: begun.elapsed() }
}

/// The high-water mark of a process, read until it is gone.
struct Memory {
    stop: Arc<AtomicBool>,
    peak_kib: Arc<AtomicU64>,
    reader: thread::JoinHandle<()>,
}

impl Memory {
    fn watch(pid_file: PathBuf) -> Self {
        let (stop, peak_kib) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, peak) = (Arc::clone(&stop), Arc::clone(&peak_kib));
        let reader = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(found) = high_water_kib(&pid_file) {
                    peak.fetch_max(found, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, peak_kib, reader }
    }

    fn peak_mib(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.join().expect("the reader did not panic");
        let peak_mib = self.peak_kib.load(Ordering::Relaxed) / 1024;
        assert!(peak_mib > 0, "the child was never seen");
        peak_mib
    }
}

fn high_water_kib(pid_file: &Path) -> Option<u64> {
    let pid = fs::read_to_string(pid_file).ok()?;
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs a file that must be refused for this cause, at once and in little memory.
async fn refused(traps: &Traps, name: &str, bytes: &[u8], cause: FailureCause) -> String {
    let file = traps.write(&format!("{name}.mp4"), bytes);
    let ended = run(traps, &file, Task::Transcode).await;
    traps.nobody_came(name);
    let (found, detail) = ended.end.expect_err(name);
    assert_eq!(found, cause, "{name}: {detail}");
    assert!(!detail.contains(CANARY), "{name} read the canary: {detail}");
    assert!(ended.peak_mib <= LITTLE_MIB, "{name} took {} MiB", ended.peak_mib);
    assert!(ended.took < Duration::from_secs(30), "{name} took {:?}", ended.took);
    detail
}

/// What each text wants to be opened, and under which names.
fn texts(traps: &Traps) -> Vec<(&'static str, String)> {
    let url = traps.url();
    let canary = traps.path("canary.txt").display().to_string();
    let local = traps.path("canary.ts").display().to_string();
    let (tcp, udp) = (
        traps.tcp.local_addr().expect("bound").port(),
        traps.udp.local_addr().expect("bound").port(),
    );
    let hls = |target: &str| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n")
    };
    vec![
        ("hls-file", hls(&format!("file://{canary}"))),
        ("hls-local", hls(&local)),
        ("hls-relative", hls("canary.ts")),
        ("hls-http", hls(&url)),
        ("hls-concat", hls(&format!("concat:{url}|file:{canary}"))),
        (
            "dash",
            format!(
                "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" \
                 profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\" type=\"static\" \
                 mediaPresentationDuration=\"PT2S\"><Period><AdaptationSet mimeType=\"video/mp4\">\
                 <Representation id=\"1\" bandwidth=\"1\"><BaseURL>{url}</BaseURL><SegmentBase/>\
                 </Representation></AdaptationSet></Period></MPD>"
            ),
        ),
        ("ffconcat-absolute", format!("ffconcat version 1.0\nfile '{local}'\n")),
        ("ffconcat-relative", "ffconcat version 1.0\nfile 'canary.ts'\n".into()),
        (
            "sdp",
            format!(
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                 m=video {udp} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            ),
        ),
        ("svg", format!("<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"{url}\"/></svg>")),
        ("rtsp", format!("RTSPtextRTSP://127.0.0.1:{tcp}/x")),
        ("text", format!("{CANARY} is what this text says\n")),
        ("srt", format!("1\n00:00:01,000 --> 00:00:02,000\n<img src=\"{url}\">{CANARY}\n\n")),
    ]
}

#[tokio::test]
async fn a_text_that_names_something_else_is_refused() {
    let traps = Traps::new();
    for (name, text) in texts(&traps) {
        refused(&traps, name, text.as_bytes(), FailureCause::UnsupportedFormat).await;
    }
}

/// The same behind bytes that are no text: what the sniffer cannot see, libav's lists must refuse.
#[tokio::test]
async fn a_text_in_disguise_is_refused_too() {
    let traps = Traps::new();
    for (name, text) in texts(&traps) {
        let disguised = [text.as_bytes(), &[0, 1, 2, 0xff, 0xfe, 0x80]].concat();
        refused(&traps, name, &disguised, FailureCause::UnsupportedFormat).await;
    }
}

#[tokio::test]
async fn what_is_no_video_is_refused() {
    let traps = Traps::new();
    let picture = "-f lavfi -i testsrc2=64x64 -frames:v 1";
    let clip = "-f lavfi -i testsrc2=64x64:r=25:d=1";
    let unsupported = FailureCause::UnsupportedFormat;
    for (name, arguments) in [
        ("a.png", picture.to_owned()),
        ("a.jpg", picture.to_owned()),
        ("a.gif", picture.to_owned()),
        ("a.webp", picture.to_owned()),
        ("a.bmp", picture.to_owned()),
        ("a.tiff", picture.to_owned()),
        // Containers that are not on the list, with what would be accepted in others.
        ("a.nut", format!("{clip} {VIDEO}")),
        ("a.y4m", format!("{clip} -pix_fmt yuv420p")),
        ("a.asf", format!("{clip} -c:v mpeg4")),
        ("a.gxf", "-f lavfi -i testsrc2=720x576:r=25:d=1 -c:v mpeg2video".to_owned()),
        ("a.caf", "-f lavfi -i sine=d=1 -c:a pcm_s16be".to_owned()),
        ("a.aiff", "-f lavfi -i sine=d=1".to_owned()),
    ] {
        let bytes = traps.bytes(name, &arguments);
        refused(&traps, name, &bytes, unsupported).await;
    }
    let noise: Vec<u8> =
        (0..1_u64 << 19).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    refused(&traps, "noise", &noise, unsupported).await;
    refused(&traps, "zeros", &vec![0; 1 << 16], unsupported).await;
    refused(&traps, "empty", b"", FailureCause::EmptyFile).await;
    let whole = traps.bytes("whole.mp4", &format!("{clip} {VIDEO}"));
    let index = find(&whole, b"moov");
    refused(&traps, "headless", &whole[..index - 4], FailureCause::Corrupt).await;
}

/// A movie may say that the samples are in another file.
#[tokio::test]
async fn references_to_other_files_are_not_followed() {
    let traps = Traps::new();
    let clip = "-f lavfi -i testsrc2=160x120:r=25:d=1";
    let movie = traps.bytes("movie.mov", &format!("{clip} {VIDEO}"));
    let canary = traps.path("canary.ts").display().to_string();

    let mut by_url = movie.clone();
    let url = format!("file://{canary}\0");
    replace_reference(&mut by_url, b"url ", url.as_bytes());
    let file = traps.write("url.mp4", &by_url);
    let ended = run(&traps, &file, Task::Transcode).await;
    traps.nobody_came("dref url");
    // It has all its samples itself, and so it plays: nothing else was opened for it.
    assert_eq!(ended.end.map(|facts| facts.duration_ms), Ok(1000));

    let mut by_alias = movie.clone();
    let path = canary.as_bytes();
    let mut alias = vec![0; 10 + 1 + 27 + 12];
    alias.extend([6]);
    alias.extend(b"canary");
    alias.resize(10 + 1 + 27 + 12 + 1 + 63 + 16, 0);
    alias.extend(2_u16.to_be_bytes());
    alias.extend(u16::try_from(path.len()).expect("short").to_be_bytes());
    alias.extend(path);
    alias.resize(alias.len() + path.len() % 2, 0);
    alias.extend([0xff, 0xff, 0, 0]);
    replace_reference(&mut by_alias, b"alis", &alias);
    let file = traps.write("alias.mp4", &by_alias);
    let ended = run(&traps, &file, Task::Transcode).await;
    traps.nobody_came("dref alis");
    let (cause, detail) = ended.end.expect_err("its samples are elsewhere");
    assert!(matches!(cause, FailureCause::Corrupt | FailureCause::Truncated), "{cause}: {detail}");
    assert!(!detail.contains("canary"), "{detail}");
}

#[tokio::test]
async fn bombs_are_refused_by_their_numbers_before_they_take_memory() {
    let traps = Traps::new();
    let limit = FailureCause::LimitExceeded;
    // 420 KB that would be 768 MiB.
    let huge = traps.bytes(
        "huge.mkv",
        "-f lavfi -i color=black:s=16384x8704:r=25 -frames:v 2 -c:v libx264 -preset ultrafast \
         -pix_fmt yuv420p -threads 1 -x264-params rc-lookahead=0:threads=1",
    );
    let detail = refused(&traps, "huge", &huge, limit).await;
    assert!(detail.contains("16384×8704") && detail.contains("8192×4320"), "{detail}");
    let day =
        traps.bytes("day.mov", &format!("-f lavfi -i color=black:s=64x64:r=1:d=86400 {VIDEO}"));
    assert!(refused(&traps, "day", &day, limit).await.contains("86400 s"));
    let fast = traps.bytes("fast.mov", &format!("-f lavfi -i testsrc2=64x64:r=2000:d=1 {VIDEO}"));
    assert!(refused(&traps, "fast", &fast, limit).await.contains("2000 pictures"));
    let maps = "-map 0 ".repeat(200);
    let streams =
        traps.bytes("streams.mkv", &format!("-f lavfi -i sine=d=0.2:r=8000 {maps} -c:a pcm_s16le"));
    assert!(refused(&traps, "streams", &streams, limit).await.contains("16 streams"));
}

/// The container lies about the size and the stream knows better, or the other way round.
#[tokio::test]
async fn a_size_that_only_the_header_has_costs_nothing() {
    let traps = Traps::new();
    let mut clip =
        traps.bytes("clip.mov", &format!("-f lavfi -i testsrc2=160x120:r=25:d=1 {VIDEO}"));
    let entry = find(&clip, b"avc1");
    clip[entry + 28..entry + 32].copy_from_slice(&[0x7f, 0xff, 0x7f, 0xff]);
    let file = traps.write("patched.mp4", &clip);
    let ended = run(&traps, &file, Task::Transcode).await;
    assert!(ended.peak_mib <= MOST_MIB / 2, "{} MiB", ended.peak_mib);
    match ended.end {
        // The stream's own size wins, and is what the result has.
        Ok(facts) => {
            assert_eq!(facts.video.map(|video| (video.width, video.height)), Some((160, 120)));
        }
        Err((cause, detail)) => assert_eq!(cause, FailureCause::LimitExceeded, "{detail}"),
    }
    assert!(ended.facts.is_none_or(|facts| facts.video.is_some_and(|video| video.width == 160)));
}

/// A thousand pictures per second are accepted, and bounded where they cost.
#[tokio::test]
async fn what_is_accepted_stays_within_its_memory() {
    let traps = Traps::new();
    let clip = traps.make("fast.mp4", &format!("-f lavfi -i testsrc2=320x240:r=1000:d=1 {VIDEO}"));
    let ended = run(&traps, &clip, Task::Transcode).await;
    assert_eq!(ended.end.map(|facts| facts.duration_ms), Ok(1000));
    assert!(ended.peak_mib <= MOST_MIB / 2, "{} MiB", ended.peak_mib);
}

/// Puts another entry in place of the one that says "in this file". `moov` stands behind the samples, so that no offset
/// changes.
fn replace_reference(movie: &mut Vec<u8>, kind: &[u8], content: &[u8]) {
    let entry = find(movie, b"dref") + 4 + 8;
    let old = u32::from_be_bytes(movie[entry..entry + 4].try_into().expect("four bytes"));
    let size = u32::try_from(12 + content.len()).expect("short");
    // No flags: the samples are not in this file.
    let new = [&size.to_be_bytes()[..], kind, &[0; 4], content].concat();
    movie.splice(entry..entry + old as usize, new);
    for name in [&b"dref"[..], b"dinf", b"minf", b"mdia", b"trak", b"moov"] {
        let at = find(&movie[..entry], name) - 4;
        let held = u32::from_be_bytes(movie[at..at + 4].try_into().expect("four bytes"));
        movie[at..at + 4].copy_from_slice(&(held + size - old).to_be_bytes());
    }
}

/// The last place of a name.
fn find(bytes: &[u8], name: &[u8]) -> usize {
    bytes.windows(name.len()).rposition(|window| window == name).expect("it is in there")
}
