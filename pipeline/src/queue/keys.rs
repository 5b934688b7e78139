//! The names of our keys in Redis. The braces are a hash tag: all keys of a stage lie in one slot of a cluster.

use crate::job::WorkerId;
use crate::stage::Stage;

#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// LIST: ids that wait, bounded by the window.
    pub(super) fn waiting(&self, stage: Stage) -> String {
        format!("{}{{{stage}}}:q", self.prefix)
    }

    /// LIST: ids that a worker took; an id goes once its row is committed.
    pub(super) fn taken(&self, stage: Stage, worker: WorkerId) -> String {
        format!("{}{{{stage}}}:p:{worker}", self.prefix)
    }

    /// STRING that expires: the owner of a list of taken ids is alive.
    pub(super) fn heartbeat(&self, stage: Stage, worker: WorkerId) -> String {
        format!("{}{{{stage}}}:hb:{worker}", self.prefix)
    }

    /// SET: workers that may own a list of taken ids.
    pub(super) fn workers(&self, stage: Stage) -> String {
        format!("{}{{{stage}}}:workers", self.prefix)
    }

    /// STRING: there as long as Redis has not been emptied.
    pub(super) fn marker(&self) -> String {
        format!("{}{{queue}}:filled", self.prefix)
    }

    /// STRING: written to see whether Redis takes writes.
    pub(super) fn probe(&self) -> String {
        format!("{}{{queue}}:probe", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_stage_share_its_hash_tag() {
        let keys = Keys::new("clipstream:");
        let worker = WorkerId::new();
        assert_eq!(keys.waiting(Stage::Transcode), "clipstream:{transcode}:q");
        assert_eq!(
            keys.taken(Stage::SpeechToText, worker),
            format!("clipstream:{{speech_to_text}}:p:{worker}")
        );
        for key in [
            keys.waiting(Stage::Embeddings),
            keys.taken(Stage::Embeddings, worker),
            keys.heartbeat(Stage::Embeddings, worker),
            keys.workers(Stage::Embeddings),
        ] {
            assert!(key.starts_with("clipstream:{embeddings}:"), "{key}");
        }
    }
}
