//! What this process has used.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time of this process so far, all threads and the kernel's part included.
pub(crate) fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (time.tv_sec, time.tv_nsec);
    Duration::new(seconds.try_into().unwrap_or(0), nanos.try_into().unwrap_or(0))
}

/// Keeps this thread on one of the cores that it may run on. Left alone, two threads that are started together
/// stand on the same one for some milliseconds every other time. Does nothing where the system has no such call.
pub(crate) fn pin_to(number: usize) {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
        if let Some(core) = all.get(number % all.len().max(1)) {
            let mut only = CpuSet::new();
            only.set(*core);
            // Refused, it only measures worse.
            let _ = sched_setaffinity(None, &only);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = number;
}

/// The memory of this process that is resident, in bytes; nothing where there is no /proc.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
