#!/usr/bin/env bash
# Checks training on a GPU: correctness first, then speed. Builds nothing; runs in the directory that pack.sh packs.
#
#   bash check.sh [STEP..]      runs all steps, or the named ones
#   bash check.sh --list        prints the steps, one JSON object a line
#
# Variables:
#   DEVICE   cuda:0 (default)
#            cpu: the same script at toy sizes
#            null: what can be seen with a driver that computes nothing (null_driver.rs): kernels compile and assemble, launches,
#            memory; needs libdevice and ptxas of a CUDA toolkit (CUDA_PATH, PTXAS)
#   OUT      directory for summary.jsonl, summary.txt, logs.tar.gz and kernels.tar.gz (out)
#   TOTAL    seconds for all steps (540; 3600 for null)
#
# A step that fails or exceeds its limit does not stop the next ones. Each writes a line to summary.jsonl:
#   {"step","shows","verdict":"passed|failed|timed out|skipped","seconds","figures":[the JSON lines that the step printed]}
set -uo pipefail
OUT=$(mkdir -p "${OUT:-out}" && cd "${OUT:-out}" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
HERE=$PWD
DEVICE=${DEVICE:-cuda:0}
WORK=$HERE/work
LOGS=$WORK/logs
# Compiled and tuned kernels, shared by all steps.
KERNELS=$WORK/kernels
ON_CPU= ON_NULL=
case $DEVICE in cpu) ON_CPU=yes ;; null) ON_NULL=yes DEVICE=cuda:0 ;; esac
[ "$ON_NULL" ] && TOTAL=${TOTAL:-3600}
TOTAL=${TOTAL:-540}

# libdevice, CUDA's math functions: part of a toolkit, or of a Python package.
LIBDEVICE=$(find -L "${CUDA_PATH:-/usr/local/cuda}" /usr/local/cuda* /usr/lib/cuda /opt -name libdevice.10.bc 2>/dev/null | head -n 1)
if [ "$LIBDEVICE" ]; then
    export CUDA_PATH=${LIBDEVICE%/nvvm/libdevice/libdevice.10.bc}
    if [ "$CUDA_PATH" = "$LIBDEVICE" ]; then
        mkdir -p "$HERE/toolkit/nvvm/libdevice" && cp "$LIBDEVICE" "$HERE/toolkit/nvvm/libdevice/"
        CUDA_PATH=$HERE/toolkit
    fi
fi

if [ "$ON_NULL" ]; then
    export LD_LIBRARY_PATH=$HERE/null${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    PTXAS=${PTXAS:-$(command -v ptxas || ls "${CUDA_PATH:-/usr/local/cuda}/bin/ptxas" 2>/dev/null)}
    [ "$PTXAS" ] && export PTXAS || unset PTXAS
fi

# Model sizes: real, or toys on the CPU.
if [ "$ON_CPU" ]; then
    SMALL=(--layers 2 --width 64 --heads 2 --vocabulary 512 --sequence 64)
    MODEL=("${SMALL[@]}") XL=("${SMALL[@]}") BATCHES=(2 4) XL_BATCHES=(2) STEPS=3 CURVE=(--layers 2 --width 64 --heads 2 --vocabulary 512 --sequence 32 --batch 4 --steps 30) TOKENS=()
    SQUARE=256 MEMORY=(--set stages.train.layers=2 --set stages.train.width=64 --set stages.train.heads=2 --set stages.train.batch=2 --set stages.train.steps=6 --set stages.train.validate_every=2 --set stages.pack.sequence_length=64)
else
    MODEL=(--layers 12 --width 768 --heads 12 --vocabulary 32768 --sequence 1024)
    XL=(--layers 48 --width 1600 --heads 25 --vocabulary 32768 --sequence 1024)
    BATCHES=(12 64) XL_BATCHES=(16 8 4 2) STEPS=30 SQUARE=8192 MEMORY=()
    CURVE=(--layers 6 --width 384 --heads 6 --vocabulary 32768 --sequence 512 --batch 16 --steps 200) TOKENS=(--tokens "$HERE/tokens.u16")
fi

gpu() { (cd "${FOLDER:-$WORK/plain}" && "$HERE/gpu" "$@" --device "$DEVICE"); }
pipeline() { (cd "$WORK/plain" && "$HERE/pipeline" "$@"); }
peer() { python3 "$HERE/peer.py" "$@" --device "$DEVICE"; }
quickstart() { pipeline run "$HERE/manifests/quickstart.toml" "$@"; }
shown() { pipeline show "$HERE/manifests/quickstart.toml" "$1" --cache "$2" --json; }
say() { printf '%s\n' "$*" >&2; }

# Working directories whose burn.toml configures CubeCL: as it is, or without TF32.
folders() {
    local name
    for name in plain exact; do
        mkdir -p "$WORK/$name"
        printf '[cubecl.environment]\npath = { directory = "%s" }\n' "$KERNELS" >"$WORK/$name/burn.toml"
    done
    printf '\n[cubek.matmul]\nallow_tf32 = false\n' >>"$WORK/exact/burn.toml"
}

# name | limit in seconds | what it shows when it passes
STEPS_TABLE='
device      |  20 | the driver, the GPU, and libdevice for math functions
no-driver   |  20 | on a machine without a driver: auto uses the CPU, cuda:0 is refused with the reason
missing-gpu |  20 | cuda:9 is refused with exit code 2 and the number of GPUs
smoke       | 120 | a matrix product and an update in f32 and bf16, near those of the host
operations  | 120 | each operation of training and its gradient as on the CPU, in f32 without TF32
parity      | 120 | three recorded runs of transformers matched in f32 without TF32
quickstart  | 180 | all stages done, and the loss falls by more than half
cached      |  30 | a second run starts no stage, on the same device or another: the device is not part of a key
cpu         | 180 | the loss of a training on the CPU within 1 %
evaluated   |  60 | the model that was trained on the CPU has the same loss on both devices, within 1e-4
greedy      |  60 | the same model writes the same text on both devices
resume      | 120 | killed in training, it goes on from its checkpoint and ends near the uninterrupted loss, within 2 %
memory      | 150 | the memory of a training does not grow after the first validation
prepare     | 400 | every kernel that the models below launch or tuning may try is compiled, or loaded
launches    | 120 | with the null driver: every kernel of a step of 110M parameters, f32 and bf16, with its launches
reserved    | 900 | with the null driver: the memory of each preset and micro-batch, f32 and bf16
speed-f32   | 120 | tokens a second of 110M parameters, f32 (TF32), smallest micro-batch
speed-bf16  | 120 | the same in bf16
speed-large | 120 | the same in bf16 at the largest micro-batch
speed-xl    | 180 | gpt2-xl in bf16 at the largest micro-batch that fits
kernels     | 120 | every kernel of a step of 110M parameters in bf16, with its launches and its time
products    | 120 | the matrix products of that step alone
curve       | 150 | 200 steps in bf16 end within noise of f32
peer        | 200 | PyTorch on the same GPU: products, and training, eager and compiled
peer-xl     | 120 | PyTorch: gpt2-xl in bf16
'

do_device() {
    [ "$ON_CPU" ] && { printf '{"device":"cpu","cores":%s}\n' "$(nproc)"; return 0; }
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader |
        sed 's/^\(.*\), \(.*\), \(.*\), \(.*\)$/{"gpu":"\1","driver":"\2","memory":"\3","clock":"\4"}/'
    printf '{"libdevice":"%s"}\n' "$LIBDEVICE"
    [ -n "$LIBDEVICE" ]
}
do_no-driver() {
    ldconfig -p | grep -q 'libcuda\.so\.1' && { say 'there is a driver'; return 77; }
    local text
    text=$(quickstart --device cuda:0 --cache "$WORK/none" 2>&1) && return 1
    printf '{"says":"%s"}\n' "$(grep -m 1 'cannot be used' <<<"$text" | tr -d '"' | cut -c 1-200)"
    grep -q 'cuda:0 cannot be used' <<<"$text" && quickstart --device auto --until license --cache "$WORK/none" >&2
}
do_missing-gpu() {
    [ "$ON_CPU" ] && return 77
    local text
    text=$(quickstart --device cuda:9 --cache "$WORK/none" 2>&1); local code=$?
    printf '{"exit":%s,"says":"%s"}\n' "$code" "$(grep -m 1 'cannot be used' <<<"$text" | tr -d '"' | cut -c 1-200)"
    [ "$code" = 2 ] && grep -q 'numbered from 0' <<<"$text"
}
do_smoke() { gpu smoke; }
do_operations() { FOLDER=$WORK/exact gpu operations; }
do_parity() { FOLDER=$WORK/exact gpu parity "$HERE"/parity/*/; }
do_quickstart() {
    quickstart --device "$DEVICE" --cache "$WORK/gpu" >&2 || return 1
    shown train.metrics "$WORK/gpu" >"$WORK/train.json"
    tr -d ' \n' <"$WORK/train.json" | grep -o '"first_loss":[0-9.e+-]*,\|"last_loss":[0-9.e+-]*,' | tr -d '\n' | sed 's/^\(.*\),$/{\1}\n/'
    awk -F'[:,]' '/"first_loss"/ { first = $2 } /"last_loss"/ { last = $2 } END { exit !(first > 0 && last > 0 && last < first / 2) }' "$WORK/train.json"
}
do_cached() {
    local device
    for device in "$DEVICE" cpu; do
        quickstart --device "$device" --cache "$WORK/gpu" --json >"$WORK/again.jsonl" || return 1
        grep '"event":"stage-started"' "$WORK/again.jsonl" >&2 && return 1
    done
    return 0
}
do_cpu() {
    quickstart --device cpu --cache "$WORK/cpu" >&2 || return 1
    shown loss "$WORK/gpu" >"$WORK/loss-gpu.json"
    shown loss "$WORK/cpu" >"$WORK/loss-cpu.json"
    gpu compare /outputs/report/reports/report.json/loss 0.01 "$WORK/loss-cpu.json" "$WORK/loss-gpu.json" --relative
}
do_evaluated() {
    cp -r "$WORK/cpu" "$WORK/both" || return 1
    # That two devices give two outputs of one key is told as an error of determinism, and right: the last bits differ.
    quickstart --device "$DEVICE" --cache "$WORK/both" --force loss >&2
    shown loss "$WORK/both" >"$WORK/loss-both.json"
    gpu compare /outputs/report/reports/report.json/loss 1e-4 "$WORK/loss-cpu.json" "$WORK/loss-both.json"
}
do_greedy() {
    local greedy=(--until completions --set stages.completions.temperature=0.0)
    quickstart --device cpu --cache "$WORK/both" "${greedy[@]}" >&2 || return 1
    pipeline export "$HERE/manifests/quickstart.toml" completions "$WORK/text-cpu" --cache "$WORK/both" --set stages.completions.temperature=0.0 >&2
    quickstart --device "$DEVICE" --cache "$WORK/both" "${greedy[@]}" --force completions >&2
    pipeline export "$HERE/manifests/quickstart.toml" completions "$WORK/text-gpu" --cache "$WORK/both" --set stages.completions.temperature=0.0 >&2
    diff -r "$WORK/text-cpu" "$WORK/text-gpu" >&2
}
do_resume() {
    local run="$WORK/killed" pid
    # A checkpoint every 20 steps; the kill comes as soon as there is one.
    (cd "$WORK/plain" && exec "$HERE/pipeline" run "$HERE/manifests/quickstart.toml" --device "$DEVICE" --cache "$run" --set stages.train.checkpoint_every=20) >&2 &
    pid=$!
    for _ in $(seq 400); do
        sleep 0.1
        kill -0 "$pid" 2>/dev/null || break
        find "$run" -name 'state.safetensors' 2>/dev/null | grep -q . && break
    done
    kill -9 "$pid" 2>/dev/null || { say 'it ended before a checkpoint'; return 1; }
    wait "$pid" 2>/dev/null
    quickstart --device "$DEVICE" --cache "$run" --set stages.train.checkpoint_every=20 >"$WORK/resumed.txt" 2>&1 || { cat "$WORK/resumed.txt" >&2; return 1; }
    cat "$WORK/resumed.txt" >&2
    grep -q 'resumed after step' "$WORK/resumed.txt" || return 1
    shown loss "$run" >"$WORK/loss-resumed.json"
    gpu compare /outputs/report/reports/report.json/loss 0.02 "$WORK/loss-gpu.json" "$WORK/loss-resumed.json" --relative
}
do_memory() {
    local samples=$WORK/memory.csv
    : >"$samples"
    if [ -z "$ON_CPU" ]; then nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 200 >"$samples" & fi
    local sampler=$!
    pipeline run "$HERE/manifests/memory.toml" --device "$DEVICE" --cache "$WORK/memory" "${MEMORY[@]}" >&2
    local code=$?
    [ "$ON_CPU" ] && return "$code"
    kill "$sampler" 2>/dev/null
    # Of the samples while it trained (above 2 GiB): the peak, and the peak of the first half.
    awk '$1 > 2048 { all[n++] = $1 } END {
        for (i = 0; i < n; i++) { if (all[i] > peak) peak = all[i]; if (i < n / 2 && all[i] > early) early = all[i] }
        printf "{\"samples\":%d,\"peak_mib\":%d,\"peak_of_first_half_mib\":%d}\n", n, peak, early
        exit !(n > 5 && peak <= early * 1.02) }' "$samples" && [ "$code" = 0 ]
}
do_prepare() {
    [ "$ON_CPU" ] && { say 'the CPU backend compiles no kernels'; return 77; }
    local precision
    for precision in f32 bf16; do
        gpu prepare --layers 2 --width 64 --heads 2 --vocabulary 97 --sequence 32 --batch 4 --precision "$precision"
        gpu prepare "${MODEL[@]}" --batch "${BATCHES[0]}" --precision "$precision"
    done
    gpu prepare "${MODEL[@]}" --batch "${BATCHES[1]}" --precision bf16
    gpu prepare "${XL[@]}" --batch "${XL_BATCHES[0]}" --precision bf16 --save "$OUT/kernels.db"
}
do_launches() {
    [ "$ON_NULL" ] || { say 'it needs DEVICE=null'; return 77; }
    gpu kernels "${MODEL[@]}" --batch "${BATCHES[0]}" --precision f32 && gpu kernels "${MODEL[@]}" --batch "${BATCHES[0]}" --precision bf16
}
do_reserved() {
    [ "$ON_NULL" ] || { say 'it needs DEVICE=null'; return 77; }
    local precision batch
    for precision in f32 bf16; do
        for batch in 1 4 12 64; do gpu memory "${MODEL[@]}" --batch "$batch" --precision "$precision" || return 1; done
        for batch in 1 4 16; do gpu memory "${XL[@]}" --batch "$batch" --precision "$precision" || return 1; done
    done
}
speed() { gpu speed "$@" --steps "$STEPS"; }
do_speed-f32() { speed "${MODEL[@]}" --batch "${BATCHES[0]}" --precision f32; }
do_speed-bf16() { speed "${MODEL[@]}" --batch "${BATCHES[0]}" --precision bf16; }
do_speed-large() { speed "${MODEL[@]}" --batch "${BATCHES[1]}" --precision bf16; }
do_speed-xl() {
    local batch
    for batch in "${XL_BATCHES[@]}"; do
        say "micro-batch $batch"
        speed "${XL[@]}" --batch "$batch" --precision bf16 --warmup 3 --seconds 30 && return 0
    done
    return 1
}
do_kernels() {
    [ "$ON_CPU" ] && { say 'the CPU backend has no kernels of CubeCL'; return 77; }
    gpu kernels "${MODEL[@]}" --batch "${BATCHES[0]}" --precision bf16
}
do_products() { gpu products "${MODEL[@]}" --batch "${BATCHES[0]}" --square "$SQUARE"; }
do_curve() { gpu curve "${CURVE[@]}" "${TOKENS[@]}"; }
has_peer() { python3 -c 'import torch' 2>/dev/null || { say 'PyTorch is not installed'; return 1; }; }
do_peer() {
    has_peer || return 77
    local failed=0
    peer matmul ${ON_CPU:+--sizes 256x256x256} || failed=1
    peer speed "${MODEL[@]}" --batch "${BATCHES[0]}" --precision f32 --mode eager --steps "$STEPS" --time-limit 40 || failed=1
    peer speed "${MODEL[@]}" --batch "${BATCHES[0]}" --precision bf16 --mode eager --steps "$STEPS" --time-limit 40 || failed=1
    peer speed "${MODEL[@]}" --batch "${BATCHES[1]}" --precision bf16 --mode eager --steps "$STEPS" --time-limit 40 || failed=1
    [ "$ON_CPU" ] && return "$failed"
    peer speed "${MODEL[@]}" --batch "${BATCHES[1]}" --precision bf16 --mode compile --steps "$STEPS" --time-limit 90 || failed=1
    return "$failed"
}
do_peer-xl() {
    has_peer || return 77
    peer speed "${XL[@]}" --precision bf16 --mode eager --steps "$STEPS" --time-limit 30 --find-batch "$(IFS=,; printf '%s' "${XL_BATCHES[*]}")"
}

steps() { sed '/^$/d' <<<"$STEPS_TABLE"; }
trim() { sed 's/^ *//; s/ *$//' <<<"$1"; }
line() { # step, shows, verdict, seconds, file of figures
    local figures
    figures=$(grep '^{.*}$' "$5" 2>/dev/null | paste -sd, -)
    printf '{"step":"%s","shows":"%s","verdict":"%s","seconds":%s,"figures":[%s]}\n' "$1" "$2" "$3" "$4" "$figures"
}

if [ "${1:-}" = --list ]; then
    steps | while IFS='|' read -r name _ shows; do line "$(trim "$name")" "$(trim "$shows")" 'never run' 0 /dev/null; done
    exit
fi

[ "$ON_NULL" ] && [ $# = 0 ] && set -- prepare launches reserved
rm -rf "$WORK"; mkdir -p "$LOGS"
folders
[ -e "$HERE/pipeline" ] || ln "$HERE/gpu" "$HERE/pipeline" 2>/dev/null || cp "$HERE/gpu" "$HERE/pipeline"
[ -d "$HERE/kernels" ] && cp -r "$HERE/kernels" "$KERNELS"
ldd "$HERE/gpu" | grep -q 'not found' && export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$HERE/lib
: >"$OUT/summary.jsonl"; : >"$OUT/summary.txt"
SECONDS=0
failed=0
while IFS='|' read -r name limit shows; do
    name=$(trim "$name") limit=$(trim "$limit") shows=$(trim "$shows")
    case " $* " in '  ') ;; *" $name "*) ;; *) continue ;; esac
    left=$((TOTAL - SECONDS))
    start=$(date +%s%N)
    if [ "$left" -lt 10 ]; then
        verdict=skipped
        say "$name: no time is left"
    else
        say "== $name"
        # In a process group of its own, so that all of it ends at the limit.
        set -m
        ("do_$name") >"$LOGS/$name.jsonl" 2>"$LOGS/$name.txt" &
        pid=$!
        set +m
        (sleep "$((limit < left ? limit : left))"; kill -9 -- "-$pid" 2>/dev/null && touch "$LOGS/$name.late") 2>/dev/null &
        guard=$!
        wait "$pid" 2>/dev/null
        case $? in 0) verdict=passed ;; 77) verdict=skipped ;; *) verdict=failed ;; esac
        kill "$guard" 2>/dev/null; pkill -P "$guard" 2>/dev/null
        [ -e "$LOGS/$name.late" ] && verdict='timed out'
    fi
    seconds=$(awk -v from="$start" -v to="$(date +%s%N)" 'BEGIN { printf "%.1f", (to - from) / 1e9 }')
    case $verdict in failed | 'timed out') failed=1 ;; esac
    line "$name" "$shows" "$verdict" "$seconds" "$LOGS/$name.jsonl" >>"$OUT/summary.jsonl"
    printf '%-12s %-9s %7s s  %s\n' "$name" "$verdict" "$seconds" "$(head -n 1 "$LOGS/$name.jsonl" 2>/dev/null | cut -c 1-160)" | tee -a "$OUT/summary.txt" >&2
    [ "$verdict" = failed ] && tail -n 12 "$LOGS/$name.txt" >&2
done < <(steps)
cat "$OUT/summary.txt"
tar -czf "$OUT/logs.tar.gz" -C "$WORK" logs
[ -d "$KERNELS" ] && tar -czf "$OUT/kernels.tar.gz" -C "$WORK" kernels
exit "$failed"
