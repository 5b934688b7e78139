//! How a picture must be turned before anybody looks at it: the display matrix of the container as a filter. Pure.

/// First mirrored, then turned clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orientation {
    pub(super) mirrored: bool,
    pub(super) clockwise: Turn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Turn {
    #[default]
    None,
    Quarter,
    Half,
    ThreeQuarters,
}

impl Turn {
    pub(super) fn degrees(self) -> u16 {
        match self {
            Turn::None => 0,
            Turn::Quarter => 90,
            Turn::Half => 180,
            Turn::ThreeQuarters => 270,
        }
    }
}

impl Orientation {
    /// From the nine 32-bit numbers of a display matrix, as libav stores them. Anything that is no multiple of a
    /// quarter is taken for the nearest one.
    pub(super) fn from_matrix(bytes: &[u8]) -> Self {
        let cell = |n: usize| -> f64 {
            let at = bytes.get(n * 4..n * 4 + 4).and_then(|four| four.try_into().ok());
            at.map_or(0.0, |four| f64::from(i32::from_ne_bytes(four)))
        };
        let (a, b, c, d) = (cell(0), cell(1), cell(3), cell(4));
        let mirrored = a * d - b * c < 0.0;
        let sign = if mirrored { -1.0 } else { 1.0 };
        let degrees = (sign * b).atan2(sign * a).to_degrees();
        let clockwise = match degrees {
            d if (45.0..135.0).contains(&d) => Turn::Quarter,
            d if (-135.0..-45.0).contains(&d) => Turn::ThreeQuarters,
            d if (-45.0..45.0).contains(&d) => Turn::None,
            _ => Turn::Half,
        };
        Self { mirrored, clockwise }
    }

    /// Width and height after the turn.
    pub(super) fn turned(self, (width, height): (u32, u32)) -> (u32, u32) {
        match self.clockwise {
            Turn::None | Turn::Half => (width, height),
            Turn::Quarter | Turn::ThreeQuarters => (height, width),
        }
    }

    pub(super) fn filters(self) -> Vec<&'static str> {
        let mut filters = Vec::new();
        if self.mirrored {
            filters.push("hflip");
        }
        match self.clockwise {
            Turn::None => {}
            Turn::Quarter => filters.push("transpose=clock"),
            Turn::Half => filters.extend(["hflip", "vflip"]),
            Turn::ThreeQuarters => filters.push("transpose=cclock"),
        }
        filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(a: i32, b: i32, c: i32, d: i32) -> Vec<u8> {
        let one = 1 << 16;
        [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
            .iter()
            .flat_map(|n: &i32| n.to_ne_bytes())
            .collect()
    }

    #[test]
    fn the_four_turns_of_a_phone_are_recognised() {
        let turn = |a, b, c, d| Orientation::from_matrix(&matrix(a, b, c, d));
        assert_eq!(turn(1, 0, 0, 1), Orientation::default());
        assert_eq!(turn(0, 1, -1, 0).clockwise, Turn::Quarter);
        assert_eq!(turn(-1, 0, 0, -1).clockwise, Turn::Half);
        assert_eq!(turn(0, -1, 1, 0).clockwise, Turn::ThreeQuarters);
    }

    #[test]
    fn a_mirrored_picture_is_mirrored_back_and_not_turned() {
        let mirrored = Orientation::from_matrix(&matrix(-1, 0, 0, 1));
        assert_eq!(mirrored, Orientation { mirrored: true, clockwise: Turn::None });
        assert_eq!(mirrored.filters(), ["hflip"]);
    }

    #[test]
    fn a_broken_matrix_turns_nothing() {
        assert_eq!(Orientation::from_matrix(&[1, 2, 3]), Orientation::default());
    }
}
