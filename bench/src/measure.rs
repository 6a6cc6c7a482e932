//! One measurement: a row, for a while.

use std::time::Duration;

use sluice_e2e::{Context, Result, ensure};

use crate::bare::Awaiting;
use crate::cpu::CpuClock;
use crate::envoy::PATH;
use crate::http;
use crate::load::{Load, Outcome};
use crate::rig::{self, Rig};
use crate::rows::{Behind, Row};
use crate::stats::percentile;

/// How large the request's body is, in bytes.
pub(crate) const BODY: usize = 300;

/// What one measurement of a row gave. CPU times are µs per request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) row: Row,
    pub(crate) connections: usize,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) envoy: f64,
    /// The sidecar, or the small service in its place.
    pub(crate) behind: f64,
    pub(crate) broker: f64,
    /// The load generator.
    pub(crate) load: f64,
}

/// A JSON document of [`BODY`] bytes.
pub(crate) fn body() -> Vec<u8> {
    let head = br#"{"order":"a-4711","customer":"c-0815","items":[{"sku":"x-1","quantity":2}],"note":""#;
    let mut body = head.to_vec();
    body.resize(BODY - 2, b'n');
    body.extend_from_slice(b"\"}");
    body
}

/// The bytes of every request.
pub(crate) fn request() -> Vec<u8> {
    http::post(PATH, &body())
}

/// The CPU clocks of a rig's processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    envoy: CpuClock,
    sidecar: CpuClock,
    service: CpuClock,
    broker: CpuClock,
    own: CpuClock,
}

impl Clocks {
    /// # Errors
    /// A process has ended.
    pub(crate) fn of(rig: &mut Rig) -> Result<Self> {
        Ok(Self {
            envoy: CpuClock::of(rig.envoy.pid())?,
            sidecar: CpuClock::of(rig.sidecar.pid().context("the sidecar has ended")?)?,
            service: CpuClock::of(rig.service.pid())?,
            broker: CpuClock::of(rig.broker.pid()?)?,
            own: CpuClock::of(std::process::id())?,
        })
    }

    /// What each had used: Envoy, what is behind it in that row, the broker, this process.
    fn read(&self, row: Row) -> Result<[Duration; 4]> {
        let behind = if row.behind() == Behind::Service {
            self.service
        } else {
            self.sidecar
        };
        Ok([
            self.envoy.read()?,
            behind.read()?,
            self.broker.read()?,
            self.own.read()?,
        ])
    }
}

/// Measures rows on a rig.
pub(crate) struct Meter<'a> {
    rig: &'a Rig,
    clocks: Clocks,
    awaiting: Awaiting,
}

impl<'a> Meter<'a> {
    /// # Errors
    /// librdkafka refuses its configuration.
    pub(crate) fn new(rig: &'a Rig, clocks: Clocks) -> Result<Self> {
        let awaiting = Awaiting::new(&rig.broker.bootstrap())?;
        Ok(Self {
            rig,
            clocks,
            awaiting,
        })
    }

    /// Waits until a row works at all.
    ///
    /// # Errors
    /// It does not.
    pub(crate) async fn ready(&self, row: Row) -> Result<()> {
        match self.rig.listeners.get(&row) {
            Some(address) => rig::answers(row, *address, &request()).await,
            None => self.awaiting.run(&body(), Duration::ZERO).await.map(|_| ()),
        }
    }

    /// One measurement, after a short run-up on the same connections.
    ///
    /// # Errors
    /// A connection fails, or a reply has another status than it must have.
    pub(crate) async fn measure(&self, row: Row, connections: usize, window: Duration) -> Result<Sample> {
        let run_up = window / 8;
        let (outcome, used) = match self.rig.listeners.get(&row) {
            Some(address) => {
                let mut load = Load::connect(*address, request(), connections)?;
                self.between(row, run_up, window, async |time| load.run(time))
                    .await?
            }
            None => {
                let body = body();
                self.between(row, run_up, window, async |time| {
                    self.awaiting.run(&body, time).await
                })
                .await?
            }
        };
        sample(row, connections, &outcome, used)
    }

    /// Runs once for `run_up`, then for `window`, and gives what the second run gave and what each process
    /// used meanwhile.
    async fn between(
        &self,
        row: Row,
        run_up: Duration,
        window: Duration,
        mut run: impl AsyncFnMut(Duration) -> Result<Outcome>,
    ) -> Result<(Outcome, [Duration; 4])> {
        run(run_up).await?;
        let before = self.clocks.read(row)?;
        let outcome = run(window).await?;
        let after = self.clocks.read(row)?;
        let mut used = after;
        for (used, before) in used.iter_mut().zip(before) {
            *used = used.saturating_sub(before);
        }
        Ok((outcome, used))
    }
}

/// What a window gave, once every reply is known to have the status it must have.
fn sample(row: Row, connections: usize, outcome: &Outcome, used: [Duration; 4]) -> Result<Sample> {
    let requests = outcome.latencies.len() as f64;
    ensure!(requests > 0.0, "{}: no request at all was answered", row.title());
    let wrong = outcome.statuses.keys().any(|status| *status != row.status());
    ensure!(
        !wrong,
        "{}, {connections} connections: every reply must be {}, but they were (status: number) {:?}",
        row.title(),
        row.status(),
        outcome.statuses
    );
    let [envoy, behind, broker, load] = used.map(|time| time.as_secs_f64() * 1e6 / requests);
    Ok(Sample {
        row,
        connections,
        per_second: requests / outcome.elapsed.as_secs_f64(),
        p50: percentile(&outcome.latencies, 50.0),
        p99: percentile(&outcome.latencies, 99.0),
        envoy,
        behind,
        broker,
        load,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(statuses: &[(u16, u64)]) -> Outcome {
        Outcome {
            elapsed: Duration::from_millis(500),
            latencies: (1..=100).map(Duration::from_micros).collect(),
            statuses: statuses.iter().copied().collect(),
        }
    }

    #[test]
    fn a_sample_is_per_request() {
        let used = [1, 2, 3, 4].map(Duration::from_millis);
        let sample = sample(Row::Stream, 64, &outcome(&[(200, 100)]), used).unwrap();
        assert_eq!(sample.per_second, 200.0);
        assert_eq!(
            (sample.p50, sample.p99),
            (Duration::from_micros(50), Duration::from_micros(99))
        );
        assert_eq!(
            [sample.envoy, sample.behind, sample.broker, sample.load],
            [10.0, 20.0, 30.0, 40.0]
        );
    }

    #[test]
    fn one_reply_of_another_status_fails_the_run() {
        let used = [Duration::ZERO; 4];
        let error = sample(Row::Stream, 64, &outcome(&[(200, 99), (503, 1)]), used).unwrap_err();
        assert!(error.to_string().contains("503: 1"), "{error}");
        assert!(sample(Row::Local, 1, &outcome(&[(413, 100)]), used).is_ok());
        assert!(sample(Row::Local, 1, &outcome(&[(200, 100)]), used).is_err());
        assert!(sample(Row::Stream, 1, &Outcome::default(), used).is_err());
    }

    #[test]
    fn the_body_is_json_of_the_size_that_is_claimed() {
        let body = body();
        assert_eq!(body.len(), BODY);
        serde_json::from_slice::<serde_json::Value>(&body).unwrap();
    }
}
