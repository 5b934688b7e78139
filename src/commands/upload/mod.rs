//! `clipstream upload FILE`: announce, PUT, and with `--watch` follow the stages to the end. A client like any other:
//! it uses only `/v1` and the presigned URL. It never repeats a PUT: the URL takes one upload.

mod api;
mod content_type;
mod put;
mod watch;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::ClientSettings;

use api::{Announcement, Api};
use watch::Watched;

/// The ends of this command that are not 0 or 1, as the list of exit codes in `--help` has them.
mod exit {
    pub(super) const NOT_FOUND: u8 = 3;
    pub(super) const UNREACHABLE: u8 = 5;
    pub(super) const VIDEO_FAILED: u8 = 6;
    pub(super) const TIMED_OUT: u8 = 124;
    pub(super) const INTERRUPTED: u8 = 130;
}

/// Upload a clip, and watch it become playable
#[derive(clap::Args)]
pub struct Args {
    /// The clip
    file: PathBuf,
    /// Shown to people
    #[arg(long)]
    title: Option<String>,
    /// Groups your videos
    #[arg(long)]
    stream_id: Option<String>,
    /// Media type, guessed from the extension when not given
    #[arg(long)]
    content_type: Option<String>,
    /// Follow the stages until the video has ended
    #[arg(long)]
    watch: bool,
    /// Print the video as one JSON document
    #[arg(long)]
    json: bool,
    /// Seconds after which --watch gives up (exit code 124); the video goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    timeout: u64,
    #[command(flatten)]
    client: ClientSettings,
}

/// Why the command ends early, and with which code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    fn coded(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ended = tokio::select! {
        ended = upload(&args) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Failure::coded(exit::INTERRUPTED, "Interrupted. What was uploaded is processed all the same."))
        }
    };
    match ended {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(failure) => {
            eprintln!("{}", failure.message);
            Ok(ExitCode::from(failure.code))
        }
    }
}

async fn upload(args: &Args) -> Result<u8, Failure> {
    let api = Api::new(&args.client)?;
    let size_bytes = size(&args.file).await?;
    let announcement = announcement(args, size_bytes)?;
    let created = api.announce(&announcement).await?;
    eprintln!("video {}", created.video_id);
    put::put(&api, &args.file, size_bytes, &created).await?;
    let watched = if args.watch {
        watch::watch(&api, &created.video_id, Duration::from_secs(args.timeout)).await?
    } else {
        Watched::uploaded(api.video(&created.video_id).await?)
    };
    print(&watched, args, &created.video_id)?;
    Ok(watched.code)
}

async fn size(file: &Path) -> Result<u64, Failure> {
    let shown = file.display();
    match tokio::fs::metadata(file).await {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
        Ok(_) => Err(Failure::new(format!("{shown} is not a regular file."))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::coded(exit::NOT_FOUND, format!("There is no file {shown}.")))
        }
        Err(error) => Err(Failure::new(format!("{shown} cannot be read: {error}."))),
    }
}

fn announcement(args: &Args, size_bytes: u64) -> Result<Announcement, Failure> {
    let name = args
        .file
        .file_name()
        .ok_or_else(|| Failure::new(format!("{} has no file name.", args.file.display())))?;
    // Kept for people only, so a name that is no Unicode is shown as well as it can be.
    let filename = name.to_string_lossy().into_owned();
    Ok(Announcement {
        content_type: args
            .content_type
            .clone()
            .unwrap_or_else(|| content_type::guess(&filename).to_owned()),
        filename,
        size: size_bytes,
        title: args.title.clone(),
        stream_id: args.stream_id.clone(),
    })
}

/// Data goes to stdout: the whole video, or the one line that a person or a script wants.
fn print(watched: &Watched, args: &Args, video_id: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let written = if args.json {
        writeln!(out, "{:#}", watched.video)
    } else if let Some(url) = watched.hls_url() {
        writeln!(out, "{url}")
    } else if args.watch {
        Ok(())
    } else {
        writeln!(out, "{video_id}")
    };
    written.map_err(|error| Failure::new(format!("stdout does not take the result: {error}.")))
}
