//! What comes from a client: records go to the publisher, everything else to who sends.

use axum::extract::ws::Message;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::command::{self, Command};
use super::end::{End, INVALID, UNSUPPORTED};
use super::life::Life;
use super::publish::Publisher;
use crate::shutdown::{Phase, Shutdown};

/// What the client asks for of who sends.
pub(super) struct Order {
    pub(super) id: Option<String>,
    pub(super) command: Result<Command, String>,
}

/// Reads until the client ends it, or breaks it. When the sidecar drains, or at `ends`, when the token does, nothing more is read:
/// what is under way is answered.
pub(super) async fn read<S>(
    mut from: S,
    publisher: Option<&Publisher>,
    orders: Sender<Order>,
    life: &Life,
    (ends, mut shutdown): (Option<Instant>, Shutdown),
) -> End
where
    S: Stream<Item = Result<Message, axum::Error>> + Unpin,
{
    loop {
        let message = tokio::select! {
            biased;
            () = shutdown.reached(Phase::Draining) => std::future::pending().await,
            () = reached(ends) => std::future::pending().await,
            message = from.next() => message,
        };
        life.heard();
        let text = match message {
            None => return End::lost(),
            Some(Err(error)) => return End::unreadable(error),
            Some(Ok(Message::Text(text))) => text,
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Binary(_))) => {
                let why = "binary messages are not taken: a value that is no text goes as {\"base64\": …}";
                return End::new(UNSUPPORTED, why);
            }
            Some(Ok(Message::Close(frame))) => return End::closed(frame.as_ref()),
        };
        let said = match command::parse(&text) {
            Ok(said) => said,
            Err(why) => return End::new(INVALID, why),
        };
        let order = match (said.command, publisher) {
            (Ok(Command::Publish(record)), Some(publisher)) => {
                life.waits(publisher.take(said.id, *record, text.len())).await;
                continue;
            }
            (command, _) => Order { id: said.id, command },
        };
        // Who sends may wait for the client to take something. That it asks for so much more without is its own doing.
        if orders.send(order).await.is_err() {
            return End::lost();
        }
    }
}

/// What may be under way between who reads and who sends, besides records.
pub(super) const ORDERS: usize = 64;

/// Waits until then; without it for ever.
pub(super) async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
