//! The Burn device of a [`contract::Device`].
//!
//! | requested | used |
//! |---|---|
//! | `cpu` | Flex, Burn's CPU backend |
//! | `cuda:N` | that GPU, or an error that names what is missing |
//! | `auto` | GPU 0 if the program is built with CUDA and the machine has a driver and a GPU, otherwise the CPU |
//!
//! Burn's first use of a CUDA device without a driver panics in a worker thread, so this module checks for the driver first, and for CUDA's
//! math functions.

use burn::tensor::Device;
use contract::{Result, StageError};

/// Returns the device to compute on, without gradients (`.autodiff()` adds them).
///
/// # Errors
/// Returns an error if a GPU is requested by number and cannot be used.
pub fn resolve(device: contract::Device) -> Result<Device> {
    match device {
        contract::Device::Cpu => Ok(Device::flex()),
        contract::Device::Auto => Ok(cuda(0).unwrap_or_else(|_| Device::flex())),
        contract::Device::Cuda(number) => cuda(number).map_err(|why| {
            StageError::new(format!("cuda:{number} cannot be used: {why}")).hint("run with --device cpu")
        }),
    }
}

/// Returns the name of the device that [`resolve`] returns: the device that a run with `auto` uses and records.
///
/// # Errors
/// See [`resolve`].
pub fn chosen(device: contract::Device) -> Result<contract::Device> {
    resolve(device)?;
    Ok(match device {
        contract::Device::Auto if cuda(0).is_ok() => contract::Device::Cuda(0),
        contract::Device::Auto => contract::Device::Cpu,
        named => named,
    })
}

/// Returns whether a device is a GPU.
pub fn is_gpu(device: &Device) -> bool {
    gpu_memory(device).is_some()
}

/// Returns the memory of a GPU in bytes, or `None` for the CPU, whose memory Burn does not report.
pub fn gpu_memory(device: &Device) -> Option<u64> {
    device.memory_capacity()
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, String> {
    Err("this program was built without CUDA (cargo build --release --features cuda)".into())
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device, String> {
    match driver::devices()? {
        0 => Err("the NVIDIA driver finds no GPU".into()),
        count if number >= count => Err(format!("the machine has {count} GPU(s), numbered from 0")),
        _ if !libdevice::is_there() => Err(libdevice::MISSING.into()),
        _ => {
            cache_kernels();
            Ok(Device::cuda(number))
        }
    }
}

/// Makes compiled kernels persist between processes, which CubeCL does not do by default: without it, the first training step compiles for
/// a minute.
#[cfg(feature = "cuda")]
fn cache_kernels() {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    static KEPT: std::sync::Once = std::sync::Once::new();
    KEPT.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache = true;
        // If the program has already set a configuration, it stays in effect.
        CubeClRuntimeConfig::try_set(config);
    });
}

#[cfg(feature = "cuda")]
mod libdevice {
    //! CUDA's math functions, with which kernels are linked when they are compiled: a file of the CUDA toolkit.

    use std::path::Path;

    /// The directory that CubeCL searches if `CUDA_PATH` is not set (`cubecl-llvm`, `nvptx/libdevice.rs`).
    const ROOTS: [&str; 4] = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"];

    pub const MISSING: &str = "the CUDA toolkit's nvvm/libdevice/libdevice.10.bc is not found; install the toolkit \
                               (nvcc is not needed), or set CUDA_PATH to its directory";

    pub fn is_there() -> bool {
        let below = |root: &Path| root.join("nvvm/libdevice/libdevice.10.bc").is_file();
        match std::env::var_os("CUDA_PATH") {
            Some(root) => below(Path::new(&root)),
            None => ROOTS.iter().any(|root| below(Path::new(root))),
        }
    }
}

#[cfg(feature = "cuda")]
mod driver {
    //! The two calls of the CUDA driver that count the GPUs.

    use std::ffi::c_int;

    use libloading::{Library, Symbol};

    const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

    /// Returns the number of GPUs that the driver finds.
    pub fn devices() -> Result<usize, String> {
        // SAFETY: loading the driver's library runs its initialisers, which NVIDIA ships to be loaded by any program; the
        // symbols have the types of cuda.h: `CUresult cuInit(unsigned)`, `CUresult cuDeviceGetCount(int *)`, and
        // CUresult is a C int. `count` outlives the call.
        unsafe {
            let library = Library::new(LIBRARY).map_err(|_| format!("no NVIDIA driver ({LIBRARY} is not found)"))?;
            let symbol = |error: libloading::Error| format!("the NVIDIA driver is too old ({error})");
            let init: Symbol<'_, unsafe extern "system" fn(u32) -> c_int> = library.get(b"cuInit\0").map_err(symbol)?;
            let count: Symbol<'_, unsafe extern "system" fn(*mut c_int) -> c_int> =
                library.get(b"cuDeviceGetCount\0").map_err(symbol)?;
            match init(0) {
                0 => {}
                100 => return Ok(0),
                code => return Err(format!("the NVIDIA driver does not start (error {code})")),
            }
            let mut devices = 0;
            match count(&raw mut devices) {
                0 => Ok(usize::try_from(devices).unwrap_or(0)),
                code => Err(format!("the NVIDIA driver does not report its GPUs (error {code})")),
            }
        }
    }
}
