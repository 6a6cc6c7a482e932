//! A member's thread: has librdkafka say what it has to say, and hands records over while there is room.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::{mpsc, watch};

use super::{Batch, Client, Error, Event, PATIENCE, QUEUED, Shared, Topics, lock, of_kafka};
use crate::kafka::reader::Error as ReadError;
use crate::kafka::reader::native::Taken;

/// How often it looks whether there is something to do, if nothing wakes it.
const TURN: Duration = Duration::from_millis(200);
/// What is said at once: one call may have said nothing although there is more.
const SAID: usize = 8;
/// How often topics are looked for that match a pattern.
const LOOK: Duration = Duration::from_secs(5);
/// What goes into one batch, about.
const BATCH_RECORDS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// Records that are taken from the library by one call.
const AT_ONCE: usize = 64;
/// For how long the same error is not told again.
const REPEATED: Duration = Duration::from_secs(5);
/// How long a member that leaves is waited for: the time for a hand-over comes on top.
const LEAVING: Duration = Duration::from_secs(15);

/// Starts the thread. It tells `ending` when the member has left.
pub(super) fn start(
    client: Arc<Client>,
    shared: Arc<Shared>,
    topics: Topics,
    events: mpsc::UnboundedSender<Event>,
    ending: watch::Sender<bool>,
) -> std::io::Result<()> {
    let driver = Driver {
        client,
        shared,
        events,
        topics,
        subscribed: Vec::new(),
        look_at: Instant::now(),
        names: HashMap::new(),
        told: HashMap::new(),
    };
    std::thread::Builder::new()
        .name("group-member".to_owned())
        .spawn(move || {
            driver.run();
            ending.send_replace(true);
        })
        .map(drop)
}

struct Driver {
    client: Arc<Client>,
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Event>,
    topics: Topics,
    subscribed: Vec<String>,
    look_at: Instant,
    names: HashMap<String, Arc<str>>,
    /// When an error was told last.
    told: HashMap<String, Instant>,
}

impl Driver {
    fn run(mut self) {
        while !self.shared.closing.load(Ordering::Acquire) && !self.events.is_closed() {
            if Instant::now() >= self.look_at {
                self.look_at = Instant::now() + LOOK;
                self.subscribe();
            }
            self.listen();
            if !self.hand_on() {
                self.shared.bell.wait(TURN);
            }
        }
        self.leave();
    }

    /// Subscribes to what there is, if it is something else than before.
    fn subscribe(&mut self) {
        let wanted = match &self.topics {
            Topics::Names(names) => names.clone(),
            Topics::Pattern(pattern) => {
                let metadata = match self.client.fetch_metadata(None, PATIENCE) {
                    Ok(metadata) => metadata,
                    Err(error) => return self.fail(of_kafka(&error, &self.shared.group)),
                };
                let there = metadata.topics().iter().filter(|topic| topic.error().is_none());
                let names = there.map(|topic| topic.name());
                let mut names: Vec<String> = names
                    .filter(|name| !name.starts_with("__") && pattern.is_match(name))
                    .map(str::to_owned)
                    .collect();
                names.sort();
                names
            }
        };
        if wanted == self.subscribed || wanted.is_empty() {
            return;
        }
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        match self.client.subscribe(&names) {
            Ok(()) => self.subscribed = wanted,
            Err(error) => self.fail(Error::Fatal {
                group: self.shared.group.to_string(),
                why: error.to_string(),
            }),
        }
    }

    /// Has the library say what it has to say: who has which partitions, what went wrong, and what was committed.
    fn listen(&mut self) {
        for _ in 0..SAID {
            // Records come by their own queue, and members without one have nothing that comes.
            if let Some(Err(error)) = self.client.clone().poll(Duration::ZERO) {
                self.explain(&error);
            }
        }
    }

    fn explain(&mut self, error: &KafkaError) {
        let group = &self.shared.group;
        let why = self.client.context().last();
        let failed = match (error, error.rdkafka_error_code()) {
            (KafkaError::PartitionEOF(_), _) => return,
            (KafkaError::MessageConsumptionFatal(code), _) => Error::Fatal {
                group: group.to_string(),
                why: match self.client.client().fatal_error() {
                    Some((_, text)) => text,
                    None => code.to_string(),
                },
            },
            // Somebody did not poll; it joins again by itself once somebody does.
            (_, Some(code @ Code::PollExceeded)) => Error::unavailable(group, code),
            (_, Some(code)) => match Error::of(code, group) {
                Error::Unavailable { group, why: text } => Error::Unavailable {
                    group,
                    why: why.unwrap_or(text),
                },
                other => other,
            },
            (other, None) => Error::unavailable(group, other),
        };
        self.fail(failed);
    }

    /// Takes records while there is room for a batch. Gives whether there was something.
    fn hand_on(&mut self) -> bool {
        if self.shared.queued.load(Ordering::Acquire) >= QUEUED {
            return false;
        }
        let mut batch = Batch::default();
        let (mut bytes, mut failed) = (0, Vec::new());
        let client = Arc::clone(&self.client);
        while batch.records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let taken = client
                .context()
                .with_records(|records| records.take(AT_ONCE, |name| intern(&mut self.names, name)));
            let taken = taken.unwrap_or_default();
            if taken.is_empty() {
                break;
            }
            for one in taken {
                match one {
                    Taken::Record(record) => {
                        bytes += record.size();
                        batch.records.push(Arc::new(record));
                    }
                    Taken::End {
                        topic,
                        partition,
                        next,
                    } => batch.ends.push(((topic, partition), next)),
                    Taken::Failed {
                        topic,
                        partition,
                        code,
                        text,
                    } => failed.push(match ReadError::of(code, &topic, partition, -1) {
                        Some(error) => Error::Read(error),
                        None => Error::unavailable(&self.shared.group, text),
                    }),
                }
            }
        }
        let something = !batch.records.is_empty() || !batch.ends.is_empty();
        if something {
            self.shared.queued.fetch_add(1, Ordering::AcqRel);
            self.tell(Event::Batch(batch));
        }
        for error in failed {
            self.fail(error);
        }
        something
    }

    fn fail(&mut self, error: Error) {
        let text = error.to_string();
        let now = Instant::now();
        self.told.retain(|_, when| now.duration_since(*when) < REPEATED);
        if self.told.insert(text, now).is_none() {
            self.tell(Event::Failed(error));
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens to a member that is being dropped.
        drop(self.events.send(event));
    }

    /// Hands over what it has, and leaves.
    fn leave(mut self) {
        let deadline = Instant::now() + LEAVING;
        self.client.unsubscribe();
        let has = |client: &Client| client.assignment().is_ok_and(|list| list.count() > 0);
        loop {
            self.listen();
            if !has(&self.client) || Instant::now() >= deadline {
                break;
            }
            self.shared.bell.wait(Duration::from_millis(20));
        }
        drop(lock(&self.shared.client).take());
        self.client.context().empty();
        // Questions that are under way have the client too, and each ends within its own patience.
        while Arc::strong_count(&self.client) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The one copy of a topic's name that there is.
fn intern(names: &mut HashMap<String, Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let kept: Arc<str> = Arc::from(name);
    names.insert(name.to_owned(), Arc::clone(&kept));
    kept
}
