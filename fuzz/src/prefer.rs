//! `Prefer`.

use sluice_proto::prefer::Preferences;

/// Any value is read; what is put before it is what counts, and another header after it changes nothing that it says.
pub(crate) fn prefer(data: &[u8]) {
    let read = |values: &[&[u8]]| Preferences::read(values.iter().copied());
    let alone = read(&[data]);
    let after = read(&[b"wait=7", data]);
    assert_eq!((after.wait, after.respond_async), (Some(7), alone.respond_async));
    let before = read(&[data, b"wait=7, respond-async"]);
    assert!(before.respond_async);
    assert!(
        alone.wait.is_none() || before.wait == alone.wait,
        "{}",
        data.escape_ascii()
    );
    // Several headers are one, unless a quoted string is left open.
    if !data.contains(&b'"') {
        let joined = [data, b", wait=3"].concat();
        assert_eq!(
            read(&[&joined]),
            read(&[data, b"wait=3"]),
            "{}",
            data.escape_ascii()
        );
    }
}
