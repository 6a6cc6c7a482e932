//! TCP and Unix sockets as one.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Address;

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that listens. A Unix socket's file goes with it.
pub(super) struct Socket {
    listener: Listener,
    address: Bound,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    pub(super) async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)
                    .await
                    .map_err(|error| named(error, address))?;
                let address = Bound::Tcp(listener.local_addr()?);
                Ok(Self {
                    listener: Listener::Tcp(listener),
                    address,
                })
            }
            Address::Unix { path, mode } => {
                let listener = bind_unix(path, *mode)
                    .await
                    .map_err(|error| named(error, path.display()))?;
                Ok(Self {
                    listener: Listener::Unix(listener),
                    address: Bound::Unix(path.clone()),
                })
            }
        }
    }

    pub(super) fn address(&self) -> &Bound {
        &self.address
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A reply is one small write: it must not wait for the next.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::Tcp(peer.ip())))
            }
            Listener::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), Peer::Unix)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Bound::Unix(path) = &self.address
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(path = %path.display(), %error, "cannot remove the socket");
        }
    }
}

fn named(error: io::Error, address: impl fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

/// Binds a Unix socket with the mode. A socket that nobody listens on any more is replaced; anything else that
/// is in the way is not.
async fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file that is no socket",
            ));
        }
        Ok(_) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process listens on it",
                ));
            }
            std::fs::remove_file(path)?;
        }
    }
    // Bound under another name and moved there when its mode is right: nobody whom the mode keeps out can
    // connect in between.
    let mut unready = path.as_os_str().to_owned();
    unready.push(format!(".{}", std::process::id()));
    let unready = PathBuf::from(unready);
    let listener = UnixListener::bind(&unready)?;
    let ready = std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(mode))
        .and_then(|()| std::fs::rename(&unready, path));
    if let Err(error) = ready {
        // What is left is our own; the first error is the one to tell.
        drop(std::fs::remove_file(&unready));
        return Err(error);
    }
    Ok(listener)
}

/// Who is at the other end of a connection. Requests have it among their extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Whoever has that address.
    Tcp(IpAddr),
    /// Somebody on this machine.
    Unix,
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Waits for bytes, and shows them without taking them; how many there are, none at the connection's end. Cancel-safe.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(into).await,
            Self::Unix(stream) => {
                let mut look = || peek(stream.as_raw_fd(), into);
                stream.async_io(Interest::READABLE, &mut look).await
            }
        }
    }
}

/// What tokio and the standard library have for TCP only.
fn peek(socket: RawFd, into: &mut [u8]) -> io::Result<usize> {
    #[allow(
        unsafe_code,
        reason = "the kernel writes within `into`, and refuses a descriptor that is not a socket"
    )]
    let count = unsafe { libc::recv(socket, into.as_mut_ptr().cast(), into.len(), libc::MSG_PEEK) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

macro_rules! on_stream {
    ($self:expr, $method:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write_vectored(cx, slices))
    }
}
