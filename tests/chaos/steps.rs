//! The boundaries on the path of a job (docs/ARCHITECTURE.md, "The path of a video"), each as what passes the wire there.
//! A process is killed right before the server has it, or right after the server carried it out.

use crate::fleet::Role;
use crate::proxy::{Moment, Wire};

pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) wire: Wire,
    /// Parts of the request.
    pub(crate) request: &'static [&'static str],
    /// Part of the answer that counts.
    pub(crate) answer: &'static str,
    pub(crate) moment: Moment,
    /// The ending of sources that come this way.
    pub(crate) source: &'static str,
}

macro_rules! steps {
    ($($name:literal $role:ident $wire:ident [$($request:literal)*] $answer:literal $source:literal;)*) => {
        &[$(
            Step { name: concat!("before ", $name), role: Role::$role, wire: Wire::$wire, request: &[$($request),*],
                   answer: $answer, moment: Moment::Before, source: $source },
            Step { name: concat!("after ", $name), role: Role::$role, wire: Wire::$wire, request: &[$($request),*],
                   answer: $answer, moment: Moment::After, source: $source },
        )*]
    };
}

/// `$36` begins a job's id in Redis' protocol; a script with one key is the push.
pub(crate) const STEPS: &[Step] = steps! {
    "the intake commits"            Daemon Postgres ["with known as"] "" "mp4";
    "jobs are marked as dispatched" Daemon Postgres ["set dispatched_at = now()"] "" "mp4";
    "ids are pushed"                Daemon Redis ["EVALSHA" "$1\r\n1\r\n"] "" "mp4";
    "an id is pulled"               Worker Redis ["BLMOVE"] "$36" "mp4";
    "the claim"                     Worker Postgres ["attempt = j.attempt + 1"] "" "mp4";
    "objects are announced"         Worker Postgres ["insert into objects"] "" "mp4";
    "a segment is put"              Worker Http ["PUT /clipstream/processed-videos/"] "HTTP/1.1 200" "mp4";
    "playable"                      Worker Postgres ["set playable_at = now()"] "" "mp4";
    "the commit"                    Worker Postgres ["set state = 'done'"] "" "mp4";
    "the id is removed"             Worker Redis ["LREM"] "" "mp4";
    "the source is read"            Worker Http ["GET /clipstream/raw-uploads/"] "HTTP/1.1 206" "mp4";
    "a fixed key is put"            Worker Http ["PUT /clipstream/processed-videos/" "/subtitles.m3u8"] "HTTP/1.1 200" "mp4";
    "a failure is noted"            Worker Postgres ["failures = failures +"] "" "avi";
    "a heartbeat"                   Worker Postgres ["set lease_until = now()"] "" "mp4";
    "a sweep"                       Daemon Postgres ["as lease_ended"] "" "mp4";
    "a page of the listing"         Daemon Http ["GET /clipstream"] "" "mp4";
};
