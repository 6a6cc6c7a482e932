//! What is made of actions and costs something to make, kept until the action is another one: schemas, and expressions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is made of a part `S` of actions, of so many of them. When there is no room, what was used longest ago goes.
pub(super) struct Kept<S, T> {
    most: usize,
    inner: Mutex<Inner<S, T>>,
}

struct Inner<S, T> {
    /// Goes up with each use.
    uses: u64,
    /// By organisation and action.
    made: HashMap<(String, String), Made<S, T>>,
}

struct Made<S, T> {
    of: S,
    what: Arc<T>,
    used: u64,
}

impl<S: PartialEq + Clone, T> Kept<S, T> {
    /// Of `most` actions.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            inner: Mutex::new(Inner {
                uses: 0,
                made: HashMap::new(),
            }),
        }
    }

    /// What is kept of an action's part, if that is still `of`.
    pub(super) fn get(&self, org: &str, action: &str, of: &S) -> Option<Arc<T>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let uses = inner.uses;
        let made = inner.made.get_mut(&(org.to_owned(), action.to_owned()))?;
        if made.of != *of {
            return None;
        }
        made.used = uses;
        Some(Arc::clone(&made.what))
    }

    /// Keeps what was made of an action's part, in place of what there was of that action.
    pub(super) fn put(&self, org: &str, action: &str, of: &S, what: Arc<T>) {
        let key = (org.to_owned(), action.to_owned());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let used = inner.uses;
        if inner.made.len() >= self.most && !inner.made.contains_key(&key) {
            let oldest = inner.made.iter().min_by_key(|(_, made)| made.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                inner.made.remove(&oldest);
            }
        }
        let of = of.clone();
        inner.made.insert(key, Made { of, what, used });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_and_what_has_changed_is_none() {
        let kept: Kept<u8, &str> = Kept::new(2);
        let get = |action: &str, of: u8| kept.get("acme", action, &of).map(|made| *made);
        kept.put("acme", "a", &1, Arc::new("a1"));
        kept.put("acme", "b", &1, Arc::new("b1"));
        assert_eq!(
            (get("a", 1), get("b", 1), get("a", 2)),
            (Some("a1"), Some("b1"), None)
        );
        assert!(kept.get("other", "a", &1).is_none());
        assert_eq!(get("a", 1), Some("a1"));
        kept.put("acme", "c", &1, Arc::new("c1"));
        assert_eq!(
            (get("a", 1), get("b", 1), get("c", 1)),
            (Some("a1"), None, Some("c1"))
        );
        // Of one action there is one, and others stay.
        kept.put("acme", "a", &2, Arc::new("a2"));
        assert_eq!(
            (get("a", 1), get("a", 2), get("c", 1)),
            (None, Some("a2"), Some("c1"))
        );
    }
}
