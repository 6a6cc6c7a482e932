//! The merged and checked configuration of each kind of request, built once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::rc::Rc;

use sluice_settings::Problem;

use super::{FilterConfig, Route};

/// How many merged configurations are kept.
pub const MAX_ENTRIES: usize = 1024;

/// How many bytes of metadata are kept as keys.
pub const MAX_KEY_BYTES: usize = 4 << 20;

/// What a merged configuration means: a route that produces, `None` where the filter does not act, or what is
/// wrong with it.
pub type Resolved = Result<Option<Rc<Route>>, Rc<[Problem]>>;

/// Metadata comes from Envoy's configuration, not from clients: the hash needs no random seed.
type ByMetadata = HashMap<Box<[u8]>, Resolved, BuildHasherDefault<DefaultHasher>>;

/// Remembers what [`FilterConfig::resolve`] gave, by entry and by the bytes of the route's metadata.
///
/// Bounded in number and bytes; at a bound everything is forgotten, which costs a rebuild of what is in use.
/// A cache belongs to one configuration: take a new one with a new configuration.
#[derive(Debug, Default)]
pub struct RouteCache {
    /// Without an entry first, then one map for each entry: a look-up borrows the bytes and allocates nothing.
    maps: Vec<ByMetadata>,
    entries: usize,
    key_bytes: usize,
}

impl RouteCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many merged configurations it holds.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The merged configuration of base, `entry` (an index that [`FilterConfig::entry_for`] gave) and the
    /// bytes of the property `xds.route_metadata` (empty: none).
    ///
    /// # Errors
    /// What is wrong with it. Errors are remembered like anything else.
    pub fn resolve(&mut self, config: &FilterConfig, entry: Option<usize>, metadata: &[u8]) -> Resolved {
        let slot = entry.map_or(0, |index| index + 1);
        if let Some(known) = self.maps.get(slot).and_then(|map| map.get(metadata)) {
            return known.clone();
        }
        let resolved: Resolved = match config.resolve(entry, metadata) {
            Ok(route) => Ok(route.map(Rc::new)),
            Err(problems) => Err(problems.into()),
        };
        self.keep(slot, metadata, resolved.clone());
        resolved
    }

    fn keep(&mut self, slot: usize, metadata: &[u8], resolved: Resolved) {
        if metadata.len() > MAX_KEY_BYTES {
            return;
        }
        if self.entries >= MAX_ENTRIES || self.key_bytes + metadata.len() > MAX_KEY_BYTES {
            *self = Self::default();
        }
        if self.maps.len() <= slot {
            self.maps.resize_with(slot + 1, ByMetadata::default);
        }
        if let Some(map) = self.maps.get_mut(slot) {
            self.entries += 1;
            self.key_bytes += metadata.len();
            map.insert(metadata.into(), resolved);
        }
    }
}
