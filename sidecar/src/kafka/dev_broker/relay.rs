//! Bytes between the fixed port and the mock's own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long a listener rests after it could not accept: the process is out of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// Joins every connection to `listener` with one to `target`, until it is dropped.
pub(super) async fn run(listener: TcpListener, target: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(join(client, target));
                }
                Err(error) => {
                    tracing::warn!(%error, "dev broker: cannot accept a connection");
                    tokio::time::sleep(REST).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A broken connection ends both: whoever is on them sees that and connects anew.
async fn join(mut client: TcpStream, target: SocketAddr) {
    let Ok(mut broker) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &broker] {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "dev broker: no TCP_NODELAY");
        }
    }
    if let Err(error) = copy_bidirectional(&mut client, &mut broker).await {
        tracing::debug!(%error, "dev broker: connection broke");
    }
}
