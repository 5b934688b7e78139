//! How much of the cage holds on this machine: found out by entering it, never by guessing from a version.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One layer of the cage. Each works without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    Process,
    Limits,
    Namespaces,
    Landlock,
    Seccomp,
}

impl Layer {
    pub const ALL: [Layer; 5] =
        [Layer::Process, Layer::Limits, Layer::Namespaces, Layer::Landlock, Layer::Seccomp];

    /// The name in logs, metrics and the text of errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Layer::Process => "process",
            Layer::Limits => "limits",
            Layer::Namespaces => "namespaces",
            Layer::Landlock => "landlock",
            Layer::Seccomp => "seccomp",
        }
    }

    /// What an operator can do about its absence.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Layer::Process => "it needs Linux 5.9 or newer (close_range)",
            Layer::Limits => "setrlimit is refused to this process: whatever started it forbids it",
            Layer::Namespaces => {
                "allow user namespaces (sysctl user.max_user_namespaces, and on Ubuntu \
                 kernel.apparmor_restrict_unprivileged_userns=0); inside a container, whose runtime forbids them, \
                 set CLIPSTREAM_SANDBOX=container"
            }
            Layer::Landlock => {
                "it needs Linux 5.13 or newer with landlock among the lsm= of the boot line"
            }
            Layer::Seccomp => "it needs a kernel with CONFIG_SECCOMP_FILTER",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A layer that does not hold, and what the kernel answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub layer: Layer,
    pub why: String,
}

/// What holds of the cage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The version of Landlock that is enforced; 0: none.
    pub landlock_abi: u32,
    pub missing: Vec<Missing>,
}

impl Level {
    #[must_use]
    pub fn holds(&self, layer: Layer) -> bool {
        self.missing.iter().all(|missing| missing.layer != layer)
    }

    pub(super) fn record(&mut self, layer: Layer, entered: Result<(), String>) {
        if let Err(why) = entered {
            self.missing.push(Missing { layer, why });
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |holds: bool| {
            let layers = Layer::ALL.into_iter().filter(|layer| self.holds(*layer) == holds);
            layers.map(Layer::as_str).collect::<Vec<_>>().join(", ")
        };
        match (names(true), names(false)) {
            (all, missing) if missing.is_empty() => write!(f, "{all}"),
            (none, missing) if none.is_empty() => write!(f, "none of {missing}"),
            (some, missing) => write!(f, "{some}; missing: {missing}"),
        }?;
        if self.holds(Layer::Landlock) {
            write!(f, " (Landlock ABI {})", self.landlock_abi)?;
        }
        Ok(())
    }
}
