//! How long many waited, for percentiles.

/// In seconds, the shortest first.
pub(crate) struct Waits(Vec<f64>);

impl Waits {
    pub(crate) fn new(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The shortest wait that so many of a hundred do not pass, in milliseconds.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let place = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(place).map_or(f64::NAN, |seconds| seconds * 1_000.0)
    }
}
