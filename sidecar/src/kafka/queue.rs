//! A queue of the client library's that tells somebody when something comes into it.
//!
//! Facts about librdkafka are from its `rdkafka.h` (2.12).

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as sys;
use tokio::sync::Notify;

/// Who is told.
pub(super) trait Told: Send + Sync + 'static {
    /// Something has come into the queue, which was empty. Called in any of the library's threads and with its locks held: it must
    /// not call the library.
    fn told(&self);
}

impl Told for Notify {
    fn told(&self) {
        self.notify_one();
    }
}

/// A reference to a queue. Dropped before the client whose it is.
pub(super) struct Queue<T> {
    handle: NonNull<sys::rd_kafka_queue_t>,
    /// The library holds a pointer to it until the queue is dropped.
    _told: Arc<T>,
}

#[allow(unsafe_code, reason = "librdkafka's queues may be used from any thread")]
unsafe impl<T: Told> Send for Queue<T> {}

impl<T: Told> Queue<T> {
    /// Takes over a reference to a queue, and has `told` called from now on; none if there is no queue.
    ///
    /// # Safety
    /// The queue is valid, or null, and nobody else gives the reference back.
    #[allow(unsafe_code, reason = "the caller says that the queue is valid")]
    pub(super) unsafe fn new(queue: *mut sys::rd_kafka_queue_t, told: Arc<T>) -> Option<Self> {
        let handle = NonNull::new(queue)?;
        let opaque = Arc::as_ptr(&told).cast_mut().cast::<c_void>();
        // SAFETY: the queue is valid, and the pointer is good until drop takes the callback away.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(handle.as_ptr(), Some(tell::<T>), opaque);
        }
        Some(Self { handle, _told: told })
    }
}

impl<T> Queue<T> {
    /// The queue, which is valid as long as this.
    pub(super) fn handle(&self) -> NonNull<sys::rd_kafka_queue_t> {
        self.handle
    }
}

#[allow(unsafe_code, reason = "the library calls it with what Queue::new gave it")]
unsafe extern "C" fn tell<T: Told>(_client: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the queue that calls this holds a reference to what the pointer is to.
    if let Some(told) = unsafe { opaque.cast_const().cast::<T>().as_ref() } {
        told.told();
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        #[allow(
            unsafe_code,
            reason = "no callback is running or comes after it is taken away, since both hold the queue's lock; \
                      the one reference that new took is given back"
        )]
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.handle.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.handle.as_ptr());
        }
    }
}
