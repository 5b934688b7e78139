//! What the numbers of a decoded picture mean as colours, and the filters that make them what every rendition has:
//! BT.709 in TV range. Pure but for the reading of a picture's own labels.
//!
//! Where a label is missing the guess is the one that players make: BT.601 up to 576 lines, BT.709 above, BT.2020 with PQ
//! and HLG, primaries that follow the matrix. Every standard curve counts as the same, as on a screen; PQ and HLG are tone
//! mapped.

use ffmpeg_next::frame;
use ffmpeg_next::frame::side_data;

use super::ffi;

/// Labels are the code points of ITU-T H.273, which libav and zimg share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colours {
    matrix: u8,
    primaries: u8,
    curve: Curve,
    full_range: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    Standard,
    Pq,
    Hlg,
}

/// What a stream or picture says, unchecked, with what the guesses need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'a> {
    pub(super) matrix: i32,
    pub(super) primaries: i32,
    pub(super) transfer: i32,
    /// 2 is full range.
    pub(super) range: i32,
    pub(super) pixel_format: &'a str,
    pub(super) size: (u32, u32),
    /// It says for which display it was mastered, as only HDR10 does.
    pub(super) is_mastered: bool,
}

const RGB: u8 = 0;
const BT709: u8 = 1;
const SMPTE170M: u8 = 6;
const BT2020: u8 = 9;
/// What zimg converts from without asking for more.
const MATRICES: [u8; 7] = [BT709, 4, 5, SMPTE170M, 7, 8, BT2020];
const PRIMARIES: [u8; 10] = [BT709, 4, 5, SMPTE170M, 7, 8, BT2020, 11, 12, 22];
const FULL_RANGE: i32 = 2;
const TO: &str = "m=709:p=709:t=709:r=limited";

/// 1.0 of linear light is 100 nits, and 1,000 nits become white: what nearly everything is mastered for. The filter would
/// read the peak from each picture's metadata, which not every picture of a stream has: the picture would flicker.
const TONE_MAP: &str = "tonemap=tonemap=hable:desat=0:peak=10";

impl Colours {
    pub(super) fn of(picture: &frame::Video, is_mastered: bool) -> Self {
        let raw = ffi::raw_colours(picture);
        Self::from_labels(Labels {
            matrix: raw.matrix,
            primaries: raw.primaries,
            transfer: raw.transfer,
            range: raw.range,
            pixel_format: pixel_format(picture),
            size: (picture.width(), picture.height()),
            is_mastered,
        })
    }

    pub(super) fn from_labels(labels: Labels<'_>) -> Self {
        let is_rgb = is_rgb(labels.pixel_format);
        let curve = match labels.transfer {
            16 => Curve::Pq,
            18 => Curve::Hlg,
            0 | 2 if labels.is_mastered => Curve::Pq,
            _ => Curve::Standard,
        };
        let known = |label: i32, all: &[u8]| u8::try_from(label).ok().filter(|l| all.contains(l));
        let primaries = known(labels.primaries, &PRIMARIES);
        let (width, height) = labels.size;
        let matrix = known(labels.matrix, &MATRICES).unwrap_or(match (curve, primaries) {
            (Curve::Pq | Curve::Hlg, _) | (_, Some(BT2020)) => BT2020,
            _ if width >= 1280 || height > 576 => BT709,
            _ => SMPTE170M,
        });
        let wide = curve != Curve::Standard || matrix == BT2020;
        Self {
            matrix: if is_rgb { RGB } else { matrix },
            // That SD is untagged says nothing about its primaries, and those of BT.601 are almost the same.
            primaries: primaries.unwrap_or(if wide { BT2020 } else { BT709 }),
            curve,
            full_range: is_rgb
                || labels.range == FULL_RANGE
                || labels.pixel_format.starts_with("yuvj"),
        }
    }

    /// For the scaler, which must not touch it.
    pub(super) fn range(self) -> &'static str {
        if self.full_range { "full" } else { "limited" }
    }

    /// To BT.709 in TV range; none where it is that already. What follows must fix the pixel format.
    pub(super) fn filters(self) -> Vec<String> {
        let from = format!("min={}:pin={}:rin={}", self.matrix, self.primaries, self.range());
        let transfer = match self.curve {
            Curve::Standard if self == Self::BT709 => return Vec::new(),
            Curve::Standard => return vec![format!("zscale={from}:tin=709:{TO}")],
            Curve::Pq => "smpte2084",
            Curve::Hlg => "arib-std-b67",
        };
        vec![
            format!("zscale={from}:tin={transfer}:m=gbr:p=709:t=linear:npl=100:r=full"),
            "format=gbrpf32le".into(),
            TONE_MAP.into(),
            format!("zscale=min=gbr:pin=709:tin=linear:rin=full:{TO}"),
        ]
    }

    const BT709: Self =
        Self { matrix: BT709, primaries: BT709, curve: Curve::Standard, full_range: false };
}

/// Whether a picture says for which display it was mastered.
pub(super) fn is_mastered(picture: &frame::Video) -> bool {
    picture.side_data(side_data::Type::MasteringDisplayMetadata).is_some()
}

pub(super) fn pixel_format(picture: &frame::Video) -> &'static str {
    picture.format().descriptor().map_or("none", ffmpeg_next::format::pixel::Descriptor::name)
}

fn is_rgb(pixel_format: &str) -> bool {
    ["rgb", "bgr", "gbr", "pal8"].iter().any(|name| pixel_format.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSAID: Labels<'static> = Labels {
        matrix: 2,
        primaries: 2,
        transfer: 2,
        range: 0,
        pixel_format: "yuv420p",
        size: (1920, 1080),
        is_mastered: false,
    };

    #[track_caller]
    fn first_filter(labels: Labels<'_>, begins: &str) {
        let filters = Colours::from_labels(labels).filters();
        let found = filters.first().map_or("", String::as_str);
        assert!(found.starts_with(begins), "{found} for {labels:?}");
    }

    #[test]
    fn what_is_bt709_already_is_left_alone() {
        assert_eq!(Colours::from_labels(UNSAID), Colours::BT709);
        let said = Labels { matrix: 1, primaries: 1, transfer: 1, range: 1, ..UNSAID };
        assert!(Colours::from_labels(Labels { size: (640, 480), ..said }).filters().is_empty());
        // A curve of another standard looks the same on a screen.
        assert!(Colours::from_labels(Labels { transfer: 6, ..said }).filters().is_empty());
    }

    #[test]
    fn what_is_not_said_is_guessed_as_players_do() {
        first_filter(Labels { size: (720, 576), ..UNSAID }, "zscale=min=6:pin=1:rin=limited:");
        // A portrait clip is no SD.
        assert!(Colours::from_labels(Labels { size: (360, 640), ..UNSAID }).filters().is_empty());
        first_filter(Labels { primaries: 9, ..UNSAID }, "zscale=min=9:pin=9:");
        // A number that no standard has.
        first_filter(Labels { matrix: 200, size: (64, 64), ..UNSAID }, "zscale=min=6:");
    }

    #[test]
    fn full_range_and_rgb_are_squeezed() {
        first_filter(Labels { range: 2, ..UNSAID }, "zscale=min=1:pin=1:rin=full:");
        first_filter(Labels { pixel_format: "yuvj420p", ..UNSAID }, "zscale=min=1:pin=1:rin=full:");
        first_filter(Labels { pixel_format: "gbrp", ..UNSAID }, "zscale=min=0:pin=1:rin=full:");
    }

    #[test]
    fn hdr_is_tone_mapped_whatever_else_is_not_said() {
        let pq = "zscale=min=9:pin=9:rin=limited:tin=smpte2084:";
        first_filter(Labels { transfer: 16, ..UNSAID }, pq);
        first_filter(Labels { is_mastered: true, ..UNSAID }, pq);
        let hlg = Labels { transfer: 18, matrix: 1, primaries: 1, ..UNSAID };
        first_filter(hlg, "zscale=min=1:pin=1:rin=limited:tin=arib-std-b67:");
        assert!(Colours::from_labels(hlg).filters().iter().any(|f| f.starts_with("tonemap=")));
    }
}
