//! The log file of a server: opened at its start, and read when it died.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::SupervisorError;

const TAIL_LINES: usize = 15;
const TAIL_BYTES: u64 = 16 * 1024;

/// An empty file; the log of the run before is kept beside it as `.log.old`.
pub(super) fn open(path: &Path) -> Result<File, SupervisorError> {
    match fs::rename(path, path.with_extension("log.old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(SupervisorError::file("rename", path)(error));
        }
        _ => {}
    }
    File::create(path).map_err(SupervisorError::file("create", path))
}

/// The last lines of a log, as far as they can be read.
pub(super) fn tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("    (its log cannot be read: {error})"),
    };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return "    (nothing)".to_owned();
    }
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
