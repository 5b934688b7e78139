//! Ways to damage a file, each decided by a number alone, so that a case can be made again.

/// Small, fast, and the same everywhere (xorshift64*).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // Spread by splitmix64, so that neighbouring seeds have nothing in common, and never zero.
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((state ^ (state >> 31)) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from((self.roll() >> 11) % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_be_bytes()[0]
    }
}

/// Numbers that break arithmetic.
const EDGES: [u32; 9] =
    [0, 1, 7, 8, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff, 0x0010_0000];
/// Boxes of MP4 whose numbers say when and how long.
const TIMES: [&[u8; 4]; 9] =
    [b"mvhd", b"mdhd", b"tkhd", b"stts", b"ctts", b"elst", b"tfdt", b"trun", b"sidx"];

/// The same file, damaged in one to three ways; and what was done, for whoever reads of it.
pub(super) fn damage(file: &[u8], other: &[u8], dice: &mut Dice) -> (Vec<u8>, String) {
    let mut bytes = file.to_vec();
    let mut done = Vec::new();
    for _ in 0..=dice.below(3) {
        done.push(damage_once(&mut bytes, other, dice));
    }
    (bytes, done.join(", "))
}

fn damage_once(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) -> &'static str {
    if bytes.len() < 64 {
        return "nothing left to damage";
    }
    let place = dice.below(bytes.len() - 16);
    match dice.below(11) {
        0 => {
            for _ in 0..=dice.below(16) {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            "bits flipped"
        }
        1 => {
            let header = bytes.len().min(600);
            for _ in 0..=dice.below(8) {
                bytes[dice.below(header)] = dice.byte();
            }
            "bytes of the header replaced"
        }
        2 => {
            let noise: Vec<u8> = (0..=dice.below(200)).map(|_| dice.byte()).collect();
            bytes.splice(place..place, noise);
            "bytes inserted"
        }
        3 => {
            bytes.truncate(place + 16);
            "cut off"
        }
        4 => {
            let end = (place + 1 + dice.below(4000)).min(bytes.len());
            bytes.drain(place..end);
            "a piece taken out"
        }
        5 => {
            let from = dice.below(bytes.len() - 1);
            let end = (from + 1 + dice.below(4000)).min(bytes.len());
            let piece = bytes[from..end].to_vec();
            bytes.splice(place..place, piece);
            "a piece repeated"
        }
        6 => {
            let from = dice.below(other.len().max(2) - 1);
            let end = (from + 1 + dice.below(4000)).min(other.len());
            let end_here = (place + (end - from)).min(bytes.len());
            bytes.splice(place..end_here, other[from..end].iter().copied());
            "a piece of another file put in"
        }
        7 => resize_a_box(bytes, dice),
        8 | 9 => change_a_time(bytes, dice),
        _ => {
            let end = (place + 1 + dice.below(500)).min(bytes.len());
            bytes[place..end].fill(if dice.below(2) == 0 { 0 } else { 0xff });
            "a piece blanked"
        }
    }
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(room) = bytes.get_mut(at..at + 4) {
        room.copy_from_slice(&number.to_be_bytes());
    }
}

fn odd_number(dice: &mut Dice) -> u32 {
    match dice.below(3) {
        0 => EDGES[dice.below(EDGES.len())],
        1 => u32::from(dice.byte()) << dice.below(24),
        _ => u32::from_be_bytes([dice.byte(), dice.byte(), dice.byte(), dice.byte()]),
    }
}

/// Four letters with a number before them: a box, a chunk, or what looks like one.
fn resize_a_box(bytes: &mut [u8], dice: &mut Dice) -> &'static str {
    let boxes: Vec<usize> = (4..bytes.len() - 4)
        .filter(|at| bytes[*at..at + 4].iter().all(u8::is_ascii_lowercase))
        .collect();
    if boxes.is_empty() {
        let at = dice.below(bytes.len() - 4);
        put(bytes, at, odd_number(dice));
        return "four bytes replaced";
    }
    let at = boxes[dice.below(boxes.len())] - 4;
    put(bytes, at, odd_number(dice));
    "the size of a box changed"
}

/// In MP4 a number of a box of times, in a transport stream or program stream the stamp of a packet, in Matroska the time of
/// a cluster; else some bytes far ahead.
fn change_a_time(bytes: &mut [u8], dice: &mut Dice) -> &'static str {
    let find = |name: &[u8]| -> Vec<usize> {
        bytes
            .windows(name.len())
            .enumerate()
            .filter(|(_, w)| *w == name)
            .map(|(at, _)| at)
            .collect()
    };
    let boxes: Vec<usize> = TIMES.iter().flat_map(|name| find(*name)).collect();
    let clusters = find(&[0x1f, 0x43, 0xb6, 0x75]);
    let stamped: Vec<usize> = find(&[0, 0, 1])
        .into_iter()
        .filter(|at| bytes.get(at + 3).is_some_and(|id| (0xbd..=0xef).contains(id)))
        .filter(|at| bytes.get(at + 7).is_some_and(|flags| flags & 0x80 != 0))
        .collect();
    if !boxes.is_empty() {
        let at = boxes[dice.below(boxes.len())] + 8 + 4 * dice.below(8);
        put(bytes, at, odd_number(dice));
        "a number of a box of times changed"
    } else if !clusters.is_empty() {
        let at = clusters[dice.below(clusters.len())] + 5 + dice.below(20);
        put(bytes, at, odd_number(dice));
        "the time of a cluster changed"
    } else if !stamped.is_empty() {
        let at = stamped[dice.below(stamped.len())] + 9;
        let (flip, low) = (dice.byte(), dice.byte());
        if let Some(stamp) = bytes.get_mut(at..at + 5) {
            stamp[0] ^= flip & 0x0e;
            stamp[1] ^= flip;
            stamp[3] ^= low;
        }
        "a time stamp changed"
    } else {
        let at = dice.below(bytes.len() - 4);
        put(bytes, at, odd_number(dice));
        "four bytes replaced"
    }
}

#[test]
fn the_same_number_makes_the_same_damage() {
    let file: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let made: Vec<_> = (0..200).map(|seed| damage(&file, &file, &mut Dice::new(seed))).collect();
    for (seed, (bytes, done)) in (0..).zip(&made) {
        assert_eq!(&damage(&file, &file, &mut Dice::new(seed)), &(bytes.clone(), done.clone()));
    }
    let unharmed = made.iter().filter(|(bytes, _)| *bytes == file).count();
    assert!(unharmed < 5, "{unharmed} of 200 are as they were");
    let ways: std::collections::BTreeSet<&str> =
        made.iter().flat_map(|(_, done)| done.split(", ")).collect();
    assert!(ways.len() >= 9, "{ways:?}");
}
