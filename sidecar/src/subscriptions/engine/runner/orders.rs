//! What a running subscription is told to do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::settle::Effect;
use super::state::{At, Phase};
use super::{Exit, Ordered, Runner, Step};
use crate::kafka::reader::{Offsets, Reader, When};
use crate::subscriptions::engine::lanes::Ticket;
use crate::subscriptions::engine::outlet::Outlet;
use crate::subscriptions::event::{Deliver, Event, Outcome};
use crate::subscriptions::running::{Events, Order, Parked, Refused, Selection, To, Told};
use crate::subscriptions::spec::Topics;

type Answer = oneshot::Sender<Result<Told, Refused>>;

/// How long a seek waits for what is under way.
const FINISH: Duration = Duration::from_secs(15);
/// The most events that are listed at once.
const LISTED: usize = 1000;

impl<D: Deliver> Runner<D> {
    /// Carries out an order, and answers it, now or later. Whoever gave it may have gone: that is no reason not to.
    pub(super) fn order(&mut self, (order, answer): Ordered) {
        let told = match order {
            Order::Pause => {
                self.paused.get_or_insert_with(|| "somebody paused it".to_owned());
                self.report();
                Ok(Told::Done)
            }
            Order::Resume => self.resume(),
            Order::Seek { partitions, to } => return self.seek(&partitions, to, answer),
            Order::Replay {
                topic,
                partition,
                from,
                to,
            } => self.replay(&topic, partition, from, to),
            Order::Test { record } => return self.test(record, answer),
            Order::ListParked { limit } => return self.list(limit, answer),
            Order::RetryParked(events) => Ok(self.retry_parked(&events)),
            Order::DropParked(events) => Ok(self.drop_parked(&events)),
        };
        drop(answer.send(told));
    }

    fn resume(&mut self) -> Result<Told, Refused> {
        if self.spec.paused {
            let why = "its `paused` is true: change that".to_owned();
            return Err(Refused::Invalid(why));
        }
        self.paused = None;
        for ticket in std::mem::take(&mut self.stopped) {
            self.put(ticket, At::Queued);
            self.lanes.release(ticket);
        }
        self.report();
        Ok(Told::Done)
    }

    fn parked(&self, events: &Events) -> Vec<Ticket> {
        let wanted: Option<HashSet<&str>> = events
            .ids
            .as_ref()
            .map(|ids| ids.iter().map(String::as_str).collect());
        let parked = self.entries.iter().filter(|(_, entry)| entry.at == At::Parked);
        let mut found: Vec<(i64, Ticket)> = parked
            .filter(|(ticket, _)| {
                let id = || self.id_of(**ticket);
                wanted
                    .as_ref()
                    .is_none_or(|wanted| wanted.contains(id().as_str()))
            })
            .map(|(ticket, entry)| (entry.first_failed_ms, *ticket))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, ticket)| ticket).collect()
    }

    fn retry_parked(&mut self, events: &Events) -> Told {
        let parked = self.parked(events);
        for ticket in &parked {
            self.put(*ticket, At::Queued);
            if let Some(entry) = self.entries.get(ticket) {
                let lane = self.lane(*ticket, entry.part, entry.key.as_ref());
                self.lanes.offer(*ticket, lane);
            }
        }
        Told::Events(parked.len())
    }

    fn drop_parked(&mut self, events: &Events) -> Told {
        let parked = self.parked(events);
        for ticket in &parked {
            self.metrics.dropped();
            self.settle(*ticket, Effect::Finish, None);
        }
        Told::Events(parked.len())
    }

    fn list(&self, limit: usize, answer: Answer) {
        let tickets = self.parked(&Events::default());
        let listed: Vec<(Option<i64>, Parked)> = tickets
            .into_iter()
            .take(limit.min(LISTED))
            .filter_map(|ticket| {
                let entry = self.entries.get(&ticket)?;
                let parked = Parked {
                    event: self.id_of(ticket),
                    attempts: entry.attempts,
                    first_failed_ms: entry.first_failed_ms,
                    error: entry.error.clone(),
                    status: entry.status,
                    key: entry.key.clone(),
                    value: entry.record.as_ref().and_then(|record| record.value.clone()),
                };
                Some((entry.held.filter(|_| entry.record.is_none()), parked))
            })
            .collect();
        let outlet = Arc::clone(&self.outlet);
        tokio::spawn(async move {
            let mut all = Vec::with_capacity(listed.len());
            for (at, mut parked) in listed {
                if let Some(at) = at {
                    match outlet.fetch(&parked.event, at).await {
                        Ok(record) => parked.value = record.value,
                        Err(None) => {}
                        Err(Some(why)) => {
                            drop(answer.send(Err(Refused::Unavailable(why))));
                            return;
                        }
                    }
                }
                all.push(parked);
            }
            drop(answer.send(Ok(Told::Parked(all))));
        });
    }

    fn test(&self, record: Option<(String, i32, i64)>, answer: Answer) {
        let mut own: Vec<(Arc<str>, i32)> = self.by_name.keys().cloned().collect();
        own.sort();
        let names = match &self.spec.source.topics {
            Topics::Names(names) => names.clone(),
            Topics::Pattern(..) => Vec::new(),
        };
        if let Some((topic, ..)) = &record
            && !self.spec.source.has(topic)
        {
            let why = format!("topic {topic:?} is not of the subscription's source");
            drop(answer.send(Err(Refused::Invalid(why))));
            return;
        }
        let (sink, outlet, id) = (
            Arc::clone(&self.sink),
            Arc::clone(&self.outlet),
            Arc::clone(&self.id),
        );
        tokio::spawn(async move {
            let told = test(&*sink, &outlet, id, record, own, names).await;
            drop(answer.send(told));
        });
    }

    fn seek(&mut self, partitions: &Selection, to: To, answer: Answer) {
        let own: Vec<(Arc<str>, i32)> = self
            .parts
            .values()
            .filter(|part| part.phase == Phase::Active && partitions.has(&part.topic, part.partition))
            .map(|part| (Arc::clone(&part.topic), part.partition))
            .collect();
        if own.is_empty() {
            let why = "none of these partitions is with this sidecar: ask the one that has it".to_owned();
            drop(answer.send(Err(Refused::Invalid(why))));
            return;
        }
        let outlet = Arc::clone(&self.outlet);
        self.steps.spawn(async move {
            let positions = sought(outlet.reader(), &own, to).await;
            Step::Sought(positions, answer)
        });
    }

    /// It is known where a seek goes: what is under way is finished, the new positions are committed, and the task begins anew from
    /// there. So nothing that was read before can come after.
    pub(super) async fn sought(
        &mut self,
        positions: Result<Offsets, String>,
        answer: Answer,
    ) -> Option<Exit> {
        let positions = match positions {
            Ok(positions) => positions,
            Err(why) => {
                drop(answer.send(Err(Refused::Unavailable(why))));
                return None;
            }
        };
        self.draining = true;
        self.wait_no_more();
        let until = Instant::now() + FINISH;
        while !self.is_settled() {
            let step = tokio::time::timeout_at(until.into(), self.steps.join_next());
            match step.await {
                Ok(Some(Ok(Step::Delivered(request, delivered)))) => self.delivered(request, delivered),
                Ok(Some(Ok(Step::Settled(ticket, effect, result)))) => self.settled(ticket, effect, result),
                Ok(Some(Ok(Step::Committed(progress, error)))) => self.committed(progress, error),
                Ok(Some(Ok(Step::Closed(error)))) => self.closed(error),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.metrics
            .abandoned(self.requests.values().map(|request| request.tickets.len()).sum());
        self.steps.abort_all();
        let mut others = self.progress();
        others.retain(|key, _| !positions.contains_key(key));
        let mut told: Vec<(String, i32, i64)> = positions
            .iter()
            .map(|(key, offset)| (key.0.to_string(), key.1, *offset))
            .collect();
        told.sort();
        let mut committed = self.member.seek(&positions).await;
        if committed.is_ok() {
            committed = self.member.commit(&others).await;
        }
        let answered = match committed {
            Ok(()) => Ok(Told::Sought(told)),
            Err(error) => Err(Refused::Unavailable(error.to_string())),
        };
        drop(answer.send(answered));
        Some(Exit::Again)
    }
}

async fn sought(reader: &Reader, of: &[(Arc<str>, i32)], to: To) -> Result<Offsets, String> {
    let at = |when| async move { reader.offsets(of, when).await.map_err(|error| error.to_string()) };
    match to {
        To::Earliest => at(When::Earliest).await,
        To::Latest => at(When::Latest).await,
        To::Timestamp(ms) => at(When::At(ms)).await,
        To::Offset(offset) => {
            let (first, last) = (at(When::Earliest).await?, at(When::Latest).await?);
            let mut positions = Offsets::new();
            for key in of {
                let within = first.get(key).zip(last.get(key));
                let within = within.filter(|(first, last)| offset >= **first && offset <= **last);
                if within.is_none() {
                    return Err(format!(
                        "{}@{}#{offset} is not within the partition",
                        key.0, key.1
                    ));
                }
                positions.insert(key.clone(), offset);
            }
            Ok(positions)
        }
    }
}

async fn test<D: Deliver>(
    sink: &D,
    outlet: &Outlet,
    subscription: Arc<str>,
    record: Option<(String, i32, i64)>,
    own: Vec<(Arc<str>, i32)>,
    names: Vec<String>,
) -> Result<Told, Refused> {
    let unavailable = |why: String| Refused::Unavailable(why);
    let found = match record {
        Some((topic, partition, offset)) => {
            let found = outlet.one(&Arc::from(topic.as_str()), partition, offset).await;
            found.map_err(|why| match why {
                Some(why) => Refused::Unavailable(why),
                None => Refused::Invalid(format!("there is no record {topic}@{partition}#{offset}")),
            })?
        }
        None => {
            let mut all = own;
            if all.is_empty() {
                for name in names {
                    let name: Arc<str> = Arc::from(name);
                    let count = outlet.reader().partitions(&name).await;
                    let count = count.map_err(|error| unavailable(error.to_string()))?;
                    all.extend((0..count).map(|partition| (Arc::clone(&name), partition)));
                }
            }
            newest(outlet, &all).await?
        }
    };
    let event = Event {
        subscription,
        record: found,
        attempts: 0,
    };
    let id = event.id();
    let (delivered, error, status) = match sink.deliver(std::slice::from_ref(&event)).await {
        Outcome::Done { .. } => (true, None, None),
        Outcome::Dropped => (true, Some("the handler said to drop it".to_owned()), None),
        Outcome::Retry { why, status, .. } | Outcome::Poison { why, status } => (false, Some(why), status),
    };
    Ok(Told::Tested {
        event: id,
        delivered,
        error,
        status,
    })
}

/// The newest record of partitions: the last one of each is looked at.
async fn newest(
    outlet: &Outlet,
    of: &[(Arc<str>, i32)],
) -> Result<Arc<crate::kafka::reader::Record>, Refused> {
    let unavailable = |why: String| Refused::Unavailable(why);
    let ends = outlet.reader().offsets(of, When::Latest).await;
    let ends = ends.map_err(|error| unavailable(error.to_string()))?;
    let mut newest: Option<Arc<crate::kafka::reader::Record>> = None;
    for ((topic, partition), end) in ends {
        // The very last offset may be a transaction's marker.
        for offset in (end.saturating_sub(3).max(0)..end).rev() {
            match outlet.one(&topic, partition, offset).await {
                Ok(record) => {
                    if newest
                        .as_ref()
                        .is_none_or(|newest| newest.timestamp < record.timestamp)
                    {
                        newest = Some(record);
                    }
                    break;
                }
                Err(None) => {}
                Err(Some(why)) => return Err(unavailable(why)),
            }
        }
    }
    newest.ok_or_else(|| Refused::Invalid("the source has no record to test with".to_owned()))
}
