//! Kerberos' keytabs: whose keys are in one, and the one that this process logs in with.

use std::path::Path;

use crate::config::Config;

/// A longer file is no keytab of a client's.
const LONGEST: u64 = 1 << 20;

/// The principals of a keytab (MIT's format 0x0502: <https://web.mit.edu/kerberos/krb5-latest/doc/formats/keytab_file_format.html>)
/// by their first key, as `name/instance@REALM`.
///
/// # Errors
/// It cannot be read, or is none.
pub fn principals(keytab: &Path) -> Result<Vec<String>, String> {
    let name = keytab.display();
    let size = std::fs::metadata(keytab)
        .map_err(|error| format!("cannot be read: {name}: {error}"))?
        .len();
    if size > LONGEST {
        return Err(format!("{name} has {size} bytes, and a keytab {LONGEST} at most"));
    }
    let bytes = std::fs::read(keytab).map_err(|error| format!("cannot be read: {name}: {error}"))?;
    principals_of(&bytes).ok_or_else(|| format!("is no keytab: {name}"))
}

/// The same of a keytab's bytes; `None` if they are none.
pub fn principals_of(bytes: &[u8]) -> Option<Vec<String>> {
    let mut rest = bytes.strip_prefix(&[5, 2])?;
    let mut found: Vec<String> = Vec::new();
    while !rest.is_empty() {
        let (length, more) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        // A negative one is a hole, where an entry was.
        let size = usize::try_from(length.unsigned_abs()).ok()?;
        let (entry, more) = more.split_at_checked(size)?;
        rest = more;
        if length > 0 {
            let principal = principal_of(entry)?;
            if !found.contains(&principal) {
                found.push(principal);
            }
        }
    }
    Some(found)
}

fn principal_of(entry: &[u8]) -> Option<String> {
    fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
        let (length, more) = rest.split_first_chunk::<2>()?;
        let (bytes, more) = more.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        *rest = more;
        std::str::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains(char::is_control))
    }
    let (count, mut rest) = entry.split_first_chunk::<2>()?;
    let realm = text(&mut rest)?;
    let mut parts = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        parts.push(text(&mut rest)?);
    }
    Some(format!("{}@{realm}", parts.join("/")))
}

/// Has the Kerberos library log in with the keytab that the configuration names, and keep its tickets in memory. Must be
/// called before there are threads; does nothing where no cluster has a keytab.
pub fn prepare(config: &Config) {
    let mut all = config
        .clusters
        .values()
        .filter_map(|cluster| cluster.kerberos.as_ref());
    let Some(kerberos) = all.next() else {
        return;
    };
    #[allow(
        unsafe_code,
        clippy::disallowed_methods,
        reason = "the library takes it from nowhere else, and the configuration is read before a thread is started"
    )]
    unsafe {
        std::env::set_var("KRB5_CLIENT_KTNAME", &kerberos.keytab);
        std::env::set_var("KRB5CCNAME", "MEMORY:sluice");
    }
}

/// A keytab with a key of zeroes for each name and realm.
#[cfg(test)]
pub(crate) fn keytab_of(principals: &[(&str, &str)]) -> Vec<u8> {
    let mut keytab = vec![5, 2];
    for (name, realm) in principals {
        let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
        let parts: Vec<&str> = name.split('/').collect();
        let mut entry = (parts.len() as u16).to_be_bytes().to_vec();
        entry.extend(text(realm));
        parts.iter().for_each(|part| entry.extend(text(part)));
        entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 18, 0, 32]);
        entry.extend([0; 32]);
        keytab.extend((entry.len() as i32).to_be_bytes());
        keytab.extend(entry);
    }
    keytab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keytabs_say_whose_they_are() {
        let mut keytab = keytab_of(&[("kafka/a.example", "R"), ("kafka/a.example", "R"), ("me", "S")]);
        let expected = vec!["kafka/a.example@R".to_owned(), "me@S".to_owned()];
        assert_eq!(principals_of(&keytab), Some(expected.clone()));
        keytab.extend((-3_i32).to_be_bytes());
        keytab.extend(b"old");
        assert_eq!(principals_of(&keytab), Some(expected));
        assert_eq!(principals_of(&[5, 2]), Some(Vec::new()));
        for end in 3..keytab_of(&[("me", "S")]).len() {
            assert_eq!(principals_of(&keytab_of(&[("me", "S")])[..end]), None, "{end}");
        }
        assert_eq!(principals_of(b"PEM"), None);
        assert!(
            principals(Path::new("/nowhere"))
                .unwrap_err()
                .contains("/nowhere")
        );
    }
}
