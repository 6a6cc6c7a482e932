//! Where an issuer's keys are from, and the ones that there are.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::ACCEPT;
use hyper::{Request, Uri};

use super::keys::KeySet;
use crate::fetch::{self, LONGEST, Trust};

/// How long the issuer may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the issuer is left alone between two attempts while there are no keys.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// How long it is left alone otherwise, whatever keys tokens say they are signed with.
const REFETCH: Duration = Duration::from_secs(10);
/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// At an address.
    Url {
        /// `http` or `https`, with a host.
        url: Uri,
        /// How the server's certificate is looked at.
        trust: Trust,
        /// How old keys may become before they are fetched again.
        cache_duration: Duration,
    },
}

impl Jwks {
    /// Reads a file's keys. Blocks.
    ///
    /// # Errors
    /// Why there are none.
    pub fn read(file: &std::path::Path) -> Result<KeySet, String> {
        use std::io::Read;
        let cannot = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
        let mut bytes = Vec::new();
        let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        let open = std::fs::File::open(file).map_err(cannot)?;
        open.take(most + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() > LONGEST {
            return Err(format!("{} has more than {LONGEST} bytes", file.display()));
        }
        KeySet::parse(&bytes).map_err(|why| format!("{}: {why}", file.display()))
    }
}

/// The keys of one issuer.
pub(super) struct Keys {
    provider: String,
    from: Jwks,
    state: RwLock<State>,
    /// One looks at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    set: Option<Arc<KeySet>>,
    /// When the keys were last had.
    had: Option<Instant>,
    /// When they were last looked for.
    looked: Option<Instant>,
    /// What went wrong then.
    failure: Option<String>,
    /// The file as it was read: its time, and its size.
    stamp: Option<(SystemTime, u64)>,
}

impl Keys {
    pub(super) fn new(provider: &str, from: Jwks) -> Self {
        Self {
            provider: provider.to_owned(),
            from,
            state: RwLock::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// The keys that there are. Who comes first waits for them; those that have become old are fetched beside.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<KeySet>, String> {
        let (set, had) = self.with(|state| (state.set.clone(), state.had));
        let Some(set) = set else {
            self.look(RETRY).await;
            return self.found();
        };
        match &self.from {
            Jwks::File(_) => {
                self.look(LOOK).await;
                self.found()
            }
            Jwks::Url { cache_duration, .. } => {
                if had.is_none_or(|had| had.elapsed() >= *cache_duration) && self.is_due(REFETCH) {
                    let keys = Arc::clone(self);
                    tokio::spawn(async move { keys.look(REFETCH).await });
                }
                Ok(set)
            }
        }
    }

    /// The keys, looked for again unless that was done a moment ago: a token is signed with another one.
    ///
    /// Fails if it cannot be known whether the issuer has another one.
    pub(super) async fn newer(self: &Arc<Self>) -> Result<Arc<KeySet>, String> {
        let least = match &self.from {
            Jwks::File(_) => LOOK,
            Jwks::Url { .. } => REFETCH,
        };
        self.look(least).await;
        match self.with(|state| state.failure.clone()) {
            Some(why) => Err(why),
            None => self.found(),
        }
    }

    /// As if it had been long ago that they were looked for.
    #[cfg(test)]
    pub(super) fn forget_when(&self) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).looked = None;
    }

    fn found(&self) -> Result<Arc<KeySet>, String> {
        self.with(|state| match (&state.set, &state.failure) {
            (Some(set), _) => Ok(Arc::clone(set)),
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Err(format!("jwt.{}: there are no keys", self.provider)),
        })
    }

    fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_due(&self, least: Duration) -> bool {
        self.with(|state| state.looked.is_none_or(|looked| looked.elapsed() >= least))
    }

    /// Looks for keys, if that was not done within `least`. The ones that there are stay if there are no others.
    async fn look(&self, least: Duration) {
        if !self.is_due(least) {
            return;
        }
        let _one = self.looking.lock().await;
        // Somebody else may have looked while this waited to.
        if !self.is_due(least) {
            return;
        }
        let looked = match &self.from {
            Jwks::File(path) => self.read(path.clone()).await,
            Jwks::Url { url, trust, .. } => fetch(url, trust).await.map(|set| Some((set, None))),
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.looked = Some(now);
        let named = |why: String| format!("the keys of jwt.{} cannot be had: {why}", self.provider);
        match looked.map_err(named) {
            Ok(None) => {}
            Ok(Some((set, stamp))) => {
                tracing::debug!(provider = self.provider, keys = set.count(), "has keys");
                *state = State {
                    set: Some(Arc::new(set)),
                    had: Some(now),
                    looked: Some(now),
                    failure: None,
                    stamp,
                };
            }
            Err(why) => {
                if state.failure.as_ref() != Some(&why) {
                    let kept = state.set.is_some();
                    tracing::warn!(provider = self.provider, kept, "{why}");
                }
                state.failure = Some(why);
            }
        }
    }

    /// The file's keys; none if it is as it was.
    async fn read(&self, path: PathBuf) -> Result<Option<(KeySet, Option<(SystemTime, u64)>)>, String> {
        let (before, failed) = self.with(|state| (state.stamp, state.failure.is_some()));
        let read = move || {
            let stamp = std::fs::metadata(&path)
                .ok()
                .and_then(|data| Some((data.modified().ok()?, data.len())));
            if stamp.is_some() && stamp == before && !failed {
                return Ok(None);
            }
            Jwks::read(&path).map(|set| Some((set, stamp)))
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|_| Err("the attempt failed".to_owned()))
    }
}

async fn fetch(url: &Uri, trust: &Trust) -> Result<KeySet, String> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Full::<Bytes>::default())
        .map_err(|_| "no request can be made of its address".to_owned())?;
    let host = url.authority().map(ToString::to_string).unwrap_or_default();
    let named = |why: String| format!("{host}: {why}");
    let answer = tokio::time::timeout(PATIENCE, fetch::fetch(url, trust, request)).await;
    let answer = answer
        .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
        .map_err(named)?;
    match answer.status {
        200 => KeySet::parse(&answer.body).map_err(named),
        status @ 300..=399 => Err(named(format!(
            "it answers {status}, a redirection, which is not followed"
        ))),
        status => Err(named(format!("it answers {status}"))),
    }
}
