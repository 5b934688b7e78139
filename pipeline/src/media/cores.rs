//! How many cores this process may use. Asked before the cage closes: a container's share is written in files.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread::available_parallelism;

static CORES: OnceLock<usize> = OnceLock::new();

/// The answer of the first call stays.
pub(super) fn count() -> usize {
    *CORES.get_or_init(|| available_parallelism().map_or(1, NonZero::get))
}
