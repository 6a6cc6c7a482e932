//! A request whose configuration is known costs no allocation to find it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sluice_filter::config::{EntryQuery, FilterConfig, Named, RouteCache, metadata};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[allow(unsafe_code, reason = "an allocator cannot be counted otherwise")]
// SAFETY: both methods do what the system's allocator does; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_hit_allocates_nothing() {
    let tree = serde_json::json!({"topic": "t", "routes": [{"host": "*.example", "methods": ["POST"]}]});
    let config = FilterConfig::from_tree(&tree).unwrap();
    let bytes = metadata::encode(&serde_json::json!({"producer": "fast"}));
    let query = EntryQuery {
        route_name: Some(b"r"),
        host: b"a.example:80",
        path: b"/",
        method: b"POST",
    };
    let mut cache = RouteCache::new();
    let mut allocations = || {
        let before = ALLOCATIONS.with(Cell::get);
        let route = cache
            .resolve(&config, config.entry_for(&query), &bytes)
            .unwrap()
            .unwrap();
        assert!(matches!(&route.producer, Named::Fixed(name) if name == "fast"));
        ALLOCATIONS.with(Cell::get) - before
    };
    assert!(allocations() > 0, "the first builds it");
    assert_eq!(allocations(), 0);
}
