//! Connections that librdkafka cannot make itself: its bytes go through here, to a broker that is logged in to with a
//! delegation token. librdkafka has no SCRAM extensions, and `tokenauth=true` is one.
//!
//! ```text
//!  librdkafka ──(socket pair, PLAINTEXT)── relay ──(TCP, TLS, SCRAM)── broker
//! ```
//!
//! librdkafka asks its connect callback to connect a socket. The callback puts one end of a socket pair into that
//! socket's place, which nobody but this process can reach, and a task on the relay's own thread connects the other end
//! with the broker, under the name that librdkafka has for it. So each broker's address, its retries and its backoff stay
//! librdkafka's, and no request is looked into: only lengths and correlation ids are, since a session is renewed between
//! two requests.
//!
//! What goes wrong on the way is told by the relay; what librdkafka makes of a connection that was never there is not.

mod frames;
#[cfg(feature = "parsers")]
pub mod parsers;
mod scram;
mod session;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use self::session::{Broker, Way};
use self::tls::Tls;
use super::trouble::Trouble;
use crate::config::DelegationToken;

/// For how long the same trouble with a broker is not told again: as librdkafka does it.
const REPEATED: Duration = Duration::from_secs(30);
/// How many troubles wait to be told.
const UNTOLD: usize = 64;
/// librdkafka's own default of `socket.connection.setup.timeout.ms`.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a property of TLS is heeded where the relay speaks it.
pub(crate) fn knows(property: &str) -> bool {
    tls::KNOWN.contains(&property)
}

/// The relay of one client. Must outlive it.
pub(super) struct Relay {
    shared: Arc<Shared>,
    brokers: CString,
    /// The client's key in [`CLIENTS`].
    client: OnceLock<usize>,
}

struct Shared {
    way: Way,
    state: Mutex<State>,
    /// Told when there is something to tell.
    wake: Option<Arc<Notify>>,
}

#[derive(Default)]
struct State {
    /// By broker: why the last attempt to connect failed, and when that was told.
    wrong: HashMap<String, (Trouble, Instant)>,
    untold: VecDeque<Trouble>,
}

/// The clients that have a relay, by what librdkafka gives the callback: the client's opaque pointer, which is one of
/// its own as long as it lives.
static CLIENTS: LazyLock<Mutex<HashMap<usize, Arc<Shared>>>> = LazyLock::new(Mutex::default);

fn clients() -> MutexGuard<'static, HashMap<usize, Arc<Shared>>> {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that everything runs on. It is started by the first relay, and ends with the process.
fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let started = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kafka-relay")
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the thread of delegation tokens: {error}"))
    });
    started.as_ref().map_err(Clone::clone)
}

impl Relay {
    /// The relay of a client that is configured like that; `wake` is told when there is a [`Self::trouble`].
    ///
    /// # Errors
    /// What is wrong with a property of TLS, or that no thread can be started; without secrets.
    pub(super) fn new(
        config: &ClientConfig,
        token: &DelegationToken,
        wake: Option<Arc<Notify>>,
    ) -> Result<Self, String> {
        runtime()?;
        let tls = config
            .get("security.protocol")
            .is_some_and(|protocol| protocol.to_ascii_lowercase().ends_with("ssl"));
        let yes = |name: &str, default: bool| match config.get(name) {
            Some(value) => matches!(value, "true" | "t" | "1"),
            None => default,
        };
        let way = Way {
            tls: tls.then(|| Tls::new(config)).transpose()?,
            token: token.clone(),
            client_id: config.get("client.id").unwrap_or_default().to_owned(),
            patience: patience(config),
            keepalive: yes("socket.keepalive.enable", false),
            nodelay: yes("socket.nagle.disable", true),
        };
        let brokers = config.get("bootstrap.servers").unwrap_or_default();
        Ok(Self {
            shared: Arc::new(Shared {
                way,
                state: Mutex::default(),
                wake,
            }),
            brokers: CString::new(brokers).map_err(|_| "a broker's name has a NUL in it".to_owned())?,
            client: OnceLock::new(),
        })
    }

    /// Gives a new client its brokers, by way of the relay. The client is one of [`client_config`].
    ///
    /// # Errors
    /// librdkafka takes none of the brokers.
    pub(super) fn attach(&self, client: *mut sys::rd_kafka_t) -> Result<(), String> {
        #[allow(
            unsafe_code,
            reason = "the client is valid; its configuration is its own as long as it lives, and rdkafka makes clients in \
                      ways that leave no other moment to set a callback: as long as a client has no broker, nothing reads it"
        )]
        let opaque = unsafe {
            let conf = sys::rd_kafka_conf(client).cast_mut();
            sys::rd_kafka_conf_set_connect_cb(conf, Some(connect));
            sys::rd_kafka_opaque(client).addr()
        };
        clients().insert(opaque, Arc::clone(&self.shared));
        self.client.get_or_init(|| opaque);
        #[allow(
            unsafe_code,
            reason = "the client is valid, and so is the text during the call"
        )]
        let added = unsafe { sys::rd_kafka_brokers_add(client, self.brokers.as_ptr()) };
        if added == 0 {
            return Err("librdkafka takes none of the brokers' names".to_owned());
        }
        Ok(())
    }

    /// What went wrong and has not been told.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.shared.lock().untold.pop_front()
    }

    /// Whether the last attempt to reach a broker failed: then what librdkafka says of it is of no interest.
    pub(super) fn speaks_for(&self, broker: &str) -> bool {
        self.shared.lock().wrong.contains_key(broker)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(client) = self.client.get() {
            clients().remove(client);
        }
    }
}

/// The configuration of a client that has a [`Relay`]: without brokers, which it is given once the relay is there, and
/// without what the relay does in its stead.
pub(super) fn client_config(config: &ClientConfig) -> ClientConfig {
    let mut rest = config.clone();
    for name in config.config_map().keys() {
        if name.starts_with("ssl.") || name.starts_with("sasl.") || *name == "bootstrap.servers" {
            rest.remove(name);
        }
    }
    rest.remove("enable.ssl.certificate.verification");
    rest.set("security.protocol", "plaintext");
    // librdkafka believes to be connected at once, and asks a first question: it has to wait as long as the relay does.
    let longer = patience(config) + Duration::from_secs(5);
    let limit = longer.as_millis().min(300_000).to_string();
    rest.set("api.version.request.timeout.ms", limit);
    rest
}

/// How long connecting may take. Less than librdkafka waits for its first answer, so that the relay can say why.
fn patience(config: &ClientConfig) -> Duration {
    const MOST: Duration = Duration::from_secs(290);
    let set = config.get("socket.connection.setup.timeout.ms");
    let set = set.and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    set.unwrap_or(PATIENCE).min(MOST)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, from its beginning to its end.
    async fn connection(&self, broker: Broker, library: UnixStream) {
        let opened = match tokio::net::UnixStream::from_std(library) {
            Ok(library) => session::open(&self.way, &broker)
                .await
                .map(|session| (session, library)),
            // Dropped, it looks like a broker that hangs up.
            Err(error) => return tracing::error!(%error, "a socket of the relay's own is not taken"),
        };
        let (session, library) = match opened {
            Ok(opened) => opened,
            Err(trouble) => return self.wrong(trouble),
        };
        self.lock().wrong.remove(&broker.name);
        if let Err(trouble) = session::pass(&self.way, &broker, session, library).await {
            self.wrong(trouble);
        }
    }

    fn wrong(&self, trouble: Trouble) {
        let now = Instant::now();
        let mut state = self.lock();
        let known = state.wrong.get(&trouble.broker);
        if known.is_some_and(|(known, told)| *known == trouble && now.duration_since(*told) < REPEATED) {
            return;
        }
        tracing::warn!(target: "librdkafka", reason = trouble.kind.label(), "{trouble}");
        state.wrong.insert(trouble.broker.clone(), (trouble.clone(), now));
        if state.untold.len() < UNTOLD {
            state.untold.push_back(trouble);
        }
        drop(state);
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
    }
}

/// Called by librdkafka, in a broker's thread and with the broker's lock held, to connect a socket: it must not wait. Gives
/// 0, or an error number.
#[allow(unsafe_code, reason = "the library calls it with what rdkafka.h says")]
unsafe extern "C" fn connect(
    socket: c_int,
    address: *const libc::sockaddr,
    length: c_int,
    name: *const c_char,
    opaque: *mut c_void,
) -> c_int {
    let Some(shared) = clients().get(&opaque.addr()).cloned() else {
        return libc::ECONNABORTED;
    };
    if address.is_null() || name.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: the library gives an address of that length, and the broker's `host:port` as a string.
    let (address, name) = unsafe {
        (
            read_address(address.cast::<u8>(), usize::try_from(length).unwrap_or_default()),
            CStr::from_ptr(name).to_string_lossy().into_owned(),
        )
    };
    let Some(address) = address else {
        return libc::EAFNOSUPPORT;
    };
    let number = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    let Ok(runtime) = runtime() else {
        return libc::EAGAIN;
    };
    let pair = UnixStream::pair().and_then(|(theirs, ours)| {
        theirs.set_nonblocking(true)?;
        ours.set_nonblocking(true)?;
        Ok((theirs, ours))
    });
    let (theirs, ours) = match pair {
        Ok(pair) => pair,
        Err(error) => return number(error),
    };
    // SAFETY: both are open sockets; the library's is replaced under its number, which is what the library has.
    if unsafe { libc::dup3(theirs.as_raw_fd(), socket, libc::O_CLOEXEC) } < 0 {
        return number(std::io::Error::last_os_error());
    }
    let _runs_by_itself =
        runtime.spawn(async move { shared.connection(Broker { name, address }, ours).await });
    0
}

/// The address behind a `sockaddr`.
///
/// # Safety
/// `length` bytes can be read at `address`.
#[allow(
    unsafe_code,
    reason = "reads what the caller vouches for, as far as it is long enough"
)]
unsafe fn read_address(address: *const u8, length: usize) -> Option<SocketAddr> {
    let family = unsafe { address.cast::<libc::sa_family_t>().read_unaligned() };
    match i32::from(family) {
        libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
            let found = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from_bits(u32::from_be(found.sin_addr.s_addr));
            Some((ip, u16::from_be(found.sin_port)).into())
        }
        libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
            let found = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(found.sin6_addr.s6_addr);
            let port = u16::from_be(found.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, found.sin6_scope_id).into())
        }
        _ => None,
    }
}
