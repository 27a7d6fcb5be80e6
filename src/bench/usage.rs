//! What processes have used, as Linux tells in /proc.

use std::fs;

/// Linux counts CPU time for user programs in hundredths of a second, whatever the machine.
const TICK_US: u64 = 10_000;

/// CPU time and memory of the server and of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub server_cpu_us: u64,
    pub own_cpu_us: u64,
    /// Highest resident memory since the server began; of several processes, the sum.
    pub server_peak_bytes: u64,
}

/// Processes that cannot be read count as nothing.
pub fn read(server: &[u32]) -> Usage {
    Usage {
        server_cpu_us: server.iter().filter_map(|&pid| cpu_us(pid)).sum(),
        own_cpu_us: cpu_us(std::process::id()).unwrap_or(0),
        server_peak_bytes: server.iter().filter_map(|&pid| peak_bytes(pid)).sum(),
    }
}

impl Usage {
    /// CPU time used since `before`; the peak as it is.
    pub fn since(self, before: &Usage) -> Self {
        Self {
            server_cpu_us: self.server_cpu_us.saturating_sub(before.server_cpu_us),
            own_cpu_us: self.own_cpu_us.saturating_sub(before.own_cpu_us),
            ..self
        }
    }
}

fn cpu_us(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold spaces and parentheses; utime and stime are the 12th and 13th field after it.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) * TICK_US)
}

fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_has_used_memory_and_a_dead_one_nothing() {
        assert!(read(&[std::process::id()]).server_peak_bytes > 1 << 20);
        let none = read(&[u32::MAX]);
        assert_eq!((none.server_cpu_us, none.server_peak_bytes), (0, 0));
    }
}
