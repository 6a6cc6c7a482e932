//! What goes to a client: its answers, and records as it takes them.

use std::sync::Arc;

use axum::extract::ws::Message;
use bytes::Bytes;
use futures_util::{Sink, SinkExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::time::Instant;

use super::super::cursor::Cursor;
use super::super::failure::{Failure, Kind};
use super::super::flow::{Flow, Looked, PAUSE, PIECE, Step, failures, told};
use super::super::groups::Change;
use super::super::poll::reset;
use super::command::Command;
use super::end::{self, End, GOING_AWAY};
use super::inbound::Order;
use super::life::Life;
use super::publish::{RECORDS, Reply, tagged};
use super::shape::{Shape, text};
use super::window::Window;
use crate::kafka::reader::Limits;
use crate::shutdown::{Phase, Shutdown};

/// Who sends to one client.
pub(super) struct Outbound<'a, S> {
    pub(super) to: S,
    pub(super) flow: Flow,
    pub(super) shape: Shape,
    pub(super) window: Option<Window>,
    pub(super) paused: bool,
    pub(super) replies: UnboundedReceiver<Reply>,
    pub(super) orders: Receiver<Order>,
    /// What the client has acknowledged to its group and Kafka was not told, with what it calls each.
    pub(super) acks: Vec<(Option<String>, Cursor)>,
    /// When the token ends that the socket was opened with.
    pub(super) ends: Option<Instant>,
    /// Whether the flow went on past what was left out, without a message that told so.
    pub(super) passed: bool,
    /// Has all its permits when no record of the client is under way.
    pub(super) records: Arc<Semaphore>,
    pub(super) life: &'a Life,
    pub(super) shutdown: Shutdown,
    /// When the client is asked whether it is there.
    pub(super) ping_at: Instant,
    /// When Kafka is asked again that did not answer.
    pub(super) retry_at: Option<Instant>,
}

impl<S: Sink<Message, Error = axum::Error> + Unpin> Outbound<'_, S> {
    /// Sends until it is over, and why.
    pub(super) async fn run(&mut self) -> End {
        match self.serve().await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn serve(&mut self) -> Result<End, End> {
        loop {
            while let Ok(reply) = self.replies.try_recv() {
                self.reply(reply).await?;
            }
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order).await?;
            }
            self.acknowledge().await?;
            self.beat().await?;
            if self.shutdown.phase() >= Phase::Draining {
                return self.farewell().await;
            }
            if self.ends.is_some_and(|ends| ends <= Instant::now()) {
                self.answer_all().await?;
                let body = end::expired().body_with_status();
                self.event("error", None, &body).await?;
                return Ok(End::expired());
            }
            if self.reads() {
                if self.advance().await? {
                    continue;
                }
            } else if self.may() {
                match self.flow.tend().await {
                    Ok(changes) => {
                        self.retry_at = None;
                        self.changed(&changes).await?;
                    }
                    Err(failure) => self.trouble(&failure).await?,
                }
            }
            self.flush().await?;
            self.wait().await?;
        }
    }

    /// Whether records are wanted now.
    fn reads(&self) -> bool {
        let room = self.window.as_ref().is_none_or(|window| window.room() > 0);
        !self.paused && room && self.may()
    }

    /// Whether Kafka is asked now.
    fn may(&self) -> bool {
        self.retry_at.is_none_or(|at| Instant::now() >= at)
    }

    /// Sends what there is; whether there may be more at once.
    async fn advance(&mut self) -> Result<bool, End> {
        let limits = Limits {
            records: self
                .window
                .as_ref()
                .map_or(PIECE.records, |w| w.room().min(PIECE.records)),
            ..PIECE
        };
        let step = match self.flow.advance(limits).await {
            Ok(step) => step,
            Err(failure) => return self.trouble(&failure).await.map(|()| false),
        };
        self.retry_at = None;
        match step {
            Step::Changed(changes) => self.changed(&changes).await.map(|()| true),
            Step::Moved(moved) => {
                for moved in &moved {
                    self.event("reset", None, &reset(moved)).await?;
                }
                Ok(true)
            }
            Step::Records(looked, failed) => {
                for one in &looked {
                    self.record(one).await?;
                }
                if let Some(mut data) = failures(&failed, self.shape.encoded_ids) {
                    if let Some(data) = data.as_object_mut() {
                        data.insert("cursor".to_owned(), self.cursor().into());
                    }
                    self.event("filter-failures", None, &data).await?;
                }
                Ok(true)
            }
            Step::CaughtUp => {
                let cursor = self.cursor();
                self.event("caught-up", None, &json!({ "cursor": cursor }))
                    .await?;
                Ok(true)
            }
            Step::More => Ok(true),
            Step::Quiet => Ok(false),
        }
    }

    async fn record(&mut self, looked: &Looked) -> Result<(), End> {
        self.flow.saw(looked);
        self.passed = looked.kept.is_none();
        let Some(record) = &looked.kept else { return Ok(()) };
        if let Some(window) = &mut self.window {
            window.sent(&record.topic, record.partition, record.offset);
        }
        let (first, second) = self.shape.record(record, self.flow.seen());
        self.send(first).await?;
        match second {
            Some(second) => self.send(second).await,
            None => Ok(()),
        }
    }

    /// The group has given partitions, or taken them: what was sent of those and not acknowledged is somebody else's.
    async fn changed(&mut self, changes: &[Change]) -> Result<(), End> {
        for change in changes {
            if let (Change::Revoked(gone), Some(window)) = (change, &mut self.window) {
                window.forget(gone);
            }
            let (kind, body) = told(change);
            self.event(kind, None, &body).await?;
        }
        Ok(())
    }

    /// Kafka does not answer, which is told once and waited for; or there is nothing to wait for.
    async fn trouble(&mut self, failure: &Failure) -> Result<(), End> {
        let known = self.retry_at.replace(Instant::now() + PAUSE).is_some();
        // A client whose seat is gone comes back to another one.
        let passes = failure.may_pass() && !self.flow.is_over();
        if passes && known {
            return Ok(());
        }
        self.event("error", None, &failure.body_with_status()).await?;
        if passes {
            return Ok(());
        }
        Err(End::of(failure))
    }

    /// Waits for anything to do.
    async fn wait(&mut self) -> Result<(), End> {
        let reads = self.reads();
        let now = Instant::now();
        // It is not looked at while nothing is read.
        let retry = self.retry_at.filter(|at| *at > now);
        let waits_for = [Some(self.ping_at), retry, self.ends];
        let until = waits_for.into_iter().flatten().min().unwrap_or(now);
        let tends = !reads && retry.is_none();
        let flow = &mut self.flow;
        let news = async {
            if reads {
                return flow.wait(until).await;
            }
            if tends {
                flow.changed().await;
                return Ok(());
            }
            std::future::pending().await
        };
        tokio::select! {
            Some(reply) = self.replies.recv() => self.reply(reply).await?,
            Some(order) = self.orders.recv() => self.obey(order).await?,
            waited = news => {
                if let Err(failure) = waited {
                    self.trouble(&failure).await?;
                }
            }
            () = tokio::time::sleep_until(until) => {}
            () = self.shutdown.reached(Phase::Draining) => {}
        }
        Ok(())
    }

    /// Asks the client whether it is there, when that is due; and says where it is, if records were left out since it was told: a
    /// client that comes back goes on from there.
    async fn beat(&mut self) -> Result<(), End> {
        if Instant::now() < self.ping_at {
            return Ok(());
        }
        self.ping_at = Instant::now() + self.life.ping;
        if std::mem::take(&mut self.passed) {
            let body = json!({ "cursor": self.cursor() });
            self.event("position", None, &body).await?;
        }
        self.send(Message::Ping(Bytes::new())).await?;
        self.flush().await
    }

    async fn obey(&mut self, order: Order) -> Result<(), End> {
        let Order { id, command } = order;
        let done = match command {
            Err(why) => Err(Failure::invalid(why)),
            Ok(Command::Publish(_)) => Err(Failure::new(
                Kind::NotAllowed,
                "no entry of the sidecar's reads lets the caller write here: `publish: true` would",
            )),
            Ok(Command::Pause) => {
                self.paused = true;
                Ok("pause")
            }
            Ok(Command::Resume) => {
                self.paused = false;
                Ok("resume")
            }
            Ok(Command::Seek(cursor, from)) => self.flow.seek(cursor, from).await.map(|()| {
                if let Some(window) = &mut self.window {
                    window.clear();
                }
                self.retry_at = None;
                "seek"
            }),
            Ok(Command::Ack(cursor)) => {
                let kept = self.flow.acknowledges();
                if let Some(window) = &mut self.window {
                    window.ack(&cursor);
                } else if !kept {
                    let why = "nothing waits to be acknowledged: open the socket with a group and qos=at-least-once, or with \
                               max_in_flight=…, and records wait for it";
                    return self.refuse(id.as_deref(), &Failure::invalid(why)).await;
                }
                if kept {
                    self.acks.push((id, cursor));
                }
                // Nobody waits for an answer to each.
                return Ok(());
            }
        };
        match done {
            Ok(command) => {
                let body = json!({ "command": command, "cursor": self.cursor() });
                self.event("ok", id.as_deref(), &body).await
            }
            Err(failure) => self.refuse(id.as_deref(), &failure).await,
        }
    }

    async fn refuse(&mut self, id: Option<&str>, failure: &Failure) -> Result<(), End> {
        self.event("error", id, &failure.body_with_status()).await
    }

    /// Has the group's position moved to what the client has acknowledged since, all of it at once.
    async fn acknowledge(&mut self) -> Result<(), End> {
        if self.acks.is_empty() {
            return Ok(());
        }
        let mut all = Cursor::default();
        for (topic, partition, offset) in self.acks.iter().flat_map(|(_, cursor)| cursor.iter()) {
            if all.seen(topic, partition).is_none_or(|known| offset > known) {
                all.see(topic, partition, offset);
            }
        }
        let done = self.flow.acknowledge(&all).await;
        let acks = std::mem::take(&mut self.acks);
        if done.is_ok() {
            return Ok(());
        }
        // One that is wrong takes nothing from the others.
        for (id, cursor) in acks {
            if let Err(failure) = self.flow.acknowledge(&cursor).await {
                self.refuse(id.as_deref(), &failure).await?;
            }
        }
        Ok(())
    }

    /// Heeds the acknowledgements that came before the end.
    pub(super) async fn settle(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            if let Ok(Command::Ack(cursor)) = order.command
                && self.flow.acknowledges()
            {
                self.acks.push((order.id, cursor));
            }
        }
        // Who is gone is not told what was wrong with them.
        let _done = self.acknowledge().await;
    }

    /// Answers what is under way.
    async fn answer_all(&mut self) -> Result<(), End> {
        self.flush().await?;
        let mut shutdown = self.shutdown.clone();
        while self.records.available_permits() < RECORDS {
            tokio::select! {
                Some(reply) = self.replies.recv() => {
                    self.reply(reply).await?;
                    self.flush().await?;
                }
                () = shutdown.reached(Phase::Stopping) => break,
            }
        }
        Ok(())
    }

    /// Answers what is under way, and says where the client was.
    async fn farewell(&mut self) -> Result<End, End> {
        self.answer_all().await?;
        let body = json!({ "cursor": self.cursor() });
        self.event("closing", None, &body).await?;
        Ok(End::new(
            GOING_AWAY,
            "the sidecar is going away; come back with the cursor",
        ))
    }

    fn cursor(&self) -> String {
        self.flow.seen().text(self.shape.encoded_ids)
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), End> {
        let Reply { text: said, held } = reply;
        self.send(text(said)).await?;
        // Until it is on its way it has its share of the bounds.
        drop(held);
        Ok(())
    }

    async fn event(&mut self, kind: &str, id: Option<&str>, body: &Value) -> Result<(), End> {
        self.send(text(tagged(kind, id, body))).await
    }

    /// Sends a message, when the client has taken enough of those before.
    async fn send(&mut self, message: Message) -> Result<(), End> {
        let sent = self.life.taken(self.to.feed(message)).await;
        sent.map_err(|_| End::lost())
    }

    async fn flush(&mut self) -> Result<(), End> {
        let sent = self.life.taken(self.to.flush()).await;
        sent.map_err(|_| End::lost())
    }
}
