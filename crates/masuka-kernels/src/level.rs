//! Levels of processor instructions. A token such as [`Avx512`] is the proof that the processor has them; it is made
//! by asking the processor, so a function that takes one cannot be reached without.

use std::fmt;
use std::str::FromStr;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// The levels by name, from the one that every processor has upwards.
///
/// [`Level::Neon`] has no code of its own: on aarch64 the compiler makes NEON of the portable loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Loops that any processor runs.
    Portable,
    /// The vectors that every aarch64 processor has.
    Neon,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL, BF16 and VNNI.
    Avx512,
    /// AMX tiles with bf16 and int8.
    Amx,
}

impl Level {
    /// All levels, the lowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512, Self::Amx];

    /// The name, as the user writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("level `{0}` is not one of portable, neon, avx2, avx512, amx")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        let known = Self::ALL.into_iter().find(|level| level.name() == name);
        known.ok_or_else(|| UnknownLevel(name.to_owned()))
    }
}

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where the processor has the instructions.
    pub fn new() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            return Some(Self(()));
        }
        None
    }
}

/// Proof that the processor has AVX-512 F, BW, DQ, VL, BF16 and VNNI, and all of [`Avx2`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx512 {
    amx: Option<Amx>,
}

impl Avx512 {
    /// The proof, where the processor has the instructions.
    pub fn new() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if Avx2::new().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx512vnni")
        {
            return Some(Self { amx: None });
        }
        None
    }

    /// Every such processor has AVX2 as well.
    pub fn avx2(self) -> Avx2 {
        Avx2(())
    }

    /// The tiles beside the vectors, where they are to be used.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn amx(self) -> Option<Amx> {
        self.amx
    }
}

/// Proof that the processor has AMX tiles with bf16 and int8, that the system lets this process use them, and all of
/// [`Avx512`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amx(());

impl Amx {
    /// The proof, where the processor has the instructions and the system gives its permission.
    pub fn new() -> Option<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        {
            static USABLE: LazyLock<bool> = LazyLock::new(tiles_may_be_used);
            if Avx512::new().is_some() && *USABLE {
                return Some(Self(()));
            }
        }
        None
    }

    /// Every such processor has AVX-512 as well; what is done with this proof uses tiles where it can.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn avx512(self) -> Avx512 {
        Avx512 { amx: Some(self) }
    }
}

/// Whether there are AMX tiles with bf16 and int8; asks Linux for their registers, which a process has to do once.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiles_may_be_used() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// Leaf 7, EDX: AMX-BF16, AMX-TILE, AMX-INT8.
    const AMX: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// Of `arch_prctl`: <https://docs.kernel.org/arch/x86/xstate.html>.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & AMX != AMX {
        return false;
    }
    // SAFETY: takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// A level for which code exists and whose instructions this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// Loops that any processor runs.
    Portable,
    /// With the proof of AVX2, FMA and F16C.
    Avx2(Avx2),
    /// With the proof of AVX-512 and its bf16 and int8 dot products.
    Avx512(Avx512),
    /// With the proof of AMX tiles with bf16 and int8.
    Amx(Amx),
}

impl Simd {
    /// The highest level that the processor has and [`set_level_limit`] permits.
    pub fn active() -> Self {
        let limit = LIMIT.load(Ordering::Relaxed);
        let allowed = |simd: &Self| simd.level() as u8 <= limit;
        let amx = Amx::new().map(Self::Amx).filter(allowed);
        let avx512 = || Avx512::new().map(Self::Avx512).filter(allowed);
        let avx2 = || Avx2::new().map(Self::Avx2).filter(allowed);
        amx.or_else(avx512).or_else(avx2).unwrap_or(Self::Portable)
    }

    /// All levels that this processor runs, the lowest first; for tests and measurements.
    pub fn supported() -> Vec<Self> {
        let (avx2, avx512) = (Avx2::new().map(Self::Avx2), Avx512::new().map(Self::Avx512));
        let vectors = [avx2, avx512, Amx::new().map(Self::Amx)];
        [Self::Portable].into_iter().chain(vectors.into_iter().flatten()).collect()
    }

    /// Whether products of bf16 take longer in its own instructions than widened to f32. AVX2 has none. Of AVX-512's,
    /// Intel's processors take one in the time of four products of f32, and it does the work of two (0.58 ns beside 0.14 on
    /// a Xeon with AMX); AMD's take it in the time of one.
    pub(crate) fn widens_bf16(self) -> bool {
        match self {
            Self::Avx2(_) => true,
            Self::Avx512(_) => is_from_intel(),
            Self::Portable | Self::Amx(_) => false,
        }
    }

    /// The level's name.
    pub fn level(self) -> Level {
        match self {
            Self::Portable if cfg!(target_arch = "aarch64") => Level::Neon,
            Self::Portable => Level::Portable,
            Self::Avx2(_) => Level::Avx2,
            Self::Avx512(_) => Level::Avx512,
            Self::Amx(_) => Level::Amx,
        }
    }
}

/// Whether the processor names Intel as its maker.
fn is_from_intel() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static INTEL: LazyLock<bool> = LazyLock::new(|| {
            let name = std::arch::x86_64::__cpuid(0);
            [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
        });
        *INTEL
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

static LIMIT: AtomicU8 = AtomicU8::new(Level::Amx as u8);

/// Permits no level above `limit` from here on, in the whole process. To be called before anything is packed: what is
/// packed keeps its level.
pub fn set_level_limit(limit: Level) {
    LIMIT.store(limit as u8, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_known_by_its_name() {
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
        }
        let error = "sse9".parse::<Level>().unwrap_err().to_string();
        assert_eq!(error, "level `sse9` is not one of portable, neon, avx2, avx512, amx");
    }

    #[test]
    fn the_limit_is_kept_and_the_portable_level_is_always_there() {
        let best = *Simd::supported().last().unwrap();
        assert_eq!(Simd::active(), best);
        set_level_limit(Level::Portable);
        assert_eq!(Simd::active(), Simd::Portable);
        set_level_limit(Level::Amx);
        assert_eq!(Simd::active(), best);
    }
}
