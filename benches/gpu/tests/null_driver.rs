//! Tests the CUDA driver without a GPU through the calls that CubeCL makes.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;

use libloading::{Library, Symbol};

fn driver() -> Library {
    // Cargo builds examples before it runs tests, in a directory beside that of the tests.
    let tests = std::env::current_exe().unwrap();
    let library: PathBuf =
        [tests.parent().unwrap().parent().unwrap(), "examples/libnull_driver.so".as_ref()].iter().collect();
    // SAFETY: the library has no initialisers.
    unsafe { Library::new(&library) }.unwrap()
}

#[test]
fn it_reports_one_gpu() {
    let driver = driver();
    // SAFETY: the symbols have the types of cuda.h, and the results outlive the calls.
    unsafe {
        let count: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> c_int> = driver.get(b"cuDeviceGetCount").unwrap();
        let get: Symbol<'_, unsafe extern "C" fn(*mut c_int, c_int) -> c_int> = driver.get(b"cuDeviceGet").unwrap();
        let name: Symbol<'_, unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int> =
            driver.get(b"cuDeviceGetName").unwrap();
        let (mut devices, mut device, mut text) = (0, 7, [1; 32]);
        assert_eq!((count(&raw mut devices), devices), (0, 1));
        assert_eq!((get(&raw mut device, 0), device), (0, 0));
        assert_eq!(get(&raw mut device, 1), 101, "CUDA_ERROR_INVALID_DEVICE");
        assert_eq!(name(text.as_mut_ptr(), 32, 0), 0);
        assert_eq!(CStr::from_ptr(text.as_ptr()), c"NVIDIA H200");
        assert_eq!(name(text.as_mut_ptr(), 11, 0), 1, "the name has 12 bytes");
    }
}

#[test]
fn its_memory_is_limited_and_can_be_freed() {
    let driver = driver();
    // SAFETY: as above.
    unsafe {
        let total: Symbol<'_, unsafe extern "C" fn(*mut usize, c_int) -> c_int> =
            driver.get(b"cuDeviceTotalMem_v2").unwrap();
        let allocate: Symbol<'_, unsafe extern "C" fn(*mut u64, usize) -> c_int> =
            driver.get(b"cuMemAlloc_v2").unwrap();
        let free: Symbol<'_, unsafe extern "C" fn(u64) -> c_int> = driver.get(b"cuMemFree_v2").unwrap();
        let (mut bytes, mut all, mut more) = (0, 0, 0);
        assert_eq!(total(&raw mut bytes, 0), 0);
        assert_eq!(allocate(&raw mut all, bytes), 0);
        assert_eq!(allocate(&raw mut more, 1), 2, "CUDA_ERROR_OUT_OF_MEMORY");
        assert_eq!(free(all), 0);
        assert_eq!(free(all), 1, "it is free already");
        assert_eq!(allocate(&raw mut all, bytes - 512), 0);
        assert_eq!(allocate(&raw mut more, 512), 0);
        assert_eq!(allocate(&raw mut more, usize::MAX), 2);
        assert_eq!((free(all), free(more)), (0, 0));
    }
}

#[test]
fn it_links_a_kernel() {
    type Link = *mut c_void;
    let driver = driver();
    // SAFETY: as above; the link is used between its creation and its end.
    unsafe {
        let create: Symbol<'_, unsafe extern "C" fn(u32, *mut c_int, *mut *mut c_void, *mut Link) -> c_int> =
            driver.get(b"cuLinkCreate_v2").unwrap();
        type Add = unsafe extern "C" fn(
            Link,
            c_int,
            *const c_char,
            usize,
            *const c_char,
            u32,
            *mut c_int,
            *mut *mut c_void,
        ) -> c_int;
        let add: Symbol<'_, Add> = driver.get(b"cuLinkAddData_v2").unwrap();
        let complete: Symbol<'_, unsafe extern "C" fn(Link, *mut *const u8, *mut usize) -> c_int> =
            driver.get(b"cuLinkComplete").unwrap();
        let destroy: Symbol<'_, unsafe extern "C" fn(Link) -> c_int> = driver.get(b"cuLinkDestroy").unwrap();
        let none = std::ptr::null_mut;
        let (mut link, mut code, mut size) = (std::ptr::null_mut(), std::ptr::null(), 0);
        let text = c".version 8.0\n.target sm_90\n";
        assert_eq!(create(0, none(), none().cast(), &raw mut link), 0);
        assert_eq!(add(link, 1, text.as_ptr(), 0, std::ptr::null(), 0, none(), none().cast()), 0);
        assert_eq!(complete(link, &raw mut code, &raw mut size), 0);
        if std::env::var_os("PTXAS").is_none() {
            assert_eq!(std::slice::from_raw_parts(code, size), text.to_bytes_with_nul());
        }
        assert_eq!(destroy(link), 0);
    }
}
