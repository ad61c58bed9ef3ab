//! The kernels of the fused operations compiled to PTX for an H100 (sm_90), without a GPU, a driver or a CUDA toolkit.
#![cfg(feature = "cuda")]

use std::sync::Arc;

use cubecl::Compiler;
use cubecl::cuda::{CudaCompilationOptions, CudaCompiler, CudaRepresentation};
use cubecl::ir::features::Features;
use cubecl::ir::nvidia::SmArch;
use cubecl::ir::{
    AddressType, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties, IntKind,
    MemoryDeviceProperties, TargetProperties, VectorSize,
};
use cubecl::prelude::*;
use cubecl::profile::TimingMethod;
use model::fused::kernels;

const F32: ElemType = ElemType::Float(FloatKind::F32);
const BF16: ElemType = ElemType::Float(FloatKind::BF16);
const I32: ElemType = ElemType::Int(IntKind::I32);

/// An H100, as far as the compiler asks.
fn device() -> Arc<DeviceProperties> {
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        max_shared_memory_size: 232_448,
        max_cube_count: (i32::MAX as u32, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(132),
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    let identity = DeviceIdentity { name: "H100".into(), fingerprint: "ptx_sm90".into(), physical: None };
    let memory = MemoryDeviceProperties::new(u64::MAX, 256);
    Arc::new(DeviceProperties::new(Features::default(), memory, hardware, TimingMethod::Device, identity))
}

/// The PTX of a kernel.
fn ptx(kernel: impl CubeKernel) -> String {
    let options = CudaCompilationOptions { arch: Some(SmArch::new(90, true)), ..Default::default() };
    let compiled = CudaCompiler::default().compile(kernel.define(), &options).unwrap_or_else(|error| panic!("{error}"));
    match compiled {
        CudaRepresentation::Llvm(module) => module.ptx.iter().map(|byte| *byte as u8 as char).collect(),
        CudaRepresentation::Cpp(_) => panic!("the program compiles kernels through LLVM"),
    }
}

#[test]
fn every_kernel_compiles_for_an_h100_and_keeps_its_values_in_registers() {
    let (device, target) = (device(), Arc::new(TargetProperties::default()));
    let b = || BufferCompilationArg { inplace: None };
    let alias = || BufferCompilationArg { inplace: Some(0) };
    for address in [AddressType::U32, AddressType::U64] {
        macro_rules! kernel {
            ($name:ident::$kernel:ident, $units:expr, $($argument:expr),*) => {{
                let (x, y): (u32, u32) = $units;
                let settings = KernelSettings::new(*CubeDim::new_2d(x, y), ExecutionMode::Unchecked, address);
                ptx(kernels::$name::$kernel::new(settings, device.clone(), target.clone(), $($argument),*))
            }};
        }
        // Buffers, a unit for each scalar, and the values fixed when a kernel is compiled, in the order of its arguments.
        for (dtype, n) in [(F32, 4), (BF16, 8), (F32, 1), (BF16, 1)] {
            let row = n.min(4);
            let all = [
                kernel!(gelu_new::GeluNew, (256, 1), b(), b(), (), n, dtype),
                kernel!(gelu_new_backward::GeluNewBackward, (256, 1), b(), b(), (), n, dtype),
                kernel!(head::Head, (512, 1), b(), b(), b(), (), (), (), n, 32, 16, dtype, I32),
                kernel!(layer_norm::LayerNorm, (32, 8), b(), b(), b(), b(), b(), b(), (), (), (), row, 32, dtype),
                kernel!(
                    layer_norm_backward::LayerNormBackward,
                    (192, 1),
                    b(),
                    b(),
                    b(),
                    b(),
                    b(),
                    b(),
                    b(),
                    (),
                    (),
                    (),
                    row,
                    1,
                    32,
                    6,
                    dtype
                ),
                kernel!(sum_blocks::SumBlocks, (32, 32), b(), b(), b(), (), (), 1024),
                kernel!(adamw::Adamw, (256, 1), b(), b(), b(), b(), b(), b(), (), (), (), (), (), (), (), (), (), row),
                // In place.
                kernel!(
                    adamw::Adamw,
                    (256, 1),
                    b(),
                    alias(),
                    b(),
                    b(),
                    b(),
                    b(),
                    (),
                    (),
                    (),
                    (),
                    (),
                    (),
                    (),
                    (),
                    (),
                    row
                ),
            ];
            for ptx in all {
                assert!(ptx.contains(".target sm_90"), "{ptx}");
                assert!(!ptx.contains(".local"), "local memory: {ptx}");
                assert!(!ptx.contains("call"), "a call, as of the device library of a toolkit: {ptx}");
                assert!(!ptx.contains("atom."), "an atomic: {ptx}");
            }
        }
    }
}
