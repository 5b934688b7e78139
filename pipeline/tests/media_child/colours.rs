//! The colours of what comes out, on decoded samples: three patches of known colour side by side, stored in every way that
//! cameras, phones and screens store them, must be the same three colours in BT.709 and TV range, and be labelled so.

use std::path::Path;

use pipeline::video::FailureCause;

use crate::checks::check_outputs;
use crate::clips::{Clips, Said, probe_stream, transcode};
use crate::decoded::{assert_close, bt709, decode};

/// What the patches are, as R'G'B' of a screen.
const PATCHES: [[u8; 3]; 3] = [[200, 40, 40], [40, 180, 60], [50, 60, 200]];

/// An input for [`Clips::make`]: the patches side by side in `gbrp`, which is then stored by `filters`.
fn patches((width, height): (u32, u32), filters: &str) -> String {
    let third = width / 3 / 2 * 2;
    let patch = |[r, g, b]: [u8; 3], width: u32| {
        format!("color=0x{r:02x}{g:02x}{b:02x}:s={width}x{height}:r=10:d=0.5,format=gbrp")
    };
    let [first, second, last] = PATCHES;
    format!(
        "-f lavfi -i {}[0];{}[1];{}[2];[0][1][2]hstack=3,format=gbrp,{filters}",
        patch(first, third),
        patch(second, third),
        patch(last, width - 2 * third)
    )
}

/// All picture renditions show the patches, and say that they are BT.709.
#[track_caller]
fn check_patches(clips: &Clips, source: &Path, within: u8) -> Said {
    let said = transcode(source);
    check_outputs(clips, &said);
    for (name, rendition) in said.renditions.iter().filter(|(_, r)| r.size().is_some()) {
        let file = rendition.file(clips, name);
        let pictures = decode(&file);
        for (patch, x) in PATCHES.into_iter().zip([15, 50, 85]) {
            let what = format!("{} {name} {patch:?}", source.display());
            assert_close(pictures[2].at(x, 50), bt709(patch), within, &what);
        }
        let stream = probe_stream(&file);
        for label in ["color_space", "color_primaries", "color_transfer"] {
            assert_eq!(stream[label], "bt709", "{name}: {label}");
        }
        assert_eq!(stream["color_range"], "tv", "{name}");
    }
    said
}

#[test]
fn sd_in_bt601_and_hd_in_bt709_are_the_same_colours_whether_they_say_so_or_not() {
    let clips = Clips::new();
    let x264 = "-c:v libx264 -preset ultrafast -crf 10";
    let sd = patches((720, 576), "scale=out_color_matrix=bt601,format=yuv420p");
    let hd = patches((1280, 720), "scale=out_color_matrix=bt709,format=yuv420p");
    let cases = [
        ("sd.mp4", format!("{sd} {x264}")),
        ("sd-said.mp4", format!("{sd} {x264} -colorspace smpte170m")),
        ("sd-470bg.mkv", format!("{sd} -c:v mpeg2video -qscale 2 -colorspace bt470bg")),
        ("hd.mp4", format!("{hd} {x264}")),
        (
            "hd-said.mp4",
            format!("{hd} {x264} -colorspace bt709 -color_primaries bt709 -color_trc bt709"),
        ),
        // A recording of a screen in 601 and a film in 709 that is small: what is said goes before any guess.
        (
            "hd-601.mp4",
            format!(
                "{} {x264} -colorspace smpte170m",
                patches((1280, 720), "scale=out_color_matrix=bt601,format=yuv420p")
            ),
        ),
        (
            "sd-709.mp4",
            format!(
                "{} {x264} -colorspace bt709",
                patches((640, 360), "scale=out_color_matrix=bt709,format=yuv420p")
            ),
        ),
    ];
    for (name, arguments) in cases {
        check_patches(&clips, &clips.make(name, &arguments), 3);
    }
}

#[test]
fn every_depth_and_subsampling_and_rgb_itself_keep_their_colours() {
    let clips = Clips::new();
    let stored = |format: &str| {
        patches((640, 480), &format!("scale=out_color_matrix=bt709,format={format}"))
    };
    let said = "-colorspace bt709 -color_primaries bt709 -color_trc bt709";
    // ProRes takes them from the pictures.
    let prores =
        "-vf setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709 -c:v prores_ks";
    let quick = "-preset ultrafast -crf 10";
    let x265 = "-c:v libx265 -x265-params log-level=none -preset ultrafast -crf 10";
    let rgb = patches((640, 480), "null");
    let cases = [
        ("422.mp4", format!("{} -c:v libx264 {quick} {said}", stored("yuv422p"))),
        ("444.mp4", format!("{} -c:v libx264 {quick} {said}", stored("yuv444p"))),
        ("ten.mp4", format!("{} {x265} {said}", stored("yuv420p10le"))),
        ("twelve.mkv", format!("{} {x265} {said}", stored("yuv444p12le"))),
        ("prores.mov", format!("{} {prores} -profile:v 3", stored("yuv422p10le"))),
        ("alpha.mov", format!("{} {prores} -profile:v 4", stored("yuva444p10le"))),
        ("rgb.mkv", format!("{rgb} -c:v libx264rgb {quick}")),
        (
            "gbr-vp9.webm",
            format!("{rgb} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -crf 10 -b:v 0"),
        ),
    ];
    for (name, arguments) in cases {
        check_patches(&clips, &clips.make(name, &arguments), 3);
    }
}

#[test]
fn full_range_becomes_tv_range_once_on_the_way_down() {
    let clips = Clips::new();
    let full = |size, matrix: &str| {
        patches(size, &format!("scale=out_color_matrix={matrix}:out_range=full,format=yuvj420p"))
    };
    let hd = full((1280, 720), "bt709");
    let cases = [
        ("phone.mp4", format!("{hd} -c:v libx264 -preset ultrafast -crf 10 -colorspace bt709")),
        ("camera.avi", format!("{} -c:v mjpeg -qscale 2", full((640, 480), "bt601"))),
        (
            "hevc.mp4",
            format!(
                "{} -c:v libx265 -x265-params log-level=none:range=full -preset ultrafast -crf 10 -color_range pc -colorspace bt709",
                patches(
                    (640, 480),
                    "scale=out_color_matrix=bt709:out_range=full,format=yuv420p10le"
                )
            ),
        ),
    ];
    for (name, arguments) in cases {
        let source = clips.make(name, &arguments);
        let said = check_patches(&clips, &source, 3);
        // The poster is of the same colours.
        let (width, height, rgb) = said.poster.unwrap();
        let at = ((height / 2 * width + width / 2) * 3) as usize;
        assert_close([rgb[at], rgb[at + 1], rgb[at + 2]], PATCHES[1], 4, name);
    }
}

#[test]
fn wide_gamuts_without_hdr_are_brought_home() {
    let clips = Clips::new();
    let x265 = "-c:v libx265 -x265-params log-level=none -preset ultrafast -crf 8";
    for (name, primaries, matrix, labels) in [
        (
            "2020.mp4",
            "2020",
            "2020_ncl",
            "-color_primaries bt2020 -colorspace bt2020nc -color_trc bt2020-10",
        ),
        (
            "p3.mp4",
            "smpte432",
            "709",
            "-color_primaries smpte432 -colorspace bt709 -color_trc bt709",
        ),
        (
            "ntsc.mp4",
            "170m",
            "170m",
            "-color_primaries smpte170m -colorspace smpte170m -color_trc smpte170m",
        ),
    ] {
        let filters = format!(
            "zscale=min=gbr:pin=709:tin=709:rin=full:p={primaries}:m={matrix}:t=709:r=limited,format=yuv420p10le"
        );
        let source =
            clips.make(name, &format!("{} {x265} {labels}", patches((640, 480), &filters)));
        check_patches(&clips, &source, 4);
    }
}

/// Grey of so many nits, for which the 10-bit sample in TV range is known from the standard.
fn grey(clips: &Clips, name: &str, sample: u32, labels: &str) -> u8 {
    let clip = clips.make(
        name,
        &format!(
            "-f lavfi -i color=black:s=1280x720:r=10:d=0.3,format=yuv420p10le,geq=lum={sample}:cb=512:cr=512 \
             -c:v libx265 -preset ultrafast -crf 8 {labels}"
        ),
    );
    let said = transcode(&clip);
    check_outputs(clips, &said);
    let found = ["720p", "480p"].map(|rung| {
        let [luma, cb, cr] = decode(&said.renditions[rung].file(clips, rung))[1].at(50, 50);
        assert!(cb.abs_diff(128) <= 1 && cr.abs_diff(128) <= 1, "{name}: grey became {cb} {cr}");
        luma
    });
    assert!(found[0].abs_diff(found[1]) <= 1, "{name}: {found:?} down the ladder");
    found[0]
}

const X265: &str = "-x265-params log-level=none";
const PQ: &str = "-color_trc smpte2084 -color_primaries bt2020 -colorspace bt2020nc";
const HLG: &str = "-color_trc arib-std-b67 -color_primaries bt2020 -colorspace bt2020nc";

#[test]
fn pq_and_hlg_greys_land_where_a_screen_of_100_nits_shows_them() {
    let clips = Clips::new();
    // 0.005, 100, 203 (white of a page) and 1,000 nits. Without tone mapping they would be 16, 127, 143 and 181.
    for (sample, expected) in [(64, 15..=17), (509, 145..=158), (573, 174..=190), (723, 230..=236)]
    {
        let found = grey(&clips, "pq.mp4", sample, &format!("{X265} {PQ}"));
        assert!(expected.contains(&found), "PQ {sample}: {found}, not {expected:?}");
    }
    // Black, white of a page (75 %) and the peak.
    for (sample, expected) in [(64, 15..=17), (721, 174..=190), (940, 230..=236)] {
        let found = grey(&clips, "hlg.mp4", sample, &format!("{X265} {HLG}"));
        assert!(expected.contains(&found), "HLG {sample}: {found}, not {expected:?}");
    }
}

#[test]
fn hdr_that_does_not_say_all_of_it_is_hdr_too() {
    let clips = Clips::new();
    let mastered = "-x265-params log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)";
    for (name, labels) in [
        ("only-the-curve.mp4", format!("{X265} -color_trc smpte2084")),
        ("only-the-curve.mkv", format!("{X265} -color_trc smpte2084")),
        ("mastered.mp4", mastered.into()),
    ] {
        let found = grey(&clips, name, 573, &labels);
        assert!((174..=190).contains(&found), "{name}: {found}");
    }
}

/// Colours of at most 100 nits: their hue must survive the way from BT.2020, whatever the tone mapping does to their
/// brightness.
#[test]
fn hdr_colours_keep_their_hue() {
    let clips = Clips::new();
    for (name, transfer, labels) in [("pq.mp4", "smpte2084", PQ), ("hlg.mp4", "arib-std-b67", HLG)]
    {
        let filters = format!(
            "zscale=min=gbr:pin=709:tin=709:rin=full:p=2020:m=2020_ncl:t={transfer}:npl=100:r=limited,format=yuv420p10le"
        );
        let clip = clips.make(
            name,
            &format!(
                "{} -c:v libx265 -preset ultrafast -crf 8 {X265} {labels}",
                patches((640, 480), &filters)
            ),
        );
        let said = transcode(&clip);
        check_outputs(&clips, &said);
        let picture = &decode(&said.renditions["480p"].file(&clips, "480p"))[2];
        for (patch, x) in PATCHES.into_iter().zip([15, 50, 85]) {
            let hue = |[_, cb, cr]: [u8; 3]| (f64::from(cr) - 128.0).atan2(f64::from(cb) - 128.0);
            let apart = (hue(picture.at(x, 50)) - hue(bt709(patch))).to_degrees().abs();
            assert!(apart < 6.0, "{name} {patch:?} is {:?}: {apart}°", picture.at(x, 50));
        }
    }
}

/// A Dolby Vision record in the sample entry of an MP4 whose `moov` is its last box.
fn with_dolby_vision(file: &[u8], profile: u8, base_layer: u8) -> Vec<u8> {
    let mut record = [0; 32];
    record[..4].copy_from_slice(&32_u32.to_be_bytes());
    record[4..8].copy_from_slice(if profile > 7 { b"dvvC" } else { b"dvcC" });
    record[8] = 1;
    // Profile in 7 bits, level in 6, then whether there are metadata, an enhancement and a base layer.
    let fields = u16::from(profile) << 9 | 5 << 3 | 0b101;
    record[10..12].copy_from_slice(&fields.to_be_bytes());
    record[12] = base_layer << 4;
    let mut file = file.to_vec();
    let at = |file: &[u8], name: &[u8]| file.windows(4).rposition(|w| w == name).unwrap() - 4;
    let entry = at(&file, b"hvc1");
    for name in [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1"] {
        let at = at(&file, name);
        let size = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) + 32;
        file[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }
    let end = entry + u32::from_be_bytes(file[entry..entry + 4].try_into().unwrap()) as usize - 32;
    file.splice(end..end, record);
    file
}

#[test]
fn dolby_vision_plays_by_its_base_layer_or_is_refused_where_that_needs_a_licence() {
    let clips = Clips::new();
    let clip = clips.make(
        "hdr.mp4",
        &format!(
            "-f lavfi -i color=black:s=640x480:r=10:d=0.3,format=yuv420p10le,geq=lum=573:cb=512:cr=512 \
             -c:v libx265 -preset ultrafast -tag:v hvc1 {X265} {PQ}"
        ),
    );
    let hdr = std::fs::read(clip).unwrap();
    let said = transcode(&clips.write("profile-5.mp4", &with_dolby_vision(&hdr, 5, 0)));
    let (cause, detail) = said.failed.expect("a refusal");
    assert_eq!(cause, FailureCause::UnsupportedFormat);
    assert!(detail.contains("Dolby Vision profile 5"), "{detail}");

    let said = transcode(&clips.write("profile-8.mp4", &with_dolby_vision(&hdr, 8, 1)));
    check_outputs(&clips, &said);
    let luma = decode(&said.renditions["480p"].file(&clips, "480p"))[1].luma(320, 240);
    assert!((174..=190).contains(&luma), "{luma}");
}

#[test]
fn a_picture_without_colours_stays_grey() {
    let clips = Clips::new();
    let clip = clips.make(
        "grey.mkv",
        "-f lavfi -i color=0x808080:s=320x240:r=10:d=0.5,format=gray -c:v libx264 -preset ultrafast -crf 10",
    );
    let said = transcode(&clip);
    check_outputs(&clips, &said);
    let found = decode(&said.renditions["480p"].file(&clips, "480p"))[2].at(50, 50);
    let stored = decode(&clip)[2].at(50, 50);
    assert_close(found, [stored[0], 128, 128], 2, "grey");
}
