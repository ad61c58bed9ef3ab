#!/usr/bin/env bash
# Builds the bundle for check.sh, target/gpu/bundle.tar.xz (below 64 MiB): the program with CUDA, packed tokens, recorded runs,
# manifests, compiled kernels and the PyTorch script. Nothing is built on the GPU machine:
#
#   tar -xJf bundle.tar.xz && OUT=out bash gpu/check.sh
#
# Variables:
#   FEATURES   cargo features: cuda (default; needs LLVM as README.md says), or empty to try the scripts on the CPU
#   PARITY     directory of recorded runs (../shared/parity)
#   EXPORT     directory of an export, from which the tokens are packed (../shared/data/export)
#   TOOLKIT    directory of a CUDA toolkit no newer than the GPU's driver (/usr/local/cuda), of which bin/ptxas and nvvm/libdevice
#              are used to compile the kernels here (check.sh with DEVICE=null). NVIDIA's Python packages nvidia-cuda-nvcc and
#              nvidia-nvvm contain them. Not CUDA_PATH, which cargo builds depend on.
#   KERNELS    kernels.tar.gz of an earlier check: these kernels, already tuned, instead; or none
set -euo pipefail
# Relative paths are those of the caller's directory.
for name in PARITY EXPORT TOOLKIT KERNELS; do
    case ${!name:-} in '' | none) ;; *) printf -v "$name" %s "$(realpath -m -- "${!name}")" ;; esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
FEATURES=${FEATURES-cuda}
PARITY=${PARITY:-../shared/parity}
EXPORT=${EXPORT:-../shared/data/export}
TOOLKIT=${TOOLKIT:-/usr/local/cuda}
TOKENS=$((4 << 20))
LIMIT=$((64 << 20))
fail() { printf '%s\n' "$*" >&2; exit 1; }
[ -d "$PARITY" ] || fail "no directory $PARITY: set PARITY to that of the recorded runs"

built=$(cargo build --release --locked --workspace ${FEATURES:+--features "$FEATURES"} --bench gpu --example null_driver --message-format=json)
executable=$(sed -n 's/.*"name":"gpu".*"executable":"\([^"]*\)".*/\1/p' <<<"$built" | tail -n 1)
driver=$(sed -n 's/.*"filenames":\["\([^"]*libnull_driver.so\)".*/\1/p' <<<"$built" | tail -n 1)
[ -x "$executable" ] && [ -e "$driver" ] || fail 'the GPU checks were not built'

bundle=target/gpu/bundle/gpu
rm -rf target/gpu/bundle && mkdir -p "$bundle/manifests" "$bundle/lib" "$bundle/null" "$bundle/parity"
strip -s "$executable" -o "$bundle/gpu"
strip -s "$driver" -o "$bundle/null/libcuda.so.1"
# CUDA programs look for either name.
ln -s libcuda.so.1 "$bundle/null/libcuda.so"
# Libraries that the GPU machine may lack.
ldd "$executable" | awk '$3 ~ /lib(z|zstd|stdc\+\+|gcc_s)\.so/ { print $3 }' | xargs -I{} cp -L {} "$bundle/lib"
cp benches/gpu/check.sh benches/gpu/peer.py "$bundle"
cp manifests/quickstart.toml benches/gpu/memory.toml "$bundle/manifests"
cp -r "$PARITY"/*/ "$bundle/parity"
git rev-parse --short HEAD >"$bundle/commit" 2>/dev/null || true

# Two million real tokens, more than any step reads; packed once and kept.
tokens=target/gpu/tokens.u16
if [ "$(stat -c %s "$tokens" 2>/dev/null)" != "$TOKENS" ]; then
    [ -d "$EXPORT" ] || fail "no directory $EXPORT: set EXPORT to that of an export"
    ln -f "$bundle/gpu" target/gpu/pipeline
    run=(manifests/reduced.toml --set "stages.export.source=\"$(realpath "$EXPORT")/*.json.gz\"" --cache target/gpu/store)
    target/gpu/pipeline run "${run[@]}" --until pack
    rm -rf target/gpu/packed
    target/gpu/pipeline export "${run[0]}" pack.train target/gpu/packed "${run[@]:1}"
    # The file starts with a header of 64 bytes.
    tail -c +65 target/gpu/packed/tokens.bin | head -c "$TOKENS" >"$tokens.part" || true
    [ "$(stat -c %s "$tokens.part")" = "$TOKENS" ] || fail "the export gives fewer than $((TOKENS / 2)) tokens"
    mv "$tokens.part" "$tokens"
    rm -rf target/gpu/packed target/gpu/store
fi
cp "$tokens" "$bundle"

if [ "${KERNELS:-}" = none ] || [ "$FEATURES" != cuda ]; then
    echo 'no kernels are packed: they will be compiled on the GPU machine' >&2
elif [ -n "${KERNELS:-}" ]; then
    tar -xzf "$KERNELS" -C "$bundle"
else
    CUDA_PATH=$TOOLKIT PTXAS=$TOOLKIT/bin/ptxas DEVICE=null OUT=target/gpu/null bash "$bundle/check.sh" prepare ||
        fail 'the kernels do not compile here: see target/gpu/null, or pack none with KERNELS=none'
    mkdir "$bundle/kernels" && cp target/gpu/null/kernels.db "$bundle/kernels/default.db"
fi
rm -rf "$bundle/work" "$bundle/pipeline" "$bundle/lock"

# The x86 filter saves a tenth of the size. Compression takes five minutes on one core.
rm -f target/gpu/bundle.tar.xz
tar -C target/gpu/bundle -cf - gpu | xz --x86 --lzma2=preset=6,dict=64MiB >target/gpu/bundle.tar.xz.part
size=$(stat -c %s target/gpu/bundle.tar.xz.part)
[ "$size" -lt "$LIMIT" ] || fail "the bundle has $size bytes, more than 64 MiB: pack fewer kernels (KERNELS=none: none)"
mv target/gpu/bundle.tar.xz.part target/gpu/bundle.tar.xz
printf 'target/gpu/bundle.tar.xz: %s bytes, %s below the limit (the program: %s)\n' "$size" "$((LIMIT - size))" "$(stat -c %s "$bundle/gpu")"
