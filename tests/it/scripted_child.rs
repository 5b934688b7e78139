//! A media child that does what a test says: for deaths, silences and nonsense that no clip provokes on demand.
//! It is a real process with real pipes, started as the real one is.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pipeline::media::cage::Level;
use pipeline::media::protocol::{Message, write_frame};
use tempfile::TempDir;

/// A program to start in place of our own binary. It says first that it is caged, as every child does, and is not.
pub(crate) struct ScriptedChild {
    directory: TempDir,
    frames: usize,
    steps: String,
    says_caged: bool,
}

impl ScriptedChild {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory, frames: 0, steps: String::new(), says_caged: true }
    }

    /// Leaves out what every child says first.
    pub(crate) fn uncaged(self) -> Self {
        Self { says_caged: false, ..self }
    }

    /// Says something.
    pub(crate) fn says(mut self, message: &Message, payload: &[u8]) -> Self {
        let mut frame = Vec::new();
        write_frame(&mut frame, message, payload).expect("a frame");
        self.frames += 1;
        let path = self.path(&format!("frame-{}", self.frames));
        fs::write(&path, frame).expect("a file");
        self.does(&format!("/bin/cat {}", path.display()))
    }

    /// Goes on only when [`ScriptedChild::allow`] was called with this name.
    pub(crate) fn waits_for(self, name: &str) -> Self {
        let path = self.path(name);
        self.does(&format!("while [ ! -e {} ]; do /bin/sleep 0.02; done", path.display()))
    }

    /// A line of shell.
    pub(crate) fn does(mut self, line: &str) -> Self {
        self.steps.push_str(line);
        self.steps.push('\n');
        self
    }

    pub(crate) fn allow(&self, name: &str) {
        fs::write(self.path(name), "").expect("a file");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program. Asked to check a segment, it says that it decodes; asked for anything else, it follows the script.
    pub(crate) fn program(&self) -> PathBuf {
        let mut checked = Vec::new();
        let message = Message::Checked { frames: 50, start_us: 0, duration_us: 2_000_000 };
        write_frame(&mut checked, &message, &[]).expect("a frame");
        write_frame(&mut checked, &done(2_000), &[]).expect("a frame");
        fs::write(self.path("checked"), checked).expect("a file");
        let mut caged = Vec::new();
        if self.says_caged {
            write_frame(&mut caged, &Message::Caged(Level::default()), &[]).expect("a frame");
        }
        fs::write(self.path("caged"), caged).expect("a file");
        let request = self.path("request").display().to_string();
        // One read: the socket stays open for what the child wants to read.
        let script = format!(
            "#!/bin/sh\n/bin/dd bs=64k count=1 of={request}.$$ 2> {request}.log\n/bin/cat {}\nif /bin/grep -q check_segment {request}.$$; then exec /bin/cat {}; fi\n{}",
            self.path("caged").display(),
            self.path("checked").display(),
            self.steps
        );
        let program = self.path("media-child.sh");
        write_by_another_process(&program, &script);
        program
    }
}

/// A program that this process ever had open for writing might be inherited by a child that another test is just
/// starting, and could then not be run ("text file busy").
fn write_by_another_process(path: &Path, content: &str) {
    let mut shell = Command::new("/bin/sh")
        .arg("-c")
        .arg(r#"cat > "$0" && chmod 700 "$0""#)
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    shell.stdin.take().expect("a pipe").write_all(content.as_bytes()).expect("a write");
    assert!(shell.wait().expect("an end").success());
}

/// The last message of a good run.
pub(crate) fn done(duration_ms: u64) -> Message {
    Message::Done(pipeline::video::MediaFacts {
        container: "mov,mp4".into(),
        duration_ms,
        video: None,
        audio: None,
    })
}
