//! Clients that say nothing, and what becomes of them: without Kafka, and without a network.

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;

use super::super::item::Style;
use super::*;
use crate::shutdown;

const PING: Duration = Duration::from_millis(50);

/// The other side of a socket.
struct Far {
    to: Sender<Result<Message, axum::Error>>,
    from: Receiver<Message>,
}

/// Serves a socket on which nothing is read, and over which one message is on its way at a time.
fn serve(pong: Duration) -> (JoinHandle<End>, Far) {
    let (near, from) = mpsc::channel(1);
    let (to, heard) = mpsc::channel(1);
    let served = tokio::spawn(async move {
        let life = Life::new(PING, pong);
        let (orders, obeyed) = mpsc::channel(ORDERS);
        let (_answers, replies) = mpsc::unbounded_channel();
        let (_stopper, shutdown) = shutdown::channel();
        let outbound = Outbound {
            to: PollSender::new(near).sink_map_err(axum::Error::new),
            flow: Flow::resting(),
            shape: Shape {
                style: Style::default(),
                frames: Frames::Json,
                encoded_ids: false,
                fields: None,
            },
            window: None,
            paused: true,
            replies,
            orders: obeyed,
            acks: Vec::new(),
            ends: None,
            passed: false,
            records: Arc::new(Semaphore::new(RECORDS)),
            ping_at: Instant::now() + life.ping,
            retry_at: None,
            life: &life,
            shutdown: shutdown.clone(),
        };
        converse(outbound, ReceiverStream::new(heard), None, orders, shutdown).await
    });
    (served, Far { to, from })
}

#[tokio::test]
async fn who_answers_no_ping_is_told_that_nothing_was_heard() {
    let (served, mut far) = serve(Duration::from_millis(100));
    let mut pings = 0;
    let told = loop {
        match far.from.recv().await.unwrap() {
            Message::Ping(_) => pings += 1,
            Message::Close(frame) => break frame.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert!(pings > 0, "it was not asked");
    assert_eq!(told.code, 1011);
    assert!(
        told.reason.starts_with("nothing was heard of the client"),
        "{}",
        told.reason
    );
    // It closes as well, and is not waited for any longer.
    far.to.send(Ok(Message::Close(None))).await.unwrap();
    drop(far);
    assert_eq!(served.await.unwrap().code, 1011);
}

#[tokio::test]
async fn who_answers_pings_stays() {
    let pong = Duration::from_secs(1);
    let (served, mut far) = serve(pong);
    let until = Instant::now() + PING + pong + pong;
    while Instant::now() < until {
        let ping = far.from.recv().await.unwrap();
        assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
        far.to.send(Ok(Message::Pong(Bytes::new()))).await.unwrap();
    }
    far.to.send(Ok(Message::Close(None))).await.unwrap();
    drop(far);
    let end = served.await.unwrap();
    assert_eq!((end.code, end.by_client), (1000, true));
}

/// It cannot be told either.
#[tokio::test]
async fn who_takes_nothing_is_given_up() {
    let (served, far) = serve(Duration::from_millis(100));
    let end = tokio::time::timeout(Duration::from_secs(60), served).await;
    assert_eq!(end.expect("it is waited for").unwrap().code, 1011);
    drop(far);
}
