//! Still pictures: JPEG of a raw picture, and the overlays that say "processing" and "duplicate".
//! Integer arithmetic throughout: the same picture gives the same bytes on every machine and in every attempt.
//! The calls compute for tens of milliseconds, so they do not belong on a thread of the runtime.

use std::io::Cursor;

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::imageops::{self, FilterType};
use image::{DynamicImage, ExtendedColorType, ImageDecoder, Limits, RgbImage};

/// Longest side of a thumbnail.
const LONGEST_SIDE: u32 = 1280;
const JPEG_QUALITY: u8 = 85;
/// What a picture under a sign keeps of its brightness, in percent.
const DARKENED_PERCENT: u16 = 45;
/// Subsamples per pixel and side, for smooth edges.
const SUBSAMPLES: i32 = 4;
/// A sign is drawn in a square from -1000 to 1000.
const SIGN_UNITS: i32 = 1000;

/// JPEG of an RGB24 picture, scaled so that neither side is over 1280.
pub fn poster(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>, ThumbnailError> {
    encode(&scaled(rgb, width, height)?)
}

/// The poster, darkened, with a sign that work goes on.
pub fn processing(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>, ThumbnailError> {
    let mut picture = scaled(rgb, width, height)?;
    darken(&mut picture);
    draw(&mut picture, ring_of_dots);
    encode(&picture)
}

/// From a poster of ours: darkened, with the sign of a copy.
pub fn duplicate(poster_jpeg: &[u8]) -> Result<Vec<u8>, ThumbnailError> {
    let mut decoder = JpegDecoder::new(Cursor::new(poster_jpeg)).map_err(error)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    decoder.set_limits(limits).map_err(error)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(error)?.into_rgb8();
    darken(&mut picture);
    draw(&mut picture, two_sheets);
    encode(&picture)
}

#[derive(Debug, thiserror::Error)]
#[error("a thumbnail could not be made: {0}")]
pub struct ThumbnailError(pub String);

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn error(error: image::ImageError) -> ThumbnailError {
    ThumbnailError(error.to_string())
}

fn scaled(rgb: &[u8], width: u32, height: u32) -> Result<RgbImage, ThumbnailError> {
    let picture =
        RgbImage::from_raw(width, height, rgb.to_vec()).filter(|p| !p.is_empty()).ok_or_else(
            || ThumbnailError(format!("{} bytes are no picture of {width}x{height}", rgb.len())),
        )?;
    let longest = width.max(height);
    if longest <= LONGEST_SIDE {
        return Ok(picture);
    }
    // Rounded, and never nothing: a picture may be a thousand times as wide as high.
    let fit = |side: u32| ((side * LONGEST_SIDE + longest / 2) / longest).max(1);
    Ok(imageops::resize(&picture, fit(width), fit(height), FilterType::Triangle))
}

fn encode(picture: &RgbImage) -> Result<Vec<u8>, ThumbnailError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .encode(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(error)?;
    Ok(jpeg)
}

fn darken(picture: &mut RgbImage) {
    for value in picture.iter_mut() {
        *value = u8::try_from(u16::from(*value) * DARKENED_PERCENT / 100).unwrap_or(u8::MAX);
    }
}

/// Blends white into the middle of the picture: `sign` says how much of it (0 to 255) is at a point of its square.
fn draw(picture: &mut RgbImage, sign: impl Fn(i32, i32) -> u16) {
    let side = (picture.width().min(picture.height()) * 3 / 10).max(1);
    let (left, top) = ((picture.width() - side) / 2, (picture.height() - side) / 2);
    let points = i32::try_from(side).unwrap_or(i32::MAX / SUBSAMPLES) * SUBSAMPLES;
    // The middle of a subsample, in units of the sign.
    let unit = |pixel: u32, subsample: i32| {
        let point = i32::try_from(pixel).unwrap_or(0) * SUBSAMPLES + subsample;
        (2 * point + 1) * SIGN_UNITS / points - SIGN_UNITS
    };
    for y in 0..side {
        for x in 0..side {
            let mut sum = 0;
            for sub_y in 0..SUBSAMPLES {
                for sub_x in 0..SUBSAMPLES {
                    sum += sign(unit(x, sub_x), unit(y, sub_y));
                }
            }
            let alpha = sum / 16;
            for value in &mut picture.get_pixel_mut(left + x, top + y).0 {
                let lifted = u16::from(*value) + (255 - u16::from(*value)) * alpha / 255;
                *value = u8::try_from(lifted).unwrap_or(u8::MAX);
            }
        }
    }
}

/// Eight dots on a circle, fading: something turns.
fn ring_of_dots(x: i32, y: i32) -> u16 {
    const DOTS: [(i32, i32, u16); 8] = [
        (0, -780, 255),
        (552, -552, 226),
        (780, 0, 197),
        (552, 552, 168),
        (0, 780, 139),
        (-552, 552, 110),
        (-780, 0, 81),
        (-552, -552, 52),
    ];
    const RADIUS: i32 = 190;
    DOTS.iter()
        .find(|(dot_x, dot_y, _)| (x - dot_x).pow(2) + (y - dot_y).pow(2) <= RADIUS * RADIUS)
        .map_or(0, |(_, _, level)| *level)
}

/// Two sheets, one before the other: a copy.
fn two_sheets(x: i32, y: i32) -> u16 {
    const OFFSET: i32 = 240;
    const HALF: i32 = 600;
    const LINE: i32 = 130;
    // How far inside the edge of the sheet around (middle, middle).
    let depth = |middle: i32| HALF - (x - middle).abs().max((y - middle).abs());
    match (depth(OFFSET), depth(-OFFSET)) {
        (0..LINE, _) => 255,
        (LINE.., _) => 60,
        (_, 0..LINE) => 200,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32) -> Vec<u8> {
        vec![120; (width * height * 3) as usize]
    }

    fn decoded(jpeg: &[u8]) -> RgbImage {
        let decoder = JpegDecoder::new(Cursor::new(jpeg)).unwrap();
        DynamicImage::from_decoder(decoder).unwrap().into_rgb8()
    }

    fn near(value: u8, wanted: u8) -> bool {
        value.abs_diff(wanted) <= 4
    }

    #[test]
    fn a_poster_decodes_again_at_its_size() {
        let picture = decoded(&poster(&grey(321, 179), 321, 179).unwrap());
        assert_eq!(picture.dimensions(), (321, 179));
        assert!(near(picture.get_pixel(10, 10).0[0], 120));
    }

    #[test]
    fn a_large_picture_is_scaled_and_keeps_its_shape() {
        let picture = decoded(&poster(&grey(1080, 1920), 1080, 1920).unwrap());
        assert_eq!(picture.dimensions(), (720, 1280));
        let strip = decoded(&poster(&grey(4000, 1), 4000, 1).unwrap());
        assert_eq!(strip.dimensions(), (1280, 1));
    }

    #[test]
    fn the_sign_of_work_is_drawn_over_a_darkened_picture() {
        let picture = decoded(&processing(&grey(640, 360), 640, 360).unwrap());
        assert!(near(picture.get_pixel(5, 5).0[0], 54), "the corner is dark");
        let bright = picture.pixels().filter(|pixel| pixel.0[0] > 230).count();
        assert!((60..2000).contains(&bright), "one dot is white, not the picture: {bright}");
    }

    #[test]
    fn the_sign_of_a_copy_is_drawn_over_a_poster() {
        let original = poster(&grey(640, 360), 640, 360).unwrap();
        let picture = decoded(&duplicate(&original).unwrap());
        assert_eq!(picture.dimensions(), (640, 360));
        assert!(near(picture.get_pixel(5, 5).0[0], 54));
        assert!(picture.pixels().any(|pixel| pixel.0[0] > 230));
    }

    #[test]
    fn the_same_picture_gives_the_same_bytes() {
        let rgb: Vec<u8> = (0..200 * 100 * 3).map(|i: u32| (i * 7 % 251) as u8).collect();
        assert_eq!(processing(&rgb, 200, 100).unwrap(), processing(&rgb, 200, 100).unwrap());
        let original = poster(&rgb, 200, 100).unwrap();
        assert_eq!(duplicate(&original).unwrap(), duplicate(&original).unwrap());
    }

    #[test]
    fn the_smallest_picture_is_drawn_on_too() {
        for (width, height) in [(1, 1), (2, 2), (3, 1)] {
            let jpeg = processing(&grey(width, height), width, height).unwrap();
            assert_eq!(decoded(&duplicate(&jpeg).unwrap()).dimensions(), (width, height));
        }
    }

    #[test]
    fn wrong_sizes_and_broken_files_are_errors() {
        assert!(poster(&grey(10, 10), 10, 11).is_err());
        assert!(poster(&[], 0, 0).is_err());
        assert!(duplicate(b"no picture").is_err());
        let oversized = {
            let side = LONGEST_SIDE + 1;
            encode(&RgbImage::new(side, 1)).unwrap()
        };
        assert!(duplicate(&oversized).is_err(), "no poster of ours is so large");
    }
}
