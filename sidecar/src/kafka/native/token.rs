//! Bearer tokens on their way into the library.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::kafka::bearer::Shown;

/// Gives a client its token, or says why there is none; the library then asks again in 10 s.
pub(in crate::kafka) fn show(
    client: *mut sys::rd_kafka_t,
    token: Result<Shown, String>,
    extensions: &BTreeMap<String, String>,
) {
    let set = token.and_then(|token| set(client, &token, extensions));
    let Err(why) = set else { return };
    // No NUL can be in it that is not in a file's name.
    let why = CString::new(why.replace('\0', "?")).unwrap_or_default();
    #[allow(
        unsafe_code,
        reason = "the client is valid, and so is the text during the call"
    )]
    let code = unsafe { sys::rd_kafka_oauthbearer_set_token_failure(client, why.as_ptr()) };
    if Code::from(code) != Code::NoError {
        tracing::warn!(target: "librdkafka", "the client takes no token: {code:?}");
    }
}

fn set(
    client: *mut sys::rd_kafka_t,
    token: &Shown,
    extensions: &BTreeMap<String, String>,
) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "a token cannot have a NUL in it".to_owned());
    let (value, principal) = (text(token.token.expose())?, text(&token.principal)?);
    let mut pairs = Vec::new();
    for (name, value) in extensions {
        pairs.push(text(name)?);
        pairs.push(text(value)?);
    }
    let mut pointers: Vec<*const c_char> = pairs.iter().map(|one| one.as_ptr()).collect();
    let mut why = [0_u8; 512];
    #[allow(
        unsafe_code,
        reason = "the client is valid; the library copies what the pointers are to, of as many as it is told"
    )]
    let code = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client,
            value.as_ptr(),
            token.until_ms,
            principal.as_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            why.as_mut_ptr().cast(),
            why.len(),
        )
    };
    if Code::from(code) == Code::NoError {
        return Ok(());
    }
    let why = CStr::from_bytes_until_nul(&why).map(|why| why.to_string_lossy().into_owned());
    Err(why.unwrap_or_default())
}
