//! Kills in the middle of real work: `clipstream serve` as it is, with all its stages and its media children, on real
//! clips. Afterwards everything that was published is opened, and nothing may be left of the processes that were killed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::children::{Lookout, ProcessId, children_of};
use crate::clip::Clip;
use crate::fleet::{Fleet, Member, Role};
use crate::inject::{Strike, strike};
use crate::opened::{Look, Published};
use crate::plan::{Fault, Injection};
use crate::world::World;

/// How long real work may take to begin.
const PATIENCE: Duration = Duration::from_mins(2);
/// A child asks the kernel to die with its parent: that takes no time.
const CHILD_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// Later than this the work that was seen to begin may be over.
const LONGEST_PAUSE_MS: u64 = 1_500;
const LOOKS_AT_ONCE: usize = 2;

/// What a world with real stages remembers.
pub(crate) struct Media {
    lookout: Lookout,
    clips: Mutex<HashMap<String, Clip>>,
    /// How many children lost their parent, and those that lived on.
    orphans: Mutex<(usize, Vec<ProcessId>)>,
}

impl Media {
    pub(crate) fn new(secrets: Vec<String>) -> Self {
        let lookout = Lookout::start(secrets);
        Self { lookout, clips: Mutex::default(), orphans: Mutex::default() }
    }

    fn watch(&self, fleet: &Fleet) {
        self.lookout.watch(fleet.pids().into_iter().map(|(_, pid)| pid).collect());
    }
}

impl World {
    fn media(&self) -> &Media {
        self.media.as_ref().expect("a world with real stages")
    }

    /// Somebody who works, at any moment of the work.
    pub(crate) async fn kill_at_work(&self, injection: Injection) -> Vec<Strike> {
        let mut dice = fastrand::Rng::with_seed(self.settings.seed ^ injection.victim as u64);
        self.media().watch(&self.fleet);
        self.upload_clips(injection.uploads, &mut dice).await;
        let victim = self.at_work(injection.victim).await;
        victim.grown_up().await;
        tokio::time::sleep(Duration::from_millis(dice.u64(..LONGEST_PAUSE_MS))).await;
        let strike = strike(Fault::Media, &victim.name);
        // Stopped first: then no child begins between the look and the kill.
        victim.signal(Signal::STOP);
        let children = children_of(&victim.pid().into_iter().collect::<Vec<_>>());
        victim.kill();
        self.bury(children).await;
        victim.start();
        self.media().watch(&self.fleet);
        vec![strike]
    }

    async fn upload_clips(&self, count: usize, dice: &mut fastrand::Rng) {
        for _ in 0..count {
            let clip = Clip::roll(dice);
            let bytes = clip.make(&self.directory).await;
            let key = self.feeder.upload_file(Fault::Media, clip.extension, bytes).await;
            self.media().clips.lock().expect("nobody panics with it").insert(key, clip);
        }
    }

    /// Uploads more when nobody has anything to do.
    async fn at_work(&self, choice: usize) -> &Member {
        let begun = Instant::now();
        let mut dice = fastrand::Rng::with_seed(choice as u64);
        loop {
            let members = self.fleet.of(Role::Whole);
            let busy = members.into_iter().filter(|member| {
                !children_of(&member.pid().into_iter().collect::<Vec<_>>()).is_empty()
            });
            let busy: Vec<&Member> = busy.collect();
            if let Some(victim) = busy.get(choice % busy.len().max(1)) {
                return victim;
            }
            assert!(begun.elapsed() < PATIENCE, "no media child ever ran");
            if self.count(OPEN).await == 0 {
                self.upload_clips(1, &mut dice).await;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn bury(&self, children: Vec<ProcessId>) {
        let begun = Instant::now();
        let is_there = |child: &ProcessId| child.is_there();
        while children.iter().any(is_there) && begun.elapsed() < CHILD_PATIENCE {
            tokio::time::sleep(POLL).await;
        }
        let mut orphans = self.media().orphans.lock().expect("nobody panics with it");
        orphans.0 += children.len();
        orphans.1.extend(children.into_iter().filter(is_there));
    }

    /// What is wrong with what was published.
    pub(crate) async fn opened(&self) -> Vec<String> {
        let rows: Vec<(String, uuid::Uuid, i32, i32)> =
            sqlx::query_as(READY).fetch_all(&self.pool).await.expect("an answer");
        let clips = self.media().clips.lock().expect("nobody panics with it").clone();
        let looks = rows.into_iter().map(|(key, video, transcode, speech)| {
            let clip = clips[&key].clone();
            async move {
                let published = Published { video, transcode, speech };
                let directory = self.directory.join("opened");
                Look::new(&self.storage, &self.pool, &published, &clip, &directory).breaches().await
            }
        });
        stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).concat().await
    }

    /// What was left behind, or given away. Ends everybody.
    pub(crate) async fn remains(&self) -> Vec<String> {
        let mut remains = Vec::new();
        let (orphaned, alive) = {
            let orphans = self.media().orphans.lock().expect("nobody panics with it");
            (orphans.0, orphans.1.clone())
        };
        if orphaned == 0 {
            remains.push("shows nothing: nobody was killed in the middle of media".to_owned());
        }
        remains.extend(alive.iter().map(|child| format!("outlived: {child:?} its parent")));
        let (looked_into, secret) = self.media().lookout.seen();
        if looked_into == 0 {
            remains.push("shows nothing: no media child could be looked into".to_owned());
        }
        if secret > 0 {
            remains
                .push(format!("secrets: {secret} media children held a secret, of {looked_into}"));
        }
        for member in self.fleet.of(Role::Whole) {
            member.signal(Signal::TERM);
        }
        for member in self.fleet.of(Role::Whole) {
            member.ended().await;
        }
        let left = left_in(&self.directory.join("scratch"));
        remains.extend(left.iter().map(|path| format!("scratch: {} was left", path.display())));
        remains
    }
}

/// Whatever there is in the scratch space of all members, but for the lock of each.
fn left_in(scratch: &Path) -> Vec<PathBuf> {
    let members = std::fs::read_dir(scratch).expect("scratch space");
    let entries = members.flat_map(|member| {
        std::fs::read_dir(member.expect("an entry").path()).expect("a directory of a member")
    });
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| !path.ends_with("lock")).collect()
}

/// Uploads that have not ended.
const OPEN: &str = "
select count(*) from chaos.uploads u
 where not exists (select 1 from videos v where v.object_key = u.key and v.state in ('ready', 'failed'))";

const READY: &str = "
select u.key, v.id, t.attempt, s.attempt
  from chaos.uploads u join videos v on v.object_key = u.key
  join jobs t on t.video_id = v.id and t.stage = 'transcode'
  join jobs s on s.video_id = v.id and s.stage = 'speech_to_text'
 where v.state = 'ready'";
