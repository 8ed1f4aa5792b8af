//! What the process has held at most.

/// The most memory that was resident so far, in bytes, the pages of mapped model files among it.
/// `None` where the system does not say (Linux does: `VmHWM` in proc(5)).
pub(super) fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
