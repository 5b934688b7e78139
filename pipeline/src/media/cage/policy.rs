//! How much of the cage must hold before a byte of media is read. The child decides by it, and its parent again.

use std::fmt;
use std::str::FromStr;

use super::{Layer, Level};

/// What is asked of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Every layer.
    Required,
    /// Every layer but namespaces: container runtimes forbid those inside, and have made some of their own.
    Container,
    /// Whatever the kernel grants.
    BestEffort,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no sandbox; write required, container or best-effort")]
pub struct UnknownSandbox(String);

impl Sandbox {
    pub const ALL: [Sandbox; 3] = [Sandbox::Required, Sandbox::Container, Sandbox::BestEffort];

    /// The word in settings and on the child's command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Sandbox::Required => "required",
            Sandbox::Container => "container",
            Sandbox::BestEffort => "best-effort",
        }
    }

    const fn wants(self, layer: Layer) -> bool {
        match (self, layer) {
            (Sandbox::BestEffort, _) | (Sandbox::Container, Layer::Namespaces) => false,
            (
                Sandbox::Container,
                Layer::Process | Layer::Limits | Layer::Landlock | Layer::Seccomp,
            )
            | (Sandbox::Required, _) => true,
        }
    }

    /// Why this level is not enough, and what to do; `None` when it is.
    #[must_use]
    pub fn refusal(self, level: &Level) -> Option<String> {
        let missing = level.missing.iter().filter(|missing| self.wants(missing.layer));
        let reasons: Vec<String> = missing
            .map(|missing| {
                format!("{} ({}): {}", missing.layer, missing.why, missing.layer.remedy())
            })
            .collect();
        (!reasons.is_empty()).then(|| {
            format!(
                "CLIPSTREAM_SANDBOX is {} and the kernel does not grant {}. \
                 To decode with what is left: CLIPSTREAM_SANDBOX=best-effort",
                self.as_str(),
                reasons.join("; nor ")
            )
        })
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Sandbox {
    type Err = UnknownSandbox;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|sandbox| sandbox.as_str() == text);
        known.ok_or_else(|| UnknownSandbox(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::cage::Missing;

    fn without(layer: Layer) -> Level {
        Level { landlock_abi: 7, missing: vec![Missing { layer, why: "ENOSYS".into() }] }
    }

    #[test]
    fn required_wants_every_layer_and_names_the_one_that_is_missing() {
        assert_eq!(Sandbox::Required.refusal(&Level::default()), None);
        for layer in Layer::ALL {
            let refusal = Sandbox::Required.refusal(&without(layer)).expect("a refusal");
            assert!(refusal.contains(layer.as_str()) && refusal.contains("ENOSYS"), "{refusal}");
            assert!(refusal.contains(layer.remedy()), "{refusal}");
            assert_eq!(Sandbox::BestEffort.refusal(&without(layer)), None);
        }
    }

    #[test]
    fn in_a_container_only_namespaces_may_be_missing() {
        for layer in Layer::ALL {
            let refused = Sandbox::Container.refusal(&without(layer)).is_some();
            assert_eq!(refused, layer != Layer::Namespaces, "{layer}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for sandbox in Sandbox::ALL {
            assert_eq!(sandbox.as_str().parse::<Sandbox>().expect("a sandbox"), sandbox);
        }
        assert!("off".parse::<Sandbox>().is_err());
    }
}
