//! What the machine lets be open at once.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sluice_e2e::{Context, Result, ensure};

/// What a process has open besides its clients' connections.
const BESIDES: u64 = 512;

/// Makes room for `connections` to one server, in this process and those that it starts.
///
/// # Errors
/// The machine has too few file descriptors for a process, or too few ports; the error says what sets their number.
pub(crate) fn make_room(connections: usize) -> Result<()> {
    let needed = u64::try_from(connections)? + BESIDES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        hard >= needed,
        "{connections} connections take {needed} file descriptors, and a process may have {hard}: raise the hard limit \
         (ulimit -Hn, LimitNOFILE=), or ask for fewer clients"
    );
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let range = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let ports = ports(&range).with_context(|| format!("{path} is {range:?}"))?;
    ensure!(
        u64::try_from(connections)? <= ports,
        "{connections} connections to one address take as many ports, and there are {ports}: widen \
         net.ipv4.ip_local_port_range, or ask for fewer clients"
    );
    Ok(())
}

/// How many ports a range has.
fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    (last + 1).checked_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_counted_with_both_its_ends() {
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports("5 5"), Some(1));
        assert_eq!(ports("x 5"), None);
        assert_eq!(ports("9 5"), None);
    }

    #[test]
    fn more_than_there_can_be_is_refused() {
        let error = make_room(1 << 40).unwrap_err().to_string();
        assert!(error.contains("ulimit -Hn"), "{error}");
    }
}
