//! What became of everything, from Postgres and the bucket: lost, duplicated, written late, and how long recovery took.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use pipeline::storage::StorageKey;
use pipeline::video::VideoId;
use sqlx::FromRow;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::inject::Strike;
use crate::plan::Fault;
use crate::report::quantiles;
use crate::world::World;

/// Without any step of any job for this long, nothing will end any more. Back-off after a lost worker may take minutes,
/// but there are always others that move.
const STANDSTILL_LEASES: u32 = 5;
const POLL: Duration = Duration::from_millis(200);
/// What a look at the clock, a write and a fence's period may take together.
const LATE_WORK_TOLERANCE_US: i64 = 500_000;
/// Within what Redis' return, or its loss of everything, must be over.
const RETURN_S: f64 = 10.0;

/// Of one fault.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Verdict {
    pub(crate) fault: Fault,
    pub(crate) runs: usize,
    pub(crate) uploads: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    pub(crate) late_writes: usize,
    /// Jobs that the fault was charged to.
    pub(crate) charged: usize,
    pub(crate) recovery_s: Vec<f64>,
    /// What its p99 may be.
    pub(crate) limit_s: f64,
    /// What is bounded besides.
    pub(crate) figures: Vec<Figure>,
    /// What broke, for a person.
    #[serde(skip)]
    pub(crate) breaches: Vec<String>,
}

/// A time of its own: one sample per fault.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) limit_s: f64,
    pub(crate) took_s: Vec<f64>,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        self.breaches.is_empty()
    }
}

#[derive(FromRow)]
struct Ready {
    video: Uuid,
    phase: String,
    transcode: i32,
    speech: i32,
    embeddings: i32,
}

impl World {
    /// Waits until everything has ended, or nothing moves any more.
    pub(crate) async fn quiesce(&self) {
        let mut moved = (0, Instant::now());
        loop {
            let steps = self.count("select count(*) from chaos.log").await;
            if steps != moved.0 {
                moved = (steps, Instant::now());
            }
            let open = self
                .count(
                    "select count(*) from chaos.uploads u
                      where not exists (select 1 from videos v where v.object_key = u.key
                                         and v.state in ('ready', 'failed', 'duplicate'))",
                )
                .await;
            // Uploads that nobody announced are left alone for half a minute.
            let standstill = self.settings.lease * STANDSTILL_LEASES + Duration::from_secs(30);
            if open == 0 || moved.1.elapsed() > standstill {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn verdict(&self, strikes: &[Strike]) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = Fault::ALL
            .into_iter()
            .filter(|fault| strikes.iter().any(|strike| strike.fault == *fault))
            .map(|fault| Verdict {
                fault,
                runs: strikes.iter().filter(|strike| strike.fault == fault).count(),
                uploads: 0,
                lost: 0,
                duplicated: 0,
                late_writes: 0,
                charged: 0,
                recovery_s: Vec::new(),
                limit_s: fault.limit(self.settings.lease).as_secs_f64(),
                figures: Vec::new(),
                breaches: Vec::new(),
            })
            .collect();
        let lost = self.breaches(LOST).await;
        let twice = self.breaches(TWICE).await;
        let late = self.breaches(LATE).await;
        let overwritten = self.overwritten().await;
        let late_work = self.late_work(strikes).await;
        let charged = self.breaches(CHARGED).await;
        let uploads = self.breaches("select phase, key from chaos.uploads").await;
        for verdict in &mut verdicts {
            let of = |found: &[(String, String)]| -> Vec<String> {
                let ours = found.iter().filter(|(phase, _)| phase == verdict.fault.as_str());
                ours.map(|(_, what)| what.clone()).collect()
            };
            let (lost, charged, late_work) = (of(&lost), of(&charged), of(&late_work));
            let duplicated = [of(&twice), of(&overwritten)].concat();
            let late = [of(&late), late_work].concat();
            verdict.uploads = of(&uploads).len();
            (verdict.lost, verdict.duplicated, verdict.late_writes) =
                (lost.len(), duplicated.len(), late.len());
            verdict.charged = charged.len();
            let told =
                [("charged", charged), ("lost", lost), ("duplicated", duplicated), ("late", late)];
            let told = told
                .into_iter()
                .flat_map(|(how, what)| what.into_iter().map(move |what| format!("{how}: {what}")));
            verdict.breaches = told.collect();
            if verdict.fault == Fault::Clock {
                let taken = self.charged_by_clocks(strikes).await;
                verdict.charged += taken.len();
                verdict.breaches.extend(taken.iter().map(|what| format!("charged: {what}")));
            }
            if verdict.fault == Fault::Media {
                let (remains, unsound) = (self.remains().await, self.opened().await);
                verdict.lost += unsound.len();
                let unsound = unsound.iter().map(|what| format!("unsound: {what}"));
                verdict.breaches.splice(..0, remains.into_iter().chain(unsound));
            }
            for strike in strikes.iter().filter(|strike| strike.fault == verdict.fault) {
                verdict.recovery_s.extend(self.recovery(strike).await);
            }
            if verdict.fault == Fault::Unheard {
                let found = sqlx::query_scalar(FOUND).fetch_all(&self.pool).await;
                verdict.recovery_s = found.expect("an answer");
            }
            verdict.recovery_s.sort_by(f64::total_cmp);
            if verdict.fault == Fault::Redis {
                verdict.figures = self.returns_of_redis(strikes).await;
            }
            let Verdict { recovery_s, limit_s, figures, breaches, .. } = verdict;
            let figures =
                figures.iter().map(|figure| (figure.name, &figure.took_s, figure.limit_s));
            for (name, took_s, limit_s) in figures.chain([("recovery", &*recovery_s, *limit_s)]) {
                if let [_, Some(p99), _] = quantiles(took_s)
                    && p99 > limit_s
                {
                    breaches.push(format!("slow: {name} p99 {p99:.1} s, at most {limit_s} s"));
                }
            }
        }
        verdicts
    }

    /// Rows of (phase, what).
    async fn breaches(&self, query: &'static str) -> Vec<(String, String)> {
        sqlx::query_as(query).fetch_all(&self.pool).await.expect("an answer")
    }

    /// Objects that a ready video refers to and that are not what the attempt of its row wrote.
    async fn overwritten(&self) -> Vec<(String, String)> {
        let ready: Vec<Ready> =
            sqlx::query_as(READY).fetch_all(&self.pool).await.expect("an answer");
        let looks = ready.iter().map(|ready| async move {
            let mut wrong = Vec::new();
            for (key, what, attempt) in ready.objects() {
                let body = self.storage.get(&key.to_string(), 1 << 20).await;
                let body = body.map(|(body, _)| String::from_utf8_lossy(&body).into_owned());
                // An attempt's own objects are as long as 1,000 bytes and its number.
                let whole = |body: &String| {
                    !what.ends_with('@')
                        || body.len() == 1_000 + usize::try_from(attempt).unwrap_or(0)
                };
                if !body.as_ref().is_ok_and(|body| body.contains(&what) && whole(body)) {
                    let begin = body.map_or_else(
                        |error| error.to_string(),
                        |body| body.chars().take(40).collect(),
                    );
                    let what = format!("{key} of attempt {attempt} holds {begin:?}");
                    wrong.push((ready.phase.clone(), what));
                }
            }
            wrong
        });
        stream::iter(looks).buffer_unordered(16).concat().await
    }

    /// Attempts that went on working after somebody else had begun the next one. A stopped process cannot be blamed for
    /// what it does before it learns the time, so this looks at the partitions.
    async fn late_work(&self, strikes: &[Strike]) -> Vec<(String, String)> {
        let claims: Vec<(Uuid, i32, OffsetDateTime)> =
            sqlx::query_as("select job, attempt, at from chaos.log where event = 'claimed'")
                .fetch_all(&self.pool)
                .await
                .expect("an answer");
        let claims: HashMap<(Uuid, i32), i64> =
            claims.into_iter().map(|(job, attempt, at)| ((job, attempt), micros(at))).collect();
        let mut late = HashMap::new();
        for member in strikes.iter().filter(|strike| strike.fault == Fault::Partition) {
            let file = self.directory.join(format!("{}.beats", member.member));
            for beat in fs::read_to_string(file).unwrap_or_default().lines() {
                let mut words = beat.split(' ');
                let mut next = || words.next().expect("three words");
                let job: Uuid = next().parse().expect("a job");
                let attempt: i32 = next().parse().expect("an attempt");
                let at: i64 = next().parse().expect("a time");
                let Some(claimed) = claims.get(&(job, attempt + 1)) else { continue };
                if at > claimed + LATE_WORK_TOLERANCE_US {
                    late.insert((job, attempt), at - claimed);
                }
            }
        }
        let told = late.into_iter().map(|((job, attempt), by)| {
            let what = format!("attempt {attempt} of job {job} worked {by} µs into the next one");
            (Fault::Partition.as_str().to_owned(), what)
        });
        told.collect()
    }

    /// How soon work goes on after Redis is back, and how soon all that it lost is pushed again or claimed.
    async fn returns_of_redis(&self, strikes: &[Strike]) -> Vec<Figure> {
        let (mut claims, mut redispatches) = (Vec::new(), Vec::new());
        for (strike, loss) in strikes.iter().filter_map(|strike| Some((strike, strike.loss?))) {
            if loss.is_outage() {
                claims.extend(self.seconds(GOES_ON, strike).await);
            }
            if loss.empties() {
                let jobs = self.seconds(PUSHED_AGAIN, strike).await;
                redispatches.extend(jobs.into_iter().max_by(f64::total_cmp));
            }
        }
        let figure = |name, mut took_s: Vec<f64>| {
            took_s.sort_by(f64::total_cmp);
            Figure { name, limit_s: RETURN_S, took_s }
        };
        vec![
            figure("first claim after the return of Redis", claims),
            figure("full redispatch after FLUSHALL or a restart empty", redispatches),
        ]
    }

    /// How long what a fault hit took to go on: one figure per job.
    async fn recovery(&self, strike: &Strike) -> Vec<f64> {
        let query = match strike.fault {
            Fault::Kill
            | Fault::Step
            | Fault::Zombie
            | Fault::Partition
            | Fault::Clock
            | Fault::Media => HELD_AGAIN,
            Fault::Redis => PUSHED_AGAIN,
            Fault::Postgres => GOES_ON,
            Fault::Cut => COMMITTED,
            Fault::Storage => GOES_ON_DONE,
            Fault::Unheard | Fault::Restart => return Vec::new(),
        };
        self.seconds(query, strike).await
    }

    async fn seconds(&self, query: &'static str, strike: &Strike) -> Vec<f64> {
        sqlx::query_scalar(query)
            .bind(strike.at)
            .bind(&strike.member)
            .fetch_all(&self.pool)
            .await
            .expect("an answer")
    }
}

impl Ready {
    /// What must be where, and the attempt that wrote it.
    fn objects(&self) -> [(StorageKey, String, i32); 4] {
        let video = VideoId(self.video);
        let segment = |rendition: &str, attempt| StorageKey::Segment {
            video,
            attempt,
            rendition: rendition.to_owned(),
            number: 1,
        };
        let signed = |attempt: i32| format!("{attempt}@");
        let subtitles = StorageKey::SubtitleSegment { video, attempt: self.speech };
        let playlist = StorageKey::MediaPlaylist { video, rendition: "subtitles".to_owned() };
        [
            (segment("480p", self.transcode), signed(self.transcode), self.transcode),
            (segment("embedding", self.embeddings), signed(self.embeddings), self.embeddings),
            (subtitles, signed(self.speech), self.speech),
            (playlist, format!("segments/{}/", self.speech), self.speech),
        ]
    }
}

fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).expect("this century")
}

/// Uploads without their right end: every stage done, once.
const LOST: &str = "
select u.phase, u.key || ': ' || coalesce(v.state, 'no row') || ', ' || coalesce((
         select string_agg(j.stage || ' ' || j.state || ' attempt ' || j.attempt || coalesce(' (' || j.last_error || ')', ''), ', ')
           from jobs j where j.video_id = v.id), 'no jobs')
  from chaos.uploads u left join videos v on v.object_key = u.key
 where v.state is distinct from 'ready'
    or (select count(*) from jobs j where j.video_id = v.id and j.state = 'done') <> 4";

/// Uploads that became two videos, stages that ended twice, stages with two results.
const TWICE: &str = "
select u.phase, u.key || ': ' || count(*) || ' videos'
  from chaos.uploads u join videos v on v.object_key = u.key group by 1, u.key having count(*) > 1
union all
select u.phase, v.id || ' ' || l.stage || ': done ' || count(*) || ' times'
  from chaos.log l join videos v on v.id = l.video join chaos.uploads u on u.key = v.object_key
 where l.event = 'done' group by u.phase, v.id, l.stage having count(*) > 1
union all
select u.phase, v.id || ': ' || count(*) || ' vectors'
  from embeddings e join videos v on v.id = e.video_id join chaos.uploads u on u.key = v.object_key
 group by u.phase, v.id having count(*) > 1";

const LATE: &str = "
select u.phase, v.id || ' by ' || l.by || ': ' || l.detail
  from chaos.late l join videos v on v.id = l.video join chaos.uploads u on u.key = v.object_key";

/// Jobs that say that a fault was their failure or crash, and those of the restarts that say that a worker was lost.
const CHARGED: &str = "
select u.phase, v.id || ': ' || c.detail
  from chaos.uploads u join videos v on v.object_key = u.key join chaos.charges c on c.video = v.id
union all
select u.phase, j.id || ' ' || j.stage || ': ' || j.lost_workers || ' lost workers'
  from chaos.uploads u join videos v on v.object_key = u.key join jobs j on j.video_id = v.id
 where u.phase = 'restart' and j.lost_workers > 0";

const READY: &str = "
select v.id as video, u.phase, t.attempt as transcode, s.attempt as speech, e.attempt as embeddings
  from chaos.uploads u join videos v on v.object_key = u.key
  join jobs t on t.video_id = v.id and t.stage = 'transcode'
  join jobs s on s.video_id = v.id and s.stage = 'speech_to_text'
  join jobs e on e.video_id = v.id and e.stage = 'embeddings'
 where v.state = 'ready' and u.phase <> 'media'";

/// Jobs that $2 held at $1: until the next attempt begins, or the commit that was on its way is there.
const HELD_AGAIN: &str = "
select extract(epoch from min(n.at) - $1)::float8
  from chaos.log c join chaos.log n on n.job = c.job and n.n > c.n
 where c.event = 'claimed' and c.by = $2 and c.at <= $1
   and not exists (select 1 from chaos.log e where e.job = c.job and e.n > c.n and e.at <= $1)
   and n.at > $1 and (n.event = 'claimed' or n.event = 'done')
 group by c.n";

/// Jobs that were said to be in Redis at $1: until they are pushed again or claimed.
const PUSHED_AGAIN: &str = "
select extract(epoch from min(n.at) - $1)::float8
  from chaos.log c join chaos.log n on n.job = c.job and n.n > c.n
 where c.event = 'dispatched' and c.at <= $1 and $2 = ''
   and not exists (select 1 from chaos.log e where e.job = c.job and e.n > c.n and e.at <= $1)
   and n.at > $1 and n.event in ('dispatched', 'claimed')
 group by c.n";

/// From the moment in which the server takes connections again to the next claim of anybody.
const GOES_ON: &str = "
select extract(epoch from min(at) - $1)::float8 from chaos.log
 where at > $1 and event = 'claimed' and $2 = '' having count(*) > 0";

/// From the end of the fault to the next end of a stage that needs storage.
const GOES_ON_DONE: &str = "
select extract(epoch from min(at) - $1)::float8 from chaos.log
 where at > $1 and event = 'done' and stage <> 'duplicate_detection' and $2 = '' having count(*) > 0";

/// Uploads that nobody announced: until their video is there.
const FOUND: &str = "
select extract(epoch from v.created_at - u.at)::float8
  from chaos.uploads u join videos v on v.object_key = u.key where not u.announced";

/// The job whose commit was cut: until it is done.
const COMMITTED: &str = "
select greatest(0, extract(epoch from min(n.at) - $1))::float8
  from chaos.log c join chaos.log n on n.job = c.job and n.n > c.n and n.event = 'done'
 where c.event = 'claimed' and c.by = $2 and c.at <= $1
   and not exists (select 1 from chaos.log e where e.job = c.job and e.n > c.n and e.at < $1 - interval '50 ms')
 group by c.n";
