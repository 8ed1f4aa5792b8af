//! What a running process has taken, as Linux counts it.

use std::fs;
use std::time::Duration;

/// The memory of a process that lies in RAM, in bytes; `None` when it has ended.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The time that the threads of a process have run so far; `None` when it has ended. A thread that
/// ended in between takes its time with it, which long-lived workers do not.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let mut total_ns = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let first = text.split_whitespace().next();
        total_ns += first.and_then(|ns| ns.parse().ok()).unwrap_or(0);
    }
    Some(Duration::from_nanos(total_ns))
}

#[cfg(test)]
mod tests {
    use super::{cpu_time, resident_bytes};

    #[test]
    fn we_take_something_and_nobody_takes_nothing() {
        let own = std::process::id();
        assert!(resident_bytes(own).is_some_and(|bytes| bytes > 1 << 16));
        assert!(cpu_time(own).is_some_and(|time| !time.is_zero()));
        // Process ids are far below this.
        assert_eq!(resident_bytes(u32::MAX), None);
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
