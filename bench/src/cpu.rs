//! What a process costs, and where it may run.

use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use sluice_e2e::{Context, Result};

/// The CPU time of one process: every thread it has or had, user and kernel, to the nanosecond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuClock(ClockId);

impl CpuClock {
    /// The clock of process `pid`.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Ok(Self(clock_getcpuclockid(as_pid(pid)?)?))
    }

    /// The CPU time used so far.
    ///
    /// # Errors
    /// The process has ended.
    pub(crate) fn read(self) -> Result<Duration> {
        Ok(self.0.now()?.into())
    }
}

/// The cores that the benchmark may use, in ascending order.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn allowed_cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|core| set.is_set(*core).unwrap_or(false))
        .collect())
}

/// Lets the calling thread, and the threads and processes that it starts from now on, run on `cores` only.
///
/// # Errors
/// The kernel refuses one of the cores.
pub(crate) fn run_on(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// The most that was ever resident.
    pub(crate) peak: u64,
}

/// How much memory process `pid` has.
///
/// # Errors
/// There is no such process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    parse_status(&std::fs::read_to_string(format!("/proc/{pid}/status"))?)
        .with_context(|| format!("/proc/{pid}/status has no VmRSS and VmHWM"))
}

fn parse_status(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        resident: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}

fn as_pid(pid: u32) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_process_counts_its_work() {
        let clock = CpuClock::of(std::process::id()).unwrap();
        let before = clock.read().unwrap();
        let mut sum = 0u64;
        while clock.read().unwrap() - before < Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }

    #[test]
    fn a_process_that_is_not_there_has_no_clock() {
        // Above the kernel's largest pid (2^22).
        assert!(CpuClock::of(5_000_000).is_err());
        assert!(memory(5_000_000).is_err());
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let expected = Memory {
            resident: 1024 * 1024,
            peak: 2048 * 1024,
        };
        assert_eq!(parse_status(status), Some(expected));
        assert_eq!(parse_status("VmRSS: 1 pages\nVmHWM: 1 kB\n"), None);
        let own = memory(std::process::id()).unwrap();
        assert!(own.peak >= own.resident && own.resident > 0);
    }

    #[test]
    fn a_thread_stays_where_it_is_put() {
        std::thread::spawn(|| {
            let first = allowed_cores().unwrap()[0];
            run_on(&[first]).unwrap();
            assert_eq!(allowed_cores().unwrap(), [first]);
            assert!(run_on(&[]).is_err(), "no core at all is refused by the kernel");
        })
        .join()
        .unwrap();
    }
}
