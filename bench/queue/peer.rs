//! pgbench with the bare statements behind a delivery and a job cycle: what Postgres alone does with as many clients.
//! No HTTP, no Redis, no fairness, no lease kept alive: the distance to it is what all of that costs.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use crate::services::{CONNECTIONS, Services, World, psql};

const SECONDS: &str = "10";

/// A video and its first job, as a delivery inserts them.
const INSERT: &str = "
with v as (
  insert into videos (id, owner_id, bucket, object_key, identity, etag, size_bytes, content_type,
                      announced_by, state, uploaded_at)
  values (gen_random_uuid(), '00000000-0000-7000-8000-000000000001', 'clipstream',
          'raw-uploads/' || gen_random_uuid() || '.mp4', 'etag:900150983cd24fb0d6963f7d28e17f72',
          '900150983cd24fb0d6963f7d28e17f72', 1234, 'video/mp4', 'webhook', 'processing', now())
  returning id, owner_id)
insert into jobs (id, video_id, owner_id, stage)
select gen_random_uuid(), id, owner_id, 'duplicate_detection' from v;
";

/// The two commits of a cycle: a claim, and its end with the attempt's and the video's rows. Jobs are drawn by number,
/// so nobody waits for a line; a job may be drawn again.
const CYCLE: &str = "
\\set n random(1, :jobs)
with j as (
  update jobs set state = 'running', attempt = attempt + 1, worker = gen_random_uuid(),
                  lease_until = now() + interval '15 s', deadline_at = now() + interval '1 h',
                  started_at = now(), finished_at = null
   where id = (select id from bench_jobs where n = :n)
  returning id, attempt, worker)
insert into job_attempts (job_id, attempt, worker) select id, attempt, worker from j;
with j as (
  update jobs set state = 'done', worker = null, lease_until = null, deadline_at = null,
                  progress = 1, finished_at = now()
   where id = (select id from bench_jobs where n = :n)
  returning id, attempt, video_id),
a as (
  update job_attempts t set ended_at = now(), outcome = 'done'
    from j where t.job_id = j.id and t.attempt = j.attempt)
update videos v set updated_at = now() from j where v.id = j.video_id;
";

/// Transactions a second.
pub(crate) fn inserts(
    services: &Services,
    world: &World,
    clients: usize,
) -> Result<f64, Box<dyn Error>> {
    pgbench(services, world, INSERT, clients, &[])
}

/// Cycles a second, over the jobs that our own measurement left.
pub(crate) fn cycles(
    services: &Services,
    world: &World,
    clients: usize,
) -> Result<f64, Box<dyn Error>> {
    let number = "create table bench_jobs as select row_number() over () as n, id from jobs;
                  create unique index on bench_jobs (n);
                  analyze";
    psql(&world.database_url, number)?;
    let jobs = psql(&world.database_url, "select count(*) from bench_jobs")?;
    pgbench(services, world, CYCLE, clients, &["--define", &format!("jobs={jobs}")])
}

fn pgbench(
    services: &Services,
    world: &World,
    script: &str,
    clients: usize,
    more: &[&str],
) -> Result<f64, Box<dyn Error>> {
    let file = services.directory().join("pgbench.sql");
    std::fs::write(&file, script)?;
    let clients = clients.min(CONNECTIONS as usize);
    let output = Command::new(program())
        .args(["--no-vacuum", "--protocol=prepared", "--time", SECONDS])
        .args(["--client", &clients.to_string(), "--jobs", &clients.min(2).to_string()])
        .args(more)
        .arg("--file")
        .arg(&file)
        .arg(&world.database_url)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rate =
        said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.ok_or_else(|| {
        format!("pgbench: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr))
            .into()
    })
}

/// On the PATH, or where Debian keeps it, which is not on it.
fn program() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian =
        debian.map(|version| version.path().join("bin/pgbench")).find(|path| path.exists());
    debian.unwrap_or_else(|| PathBuf::from("pgbench"))
}
