//! The network between sidecar and brokers: a TCP proxy that can be told to misbehave.

use std::sync::Arc;
use std::time::Duration;

use sluice_e2e::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// It forwards.
    Fair,
    /// It forwards nothing, in neither direction, and says nothing. What was not forwarded is, later.
    Blackhole,
    /// The same for what the brokers answer only.
    AnswersLost,
    /// The same for what the brokers are asked only.
    RequestsLost,
    /// Every byte arrives so much later, in each direction.
    Slow(Duration),
    /// It forwards so many bytes a second in all towards the brokers.
    Narrow(u32),
}

/// The proxies in front of a cluster's brokers.
#[derive(Debug)]
pub struct Link {
    weather: Vec<watch::Sender<Weather>>,
    reset: Arc<Notify>,
    tasks: Vec<JoinHandle<()>>,
}

impl Link {
    /// Listens on the first port of each pair and forwards to the second.
    ///
    /// # Errors
    /// When a port is taken.
    pub async fn start(ports: &[(u16, u16)]) -> Result<Self> {
        let mut weather = Vec::new();
        let reset = Arc::new(Notify::new());
        let mut tasks = Vec::new();
        for (front, back) in ports.iter().copied() {
            let listener = TcpListener::bind(("127.0.0.1", front))
                .await
                .context("the link")?;
            let (here, _) = watch::channel(Weather::Fair);
            let served = serve(listener, back, here.clone(), Arc::clone(&reset));
            tasks.push(tokio::spawn(served));
            weather.push(here);
        }
        Ok(Self {
            weather,
            reset,
            tasks,
        })
    }

    /// Changes what the network does.
    pub fn set(&self, weather: Weather) {
        self.weather.iter().for_each(|here| {
            here.send_replace(weather);
        });
    }

    /// Changes what it does on the way to one broker; `id` counts from 1.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn set_one(&self, id: usize, weather: Weather) -> Result<()> {
        let here = id.checked_sub(1).and_then(|at| self.weather.get(at));
        here.with_context(|| format!("no broker {id}"))?
            .send_replace(weather);
        Ok(())
    }

    /// Resets every connection.
    pub fn reset(&self) {
        self.reset.notify_waiters();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(listener: TcpListener, back: u16, weather: watch::Sender<Weather>, reset: Arc<Notify>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((front, _)) = accepted else { return };
                connections.spawn(connection(front, back, weather.subscribe(), Arc::clone(&reset)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(front: TcpStream, back: u16, weather: watch::Receiver<Weather>, reset: Arc<Notify>) {
    // Both ends go with a reset: a broker that is gone, and a reset that was asked for, are no orderly end.
    let linger = front.set_zero_linger();
    let Ok(back) = TcpStream::connect(("127.0.0.1", back)).await else {
        return;
    };
    if linger.and(back.set_zero_linger()).is_err()
        || front.set_nodelay(true).and(back.set_nodelay(true)).is_err()
    {
        return;
    }
    let (front_read, front_write) = front.into_split();
    let (back_read, back_write) = back.into_split();
    tokio::select! {
        () = reset.notified() => {}
        () = forward(front_read, back_write, weather.clone(), true) => {}
        () = forward(back_read, front_write, weather, false) => {}
    }
}

/// Forwards until one end is gone.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    to_broker: bool,
) {
    let (queue, mut queued) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let arrived = weather.clone();
    // Reading goes on while what was read before is on its way.
    let read = async move {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            let delay = match *arrived.borrow() {
                Weather::Slow(delay) => delay,
                _ => Duration::ZERO,
            };
            let bytes = chunk.get(..count).unwrap_or_default().to_vec();
            if queue.send((Instant::now() + delay, bytes)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, bytes)) = queued.recv().await {
            sleep_until(at).await;
            let passes = |weather: &Weather| match weather {
                Weather::Blackhole => false,
                Weather::AnswersLost => to_broker,
                Weather::RequestsLost => !to_broker,
                Weather::Fair | Weather::Slow(_) | Weather::Narrow(_) => true,
            };
            // In pieces, so that what changes is heeded soon.
            for piece in bytes.chunks(1024) {
                let now = match weather.wait_for(passes).await {
                    Ok(weather) => *weather,
                    Err(_) => return,
                };
                if let (Weather::Narrow(rate), true) = (now, to_broker) {
                    let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                    sleep(Duration::from_secs(1) * bytes / rate.max(1)).await;
                }
                if to.write_all(piece).await.is_err() {
                    return;
                }
            }
        }
    };
    // The end of one direction is the end: what was read before it is forwarded first.
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use sluice_e2e::ports;

    use super::*;

    /// A server that says everything back, behind a link.
    async fn echo() -> (Link, TcpStream) {
        let (front, back) = (ports::pick().unwrap(), ports::pick().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", back)).await.unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.map_or(0, |n| n)
                });
            }
        });
        let link = Link::start(&[(front, back)]).await.unwrap();
        let client = TcpStream::connect(("127.0.0.1", front)).await.unwrap();
        (link, client)
    }

    async fn asked(client: &mut TcpStream, limit: Duration) -> Option<std::io::Result<usize>> {
        let mut byte = [0];
        client.write_all(b"x").await.ok()?;
        tokio::time::timeout(limit, client.read(&mut byte)).await.ok()
    }

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(150);

    #[tokio::test]
    async fn it_holds_back_and_forwards_later() {
        let (link, mut client) = echo().await;
        assert_eq!(asked(&mut client, LONG).await.unwrap().unwrap(), 1);
        for weather in [Weather::Blackhole, Weather::AnswersLost, Weather::RequestsLost] {
            link.set(weather);
            assert!(asked(&mut client, SHORT).await.is_none());
            link.set(Weather::Fair);
            let mut byte = [0];
            let late = tokio::time::timeout(LONG, client.read(&mut byte)).await;
            assert_eq!(late.unwrap().unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn it_delays_and_narrows() {
        let (link, mut client) = echo().await;
        link.set(Weather::Slow(SHORT));
        let begin = Instant::now();
        assert_eq!(asked(&mut client, LONG).await.unwrap().unwrap(), 1);
        assert!(begin.elapsed() >= SHORT * 2);
        link.set(Weather::Narrow(5));
        let begin = Instant::now();
        assert_eq!(asked(&mut client, LONG).await.unwrap().unwrap(), 1);
        assert!(begin.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn it_resets() {
        let (link, mut client) = echo().await;
        assert_eq!(asked(&mut client, LONG).await.unwrap().unwrap(), 1);
        link.reset();
        let ended = asked(&mut client, LONG).await;
        assert!(!matches!(ended, Some(Ok(1))), "{ended:?}");
    }
}
