//! Looking for a card, without opening it: no kernel is loaded and no memory taken.

use super::driver::{self, DriverError};
use super::{CudaError, Properties, refused};
use driver::sys::CUdevice_attribute as DeviceAttribute;
use std::fs;

/// The CUDA version that a driver must speak: that of the compiler of our kernels, whose
/// intermediate language an older driver does not read.
const CUDA_VERSION_MIN: u32 = 13_000;
/// The least compute capability: that of the first cards with asynchronous copies to shared memory.
const CAPABILITY_MIN: (u32, u32) = (8, 0);
/// Where the driver's module says which it is.
const VERSION_FILE: &str = "/proc/driver/nvidia/version";

/// A card that our kernels run on, and its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCard {
    pub properties: Properties,
    /// The CUDA version that the driver speaks: 13000 is 13.0.
    pub cuda_version: u32,
    /// The driver's own version, where the kernel's module tells it.
    pub driver: Option<String>,
}

impl FoundCard {
    /// Looks for the card with this number.
    ///
    /// # Errors
    /// There is no driver, no such card, or one of them is too old.
    pub fn find(ordinal: usize) -> Result<FoundCard, CudaError> {
        let cuda_version = driver_version()?;
        if cuda_version < CUDA_VERSION_MIN {
            return Err(CudaError::DriverTooOld {
                found: cuda_version,
                needed: CUDA_VERSION_MIN,
            });
        }
        let properties = properties(ordinal)?;
        if properties.capability < CAPABILITY_MIN {
            return Err(CudaError::TooOldCard {
                name: properties.name,
                capability: properties.capability,
            });
        }
        Ok(FoundCard {
            properties,
            cuda_version,
            driver: fs::read_to_string(VERSION_FILE)
                .ok()
                .and_then(|text| release(&text)),
        })
    }
}

fn driver_version() -> Result<u32, CudaError> {
    // SAFETY: opening the library runs its initializers, which NVIDIA answers for.
    if !unsafe { driver::sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    let mut version = 0;
    // SAFETY: the library is there, and the version is written to an integer of ours.
    unsafe { driver::sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(refused("ask for the driver's version"))?;
    Ok(u32::try_from(version).unwrap_or(0))
}

fn properties(ordinal: usize) -> Result<Properties, CudaError> {
    let no_device = |devices| CudaError::NoDevice { ordinal, devices };
    driver::result::init().map_err(|error| match error {
        DriverError(driver::sys::CUresult::CUDA_ERROR_NO_DEVICE) => no_device(0),
        error => refused("start the driver")(error),
    })?;
    let devices = driver::result::device::get_count().map_err(refused("count devices"))?;
    let number = i32::try_from(ordinal).ok().filter(|n| *n < devices);
    let number = number.ok_or_else(|| no_device(usize::try_from(devices).unwrap_or(0)))?;
    let device = driver::result::device::get(number).map_err(refused("find the device"))?;
    let attribute = |attribute| -> Result<u32, CudaError> {
        // SAFETY: the device is one that the driver named.
        let value = unsafe { driver::result::device::get_attribute(device, attribute) };
        let value = value.map_err(refused("ask what the device is"))?;
        Ok(u32::try_from(value).unwrap_or(0))
    };
    Ok(Properties {
        name: driver::result::device::get_name(device).map_err(refused("ask for its name"))?,
        capability: (
            attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes_max: attribute(
            DeviceAttribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
        )?,
        l2_bytes: attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
    })
}

/// The number between the words of `NVRM version: NVIDIA ... Kernel Module  580.65.06  ...`.
fn release(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        let parts: Vec<&str> = word.split('.').collect();
        parts.len() >= 2 && parts.iter().all(|part| part.parse::<u32>().is_ok())
    };
    text.lines()
        .next()?
        .split_whitespace()
        .find(is_version)
        .map(String::from)
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn the_release_is_read_from_among_words() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release \
            Build  (builder@host)  Tue Jan  6 2026\nGCC version:  gcc 12.2.0\n";
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\n";
        for (text, expected) in [
            (open, Some("580.159.04")),
            (closed, Some("550.54.15")),
            ("GCC version\n12.2.0\n", None),
            ("", None),
        ] {
            assert_eq!(release(text).as_deref(), expected, "{text}");
        }
    }
}
