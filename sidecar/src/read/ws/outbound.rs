//! What goes to a client: its answers, and records as it takes them.

use std::sync::Arc;

use axum::extract::ws::Message;
use bytes::Bytes;
use futures_util::{Sink, SinkExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::time::Instant;

use super::super::failure::{Failure, Kind};
use super::super::poll::reset;
use super::super::session::{PAUSE, PIECE, Session, Step};
use super::command::Command;
use super::end::{End, GOING_AWAY};
use super::inbound::Order;
use super::life::Life;
use super::publish::{RECORDS, Reply, tagged};
use super::shape::{Shape, text};
use super::window::Window;
use crate::kafka::reader::{Limits, Record};
use crate::shutdown::{Phase, Shutdown};

/// Who sends to one client.
pub(super) struct Outbound<'a, S> {
    pub(super) to: S,
    pub(super) session: Session,
    pub(super) shape: Shape,
    pub(super) window: Option<Window>,
    pub(super) paused: bool,
    pub(super) replies: UnboundedReceiver<Reply>,
    pub(super) orders: Receiver<Order>,
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
            if self.shutdown.phase() >= Phase::Draining {
                return self.farewell().await;
            }
            if self.reads() && self.advance().await? {
                continue;
            }
            self.flush().await?;
            self.wait().await?;
        }
    }

    /// Whether records are wanted now.
    fn reads(&self) -> bool {
        let room = self.window.as_ref().is_none_or(|window| window.room() > 0);
        let may = self.retry_at.is_none_or(|at| Instant::now() >= at);
        !self.paused && room && may
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
        let step = match self.session.advance(limits).await {
            Ok(step) => step,
            Err(failure) => return self.trouble(&failure).await.map(|()| false),
        };
        self.retry_at = None;
        match step {
            Step::Piece(moved, records) => {
                for moved in &moved {
                    self.event("reset", None, &reset(moved)).await?;
                }
                for record in &records {
                    self.record(record).await?;
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

    async fn record(&mut self, record: &Arc<Record>) -> Result<(), End> {
        self.session.saw(record);
        if let Some(window) = &mut self.window {
            window.sent(&record.topic, record.partition, record.offset);
        }
        let (first, second) = self.shape.record(record, self.session.seen());
        self.send(first).await?;
        match second {
            Some(second) => self.send(second).await,
            None => Ok(()),
        }
    }

    /// Kafka does not answer, which is told once and waited for; or there is nothing to wait for.
    async fn trouble(&mut self, failure: &Failure) -> Result<(), End> {
        let known = self.retry_at.replace(Instant::now() + PAUSE).is_some();
        if failure.may_pass() && known {
            return Ok(());
        }
        self.event("error", None, &failure.body_with_status()).await?;
        if failure.may_pass() {
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
        let until = retry.map_or(self.ping_at, |at| at.min(self.ping_at));
        tokio::select! {
            Some(reply) = self.replies.recv() => self.reply(reply).await?,
            Some(order) = self.orders.recv() => self.obey(order).await?,
            waited = self.session.wait(until), if reads => {
                if let Err(failure) = waited {
                    self.trouble(&failure).await?;
                }
            }
            () = tokio::time::sleep_until(until) => {}
            () = self.shutdown.reached(Phase::Draining) => {}
        }
        if Instant::now() >= self.ping_at {
            self.ping_at = Instant::now() + self.life.ping;
            self.send(Message::Ping(Bytes::new())).await?;
        }
        Ok(())
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
            Ok(Command::Seek(cursor, from)) => self.session.seek(cursor, from).await.map(|()| {
                if let Some(window) = &mut self.window {
                    window.clear();
                }
                self.retry_at = None;
                "seek"
            }),
            Ok(Command::Ack(cursor)) => match &mut self.window {
                // Nobody waits for an answer to each.
                Some(window) => {
                    window.ack(&cursor);
                    return Ok(());
                }
                None => Err(Failure::invalid(
                    "nothing waits to be acknowledged: open the socket with max_in_flight=…, and records wait for it",
                )),
            },
        };
        match done {
            Ok(command) => {
                let body = json!({ "command": command, "cursor": self.cursor() });
                self.event("ok", id.as_deref(), &body).await
            }
            Err(failure) => {
                self.event("error", id.as_deref(), &failure.body_with_status())
                    .await
            }
        }
    }

    /// Answers what is under way, and says where the client was.
    async fn farewell(&mut self) -> Result<End, End> {
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
        let body = json!({ "cursor": self.cursor() });
        self.event("closing", None, &body).await?;
        Ok(End::new(
            GOING_AWAY,
            "the sidecar is going away; come back with the cursor",
        ))
    }

    fn cursor(&self) -> String {
        self.session.seen().text(self.shape.encoded_ids)
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
