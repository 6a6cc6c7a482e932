//! What the brokers let a client do with a topic (KIP-430).

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as sys;

use super::Native;

/// Frees what the library gave.
struct Freed<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Freed<T> {
    fn new(given: *mut T, free: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(given).map(|given| Self(given, free))
    }

    fn get(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Freed<T> {
    fn drop(&mut self) {
        #[allow(unsafe_code, reason = "each is given once, and to be freed by that function")]
        unsafe {
            (self.1)(self.get());
        }
    }
}

impl Native {
    /// Whether the topic may be written; `None` where the brokers do not say. Blocks for `within` at most.
    pub(in crate::kafka) fn may_write(&self, topic: &str, within: Duration) -> Option<bool> {
        let ms = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
        let name = CString::new(topic).ok()?;
        let mut names = [name.as_ptr()];
        let client = self.client.native_ptr();
        #[allow(
            unsafe_code,
            reason = "the client is valid as long as self, and all else until it is dropped, the event before the queue; \
                      of what is read of the event the library says how much there is, and null is looked for"
        )]
        unsafe {
            let queue = Freed::new(sys::rd_kafka_queue_new(client), sys::rd_kafka_queue_destroy)?;
            let topics = Freed::new(
                sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
                sys::rd_kafka_TopicCollection_destroy,
            )?;
            let options = Freed::new(
                sys::rd_kafka_AdminOptions_new(
                    client,
                    sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                ),
                sys::rd_kafka_AdminOptions_destroy,
            )?;
            let mut why = [0; 128];
            sys::rd_kafka_AdminOptions_set_request_timeout(options.get(), ms, why.as_mut_ptr(), why.len());
            let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options.get(), 1);
            if !refused.is_null() {
                sys::rd_kafka_error_destroy(refused);
                return None;
            }
            sys::rd_kafka_DescribeTopics(client, topics.get(), options.get(), queue.get());
            let event = Freed::new(
                sys::rd_kafka_queue_poll(queue.get(), ms),
                sys::rd_kafka_event_destroy,
            )?;
            let result = sys::rd_kafka_event_DescribeTopics_result(event.get());
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let described = sys::rd_kafka_DescribeTopics_result_topics(result, ptr::from_mut(&mut count));
            if described.is_null() || count == 0 {
                return None;
            }
            let mut count = 0;
            let allowed =
                sys::rd_kafka_TopicDescription_authorized_operations(*described, ptr::from_mut(&mut count));
            if allowed.is_null() || count == 0 {
                return None;
            }
            let allowed = std::slice::from_raw_parts(allowed, count);
            Some(allowed.contains(&sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE))
        }
    }
}
