//! How a host is set up.

use std::{fmt, time::Duration};

use crate::{
    compiled,
    host::{Host, fail, tail},
    metadata::encode_struct,
    sidecar::Opening,
    state::{Fault, Log, State},
    status::Status,
};

/// The Envoy cluster that hosts have unless told otherwise.
pub const CLUSTER: &str = "sluice";

/// Where HTTP calls to [`CLUSTER`] go unless told otherwise: nobody listens there.
const NOBODY: &str = "127.0.0.1:9";

/// The fake clock's start, since the epoch.
const START: Duration = Duration::from_secs(1_700_000_000);

/// How a host is set up.
pub struct Builder {
    configuration: Vec<u8>,
    state: State,
    limit: usize,
    stop_at_headers: bool,
}

/// Envoy refused the configuration.
pub struct Rejected {
    /// What was logged.
    pub logs: Vec<Log>,
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration rejected; log:{}", tail(&self.logs))
    }
}

impl Builder {
    pub(crate) fn new(configuration: &serde_json::Value) -> Self {
        let mut state = State {
            now: START,
            log_level: 2,
            ..State::default()
        };
        state.clusters.insert(CLUSTER.to_owned(), NOBODY.to_owned());
        Self {
            configuration: encode_struct(configuration),
            state,
            limit: 1024 * 1024,
            stop_at_headers: true,
        }
    }

    /// Any bytes as plugin configuration: the text of a `StringValue`.
    pub fn raw_configuration(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.configuration = bytes.into();
        self
    }

    /// One more cluster of Envoy's, and the `host:port` that HTTP calls to it reach.
    pub fn cluster(mut self, name: &str, authority: &str) -> Self {
        self.state.clusters.insert(name.to_owned(), authority.to_owned());
        self
    }

    /// What streams find that open before the test can say so.
    pub fn opening(mut self, opening: Opening) -> Self {
        self.state.sidecar.opening = opening;
        self
    }

    /// How many bytes of a body Envoy buffers (`per_connection_buffer_limit_bytes`; 1 MiB).
    pub fn buffer_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Without `allow_on_headers_stop_iteration`, a pause in the headers callback stops everything.
    pub fn without_stop_iteration(mut self) -> Self {
        self.stop_at_headers = false;
        self
    }

    /// The host call `name` gives `status` the next `times` times.
    pub fn fault(mut self, name: &str, status: Status, times: usize) -> Self {
        self.state.faults.insert(name.to_owned(), Fault { status, times });
        self
    }

    /// Starts the worker as Envoy does: instance, root context, `on_vm_start`, `on_configure`.
    ///
    /// # Errors
    /// The filter refused its configuration.
    ///
    /// # Panics
    /// There is no filter that could run, or it traps.
    #[track_caller]
    pub fn start(self) -> Result<Host, Rejected> {
        let (store, instance) = compiled::instantiate().unwrap_or_else(|problem| fail(&problem));
        let (limit, stop_at_headers) = (self.limit, self.stop_at_headers);
        let mut host = Host {
            store,
            instance,
            root: 0,
            limit,
            stop_at_headers,
            depth: 0,
        };
        let guest = host.state().guest.clone();
        *host.store.data_mut() = State { guest, ..self.state };
        host.call::<(), ()>("_initialize", 0, ());
        match host.add_root(self.configuration, true) {
            true => Ok(host),
            false => Err(Rejected {
                logs: std::mem::take(&mut host.store.data_mut().logs),
            }),
        }
    }
}
