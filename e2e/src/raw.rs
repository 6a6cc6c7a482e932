//! A connection whose bytes the test writes itself.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long any one step may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A plain TCP connection to a server on loopback.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An HTTP/1.1 answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// `content-length` bytes of body; none without that header.
    pub body: Vec<u8>,
}

impl Raw {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(port: u16) -> Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(("127.0.0.1", port))).await??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// When the connection is broken, or the other end reads nothing.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        timeout(LIMIT, self.stream.write_all(bytes.as_ref()))
            .await
            .context("write")??;
        Ok(())
    }

    /// Says that nothing more will be written; what comes can still be read.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn half_close(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// Ends the connection with a reset instead of an orderly close.
    ///
    /// # Errors
    /// When the socket refuses.
    pub fn reset(self) -> Result<()> {
        self.stream.set_zero_linger()?;
        Ok(())
    }

    /// Reads one answer (`100 Continue` is one).
    ///
    /// # Errors
    /// When the connection ends before, or it takes too long.
    pub async fn answer(&mut self) -> Result<Answer> {
        timeout(LIMIT, self.read_answer())
            .await
            .context("no answer in time")?
    }

    async fn read_answer(&mut self) -> Result<Answer> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head = String::from_utf8_lossy(&self.unread.drain(..end).collect::<Vec<_>>()).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .context("no status line")?;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(Ok(0), |(_, value)| value.trim().parse::<usize>())?;
        while self.unread.len() < length {
            self.read_more().await?;
        }
        let body = self.unread.drain(..length).collect();
        Ok(Answer { status, head, body })
    }

    async fn read_more(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk).await? {
            0 => bail!(
                "the connection ended after {:?}",
                String::from_utf8_lossy(&self.unread)
            ),
            n => self.unread.extend(chunk.iter().take(n)),
        }
        Ok(())
    }
}
