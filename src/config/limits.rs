//! What is accepted, and how much work one source may be.

use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::Args;
use pipeline::media::Limits;

const GIB: u64 = 1 << 30;
const GIGAPIXEL: u64 = 1_000_000_000;

#[derive(Args, Clone)]
#[expect(clippy::struct_field_names, reason = "they become flags")]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// Largest source, in GiB
    #[arg(long, env = "CLIPSTREAM_MAX_SIZE_GIB", default_value_t = 20, value_name = "GIB",
          value_parser = within::<u64>(1..=5_000))]
    max_size_gib: u64,
    /// Longest source, in seconds
    #[arg(long, env = "CLIPSTREAM_MAX_DURATION_SECONDS", default_value_t = 4 * 3600, value_name = "SECONDS",
          value_parser = within::<u64>(1..=24 * 3600))]
    max_duration_seconds: u64,
    /// Widest picture; for an upright one it is the height
    #[arg(long, env = "CLIPSTREAM_MAX_WIDTH", default_value_t = 8192, value_name = "PIXELS",
          value_parser = within::<u32>(16..=16_384))]
    max_width: u32,
    /// Highest picture; for an upright one it is the width
    #[arg(long, env = "CLIPSTREAM_MAX_HEIGHT", default_value_t = 4320, value_name = "PIXELS",
          value_parser = within::<u32>(16..=16_384))]
    max_height: u32,
    /// Most pictures per second of a rendition; a source with more is halved until it fits
    #[arg(long, env = "CLIPSTREAM_MAX_FRAME_RATE", default_value_t = 60, value_name = "PER_SECOND",
          value_parser = within::<u32>(10..=120))]
    max_frame_rate: u32,
    /// Most streams of a source, used or not
    #[arg(long, env = "CLIPSTREAM_MAX_STREAMS", default_value_t = 16, value_name = "COUNT",
          value_parser = within::<u32>(1..=1_000))]
    max_streams: u32,
    /// Most pixels of all pictures of a source together, in billions; an hour of 1920x1080 at 60 has 448
    #[arg(long, env = "CLIPSTREAM_MAX_GIGAPIXELS", default_value_t = 4_000, value_name = "BILLIONS",
          value_parser = within::<u64>(1..=1_000_000))]
    max_gigapixels: u64,
    /// Most bytes of all renditions of a source together, in GiB
    #[arg(long, env = "CLIPSTREAM_MAX_OUTPUT_GIB", default_value_t = 32, value_name = "GIB",
          value_parser = within::<u64>(1..=5_000))]
    max_output_gib: u64,
    /// How long the work on a source may stand still, in seconds, before its process is ended
    #[arg(long, env = "CLIPSTREAM_MAX_STALL_SECONDS", default_value_t = 60, value_name = "SECONDS",
          value_parser = within::<u64>(5..=3_600))]
    max_stall_seconds: u64,
}

impl LimitSettings {
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            max_size_bytes: self.max_size_gib * GIB,
            max_duration_ms: self.max_duration_seconds * 1000,
            max_width: self.max_width,
            max_height: self.max_height,
            max_frame_rate: self.max_frame_rate,
            max_streams: self.max_streams,
            max_decoded_pixels: self.max_gigapixels * GIGAPIXEL,
            max_output_bytes: self.max_output_gib * GIB,
            max_stall_ms: self.max_stall_seconds * 1000,
            ..Limits::default()
        }
    }
}

/// A parser for a number that names the bounds when it is outside of them.
fn within<T>(bounds: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + std::fmt::Display + Clone,
{
    move |text| match text.parse() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from {} to {}", bounds.start(), bounds.end())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        limits: LimitSettings,
    }

    fn parse(arguments: &[&str]) -> Result<Limits, clap::Error> {
        let command = Command::try_parse_from(["clipstream"].iter().chain(arguments))?;
        Ok(command.limits.limits())
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        assert_eq!(parse(&[]).expect("the defaults"), Limits::default());
    }

    #[test]
    fn a_number_out_of_bounds_is_refused_with_the_bounds() {
        for arguments in [["--max-frame-rate=0"], ["--max-size-gib=-1"], ["--max-width=1e9"]] {
            let error = parse(&arguments).expect_err("out of bounds").to_string();
            assert!(error.contains(" to "), "{error}");
        }
        assert_eq!(parse(&["--max-duration-seconds=90"]).expect("usable").max_duration_ms, 90_000);
    }
}
