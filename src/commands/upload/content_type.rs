//! A media type for a file name. Only a label: the pipeline looks into the bytes, never at this.

/// By the extension; what is unknown is `application/octet-stream`.
pub(super) fn guess(filename: &str) -> &'static str {
    let extension = filename.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => "video/mp4",
        "mov" => "video/quicktime",
        "mkv" => "video/x-matroska",
        "webm" => "video/webm",
        "avi" => "video/x-msvideo",
        "flv" => "video/x-flv",
        "ts" | "m2ts" => "video/mp2t",
        "mpg" | "mpeg" => "video/mpeg",
        "mp3" => "audio/mpeg",
        "m4a" => "audio/mp4",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "ogg" | "opus" => "audio/ogg",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides_whatever_its_case() {
        assert_eq!(guess("clip.MP4"), "video/mp4");
        assert_eq!(guess("a.b.webm"), "video/webm");
        assert_eq!(guess("mp4"), "application/octet-stream");
        assert_eq!(guess("clip.exe"), "application/octet-stream");
    }
}
