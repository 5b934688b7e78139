//! The ways in which MinIO is away, slow, or says half of what it has to say: retried, nothing partial is published, and no
//! job is charged for it.

use std::time::Duration;

use rustix::process::Signal;

use crate::fleet::Role;
use crate::inject::{OUTAGE, PUT, Strike, strike};
use crate::plan::{Fault, Injection};
use crate::proxy::{Moment, Trap, Weather};
use crate::world::World;

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Killed,
    Hung,
    /// At one request: not seen, or half seen, or half answered, or not answered.
    Cut(&'static [&'static str], &'static str, Moment),
    /// On every way to it.
    Weather(Weather),
}

/// What a worker asks of MinIO for a source.
const GET: &str = "GET /clipstream/raw-uploads/";

const TROUBLES: [Trouble; 10] = [
    Trouble::Killed,
    Trouble::Hung,
    Trouble::Cut(&[PUT], "", Moment::Before),
    Trouble::Cut(&[PUT], "", Moment::MidRequest),
    Trouble::Cut(&[PUT], "HTTP/1.1 200", Moment::After),
    Trouble::Cut(&[GET], "HTTP/1.1 206", Moment::MidAnswer),
    Trouble::Weather(Weather::Slow(1_000)),
    Trouble::Weather(Weather::Late(Duration::from_millis(500))),
    Trouble::Weather(Weather::Refusing(500)),
    Trouble::Weather(Weather::Refusing(503)),
];

/// Below this a run would not show all of them.
pub(crate) const WAYS: usize = TROUBLES.len();

impl World {
    /// The strike counts from the end of the trouble, where it lasts.
    pub(crate) async fn break_storage(&mut self, injection: Injection) -> Vec<Strike> {
        // At full scale the first of each kind lasts longer than any call is tried.
        let first = injection.variant < WAYS;
        let outage = if first { OUTAGE.max(self.settings.long_outage / 30) } else { OUTAGE };
        match TROUBLES[injection.variant % WAYS] {
            Trouble::Killed => {
                self.feeder.upload(Fault::Storage, injection.uploads, "mp4").await;
                self.services.restart_minio(outage).await;
            }
            Trouble::Hung => {
                self.feeder.upload(Fault::Storage, injection.uploads, "mp4").await;
                self.services.signal_minio(Signal::STOP);
                tokio::time::sleep(outage).await;
                self.services.signal_minio(Signal::CONT);
            }
            Trouble::Cut(request, answer, moment) => {
                let trap = Trap::new(request, answer, moment, |_| ());
                for member in self.fleet.of(Role::Worker) {
                    member.minio.arm(&trap);
                }
                self.until_sprung(Fault::Storage, &trap, injection.uploads, "mp4").await;
            }
            Trouble::Weather(weather) => {
                let everywhere = |weather| {
                    for member in &self.fleet.members {
                        member.minio.set_weather(weather);
                    }
                };
                everywhere(weather);
                let upload = self.feeder.upload(Fault::Storage, injection.uploads, "mp4");
                tokio::join!(upload, tokio::time::sleep(outage));
                everywhere(Weather::Fair);
            }
        }
        vec![strike(Fault::Storage, "")]
    }
}
