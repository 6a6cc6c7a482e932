//! What an open event stream takes of the heap, in a process of its own: the allocator counts, and nothing else is going on.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here, in helpers too, fails a test"
)]

#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/http.rs"]
mod http;
#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/support.rs"]
mod support;
#[allow(dead_code, reason = "shared with the tests of reading")]
#[path = "read/world.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicIsize, Ordering};

use crate::support::{PATIENCE, Sidecar, mock};
use crate::world::{entry, reading};

/// Who is there before it is counted: what the first ones cost is not theirs.
const BEFORE: usize = 100;
const CLIENTS: usize = 200;
const PARTITIONS: i32 = 12;
/// What a stream may take, in bytes: hyper's two buffers of a connection of HTTP/1.1, 8 KiB each, of which most is never touched, and
/// 6 KiB for the connection's task and what the stream knows of twelve partitions. A third buffer does not fit, nor a task of
/// twice the size.
const EACH: isize = 16_384 + 7_500;

/// The bytes that are allocated now. What librdkafka allocates is not among them.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

fn count(bytes: usize, sign: isize) {
    LIVE.fetch_add(
        sign * isize::try_from(bytes).unwrap_or(isize::MAX),
        Ordering::Relaxed,
    );
}

#[allow(unsafe_code, reason = "the system's allocator does it; this only counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A stream that was told that it has seen what was there.
fn listen(sidecar: &Sidecar) -> TcpStream {
    let url = sidecar.url("/topics/t/stream");
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut some = [0; 1024];
    while !String::from_utf8_lossy(&said).contains("caught-up") {
        let read = stream.read(&mut some).expect("nothing comes");
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&some[..read]);
    }
    stream
}

/// A read buffer of hyper's that was doubled, say, is 8 KiB for each of thousands.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_is_small() {
    let mock = mock(&[("t", PARTITIONS)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    let taken = tokio::task::block_in_place(|| {
        let _first: Vec<_> = (0..BEFORE).map(|_| listen(&sidecar)).collect();
        let before = LIVE.load(Ordering::Relaxed);
        let _clients: Vec<_> = (0..CLIENTS).map(|_| listen(&sidecar)).collect();
        LIVE.load(Ordering::Relaxed) - before
    });
    let each = taken / isize::try_from(CLIENTS).unwrap();
    assert!(
        each < EACH,
        "a stream takes {each} bytes, and is to take less than {EACH}"
    );
}
