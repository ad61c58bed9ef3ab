//! A CUDA driver without a GPU: a library in place of `libcuda.so.1` that accepts every call and computes nothing.
//!
//! It reports one H200, returns device addresses with no memory behind them, assembles kernels with `ptxas`, and discards
//! launches. So any machine can show what the host does for a training step: which kernels it launches, how much device memory
//! it allocates, and whether each kernel assembles for the GPU. Every value read back is zero, and every time 0.01 ms.
//!
//! Build it with `rustc --edition 2024 -O --crate-type cdylib null_driver.rs -o libcuda.so.1` and put its directory first in
//! `LD_LIBRARY_PATH`. `PTXAS` names the assembler; without it, kernels stay PTX, which a real driver loads too.
//! `NULL_DRIVER_MEMORY` is the device's memory in bytes.
//!
//! The functions have the names and types of cuda.h (CUDA driver API 13.0). Only those that CubeCL calls are here.
//!
//! SAFETY of all of them: the caller passes what cuda.h asks for, that is valid places for results and buffers as long as it
//! says; handles are never dereferenced, except a `Link`, which only `cuLinkCreate_v2` makes and `cuLinkDestroy` ends.

#![allow(non_snake_case, clippy::missing_safety_doc, unsafe_op_in_unsafe_fn)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{copy_nonoverlapping, write_bytes};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

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

/// `cudaDeviceProp` of an H200 (SXM), as far as it is asked for: `CUdevice_attribute` and its value.
const ATTRIBUTES: [(c_int, c_int); 16] = [
    (1, 1024),              // threads a block
    (2, 1024),              // block, x
    (3, 1024),              // block, y
    (4, 64),                // block, z
    (5, 2_147_483_647),     // grid, x
    (6, 65_535),            // grid, y
    (7, 65_535),            // grid, z
    (8, 49_152),            // shared memory a block
    (10, 32),               // warp
    (12, 65_536),           // registers a block
    (16, 132),              // multiprocessors
    (38, 62_914_560),       // L2 cache
    (75, 9),                // compute capability, major
    (76, 0),                // compute capability, minor
    (97, 232_448),          // shared memory a block may ask for
    (115, 1),               // memory pools
];
const NAME: &CStr = c"NVIDIA H200";
/// 143,771 MiB, as its driver states it.
const MEMORY: u64 = 143_771 << 20;
/// CUDA 13.0.
const VERSION: c_int = 13_000;
const ELAPSED_MS: f32 = 0.01;

/// Device memory that is allocated: bytes by address. The next address is above all of them, and above those of host memory.
static DEVICE_MEMORY: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());
static NEXT_ADDRESS: AtomicU64 = AtomicU64::new(1 << 52);
/// Host memory that is allocated, by address.
static HOST_MEMORY: Mutex<BTreeMap<usize, Layout>> = Mutex::new(BTreeMap::new());
/// Kernels assembled.
static ASSEMBLED: AtomicU64 = AtomicU64::new(0);

/// What `cuLinkCreate` makes: the machine code of one kernel.
pub struct Link(Vec<u8>);

fn allocate(address: *mut u64, bytes: usize) -> c_int {
    let mut allocated = DEVICE_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let step = (bytes as u64).next_multiple_of(512).max(512);
    if allocated.values().sum::<u64>() + step > memory() {
        return OUT_OF_MEMORY;
    }
    let next = NEXT_ADDRESS.fetch_add(step, Ordering::Relaxed);
    allocated.insert(next, step);
    // SAFETY: the caller passes a valid place for the address.
    unsafe { *address = next };
    SUCCESS
}

fn free(address: u64) -> c_int {
    let freed = DEVICE_MEMORY.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    if freed.is_some() { SUCCESS } else { INVALID_VALUE }
}

/// The device's memory in bytes.
fn memory() -> u64 {
    std::env::var("NULL_DRIVER_MEMORY").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(MEMORY)
}

/// Calls that change nothing: a handle where one is asked for, and success.
macro_rules! accepted {
    ($($name:ident($($argument:ty),*);)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $name($(_: $argument),*) -> c_int {
            SUCCESS
        })*
    };
}
macro_rules! handles {
    ($($name:ident($($argument:ty),*);)*) => {
        $(#[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(handle: *mut *mut c_void, $(_: $argument),*) -> c_int {
            *handle = 1 as *mut c_void;
            SUCCESS
        })*
    };
}
type Handle = *mut c_void;

accepted! {
    cuInit(c_uint);
    cuCtxSetCurrent(Handle);
    cuCtxSynchronize();
    cuDevicePrimaryCtxRelease_v2(c_int);
    cuStreamDestroy_v2(Handle);
    cuStreamSynchronize(Handle);
    cuStreamWaitEvent(Handle, Handle, c_uint);
    cuEventDestroy_v2(Handle);
    cuEventRecord(Handle, Handle);
    cuEventSynchronize(Handle);
    cuEventQuery(Handle);
    cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, Handle);
    cuMemcpyDtoDAsync_v2(u64, u64, usize, Handle);
    cuMemsetD8Async(u64, u8, usize, Handle);
    cuFuncSetAttribute(Handle, c_int, c_int);
    cuModuleUnload(Handle);
    cuLaunchKernel(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut Handle, *mut Handle);
}
handles! {
    cuCtxGetCurrent();
    cuDevicePrimaryCtxRetain(c_int);
    cuStreamCreate(c_uint);
    cuStreamCreateWithPriority(c_uint, c_int);
    cuEventCreate(c_uint);
    cuModuleLoadDataEx(*const c_void, c_uint, *mut c_int, *mut Handle);
    cuModuleGetFunction(Handle, *const c_char);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut Handle, code: *const c_void) -> c_int {
    *module = 1 as Handle;
    if code.is_null() { INVALID_VALUE } else { SUCCESS }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    *version = VERSION;
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    *count = 1;
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, number: c_int) -> c_int {
    *device = number;
    if number == 0 { SUCCESS } else { INVALID_DEVICE }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, _: c_int) -> c_int {
    write_text(NAME, name, length)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(id: *mut c_char, length: c_int, _: c_int) -> c_int {
    write_text(c"0000:01:00.0", id, length)
}

unsafe fn write_text(text: &CStr, place: *mut c_char, length: c_int) -> c_int {
    let bytes = text.to_bytes_with_nul();
    if bytes.len() > length as usize {
        return INVALID_VALUE;
    }
    copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len());
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _: c_int) -> c_int {
    *value = ATTRIBUTES.iter().find(|(name, _)| *name == attribute).map_or(0, |(_, value)| *value);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _: c_int) -> c_int {
    *bytes = memory() as usize;
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    (*free, *total) = (memory() as usize, memory() as usize);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> c_int {
    (*least, *greatest) = (0, -5);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime(ms: *mut f32, _: Handle, _: Handle) -> c_int {
    *ms = ELAPSED_MS;
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime_v2(ms: *mut f32, _: Handle, _: Handle) -> c_int {
    *ms = ELAPSED_MS;
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> c_int {
    allocate(address, bytes)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    free(address)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: u64, _: Handle) -> c_int {
    free(address)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(address: *mut u64, bytes: usize, _: Handle) -> c_int {
    allocate(address, bytes)
}

/// Host memory is real.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocHost_v2(place: *mut *mut c_void, bytes: usize) -> c_int {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), 4096) else { return INVALID_VALUE };
    let memory = alloc_zeroed(layout);
    if memory.is_null() {
        return OUT_OF_MEMORY;
    }
    HOST_MEMORY.lock().unwrap_or_else(PoisonError::into_inner).insert(memory.addr(), layout);
    *place = memory.cast();
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeHost(place: *mut c_void) -> c_int {
    let layout = HOST_MEMORY.lock().unwrap_or_else(PoisonError::into_inner).remove(&place.addr());
    let Some(layout) = layout else { return INVALID_VALUE };
    dealloc(place.cast(), layout);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(place: *mut u8, _: u64, bytes: usize, _: Handle) -> c_int {
    write_bytes(place, 0, bytes);
    SUCCESS
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
pub struct Copy2d {
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
pub unsafe extern "C" fn cuMemcpy2DAsync_v2(copy: *const Copy2d, _: Handle) -> c_int {
    let copy = &*copy;
    // `CU_MEMORYTYPE_HOST`.
    if copy.target_type == 1 {
        for row in 0..copy.height {
            write_bytes(copy.target_host.add(row * copy.target_pitch), 0, copy.width);
        }
    }
    SUCCESS
}

/// A tensor map is 128 bytes; a tile of no size, or of more than 256 in a dimension, is refused as by the driver.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuTensorMapEncodeTiled(
    map: *mut u8,
    _: c_int,
    rank: c_uint,
    _: *mut c_void,
    _: *const u64,
    _: *const u64,
    tile: *const c_uint,
    _: *const c_uint,
    _: c_int,
    _: c_int,
    _: c_int,
    _: c_int,
) -> c_int {
    write_bytes(map, 0, 128);
    let tile = std::slice::from_raw_parts(tile, rank as usize);
    if tile.iter().all(|size| (1..=256).contains(size)) { SUCCESS } else { INVALID_VALUE }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLinkCreate_v2(_: c_uint, _: *mut c_int, _: *mut Handle, link: *mut *mut Link) -> c_int {
    *link = Box::into_raw(Box::new(Link(Vec::new())));
    SUCCESS
}

/// Assembles PTX, a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLinkAddData_v2(
    link: *mut Link,
    _: c_int,
    text: *const c_char,
    _: usize,
    _: *const c_char,
    _: c_uint,
    _: *mut c_int,
    _: *mut Handle,
) -> c_int {
    match assemble(CStr::from_ptr(text)) {
        Ok(code) => {
            (*link).0 = code;
            SUCCESS
        }
        Err(why) => {
            eprintln!("null driver: {why}");
            INVALID_PTX
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLinkComplete(link: *mut Link, code: *mut *const c_void, size: *mut usize) -> c_int {
    (*code, *size) = ((*link).0.as_ptr().cast(), (*link).0.len());
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLinkDestroy(link: *mut Link) -> c_int {
    drop(Box::from_raw(link));
    SUCCESS
}

/// Machine code of `ptx` by the assembler, or the text itself where there is none.
fn assemble(ptx: &CStr) -> Result<Vec<u8>, String> {
    let Some(assembler) = std::env::var_os("PTXAS") else { return Ok(ptx.to_bytes_with_nul().to_vec()) };
    let text = ptx.to_str().map_err(|error| error.to_string())?;
    let target = text.lines().find_map(|line| line.trim().strip_prefix(".target ")).ok_or("the PTX names no target")?;
    let target = target.split(',').next().unwrap_or_default().trim();
    let name = format!("null-driver-{}-{}", std::process::id(), ASSEMBLED.fetch_add(1, Ordering::Relaxed));
    let [source, code] = ["ptx", "cubin"].map(|kind| std::env::temp_dir().join(format!("{name}.{kind}")));
    std::fs::write(&source, text).map_err(|error| error.to_string())?;
    let output = std::process::Command::new(assembler).arg("-arch").arg(target).arg(&source).arg("-o").arg(&code).output();
    let assembled = match output {
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
pub unsafe extern "C" fn cuGetErrorName(code: c_int, text: *mut *const c_char) -> c_int {
    described(code, text)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    described(code, text)
}

unsafe fn described(code: c_int, text: *mut *const c_char) -> c_int {
    // A few bytes an error, for the life of the process.
    let message = CString::new(format!("the null driver's error {code}")).unwrap_or_default();
    *text = message.into_raw();
    SUCCESS
}
