//! Whether Envoy hands the filter request bodies at all.
//!
//! Without `allow_on_headers_stop_iteration` in the PluginConfig, Envoy takes a filter that holds a request at its
//! headers to hold all of it: the body never comes, and whoever sent it waits for ever. Nothing tells the filter,
//! but that no body comes.

/// How long the first request of a worker may take to send the first of its body, in microseconds.
const PATIENCE_US: u64 = 5_000_000;

/// How often to look, in milliseconds.
const WATCH_MS: u32 = 1000;

/// How many requests are watched, and hence answered at once.
const MOST: usize = 16;

/// What the client and the log are told.
pub(super) const NO_BODY: &str = "Envoy has handed the filter no request body: set \
                                  `allow_on_headers_stop_iteration: true` in the PluginConfig of the wasm filter";

/// The requests of a worker that wait for their body, until any body has come.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// One has come: they do.
    came: bool,
    waiting: Vec<(u32, u64)>,
}

impl Bodies {
    /// Whether none has come yet.
    pub(super) fn in_doubt(&self) -> bool {
        !self.came
    }

    /// A body is to come for the request of `context`.
    pub(super) fn expect(&mut self, context: u32, now_us: u64) {
        if self.in_doubt() && self.waiting.len() < MOST {
            self.waiting.push((context, now_us));
        }
    }

    /// Some of a body has come.
    pub(super) fn came(&mut self) {
        self.came = true;
        self.waiting = Vec::new();
    }

    /// The request of `context` is gone.
    pub(super) fn forget(&mut self, context: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != context);
    }

    /// The requests that have waited too long. They are forgotten.
    pub(super) fn overdue(&mut self, now_us: u64) -> Vec<u32> {
        let late = |since_us: u64| now_us.saturating_sub(since_us) >= PATIENCE_US;
        self.waiting
            .extract_if(.., |(_, since_us)| late(*since_us))
            .map(|(context, _)| context)
            .collect()
    }

    /// The period in which ticks are needed.
    pub(super) fn tick_ms(&self) -> Option<u32> {
        (!self.waiting.is_empty()).then_some(WATCH_MS)
    }
}
