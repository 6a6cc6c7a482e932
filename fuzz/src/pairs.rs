//! The form in which a host passes headers.

use sluice_filter::pairs;

/// What was read is read again when it is written.
pub(crate) fn pairs(data: &[u8]) {
    let found = pairs::parse(data);
    let held: usize = found
        .iter()
        .map(|(name, value)| name.len() + value.len() + 10)
        .sum();
    assert!(held <= data.len(), "more than there is");
    assert_eq!(pairs::parse(&pairs::write(&found)), found);
}
