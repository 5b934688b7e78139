//! The figures as Prometheus reads them. Names are `clipstream_<thing>_<unit>[_total]`, labels have few values, and every
//! series of a count is there from the first scrape, at 0: what is not there cannot be alarmed on.

use std::fmt;

use pipeline::metrics::{self, AttemptEnd, Kind, PerKind, PerStage, Seconds};
use pipeline::stage::Stage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::figures::Gathered;

pub(super) use prometheus_text::CONTENT_TYPE;

/// What became of the calls of the webhook.
pub(in crate::http) static DELIVERIES: PerKind<DeliveryEnd, 6> = PerKind::new();

/// How a call of the webhook was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum DeliveryEnd {
    Accepted,
    /// Nothing in it was for us: a probe, another kind of event.
    Nothing,
    Quarantined,
    /// 401. If it was MinIO, its events wait until the token is right.
    Unauthorized,
    /// 503: more at once than may be.
    Busy,
    /// 503: it could not be stored, or did not arrive whole.
    Unavailable,
}

impl Kind for DeliveryEnd {
    const ALL: &'static [Self] = &[
        Self::Accepted,
        Self::Nothing,
        Self::Quarantined,
        Self::Unauthorized,
        Self::Busy,
        Self::Unavailable,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Nothing => "nothing",
            Self::Quarantined => "quarantined",
            Self::Unauthorized => "unauthorized",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }
}

pub(super) fn text(gathered: Gathered) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(gathered));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

/// Writes families, one after the other.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in series {
            if N == 0 {
                family.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            } else {
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float for Prometheus")]
    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        self.levels(name, help, series.into_iter().map(|(labels, value)| (labels, value as f64)))
    }

    fn levels<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            if N == 0 {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn durations(&mut self, name: &str, help: &str, stages: &PerStage<Seconds>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for stage in Stage::ALL {
            let (counts, sum) = (stages[stage].counts(), stages[stage].sum());
            let bounds = Seconds::BOUNDS.into_iter().chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let labels = [("stage", stage.as_str())];
            let count = counts.iter().sum();
            let mut series = family.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn per_stage(
        &mut self,
        name: &str,
        help: &str,
        stages: &PerStage<metrics::Counter>,
    ) -> fmt::Result {
        let series = Stage::ALL.map(|stage| ([("stage", stage.as_str())], stages[stage].get()));
        self.counters(name, help, series)
    }

    fn per_kind<K: Kind, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        kinds: &PerKind<K, N>,
    ) -> fmt::Result {
        let series = K::ALL.iter().map(|&kind| ([(label, kind.as_str())], kinds[kind].get()));
        self.counters(name, help, series)
    }
}

impl Collector for Gathered {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        self.process(&mut page)?;
        work(&mut page)?;
        self.rows(&mut page)?;
        self.storage(&mut page)
    }
}

impl Gathered {
    fn process(&self, page: &mut Page) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauges(
            "clipstream_build_info",
            "Always 1; the label says which build",
            [(version, 1)],
        )?;
        page.gauges(
            "clipstream_ready",
            "Whether work should be sent to this process",
            [([], u64::from(self.report.ready()))],
        )?;
        let up = self.report.checks().map(|c| ([("dependency", c.name)], u64::from(c.works)));
        page.gauges(
            "clipstream_dependency_up",
            "Whether this process can use a service or scratch",
            up,
        )?;
        if let Some(space) = self.report.space {
            let help = "Free space where sources are kept while they are worked on";
            page.gauges("clipstream_scratch_free_bytes", help, [([], space.free_bytes)])?;
            let help = "What must stay free there: below it no job begins";
            page.gauges("clipstream_scratch_floor_bytes", help, [([], space.floor_bytes)])?;
        }
        let layers =
            self.sandbox.iter().map(|(layer, holds)| ([("layer", *layer)], u64::from(*holds)));
        page.gauges(
            "clipstream_sandbox_layer",
            "Whether a layer of the media child's cage holds on this machine",
            layers,
        )?;
        page.per_kind(
            "clipstream_webhook_deliveries",
            "Calls of the webhook, by how they were answered",
            "result",
            &DELIVERIES,
        )
    }

    fn rows(&self, page: &mut Page) -> fmt::Result {
        let Some(queues) = &self.queues else { return Ok(()) };
        let counts = queues.iter().flat_map(|queue| {
            let stage = ("stage", queue.stage.as_str());
            [
                ("due", queue.pending - queue.waiting - queue.dispatched),
                ("waiting", queue.waiting),
                ("dispatched", queue.dispatched),
                ("running", queue.running),
                ("dead", queue.dead),
            ]
            .map(|(state, count)| ([stage, ("state", state)], count))
        });
        page.gauges(
            "clipstream_queue_jobs",
            "Jobs that are not done: due, waiting for a time, dispatched to Redis, running, dead",
            counts,
        )?;
        let ages = queues.iter().map(|queue| {
            ([("stage", queue.stage.as_str())], queue.oldest.map_or(0.0, |age| age.as_secs_f64()))
        });
        page.levels(
            "clipstream_queue_oldest_age_seconds",
            "For how long the oldest due job has been due, 0 without one",
            ages,
        )?;
        let paused = queues
            .iter()
            .map(|queue| ([("stage", queue.stage.as_str())], u64::from(queue.paused.is_some())));
        page.gauges("clipstream_queue_paused", "Whether an operator paused a stage", paused)?;
        let Some(quarantined) = self.quarantined else { return Ok(()) };
        page.gauges(
            "clipstream_quarantined_events",
            "Events that could not be used and wait for an operator",
            [([], quarantined)],
        )
    }

    fn storage(&self, page: &mut Page) -> fmt::Result {
        if let Some((sources, results)) = self.stored {
            let kinds = [([("kind", "sources")], sources), ([("kind", "results")], results)];
            page.gauges("clipstream_storage_bytes", "Bytes in the bucket, as the rows say", kinds)?;
        }
        let Some(events) = &self.events else { return Ok(()) };
        page.counters(
            "clipstream_minio_events_skipped",
            "Events that MinIO dropped before any target saw them, since it started",
            [([], events.skipped)],
        )?;
        let target = |value: fn(&pipeline::storage::TargetFigures) -> u64| {
            let targets = events.targets.iter();
            targets.map(move |(id, figures)| ([("target", id.as_str())], value(figures)))
        };
        page.counters(
            "clipstream_minio_target_failed_events",
            "Events that MinIO could not send or queue, since it started",
            target(|figures| figures.failed),
        )?;
        page.gauges(
            "clipstream_minio_target_queue_length",
            "Events that wait on MinIO's disk to be taken",
            target(|figures| figures.queued),
        )
    }
}

/// What this process did.
fn work(page: &mut Page) -> fmt::Result {
    page.durations(
        "clipstream_job_wait_seconds",
        "From a job's due time to its claim",
        &metrics::JOB_WAITS,
    )?;
    page.durations(
        "clipstream_job_run_seconds",
        "From a job's claim to its end, good or bad",
        &metrics::JOB_RUNS,
    )?;
    let ends = Stage::ALL.into_iter().flat_map(|stage| {
        AttemptEnd::ALL.iter().map(move |&end| {
            let labels = [("stage", stage.as_str()), ("outcome", end.as_str())];
            (labels, metrics::ATTEMPTS[stage][end].get())
        })
    });
    page.counters("clipstream_job_attempts", "Attempts, by how they ended", ends)?;
    let late = Stage::ALL.map(|stage| {
        ([("stage", stage.as_str())], metrics::ATTEMPTS[stage][AttemptEnd::Stale].get())
    });
    page.counters(
        "clipstream_late_commits_refused",
        "Attempts that had lost their lease and changed nothing",
        late,
    )?;
    page.per_stage(
        "clipstream_empty_claims",
        "Ids from Redis that led to no claim: old, doubled, or of a paused queue",
        &metrics::EMPTY_CLAIMS,
    )?;
    page.per_stage(
        "clipstream_redispatched_ids",
        "Ids that were missing in Redis and pushed again",
        &metrics::REDISPATCHED,
    )?;
    page.per_stage(
        "clipstream_reaped_ids",
        "Ids that went back from the list of a dead worker",
        &metrics::REAPED,
    )?;
    page.counters(
        "clipstream_expired_leases",
        "Leases and deadlines that ran out, found by this process",
        [([], metrics::EXPIRED_LEASES.get())],
    )?;
    page.counters(
        "clipstream_scratch_refusals",
        "Jobs that were given back because scratch had no room for them",
        [([], metrics::SCRATCH_REFUSALS.get())],
    )?;
    page.counters(
        "clipstream_reconciled_uploads",
        "Uploads that no event announced, found by this process",
        [([], metrics::RECONCILED.get())],
    )?;
    page.per_kind(
        "clipstream_media_child_ends",
        "Media children that did not end well, by what ended them",
        "cause",
        &metrics::CHILD_ENDS,
    )?;
    page.per_kind(
        "clipstream_attempts_stopped",
        "Attempts that were stopped from outside, their media child killed",
        "reason",
        &metrics::STOPS,
    )
}
