//! Files that a disk changed.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    /// redb panics at some of these files. The sidecar takes that for the error that it is; the fuzzer must, too.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The last one, for the case that it was one too many.
    static LAST: Cell<String> = const { Cell::new(String::new()) };
}

/// Opens a file, and reports no panic that the sidecar takes care of.
pub(crate) fn quietly<T>(open: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                report(panic);
                return;
            }
            let last = LAST.replace(panic.to_string());
            if !last.is_empty() {
                eprintln!("{panic}, after {last}");
            }
        }));
    });
    QUIET.set(true);
    LAST.take();
    let opened = open();
    QUIET.set(false);
    opened
}

/// What the input makes of a good file: the file with changes, each an offset (3 bytes), a length, and so many bytes; or any
/// bytes, behind a 0xff, which is told.
pub(crate) fn file(data: &[u8], good: &[u8]) -> Option<(Vec<u8>, bool)> {
    match data.split_first()? {
        (0xff, file) => Some((file.to_vec(), true)),
        _ => Some((changed(data, good), false)),
    }
}

fn changed(mut data: &[u8], good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    while let Some((&[a, b, c, length], rest)) = data.split_first_chunk() {
        let at = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let at = at % bytes.len();
        let length = usize::from(length).min(rest.len()).min(bytes.len() - at);
        bytes[at..at + length].copy_from_slice(&rest[..length]);
        data = &rest[length..];
    }
    bytes
}
