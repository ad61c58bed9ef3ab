#!/usr/bin/env bash
# Builds the bundle for check.sh, target/gpu/bundle.tar.xz (below 64 MiB): the program with CUDA, packed tokens, recorded runs,
# manifests, compiled kernels and the PyTorch script. Nothing is built on the GPU machine:
#
#   tar -xJf bundle.tar.xz && OUT=out bash gpu/check.sh
#
# Variables:
#   FEATURES   cargo features: cuda (default), or empty to try the script without LLVM
#   PARITY     directory of recorded runs (../shared/parity)
#   EXPORT     directory of an export, from which the tokens are packed (../shared/data/export)
#   CUDA_PATH, PTXAS   a CUDA toolkit and its assembler; NVIDIA's Python packages nvidia-nvvm and nvidia-cuda-nvcc contain both. Use
#              a version no newer than the GPU's driver. With them, kernels are compiled here (check.sh with DEVICE=null).
#   KERNELS    kernels.tar.gz of an earlier check: these kernels, already tuned, instead
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
FEATURES=${FEATURES-cuda}
PARITY=${PARITY:-../shared/parity}
EXPORT=${EXPORT:-../shared/data/export}
TOKENS=$((2 << 20))
LIMIT=$((64 << 20))

built=$(cargo build --release --locked --workspace ${FEATURES:+--features "$FEATURES"} --bench gpu --message-format=json |
    sed -n 's/.*"name":"gpu".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$built" ] || { echo 'the bench gpu was not built' >&2; exit 1; }

bundle=target/gpu/bundle/gpu
rm -rf target/gpu/bundle && mkdir -p "$bundle/manifests" "$bundle/lib"
strip -s "$built" -o "$bundle/gpu"
# Libraries that the GPU machine may lack.
ldd "$built" | awk '$3 ~ /lib(z|zstd|stdc\+\+|gcc_s)\.so/ { print $3 }' | xargs -I{} cp -L {} "$bundle/lib"
cp benches/gpu/check.sh benches/gpu/peer.py "$bundle"
cp manifests/quickstart.toml benches/gpu/memory.toml "$bundle/manifests"
[ -d "$PARITY" ] && mkdir -p "$bundle/parity" && for run in "$PARITY"/*/; do cp -r "$run" "$bundle/parity"; done
if [ -n "${KERNELS:-}" ]; then
    tar -xzf "$KERNELS" -C "$bundle"
elif [ "$FEATURES" = cuda ]; then
    mkdir "$bundle/null"
    rustc --edition 2024 -O --crate-type cdylib benches/gpu/null_driver.rs -o "$bundle/null/libcuda.so.1"
    if DEVICE=null OUT=target/gpu/null bash "$bundle/check.sh" prepare; then
        mkdir "$bundle/kernels" && mv target/gpu/null/kernels.db "$bundle/kernels/default.db"
    else
        echo 'the kernels are not compiled here: they will be on the GPU machine' >&2
    fi
    rm -rf "$bundle/work"
fi

# A million real tokens; packed once and kept.
tokens=target/gpu/tokens.u16
if [ ! -e "$tokens" ] && [ -d "$EXPORT" ]; then
    ln -f "$bundle/gpu" target/gpu/pipeline
    pipeline=(target/gpu/pipeline)
    run=(manifests/reduced.toml --set "stages.export.source=\"$(realpath "$EXPORT")/*.json.gz\"" --cache target/gpu/store)
    "${pipeline[@]}" run "${run[@]}" --until pack
    rm -rf target/gpu/packed
    "${pipeline[@]}" export "${run[0]}" pack.train target/gpu/packed "${run[@]:1}"
    # The file starts with a header of 64 bytes.
    tail -c +65 target/gpu/packed/tokens.bin | head -c "$TOKENS" >"$tokens" || true
    rm -rf target/gpu/packed target/gpu/store
fi
[ -e "$tokens" ] && cp "$tokens" "$bundle"

# The x86 filter saves a tenth of the size. Compression takes five minutes on one core.
tar -C target/gpu/bundle -cf - gpu | xz --x86 --lzma2=preset=6,dict=64MiB >target/gpu/bundle.tar.xz
size=$(stat -c %s target/gpu/bundle.tar.xz)
printf 'target/gpu/bundle.tar.xz: %s bytes (the program: %s)\n' "$size" "$(stat -c %s "$bundle/gpu")"
[ "$size" -lt "$LIMIT" ] || { echo 'more than 64 MiB' >&2; exit 1; }
