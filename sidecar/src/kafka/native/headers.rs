//! Record headers in the library's form.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::kafka::record::Record;

/// Headers that are ours until the library takes them.
pub(super) struct Headers(pub(super) NonNull<sys::rd_kafka_headers_t>);

impl Drop for Headers {
    fn drop(&mut self) {
        #[allow(unsafe_code, reason = "created by headers() and not handed over")]
        unsafe {
            sys::rd_kafka_headers_destroy(self.0.as_ptr());
        }
    }
}

/// The record's headers, in order; `None` when it has none.
pub(super) fn headers(record: &Record) -> Result<Option<Headers>, Code> {
    if record.headers.is_empty() {
        return Ok(None);
    }
    #[allow(unsafe_code, reason = "no precondition")]
    let list = unsafe { sys::rd_kafka_headers_new(record.headers.len()) };
    let list = Headers(NonNull::new(list).ok_or(Code::CriticalSystemResource)?);
    for header in &record.headers {
        let size = |len: usize| isize::try_from(len).map_err(|_| Code::MessageSizeTooLarge);
        let (value, value_len) = match &header.value {
            Some(value) => (value.as_ptr().cast::<c_void>(), size(value.len())?),
            None => (ptr::null(), 0),
        };
        #[allow(
            unsafe_code,
            reason = "list is ours; name and value are copied, with their lengths given"
        )]
        let code = unsafe {
            sys::rd_kafka_header_add(
                list.0.as_ptr(),
                header.name.as_ptr().cast(),
                size(header.name.len())?,
                value,
                value_len,
            )
        };
        match Code::from(code) {
            Code::NoError => {}
            code => return Err(code),
        }
    }
    Ok(Some(list))
}
