//! Which processor or card computes: what this build knows, what this machine has, and opening one by its name.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use candle_core::Device;

use crate::error::{Error, Result};

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// An NVIDIA card.
    Cuda,
    /// An Apple graphics processor.
    Metal,
    /// The processor, which is always there.
    Cpu,
}

impl DeviceKind {
    /// All kinds, the fastest first.
    pub const ALL: [Self; 3] = [Self::Cuda, Self::Metal, Self::Cpu];

    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Cpu => "cpu",
        }
    }

    /// Whether this build has the code for it.
    pub fn compiled_in(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Cpu => true,
        }
    }

    /// The first device of this kind: the same one at each call, because tensors of two do not mix.
    ///
    /// # Errors
    /// [`Error::Device`] when this build lacks the kind or the machine does.
    pub fn open(self) -> Result<Device> {
        if !self.compiled_in() {
            let message = format!(
                "device `{self}` is not part of this build; build with `cargo build --release --features {self}`"
            );
            return Err(Error::Device(message));
        }
        static OPENED: Mutex<Vec<(DeviceKind, Device)>> = Mutex::new(Vec::new());
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, device)) = opened.iter().find(|(kind, _)| *kind == self) {
            return Ok(device.clone());
        }
        let device = match self {
            Self::Cuda => Device::new_cuda_with_stream(0),
            Self::Metal => Device::new_metal(0),
            Self::Cpu => Ok(Device::Cpu),
        };
        let refused = |e| Error::Device(format!("device `{self}` cannot be used: {e}"));
        let device = device.map_err(refused)?;
        opened.push((self, device.clone()));
        Ok(device)
    }

    /// What a card has left of its own memory, in bytes; `None` for a device that shares the machine's.
    pub fn free_bytes(self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let (Self::Cuda, Ok(Device::Cuda(device))) = (self, self.open()) {
            let (free, _total) = device.cuda_stream().context().mem_get_info().ok()?;
            return Some(free as u64);
        }
        None
    }

    /// The fastest kind that this build has and this machine can open.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|kind| kind.open().is_ok()).unwrap_or(Self::Cpu)
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| {
            Error::invalid("device", format!("`{name}`"), "is not one of cpu, cuda, metal")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        assert!(DeviceKind::Cpu.open().is_ok());
        assert!(DeviceKind::best().compiled_in());
    }

    #[test]
    fn a_kind_that_is_not_built_in_says_how_to_build_it() {
        for kind in DeviceKind::ALL.into_iter().filter(|kind| !kind.compiled_in()) {
            let error = kind.open().unwrap_err().to_string();
            assert!(error.contains(&format!("--features {kind}")), "{error}");
        }
    }
}
