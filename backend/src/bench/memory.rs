//! What the process holds, the pages of mapped model files among it, as Linux says in proc(5).

/// Memory that is resident now, in bytes. `None` where the system does not say.
pub(super) fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// The most memory that was resident so far, in bytes. `None` where the system does not say.
pub(super) fn peak_resident_bytes() -> Option<u64> {
    status("VmHWM:")
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
