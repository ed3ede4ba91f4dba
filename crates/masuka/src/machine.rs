//! What this machine has: processor, memory, threads. Linux tells all of it; elsewhere some stays unknown.

use std::fs;
use std::thread;

use masuka_diffusion::devices::DeviceKind;

/// The processor's features that the arithmetic can make use of, as Linux spells them.
const FEATURES: [&str; 12] = [
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd", // NEON
    "bf16",
    "i8mm",
];

/// The processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    /// Its name, as it calls itself.
    pub model: String,
    /// Those of its features that matter here.
    pub features: Vec<String>,
    /// How many threads this process may run at once.
    pub threads: usize,
}

impl Processor {
    /// The processor that runs this.
    pub fn detect() -> Self {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self { threads: default_threads(), ..Self::from_cpuinfo(&text) }
    }

    fn from_cpuinfo(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find(|line| line.split(':').next().map(str::trim) == Some(key));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
        };
        let flags = value("flags").or_else(|| value("Features")).unwrap_or_default();
        let known = |flag: &&str| FEATURES.contains(flag);
        Self {
            model: value("model name").unwrap_or(std::env::consts::ARCH).to_owned(),
            features: flags.split_whitespace().filter(known).map(str::to_owned).collect(),
            threads: 1,
        }
    }
}

/// As many threads as the process may run at once.
pub fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The machine's memory, in bytes; a container's limit counts as the machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// What can be had without swapping.
    pub available_bytes: u64,
}

/// What models on `device` can still have, in bytes: of the card's own memory, else of the machine's.
pub fn available_bytes(device: DeviceKind) -> Option<u64> {
    match device {
        DeviceKind::Cpu => Memory::detect().map(|memory| memory.available_bytes),
        DeviceKind::Cuda | DeviceKind::Metal => device.free_bytes(),
    }
}

/// What this process holds in memory, in bytes.
pub fn own_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

impl Memory {
    /// This machine's memory, where the system tells.
    pub fn detect() -> Option<Self> {
        let machine = Self::from_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
        let limits = ["/", own.as_str()].into_iter().filter_map(Self::of_cgroup);
        Some(limits.fold(machine, Self::min))
    }

    fn from_meminfo(text: &str) -> Option<Self> {
        let kib = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key))?;
            value.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        };
        let total_bytes = kib("MemTotal:")? << 10;
        Some(Self { total_bytes, available_bytes: kib("MemAvailable:")? << 10 })
    }

    /// The limit of a control group (version 2); none where it has none.
    fn of_cgroup(path: &str) -> Option<Self> {
        let folder = format!("/sys/fs/cgroup{}", path.trim_end_matches('/'));
        let bytes = |name: &str| {
            fs::read_to_string(format!("{folder}/{name}")).ok()?.trim().parse::<u64>().ok()
        };
        let total_bytes = bytes("memory.max")?;
        let used = bytes("memory.current").unwrap_or(0);
        let stat = fs::read_to_string(format!("{folder}/memory.stat")).unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
        let cached = cached.and_then(|value| value.parse().ok()).unwrap_or(0);
        let in_use = used.saturating_sub(cached);
        Some(Self { total_bytes, available_bytes: total_bytes.saturating_sub(in_use) })
    }

    fn min(self, other: Self) -> Self {
        Self {
            total_bytes: self.total_bytes.min(other.total_bytes),
            available_bytes: self.available_bytes.min(other.available_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_read_from_what_linux_tells() {
        let x86 = "processor\t: 0\nmodel name\t: Epic 7\nflags\t\t: fpu avx2 amx_tile mmx\n";
        let read = Processor::from_cpuinfo(x86);
        assert_eq!(
            (read.model.as_str(), read.features),
            ("Epic 7", vec!["avx2".into(), "amx_tile".into()])
        );
        let arm = "processor\t: 0\nFeatures\t: fp asimd i8mm\n";
        assert_eq!(Processor::from_cpuinfo(arm).features, ["asimd", "i8mm"]);
        assert!(Processor::from_cpuinfo("").features.is_empty());
    }

    #[test]
    fn memory_is_read_from_what_linux_tells() {
        let text = "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n";
        let expected = Memory { total_bytes: 2 << 20, available_bytes: 1 << 20 };
        assert_eq!(Memory::from_meminfo(text), Some(expected));
        assert_eq!(Memory::from_meminfo("MemTotal: much"), None);
    }
}
