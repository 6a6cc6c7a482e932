//! Record headers as bytes. rdkafka's own reading panics on a name that is not UTF-8, and anybody may write one.

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings as rdsys;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// Names and values, in order.
pub(in crate::kafka) type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The names and values of `message`, in order.
pub(super) fn read(message: &BorrowedMessage<'_>) -> Headers {
    #[allow(unsafe_code, reason = "the message is alive for the whole call")]
    unsafe {
        of(message.ptr())
    }
}

/// The names and values of a message of librdkafka's, in order.
///
/// # Safety
/// The message is alive.
#[allow(
    unsafe_code,
    reason = "rdkafka has no form of these calls that takes any name"
)]
pub(in crate::kafka) unsafe fn of(message: *const rdsys::rd_kafka_message_t) -> Headers {
    let mut read = Vec::new();
    let mut list = ptr::null_mut();
    // SAFETY: the message is alive for the whole function, and owns the list and all that is in it; what is
    // kept is copied. librdkafka ends every name with a zero (`rd_kafka_header_get_all`).
    unsafe {
        if rdsys::rd_kafka_message_headers(message, &raw mut list) != RD_KAFKA_RESP_ERR_NO_ERROR {
            return read;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let error = rdsys::rd_kafka_header_get_all(
                list,
                read.len(),
                &raw mut name,
                &raw mut value,
                &raw mut size,
            );
            if error != RD_KAFKA_RESP_ERR_NO_ERROR {
                return read;
            }
            let name = CStr::from_ptr(name).to_bytes().to_vec();
            let value =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
            read.push((name, value));
        }
    }
}
