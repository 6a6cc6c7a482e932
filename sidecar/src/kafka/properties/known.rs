//! Every property that librdkafka knows, as it lists them itself. For tests.

use std::ffi::c_char;
use std::ptr;

use rdkafka::bindings as sys;

/// A property.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its name.
    pub(crate) name: String,
    /// `P` for producers, `C` for consumers, `*` for both.
    pub(crate) clients: char,
    /// The property that it is another name of.
    pub(crate) alias_of: Option<String>,
    /// Whether it takes no text, and is set by code.
    pub(crate) is_pointer: bool,
}

/// All of them: the rows of the table that is also its `CONFIGURATION.md`.
pub(crate) fn all() -> Vec<Known> {
    let mut all: Vec<Known> = table().lines().filter_map(row).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.dedup_by(|a, b| a.name == b.name);
    all
}

/// `name | clients | range | default | importance | description *Type: …*`
fn row(line: &str) -> Option<Known> {
    let cells: Vec<&str> = line.splitn(6, '|').map(str::trim).collect();
    let [name, clients @ ("P" | "C" | "*"), _, _, _, description] = cells.as_slice() else {
        return None;
    };
    let alias_of = description
        .strip_prefix("Alias for `")
        .and_then(|rest| rest.split_once('`'));
    Some(Known {
        name: (*name).to_owned(),
        clients: clients.chars().next()?,
        alias_of: alias_of.map(|(name, _)| name.to_owned()),
        is_pointer: description.ends_with("*Type: see dedicated API*"),
    })
}

#[allow(
    unsafe_code,
    reason = "the stream is the C library's own, closed before what it wrote is read, and freed once"
)]
fn table() -> String {
    let (mut text, mut size): (*mut c_char, usize) = (ptr::null_mut(), 0);
    unsafe {
        let stream = libc::open_memstream(&raw mut text, &raw mut size);
        assert!(!stream.is_null(), "open_memstream");
        sys::rd_kafka_conf_properties_show(stream.cast());
        libc::fclose(stream);
        let bytes = std::slice::from_raw_parts(text.cast::<u8>(), size).to_vec();
        libc::free(text.cast());
        String::from_utf8(bytes).unwrap()
    }
}
