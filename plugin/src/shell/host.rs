//! Calls to the host: the only place that makes any.
//!
//! The SDK's own forms of most of these panic on a status they do not expect, copy every header, or demand
//! UTF-8. Calls whose answers the SDK routes by token must go through it, since it keeps the tokens.

use std::ptr::null_mut;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, StreamType};

use crate::pairs::{self, Pair};
use crate::stats::{Metric, Metrics};

/// The property that holds the metadata of the route Envoy chose, as a serialised
/// `envoy.config.core.v3.Metadata`. (Envoy's nested form of the property cannot express lists or null.)
pub(super) const ROUTE_METADATA: &[u8] = b"xds\0route_metadata";

/// The property that holds the dynamic metadata of the request, in the same form.
pub(super) const DYNAMIC_METADATA: &[u8] = b"metadata";

/// The property that holds the name of that route.
pub(super) const ROUTE_NAME: &[u8] = b"xds\0route_name";

/// The property that holds the address and port that the request comes from, as the listener and its
/// `use_remote_address` have it.
pub(super) const SOURCE_ADDRESS: &[u8] = b"source\0address";

/// The status of a call that did what it should. Every other is a failure; which one makes no difference here.
const OK: u32 = 0;

// <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>, with statuses as plain numbers: a host may
// return ones that the SDK's enum does not have.
#[link(wasm_import_module = "env")]
#[allow(unsafe_code, reason = "the host's functions")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_grpc_send(token: u32, message: *const u8, size: usize, end_stream: u32) -> u32;
    fn proxy_grpc_close(token: u32) -> u32;
    fn proxy_grpc_cancel(token: u32) -> u32;
    fn proxy_define_metric(metric: u32, name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

/// Writes to Envoy's log.
#[allow(unsafe_code, reason = "host call; the pointer is that of a live slice")]
pub(super) fn log(level: LogLevel, message: &str) {
    // There is nowhere to report that a report failed.
    let _ = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Makes ticks come in that period; `None`: not at all.
#[allow(unsafe_code, reason = "host call without pointers")]
pub(super) fn set_tick(period_ms: Option<u32>) -> bool {
    unsafe { proxy_set_tick_period_milliseconds(period_ms.unwrap_or(0)) == OK }
}

/// Makes the calls that follow be those of another context, until the callback ends.
#[allow(unsafe_code, reason = "host call without pointers")]
pub(super) fn set_effective_context(context: u32) -> bool {
    unsafe { proxy_set_effective_context(context) == OK }
}

/// Lets the request of the effective context go on to its upstream, once the callback has ended.
#[allow(unsafe_code, reason = "host call without pointers")]
pub(super) fn resume_request() -> bool {
    unsafe { proxy_continue_stream(StreamType::HttpRequest as u32) == OK }
}

/// Takes what the host wrote into memory that it allocated here.
#[allow(
    unsafe_code,
    reason = "the host allocates with `proxy_on_memory_allocate`, exactly `size` bytes"
)]
fn received(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    if call(&raw mut data, &raw mut size) != OK {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// The first `size` bytes of a buffer; `None` if the host does not give it.
#[allow(unsafe_code, reason = "host call; the pointers are those of live variables")]
pub(super) fn buffer(buffer: BufferType, size: usize) -> Option<Vec<u8>> {
    received(|data, len| unsafe { proxy_get_buffer_bytes(buffer as u32, 0, size, data, len) })
}

/// A header map in the form that [`pairs::parse`] reads.
#[allow(unsafe_code, reason = "host call; the pointers are those of live variables")]
pub(super) fn map(map: MapType) -> Option<Vec<u8>> {
    received(|data, len| unsafe { proxy_get_header_map_pairs(map as u32, data, len) })
}

/// A property; empty if there is none.
#[allow(
    unsafe_code,
    reason = "host call; the pointers are those of live slices and variables"
)]
pub(super) fn property(path: &[u8]) -> Vec<u8> {
    received(|data, len| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, len) })
        .unwrap_or_default()
}

/// Answers the request of the effective context, once the callback has ended. `details` are Envoy's
/// `%RESPONSE_CODE_DETAILS%`.
#[allow(unsafe_code, reason = "host call; the pointers are those of live slices")]
pub(super) fn respond(status: u16, details: &str, headers: &[Pair<'_>], body: &[u8]) -> bool {
    /// Not a gRPC response.
    const NO_GRPC_STATUS: i32 = -1;
    let headers = pairs::write(headers);
    let status = unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    };
    status == OK
}

/// The longest name of a cluster that [`open_stream`] can express.
pub(super) const MAX_CLUSTER_NAME: usize = 120;

/// Opens a stream to a gRPC method of `cluster`, from the root context and in one of its callbacks (the SDK
/// routes what comes back to the context whose callback opened it).
pub(super) fn open_stream(cluster: &str, service: &str, method: &str) -> Option<u32> {
    // Envoy parses what it is given as an `envoy.config.core.v3.GrpcService`, and takes it for a cluster's name
    // only if that fails. A name that happens to parse (such as `empty`) aborts Envoy. So it gets the message:
    // field 1, `envoy_grpc`, of it field 1, `cluster_name`. Lengths below 128 keep it UTF-8, as the SDK wants.
    let length = u8::try_from(cluster.len())
        .ok()
        .filter(|n| usize::from(*n) <= MAX_CLUSTER_NAME)?;
    let mut target = String::with_capacity(cluster.len() + 4);
    for byte in [0x0a, length + 2, 0x0a, length] {
        target.push(char::from(byte));
    }
    target.push_str(cluster);
    hostcalls::open_grpc_stream(&target, service, method, Vec::new()).ok()
}

/// Sends a message on a stream of the effective context.
#[allow(unsafe_code, reason = "host call; the pointer is that of a live slice")]
pub(super) fn send(stream: u32, message: &[u8]) -> bool {
    unsafe { proxy_grpc_send(stream, message.as_ptr(), message.len(), 0) == OK }
}

/// Sends nothing more on a stream of the effective context.
#[allow(unsafe_code, reason = "host call without pointers")]
pub(super) fn close_stream(stream: u32) {
    // A stream that is gone already is as good.
    let _ = unsafe { proxy_grpc_close(stream) };
}

/// Resets a stream of the effective context.
#[allow(unsafe_code, reason = "host call without pointers")]
pub(super) fn cancel_stream(stream: u32) {
    let _ = unsafe { proxy_grpc_cancel(stream) };
}

/// Sends an HTTP request to `cluster`, from the context whose callback this is.
pub(super) fn call(cluster: &str, headers: Vec<(&str, &str)>, body: &[u8], timeout: Duration) -> Option<u32> {
    hostcalls::dispatch_http_call(cluster, headers, Some(body), Vec::new(), timeout).ok()
}

/// The host as the keeper of metrics.
#[derive(Debug)]
pub(super) struct HostMetrics;

impl Metrics for HostMetrics {
    #[allow(
        unsafe_code,
        reason = "host call; the pointers are those of live slices and variables"
    )]
    fn define(&mut self, metric: Metric, name: &str) -> Option<u32> {
        let kind = match metric {
            Metric::Counter => 0,
            Metric::Gauge => 1,
            Metric::Histogram => 2,
        };
        let mut id = 0;
        let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) };
        (status == OK).then_some(id)
    }

    #[allow(unsafe_code, reason = "host call without pointers")]
    fn add(&mut self, id: u32, amount: i64) {
        let _ = unsafe { proxy_increment_metric(id, amount) };
    }

    #[allow(unsafe_code, reason = "host call without pointers")]
    fn record(&mut self, id: u32, value: u64) {
        let _ = unsafe { proxy_record_metric(id, value) };
    }
}
