//! A CUDA driver without a GPU: a library in place of `libcuda.so.1` that accepts every call and computes nothing.
//!
//! It reports one H200, returns device addresses with no memory behind them, assembles kernels with `ptxas`, and discards launches. So a
//! machine without a GPU can show which kernels a training step launches, how much device memory it allocates, and whether each kernel
//! assembles for the GPU. Every value read back is zero. Time is counted, not measured: 5 µs a launch and 50 ns a block, because CubeCL
//! repeats a measurement until it is long enough.
//!
//! Put it first in `LD_LIBRARY_PATH` as `libcuda.so` and `libcuda.so.1`. Variables:
//!
//! | variable | meaning | without it |
//! |---|---|---|
//! | `PTXAS` | the assembler of a CUDA toolkit | kernels stay PTX, which a real driver loads too |
//! | `NULL_DRIVER_MEMORY` | the device's memory in bytes | 143,771 MiB |
//! | `NULL_DRIVER_VERSION` | the driver's version, by which compiled kernels are looked up | 13000, CUDA 13.0 |
//!
//! The functions have the names and types of cuda.h (CUDA driver API 13.0). Only those that CubeCL calls for training are implemented;
//! graphs and convolutions are not supported.
//!
//! Safety: callers must meet the contract of cuda.h, that is, result pointers are valid for writes and buffers have the stated size.
//! Handles are never dereferenced, except for events and links, which the functions here create and free.

#![allow(clippy::too_many_arguments, reason = "as in cuda.h")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{copy_nonoverlapping, write_bytes};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `CUDA_SUCCESS`.
const SUCCESS: c_int = 0;
/// `CUDA_ERROR_INVALID_VALUE`.
const INVALID_VALUE: c_int = 1;
/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: c_int = 2;
/// `CUDA_ERROR_INVALID_DEVICE`.
const INVALID_DEVICE: c_int = 101;
/// `CUDA_ERROR_INVALID_PTX`.
const INVALID_PTX: c_int = 218;
/// `CU_MEMORYTYPE_HOST`.
const HOST: c_uint = 1;

const NAME: &CStr = c"NVIDIA H200";
/// The device memory that the driver of an H200 reports.
const MEMORY: u64 = 143_771 << 20;
/// Attributes of an H200 (SXM) that CubeCL reads: `CUdevice_attribute`, and the value.
const ATTRIBUTES: [(c_int, c_int); 14] = [
    (1, 1024),          // threads a block
    (2, 1024),          // x of a block
    (3, 1024),          // y of a block
    (4, 64),            // z of a block
    (5, 2_147_483_647), // x of a grid
    (6, 65_535),        // y of a grid
    (7, 65_535),        // z of a grid
    (10, 32),           // warp
    (16, 132),          // multiprocessors
    (18, 0),            // integrated
    (38, 62_914_560),   // L2 cache
    (75, 9),            // compute capability, major
    (76, 0),            // compute capability, minor
    (97, 232_448),      // shared memory that a block may ask for
];
/// The counted nanoseconds of a launch, and of each of its blocks.
const LAUNCH: u64 = 5_000;
const BLOCK: u64 = 50;

type Handle = *mut c_void;

/// Allocated device memory: bytes by address.
static DEVICE_MEMORY: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());
/// The next device address, above all addresses of host memory.
static NEXT_ADDRESS: AtomicU64 = AtomicU64::new(1 << 52);
/// Allocated host memory, by address.
static HOST_MEMORY: Mutex<BTreeMap<usize, Layout>> = Mutex::new(BTreeMap::new());
/// Nanoseconds that all launches took.
static CLOCK: AtomicU64 = AtomicU64::new(0);
/// Kernels assembled.
static ASSEMBLED: AtomicU64 = AtomicU64::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a number from the environment. A value that is not a number ends the process: the interface of CUDA cannot report it.
fn variable(name: &str, default: u64) -> u64 {
    let Some(value) = std::env::var_os(name) else { return default };
    value.to_str().and_then(|value| value.parse().ok()).unwrap_or_else(|| {
        eprintln!("{name} is {value:?}, expected a whole number");
        std::process::exit(2)
    })
}

/// Writes a result and returns success.
unsafe fn put<T>(place: *mut T, value: T) -> c_int {
    // SAFETY: `place` is valid for writes, as cuda.h requires of the caller.
    unsafe { place.write(value) };
    SUCCESS
}

/// Functions that return success.
macro_rules! accepted {
    ($($name:ident($($argument:ty),*);)*) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name($(_: $argument),*) -> c_int {
            SUCCESS
        })*
    };
}

/// Functions that return a placeholder handle.
macro_rules! handles {
    ($($name:ident($($argument:ty),*);)*) => {
        $(#[unsafe(no_mangle)]
        unsafe extern "C" fn $name(handle: *mut Handle, $(_: $argument),*) -> c_int {
            // SAFETY: see the top of the file.
            unsafe { put(handle, std::ptr::without_provenance_mut(1)) }
        })*
    };
}

accepted! {
    cuInit(c_uint);
    cuCtxSetCurrent(Handle);
    cuStreamDestroy_v2(Handle);
    cuStreamSynchronize(Handle);
    cuStreamWaitEvent(Handle, Handle, c_uint);
    cuEventSynchronize(Handle);
    cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, Handle);
    cuMemcpyDtoDAsync_v2(u64, u64, usize, Handle);
    cuFuncSetAttribute(Handle, c_int, c_int);
}
handles! {
    cuDevicePrimaryCtxRetain(c_int);
    cuStreamCreate(c_uint);
    cuStreamCreateWithPriority(c_uint, c_int);
    cuModuleLoadData(*const c_void);
    cuModuleLoadDataEx(*const c_void, c_uint, *mut c_int, *mut Handle);
    cuModuleGetFunction(Handle, *const c_char);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { put(version, c_int::try_from(variable("NULL_DRIVER_VERSION", 13_000)).unwrap_or(13_000)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { put(count, 1) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, number: c_int) -> c_int {
    match number {
        // SAFETY: see the top of the file.
        0 => unsafe { put(device, 0) },
        _ => INVALID_DEVICE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, _: c_int) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { put_text(NAME, name, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetPCIBusId(id: *mut c_char, length: c_int, _: c_int) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { put_text(c"0000:01:00.0", id, length) }
}

unsafe fn put_text(text: &CStr, place: *mut c_char, length: c_int) -> c_int {
    let bytes = text.to_bytes_with_nul();
    if usize::try_from(length).is_ok_and(|length| bytes.len() <= length) {
        // SAFETY: `place` holds `length` bytes, and the text fits.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len()) };
        return SUCCESS;
    }
    INVALID_VALUE
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _: c_int) -> c_int {
    match ATTRIBUTES.iter().find(|(name, _)| *name == attribute) {
        // SAFETY: see the top of the file.
        Some((_, found)) => unsafe { put(value, *found) },
        None => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _: c_int) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { put(bytes, variable("NULL_DRIVER_MEMORY", MEMORY) as usize) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { put(least, 0) + put(greatest, -5) }
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernel(
    _: Handle,
    x: c_uint,
    y: c_uint,
    z: c_uint,
    _: c_uint,
    _: c_uint,
    _: c_uint,
    _: c_uint,
    _: Handle,
    _: *mut Handle,
    _: *mut Handle,
) -> c_int {
    let blocks = u64::from(x).saturating_mul(u64::from(y)).saturating_mul(u64::from(z));
    CLOCK.fetch_add(LAUNCH + blocks.saturating_mul(BLOCK), Ordering::Relaxed);
    SUCCESS
}

/// The clock when an event was recorded.
type Event = AtomicU64;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(event: *mut *mut Event, _: c_uint) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { put(event, Box::into_raw(Box::new(AtomicU64::new(0)))) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventDestroy_v2(event: *mut Event) -> c_int {
    // SAFETY: `cuEventCreate` made the event, and an event is destroyed once.
    drop(unsafe { Box::from_raw(event) });
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventRecord(event: *mut Event, _: Handle) -> c_int {
    // SAFETY: `cuEventCreate` made the event, which is live.
    unsafe { &*event }.store(CLOCK.load(Ordering::Relaxed), Ordering::Relaxed);
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(ms: *mut f32, start: *mut Event, end: *mut Event) -> c_int {
    // SAFETY: `cuEventCreate` made both events, which are live.
    let [start, end] = [start, end].map(|event| unsafe { &*event }.load(Ordering::Relaxed));
    // SAFETY: see the top of the file.
    unsafe { put(ms, end.saturating_sub(start) as f32 / 1e6) }
}

/// The name of the same function from CUDA 12.8 on.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime_v2(ms: *mut f32, start: *mut Event, end: *mut Event) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { cuEventElapsedTime(ms, start, end) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> c_int {
    match allocate(bytes as u64) {
        // SAFETY: see the top of the file.
        Some(allocated) => unsafe { put(address, allocated) },
        None => OUT_OF_MEMORY,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocAsync(address: *mut u64, bytes: usize, _: Handle) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { cuMemAlloc_v2(address, bytes) }
}

/// Returns a new address, if the device has enough memory left.
fn allocate(bytes: u64) -> Option<u64> {
    let mut allocated = lock(&DEVICE_MEMORY);
    let bytes = bytes.max(1).checked_next_multiple_of(512)?;
    let total = allocated.values().sum::<u64>().checked_add(bytes)?;
    (total <= variable("NULL_DRIVER_MEMORY", MEMORY)).then(|| {
        let address = NEXT_ADDRESS.fetch_add(bytes, Ordering::Relaxed);
        allocated.insert(address, bytes);
        address
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    if lock(&DEVICE_MEMORY).remove(&address).is_some() { SUCCESS } else { INVALID_VALUE }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, _: Handle) -> c_int {
    cuMemFree_v2(address)
}

/// Host memory is real.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocHost_v2(place: *mut *mut c_void, bytes: usize) -> c_int {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), 4096) else { return INVALID_VALUE };
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        return OUT_OF_MEMORY;
    }
    lock(&HOST_MEMORY).insert(memory.addr(), layout);
    // SAFETY: see the top of the file.
    unsafe { put(place, memory.cast()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeHost(place: *mut c_void) -> c_int {
    let Some(layout) = lock(&HOST_MEMORY).remove(&place.addr()) else { return INVALID_VALUE };
    // SAFETY: the memory was allocated with this layout, and is freed once, as its entry is gone.
    unsafe { dealloc(place.cast(), layout) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(place: *mut u8, _: u64, bytes: usize, _: Handle) -> c_int {
    // SAFETY: `place` holds `bytes` bytes, as cuda.h requires of the caller.
    unsafe { write_bytes(place, 0, bytes) };
    SUCCESS
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
struct Copy2d {
    source: [usize; 2],
    source_type: c_uint,
    source_host: *const c_void,
    source_device: u64,
    source_array: Handle,
    source_pitch: usize,
    target: [usize; 2],
    target_type: c_uint,
    target_host: *mut u8,
    target_device: u64,
    target_array: Handle,
    target_pitch: usize,
    width: usize,
    height: usize,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpy2DAsync_v2(copy: *const Copy2d, _: Handle) -> c_int {
    // SAFETY: `copy` is valid for reads, as cuda.h requires of the caller.
    let copy = unsafe { &*copy };
    if copy.target_type == HOST {
        for row in 0..copy.height {
            // SAFETY: the target holds `height` rows of `width` bytes, `target_pitch` apart.
            unsafe { write_bytes(copy.target_host.add(row * copy.target_pitch), 0, copy.width) };
        }
    }
    SUCCESS
}

/// A tensor map is 128 bytes. As in the driver, sizes of a tile outside 1 to 256 are invalid.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuTensorMapEncodeTiled(
    map: *mut u8,
    _: c_int,
    rank: c_uint,
    _: Handle,
    _: *const u64,
    _: *const u64,
    tile: *const c_uint,
    _: *const c_uint,
    _: c_int,
    _: c_int,
    _: c_int,
    _: c_int,
) -> c_int {
    // SAFETY: `map` holds a tensor map and `tile` has `rank` sizes, as cuda.h requires of the caller.
    let tile = unsafe {
        write_bytes(map, 0, 128);
        std::slice::from_raw_parts(tile, rank as usize)
    };
    if tile.iter().all(|size| (1..=256).contains(size)) { SUCCESS } else { INVALID_VALUE }
}

/// A link in progress: the machine code of one kernel.
struct Link(Vec<u8>);

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLinkCreate_v2(_: c_uint, _: *mut c_int, _: *mut Handle, link: *mut *mut Link) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { put(link, Box::into_raw(Box::new(Link(Vec::new())))) }
}

/// Assembles PTX, a string that ends with a zero byte.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuLinkAddData_v2(
    link: *mut Link,
    _: c_int,
    text: *const c_char,
    _: usize,
    _: *const c_char,
    _: c_uint,
    _: *mut c_int,
    _: *mut Handle,
) -> c_int {
    // SAFETY: `text` ends with a zero byte, as cuda.h requires of the caller.
    match assemble(unsafe { CStr::from_ptr(text) }) {
        Ok(code) => {
            // SAFETY: the link is live: `cuLinkCreate_v2` made it.
            unsafe { (*link).0 = code };
            SUCCESS
        }
        Err(why) => {
            eprintln!("null driver: {why}");
            INVALID_PTX
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLinkComplete(link: *mut Link, code: *mut *const c_void, size: *mut usize) -> c_int {
    // SAFETY: the link is live: `cuLinkCreate_v2` made it.
    let Link(machine_code) = unsafe { &*link };
    // SAFETY: see the top of the file. The link owns the code until it is destroyed.
    unsafe { put(code, machine_code.as_ptr().cast()) + put(size, machine_code.len()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLinkDestroy(link: *mut Link) -> c_int {
    // SAFETY: `cuLinkCreate_v2` made the link, and a link is destroyed once.
    drop(unsafe { Box::from_raw(link) });
    SUCCESS
}

/// Returns the machine code of `ptx`, or `ptx` itself if no assembler is set.
fn assemble(ptx: &CStr) -> Result<Vec<u8>, String> {
    let Some(assembler) = std::env::var_os("PTXAS") else { return Ok(ptx.to_bytes_with_nul().to_vec()) };
    let text = ptx.to_str().map_err(|error| error.to_string())?;
    let target = text.lines().find_map(|line| line.trim().strip_prefix(".target ")).ok_or("the PTX names no target")?;
    let target = target.split(',').next().unwrap_or_default().trim();
    let name = format!("null-driver-{}-{}", std::process::id(), ASSEMBLED.fetch_add(1, Ordering::Relaxed));
    let [source, code] = ["ptx", "cubin"].map(|kind| std::env::temp_dir().join(format!("{name}.{kind}")));
    std::fs::write(&source, text).map_err(|error| error.to_string())?;
    let mut command = std::process::Command::new(assembler);
    let assembled = match command.arg("-arch").arg(target).arg(&source).arg("-o").arg(&code).output() {
        Ok(output) if output.status.success() => std::fs::read(&code).map_err(|error| error.to_string()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    for file in [&source, &code] {
        let _ = std::fs::remove_file(file);
    }
    assembled
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(code: c_int, text: *mut *const c_char) -> c_int {
    // Leaked: the caller may keep the pointer.
    let message = CString::new(format!("the null driver's error {code}")).unwrap_or_default();
    // SAFETY: see the top of the file.
    unsafe { put(text, message.into_raw()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    // SAFETY: see the top of the file.
    unsafe { cuGetErrorName(code, text) }
}
