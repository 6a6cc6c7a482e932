//! One connection: to the broker, TLS, SASL, and then bytes both ways until one side hangs up.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::PoisonError;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_openssl::SslStream;

use super::frames::{LONGEST, Position, Refusal, Request, Sieve};
use super::scram::Scram;
use super::tls::{self, Tls};
use crate::config::{DelegationToken, ScramHash};
use crate::kafka::trouble::Trouble;

/// How much is read at once, each way: all that the relay itself holds of a connection's bytes.
const CHUNK: usize = 64 * 1024;

/// How the relay reaches brokers, and what it shows them.
pub(super) struct Way {
    /// None: the cluster has no TLS.
    pub(super) tls: Option<Tls>,
    pub(super) token: DelegationToken,
    pub(super) client_id: String,
    /// How long connecting may take, SASL included, and logging in again.
    pub(super) patience: Duration,
    pub(super) keepalive: bool,
    pub(super) nodelay: bool,
}

/// A broker, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    /// `host:port`, as the cluster names it.
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is logged in.
pub(super) struct Session {
    stream: Box<dyn Stream>,
    login: Login,
}

/// What of logging in is needed to do so again.
struct Login {
    version: i16,
    /// When the broker takes no more of it.
    ends: Option<Instant>,
    correlation: i32,
}

/// Connects and logs in.
///
/// # Errors
/// What is wrong with the way there.
pub(super) async fn open(way: &Way, broker: &Broker) -> Result<Session, Trouble> {
    match timeout(way.patience, connect(way, broker)).await {
        Ok(done) => done,
        Err(_) => {
            let text = format!("no connection within {} ms", way.patience.as_millis());
            Err(Trouble::at(&broker.name, Code::OperationTimedOut, text, None))
        }
    }
}

async fn connect(way: &Way, broker: &Broker) -> Result<Session, Trouble> {
    let failed = |code, text: String| Trouble::at(&broker.name, code, text, None);
    let lost = |error: io::Error| failed(Code::BrokerTransportFailure, hung_up(&error));
    let socket = dial(way, broker.address).await.map_err(|error| {
        failed(
            Code::BrokerTransportFailure,
            format!("Connect to {} failed: {}", broker.address, plain(&error)),
        )
    })?;
    let mut stream: Box<dyn Stream> = match &way.tls {
        None => Box::new(socket),
        Some(tls) => Box::new(shake_hands(tls, broker, socket).await?),
    };
    let mut direct = Direct(&mut stream);
    let mut correlation = i32::MIN;
    let request = Request::api_versions(next(&mut correlation), &way.client_id);
    let answer = direct.ask(&request).await.map_err(lost)?;
    let version = request
        .answer(&answer)
        .and_then(|answer| answer.authenticate_version());
    let mut login = Login {
        version: version.map_err(|why| failed(Code::UnsupportedFeature, why))?,
        ends: None,
        correlation,
    };
    match log_in(way, &mut login, &mut direct).await {
        Ok(()) => Ok(Session { stream, login }),
        Err(Failure::Lost(error)) => Err(lost(error)),
        Err(Failure::Refused(refusal)) => Err(failed(refusal.code, refusal.why)),
    }
}

async fn dial(way: &Way, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_keepalive(way.keepalive)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(way.nodelay)?;
    Ok(stream)
}

async fn shake_hands(tls: &Tls, broker: &Broker, socket: TcpStream) -> Result<SslStream<TcpStream>, Trouble> {
    let failed = |text: String, verdict: Option<&_>| Trouble::at(&broker.name, Code::SSL, text, verdict);
    let host = broker
        .name
        .rsplit_once(':')
        .map_or(broker.name.as_str(), |(host, _)| host);
    let (ssl, verdict) = tls.state(&broker.name, host).map_err(|why| failed(why, None))?;
    let mut stream = SslStream::new(ssl, socket).map_err(|error| failed(tls::words(&error), None))?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        let verdict = verdict.lock().unwrap_or_else(PoisonError::into_inner);
        let why = match error.ssl_error() {
            Some(errors) => errors
                .errors()
                .iter()
                .filter_map(openssl::error::Error::reason)
                .collect::<Vec<_>>()
                .join(", "),
            None => "the broker hung up".to_owned(),
        };
        return Err(failed(format!("SSL handshake failed: {why}"), verdict.as_ref()));
    }
    Ok(stream)
}

/// Why somebody could not log in.
enum Failure {
    /// The connection is gone.
    Lost(io::Error),
    /// The broker does not take it.
    Refused(Refusal),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Refused(why.into())
    }
}

/// Sends a request of the relay's own, and gives the answer.
trait Ask {
    async fn ask(&mut self, request: &Request) -> io::Result<Vec<u8>>;
}

/// On a connection that nobody else uses yet.
struct Direct<'a>(&'a mut Box<dyn Stream>);

impl Ask for Direct<'_> {
    async fn ask(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        self.0.write_all(&request.frame()).await?;
        self.0.flush().await?;
        let length = self.0.read_i32().await?;
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| io::Error::other("the answer is none of Kafka's"))?;
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

/// Between the requests of librdkafka; the answers are taken out of the others.
struct Between<'a, W> {
    broker: &'a mut W,
    answers: &'a mut mpsc::Receiver<Vec<u8>>,
}

impl<W: AsyncWrite + Unpin> Ask for Between<'_, W> {
    async fn ask(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        self.broker.write_all(&request.frame()).await?;
        self.broker.flush().await?;
        let answer = self.answers.recv().await;
        answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn next(correlation: &mut i32) -> i32 {
    // Negative, for ever.
    *correlation = correlation.wrapping_add(1) | i32::MIN;
    *correlation
}

/// SaslHandshake and SaslAuthenticate, until the broker and the relay believe each other.
async fn log_in(way: &Way, login: &mut Login, broker: &mut impl Ask) -> Result<(), Failure> {
    let id = way.client_id.as_str();
    let mechanism = match way.token.hash {
        ScramHash::Sha256 => "SCRAM-SHA-256",
        ScramHash::Sha512 => "SCRAM-SHA-512",
    };
    let request = Request::handshake(next(&mut login.correlation), id, mechanism);
    let answer = broker.ask(&request).await?;
    request.answer(&answer)?.handshake()?;
    let scram = Scram::new(&way.token)?;
    let mut say = async |message: &str| {
        let correlation = next(&mut login.correlation);
        let request = Request::authenticate(correlation, id, login.version, message);
        let answer = broker.ask(&request).await?;
        Ok::<_, Failure>(request.answer(&answer)?.authenticate(login.version)?)
    };
    let first = say(&scram.first()).await?;
    let proved = scram.prove(&first.message).map_err(untrusted)?;
    let last = say(&proved.message).await?;
    proved.verify(&last.message).map_err(untrusted)?;
    login.ends = last
        .lifetime_ms
        .and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    Ok(())
}

/// A broker whose part of SCRAM is wrong does not know the token.
fn untrusted(why: String) -> Refusal {
    Refusal {
        code: Code::SaslAuthenticationFailed,
        why,
    }
}

impl Login {
    /// When to log in again: after nine tenths of the session, as librdkafka does.
    fn again_at(&self) -> Option<Instant> {
        let left = self.ends?.saturating_duration_since(Instant::now());
        Some(Instant::now() + left.mul_f64(0.9))
    }
}

/// Passes bytes until one side hangs up, and logs in again before the session ends (KIP-368).
///
/// # Errors
/// The broker does not take the token any more.
pub(super) async fn pass(
    way: &Way,
    broker: &Broker,
    session: Session,
    library: UnixStream,
) -> Result<(), Trouble> {
    let (from_broker, to_broker) = tokio::io::split(session.stream);
    let (from_library, to_library) = library.into_split();
    let (own, answers) = mpsc::channel(1);
    let ended = tokio::select! {
        ended = there(way, session.login, from_library, to_broker, answers) => ended,
        ended = back(from_broker, to_library, own) => ended.map_err(Failure::Lost),
    };
    match ended {
        Ok(()) => Ok(()),
        Err(Failure::Lost(error)) => {
            tracing::debug!(broker = broker.name, %error, "the connection ends");
            Ok(())
        }
        Err(Failure::Refused(refusal)) => Err(Trouble::at(&broker.name, refusal.code, refusal.why, None)),
    }
}

/// From librdkafka to the broker.
async fn there(
    way: &Way,
    mut login: Login,
    mut library: impl AsyncRead + Unpin,
    mut broker: impl AsyncWrite + Unpin,
    mut answers: mpsc::Receiver<Vec<u8>>,
) -> Result<(), Failure> {
    let mut position = Position::default();
    let mut buffer = vec![0; CHUNK];
    let mut again = login.again_at();
    let mut wait = std::pin::pin!(tokio::time::sleep_until(again.unwrap_or_else(Instant::now)));
    loop {
        let read = tokio::select! {
            read = library.read(&mut buffer) => read?,
            () = &mut wait, if again.is_some() && position.is_between() => 0,
        };
        let due = again.is_some_and(|at| at <= Instant::now());
        if read == 0 && !(due && position.is_between()) {
            return Ok(());
        }
        let mut rest = buffer.get(..read).unwrap_or_default();
        let mut is_due = due;
        loop {
            if is_due && position.is_between() {
                let mut between = Between {
                    broker: &mut broker,
                    answers: &mut answers,
                };
                let done = timeout(way.patience, log_in(way, &mut login, &mut between)).await;
                done.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                again = login.again_at();
                wait.as_mut().reset(again.unwrap_or_else(Instant::now));
                is_due = false;
            }
            if rest.is_empty() {
                break;
            }
            let mut taken = position.advance(rest).map_err(io::Error::other)?;
            while !is_due && taken < rest.len() {
                let more = rest.get(taken..).unwrap_or_default();
                taken += position.advance(more).map_err(io::Error::other)?;
            }
            let (now, later) = rest.split_at(taken);
            broker.write_all(now).await?;
            rest = later;
        }
        broker.flush().await?;
    }
}

/// From the broker to librdkafka.
async fn back(
    mut broker: impl AsyncRead + Unpin,
    mut library: impl AsyncWrite + Unpin,
    own: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut sieve = Sieve::default();
    let mut buffer = vec![0; CHUNK];
    let (mut through, mut answers) = (Vec::new(), Vec::new());
    loop {
        let read = broker.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        sieve
            .sift(bytes, &mut through, &mut answers)
            .map_err(io::Error::other)?;
        library.write_all(&through).await?;
        through.clear();
        for answer in answers.drain(..) {
            // Without a receiver the other direction has ended, and this one is about to.
            if own.send(answer).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// An error of the operating system as librdkafka has it: without Rust's number behind it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_owned()
}

/// What the loss of a connection before it was of use looks like.
fn hung_up(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "Disconnected before SASL was done".to_owned(),
        _ => plain(error),
    }
}
