//! Keytabs: read or refused, and an entry that comes twice changes nothing.

use sluice::kerberos;

/// A keytab.
pub(crate) fn keytab(data: &[u8]) {
    let Some(found) = kerberos::principals_of(data) else {
        return;
    };
    assert!(found.iter().all(|principal| principal.contains('@')));
    let entries = data.get(2..).unwrap_or_default();
    let twice = [data, entries].concat();
    assert_eq!(kerberos::principals_of(&twice), Some(found));
}
