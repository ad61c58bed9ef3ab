#!/usr/bin/env bash
# Checks training on a GPU: correctness first, then speed. Builds nothing; runs in the directory that pack.sh packs.
#
#   bash check.sh               runs all steps
#   bash check.sh STEP..        runs the named steps and adds their lines to the summary
#   bash check.sh --list        prints the steps, one JSON object a line
#   bash check.sh --help        prints this
#
# Variables:
#   DEVICE      cuda:0 (default)
#               cpu: the same script at toy sizes
#               null: what a driver without a GPU can show (null_driver.rs): that every kernel compiles and assembles, the launches
#               of a step, and its memory; needs libdevice and ptxas of a CUDA toolkit (CUDA_PATH, PTXAS)
#   OUT         directory for summary.jsonl, summary.txt, logs.tar.gz, kernels.tar.gz and, for null, kernels.db (out)
#   TOTAL       seconds for all steps (540; 3600 for cpu and null)
#   PRECISIONS  f32, bf16 or both: the precisions whose speed is measured
#
# A step that fails or exceeds its limit does not stop later steps. Each adds a line to summary.jsonl:
#   {"step","shows","device","verdict":"passed|failed|timed out|interrupted|no time|skipped","seconds","commit","figures":[the JSON
#   lines that it printed]}
# Exit status: 0 if no step failed, 1 if one did, 2 for invalid arguments or where nothing can run, 128 + N for signal N.
set -uo pipefail
# Numbers with a point, in any country.
export LC_ALL=C

# name | limit in seconds | passes if
STEPS_TABLE='
device      |  20 | the driver, the GPU, and libdevice for math functions are found
no-driver   |  20 | without a driver, auto uses the CPU, and cuda:0 is refused with the reason
missing-gpu |  20 | cuda:9 is refused with exit code 2 and the number of GPUs
prepare     | 300 | every kernel that the next steps launch or tune compiles, or loads
smoke       | 120 | a matrix product and an update in f32 and bf16 match the host
operations  | 120 | each operation of training and its gradient matches the CPU: in f32 without TF32, products in bf16 too
parity      | 120 | three recorded runs of transformers match, in f32 without TF32
quickstart  | 180 | all stages finish, and the loss falls by more than half
cached      |  30 | a second run starts no stage, on the same device or another: keys do not contain the device
cpu         | 180 | the validation loss is within 1 % of a training on the CPU
evaluated   |  60 | the model that was trained on the CPU has the same loss on both devices, within 1e-4
greedy      |  60 | that model generates the same text on both devices
resume      | 180 | a killed training resumes from its checkpoint, and its loss is within 2 % of the uninterrupted one
speed-f32   | 120 | tokens per second of 110M parameters in f32 (TF32) at the smallest micro-batch
speed-bf16  | 120 | the same in bf16
peer        | 200 | PyTorch on the same GPU: matrix products, and training, eager and compiled
kernels     | 120 | the kernels of a step of 110M parameters in bf16, with launches and times
products    | 120 | the matrix products of that step alone
speed-large | 120 | tokens per second of 110M parameters at the largest micro-batch
speed-xl    | 180 | tokens per second of gpt2-xl in bf16 at the largest micro-batch that fits
peer-xl     | 180 | PyTorch: gpt2-xl in bf16, eager and compiled
curve       | 200 | the loss of 200 steps in bf16 is as near to f32 as that of another seed
memory      | 150 | the memory of a training does not grow after its first half
launches    | 300 | null only: every kernel of a step of 110M parameters, f32 and bf16, with its launches
reserved    | 900 | null only: the memory of each preset by micro-batch, f32 and bf16
'
# A closed standard error is no reason to stop.
say() { printf "%s\n" "$*" >&2 || true; }
refuse() { say "$*"; exit 2; }
steps() { sed '/^$/d; s/ *| */|/g' <<<"$STEPS_TABLE"; }
has_step() { cut -d'|' -f1 <<<"$(steps)" | grep -qxF -e "$1"; }

line() { # step, shows, verdict, seconds, file of figures
    local figures
    figures=$(grep '^{.*}$' "$5" 2>/dev/null | paste -sd, -)
    printf '{"step":"%s","shows":"%s","device":"%s","verdict":"%s","seconds":%s,"commit":"%s","figures":[%s]}\n' \
        "$1" "$2" "${ASKED:-}" "$3" "$4" "${COMMIT:-}" "$figures"
}

case ${1:-} in
--list)
    while IFS='|' read -r name _ shows; do line "$name" "$shows" 'never run' 0 /dev/null; done < <(steps)
    exit
    ;;
-h | --help)
    sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"
    exit
    ;;
esac
for step in "$@"; do has_step "$step" || refuse "unknown step '$step'; --list prints them"; done
for tool in awk cut find flock grep gzip paste realpath sed tar timeout; do
    command -v "$tool" >/dev/null || refuse "this machine has no $tool"
done

ASKED=${DEVICE:-cuda:0}
DEVICE=$ASKED
ON_CPU= ON_NULL=
case $DEVICE in
cpu) ON_CPU=yes ;;
null) ON_NULL=yes DEVICE=cuda:0 ;;
cuda:[0-9] | cuda:[0-9][0-9]) ;;
*) refuse "DEVICE is '$DEVICE': it must be cuda:N, cpu or null" ;;
esac
PRECISIONS=${PRECISIONS:-f32 bf16}
case $PRECISIONS in f32 | bf16 | 'f32 bf16') ;; *) refuse "PRECISIONS is '$PRECISIONS': it must be f32, bf16 or 'f32 bf16'" ;; esac
[ "$ON_CPU$ON_NULL" ] && TOTAL=${TOTAL:-3600}
TOTAL=${TOTAL:-540}
[[ $TOTAL =~ ^(0|[1-9][0-9]{0,6})$ ]] || refuse "TOTAL is '$TOTAL': it must be a whole number of seconds"
# Relative paths are those of the caller's directory.
[ "${CUDA_PATH:-}" ] && CUDA_PATH=$(realpath -m -- "$CUDA_PATH")
[ "${PTXAS:-}" ] && PTXAS=$(realpath -m -- "$PTXAS")
OUT=$(mkdir -p -- "${OUT:-out}" && realpath -- "${OUT:-out}") && : >>"$OUT/summary.jsonl" || refuse 'cannot write in OUT'

HERE=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")
cd "$HERE" || exit 2
[ -x gpu ] || refuse "no program beside $HERE/check.sh: run pack.sh, then the check.sh of the bundle"
exec 9>lock && flock -n 9 || refuse "another check runs in $HERE, or it cannot be written"
COMMIT=$(cat commit 2>/dev/null)
# What another program computed, or on another device, is not used.
WORK=$HERE/work/${ASKED/:/-}
[ $# = 0 ] || [ "$(cat "$HERE/work/commit" 2>/dev/null)" != "$COMMIT" ] && rm -rf "$HERE/work"
LOGS=$WORK/logs
mkdir -p "$LOGS" "$WORK/tmp" && printf '%s\n' "$COMMIT" >"$HERE/work/commit" || refuse "cannot write in $HERE/work"
# Compiled and tuned kernels, shared by all steps.
KERNELS=$WORK/kernels
if [ -d kernels ] && [ ! -d "$KERNELS" ]; then
    rm -rf "$KERNELS.part"
    cp -r kernels "$KERNELS.part" && mv "$KERNELS.part" "$KERNELS" || refuse "cannot copy the kernels to $KERNELS"
fi
[ pipeline -ef gpu ] || ln -f gpu pipeline 2>/dev/null || cp -f gpu pipeline || refuse "cannot write in $HERE"

# libdevice, CUDA's math functions: part of a toolkit, or of a Python package.
LIBDEVICE=$(timeout 20 find -L "${CUDA_PATH:-/usr/local/cuda}" /usr/local/cuda* /usr/lib/cuda /opt -name libdevice.10.bc 2>/dev/null | sed -n 1p)
if [ "$LIBDEVICE" ]; then
    export CUDA_PATH=${LIBDEVICE%/nvvm/libdevice/libdevice.10.bc}
    if [ "$CUDA_PATH" = "$LIBDEVICE" ]; then
        CUDA_PATH=$WORK/toolkit
        mkdir -p "$CUDA_PATH/nvvm/libdevice" && cp "$LIBDEVICE" "$CUDA_PATH/nvvm/libdevice/"
    fi
fi

if [ "$ON_NULL" ]; then
    export LD_LIBRARY_PATH=$HERE/null${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} TMPDIR=$WORK/tmp
    PTXAS=${PTXAS:-$(command -v ptxas || ls "${CUDA_PATH:-/usr/local/cuda}/bin/ptxas" 2>/dev/null)}
    [ -f "$PTXAS" ] && [ -x "$PTXAS" ] && [ "$LIBDEVICE" ] || refuse 'DEVICE=null needs libdevice and ptxas: set CUDA_PATH and PTXAS'
    export PTXAS
fi
# Libraries that the machine may lack; its own come first.
grep -q 'not found' <<<"$(ldd gpu)" && export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$HERE/lib
./gpu --help >/dev/null 2>"$WORK/start.txt" || refuse "the program does not start here (it needs Linux with glibc 2.36): $(sed -n 1p "$WORK/start.txt")"

# Model sizes: real, or toys on the CPU.
if [ "$ON_CPU" ]; then
    MODEL=(--layers 2 --width 64 --heads 2 --vocabulary 512 --sequence 64)
    XL=("${MODEL[@]}") BATCHES=(2 4) XL_BATCHES=(2) STEPS=3 SQUARE=256 TOKENS=()
    CURVE=(--layers 2 --width 64 --heads 2 --vocabulary 512 --sequence 32 --batch 4 --steps 60)
    MEMORY=(--set stages.train.layers=2 --set stages.train.width=64 --set stages.train.heads=2 --set stages.train.batch=2
        --set stages.train.steps=6 --set stages.train.validate_every=2 --set stages.pack.sequence_length=64)
else
    MODEL=(--layers 12 --width 768 --heads 12 --vocabulary 32768 --sequence 1024)
    XL=(--layers 48 --width 1600 --heads 25 --vocabulary 32768 --sequence 1024)
    BATCHES=(12 64) XL_BATCHES=(16 8 4 2) STEPS=30 SQUARE=8192 TOKENS=(--tokens "$HERE/tokens.u16")
    CURVE=(--layers 6 --width 384 --heads 6 --vocabulary 32768 --sequence 512 --batch 16 --steps 200)
    MEMORY=()
fi
SMALL=(--layers 2 --width 64 --heads 2 --vocabulary 97 --sequence 32 --batch 4)

gpu() { (cd "${FOLDER:-$WORK/plain}" && "$HERE/gpu" "$@" --device "$DEVICE"); }
pipeline() { (cd "$WORK/plain" && "$HERE/pipeline" "$@"); }
quickstart() { pipeline run "$HERE/manifests/quickstart.toml" "$@"; }
shown() { pipeline show "$HERE/manifests/quickstart.toml" "$1" --cache "$2" --json; }
# Runs a step whose results another one uses, unless it has passed.
needs() { [ -e "$WORK/$1.done" ] || "do_$1" >&2; }

# Working directories whose burn.toml configures CubeCL: as it is, or without TF32.
configure() {
    local name
    for name in plain exact; do
        mkdir -p "$WORK/$name"
        printf '[cubecl.environment]\npath = { directory = "%s" }\n' "$KERNELS" >"$WORK/$name/burn.toml"
    done
    printf '\n[cubek.matmul]\nallow_tf32 = false\n' >>"$WORK/exact/burn.toml"
}

do_device() {
    [ "$ON_CPU" ] && { printf '{"device":"cpu","cores":%s}\n' "$(nproc)"; return 0; }
    [ "$ON_NULL" ] && { say 'there is no GPU'; return 77; }
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader | tr -d '"\\' >"$WORK/device.csv" || return 1
    sed 's/^\(.*\), \(.*\), \(.*\), \(.*\)$/{"gpu":"\1","driver":"\2","memory":"\3","clock":"\4"}/' "$WORK/device.csv"
    printf '{"libdevice":"%s"}\n' "$LIBDEVICE"
    [ -n "$LIBDEVICE" ]
}
# Prints the reason for which the program refuses a device.
refused() {
    local text code
    text=$(quickstart --device "$1" --cache "$WORK/none" 2>&1)
    code=$?
    printf '{"exit":%s,"says":"%s"}\n' "$code" "$(grep -m 1 'cannot be used' <<<"$text" | tr -cd ' -~' | tr -d '"\\' | cut -c 1-200)"
    [ "$code" = 2 ] && grep -q "$2" <<<"$text"
}
do_no-driver() {
    [ "$ON_NULL" ] || grep -q 'libcuda\.so\.1' <<<"$(ldconfig -p)" && { say 'this machine has a driver'; return 77; }
    refused cuda:0 'no NVIDIA driver\|built without CUDA' && quickstart --device auto --until license --cache "$WORK/none" >&2
}
do_missing-gpu() {
    [ "$ON_CPU" ] && { say 'it needs a driver'; return 77; }
    refused cuda:9 'numbered from 0'
}
do_prepare() {
    [ "$ON_CPU" ] && { say 'the CPU backend compiles no kernels'; return 77; }
    local precision save=()
    [ "$ON_NULL" ] && rm -f "$OUT/kernels.db" && save=(--save "$OUT/kernels.db")
    for precision in f32 bf16; do
        # Without a GPU kernels are compiled for the bundle: those of a small model take seconds on a GPU machine, which has more cores,
        # and those of gpt2-xl would make the bundle too large.
        [ "$ON_NULL" ] || gpu prepare "${SMALL[@]}" --precision "$precision" || return 1
        gpu prepare "${MODEL[@]}" --batch "${BATCHES[0]}" --precision "$precision" || return 1
    done
    gpu prepare "${MODEL[@]}" --batch "${BATCHES[1]}" --precision bf16 "${save[@]}" || return 1
    [ "$ON_NULL" ] || gpu prepare "${XL[@]}" --batch "${XL_BATCHES[0]}" --precision bf16
}
do_smoke() { gpu smoke; }
do_operations() { FOLDER=$WORK/exact gpu operations; }
do_parity() { FOLDER=$WORK/exact gpu parity "$HERE"/parity/*/; }
# All of the quickstart but the unit tests, which need Python and a sandbox, and no GPU.
WANTED=(--until loss --until completions --until solutions)
do_quickstart() {
    rm -rf "$WORK/gpu" "$WORK/quickstart.done"
    quickstart --device "$DEVICE" "${WANTED[@]}" --cache "$WORK/gpu" >&2 && shown train.metrics "$WORK/gpu" >"$WORK/train.json" &&
        gpu fell /outputs/metrics/reports/report.json/first_loss /outputs/metrics/reports/report.json/last_loss 0.5 "$WORK/train.json" &&
        touch "$WORK/quickstart.done"
}
do_cached() {
    needs quickstart || return 1
    local device
    for device in "$DEVICE" cpu; do
        quickstart --device "$device" "${WANTED[@]}" --cache "$WORK/gpu" --json >"$WORK/again.jsonl" || return 1
        grep '"event":"stage-started"' "$WORK/again.jsonl" >&2 && return 1
    done
    return 0
}
LOSS=/outputs/report/reports/report.json/loss
do_cpu() {
    needs quickstart || return 1
    rm -rf "$WORK/cpu" "$WORK/both" "$WORK/cpu.done"
    # `both` goes on from the model that was trained on the CPU.
    quickstart --device cpu --until train --cache "$WORK/cpu" >&2 && cp -r "$WORK/cpu" "$WORK/both" &&
        quickstart --device cpu "${WANTED[@]}" --cache "$WORK/cpu" >&2 && touch "$WORK/cpu.done" &&
        shown loss "$WORK/gpu" >"$WORK/loss-gpu.json" && shown loss "$WORK/cpu" >"$WORK/loss-cpu.json" &&
        gpu compare "$LOSS" 0.01 "$WORK/loss-cpu.json" "$WORK/loss-gpu.json" --relative
}
do_evaluated() {
    needs cpu || return 1
    quickstart --device "$DEVICE" --until loss --cache "$WORK/both" >&2 && shown loss "$WORK/both" >"$WORK/loss-both.json" &&
        gpu compare "$LOSS" 1e-4 "$WORK/loss-cpu.json" "$WORK/loss-both.json"
}
do_greedy() {
    needs cpu || return 1
    local greedy=(--set stages.completions.temperature=0.0) store device
    rm -rf "$WORK"/text-*
    for store in cpu both; do
        case $store in cpu) device=cpu ;; both) device=$DEVICE ;; esac
        quickstart --device "$device" --cache "$WORK/$store" --until completions "${greedy[@]}" >&2 &&
            pipeline export "$HERE/manifests/quickstart.toml" completions "$WORK/text-$store" --cache "$WORK/$store" "${greedy[@]}" >&2 ||
            return 1
    done
    diff -r "$WORK/text-cpu" "$WORK/text-both" >&2
}
do_resume() {
    needs quickstart || return 1
    local run=$WORK/killed every=(--set stages.train.checkpoint_every=20) pid
    rm -rf "$run"
    (cd "$WORK/plain" && exec "$HERE/pipeline" run "$HERE/manifests/quickstart.toml" --device "$DEVICE" --cache "$run" "${every[@]}") >&2 &
    pid=$!
    # The kill comes as soon as a checkpoint is whole.
    while kill -0 "$pid" 2>/dev/null && ! grep -q . <<<"$(find "$run" -path '*/checkpoints/[0-9]*/state.safetensors' 2>/dev/null)"; do
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || { say 'the run ended before its first checkpoint'; return 1; }
    wait "$pid" 2>/dev/null
    quickstart --device "$DEVICE" --cache "$run" "${every[@]}" >"$WORK/resumed.txt" 2>&1
    local code=$?
    cat "$WORK/resumed.txt" >&2
    [ "$code" = 0 ] && grep -q 'resumes at step' "$WORK/resumed.txt" &&
        shown loss "$run" >"$WORK/loss-resumed.json" && shown loss "$WORK/gpu" >"$WORK/loss-gpu.json" &&
        gpu compare "$LOSS" 0.02 "$WORK/loss-gpu.json" "$WORK/loss-resumed.json" --relative
}
do_memory() {
    local samples=$WORK/memory.csv sampler code
    rm -rf "$WORK/memory"
    if [ "$ON_CPU" ]; then
        pipeline run "$HERE/manifests/memory.toml" --device cpu --cache "$WORK/memory" "${MEMORY[@]}" >&2 || return 1
        say 'the run passed; memory is measured on a GPU only'
        return 77
    fi
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 200 >"$samples" &
    sampler=$!
    pipeline run "$HERE/manifests/memory.toml" --device "$DEVICE" --cache "$WORK/memory" >&2
    code=$?
    kill "$sampler" 2>/dev/null
    # Compares the peak with that of the first half of the samples taken during training (above 2 GiB).
    awk '$1 > 2048 { all[n++] = $1 } END {
        for (i = 0; i < n; i++) { if (all[i] > peak) peak = all[i]; if (i < n / 2 && all[i] > early) early = all[i] }
        printf "{\"samples\":%d,\"peak_mib\":%d,\"peak_of_first_half_mib\":%d}\n", n, peak, early
        exit !(n > 5 && peak <= early * 1.02) }' "$samples" && [ "$code" = 0 ]
}
speed() { gpu speed "$@" --steps "$STEPS"; }
wanted() { case " $PRECISIONS " in *" $1 "*) ;; *) say "PRECISIONS is '$PRECISIONS'"; return 77 ;; esac; }
do_speed-f32() { wanted f32 && speed "${MODEL[@]}" --batch "${BATCHES[0]}" --precision f32; }
do_speed-bf16() { wanted bf16 && speed "${MODEL[@]}" --batch "${BATCHES[0]}" --precision bf16; }
do_speed-large() { speed "${MODEL[@]}" --batch "${BATCHES[1]}" --precision "${PRECISIONS##* }"; }
do_speed-xl() {
    wanted bf16 || return
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
peer() { python3 "$HERE/peer.py" "$@" --device "$DEVICE"; }
has_peer() { python3 -c 'import torch' 2>/dev/null || { say 'PyTorch is not installed'; return 1; }; }
do_peer() {
    has_peer || return 77
    local failed=0 precision mode modes=(eager compile)
    [ "$ON_CPU" ] && modes=(eager)
    peer matmul ${ON_CPU:+--sizes 256x256x256} || failed=1
    for precision in bf16 f32; do
        wanted "$precision" || continue
        for mode in "${modes[@]}"; do
            peer speed "${MODEL[@]}" --batch "${BATCHES[0]}" --precision "$precision" --mode "$mode" --steps "$STEPS" --time-limit 60 || failed=1
        done
    done
    peer speed "${MODEL[@]}" --batch "${BATCHES[1]}" --precision "${PRECISIONS##* }" --mode eager --steps "$STEPS" --time-limit 40 || failed=1
    return "$failed"
}
do_peer-xl() {
    has_peer || return 77
    wanted bf16 || return
    local mode modes=(eager compile)
    [ "$ON_CPU" ] && modes=(eager)
    for mode in "${modes[@]}"; do
        peer speed "${XL[@]}" --precision bf16 --mode "$mode" --steps "$STEPS" --time-limit 60 \
            --find-batch "$(IFS=,; printf '%s' "${XL_BATCHES[*]}")" || return 1
    done
}
on_null() { [ "$ON_NULL" ] || { say 'it needs DEVICE=null'; return 77; }; }
do_launches() {
    on_null || return
    local precision
    for precision in f32 bf16; do
        gpu kernels "${MODEL[@]}" --batch "${BATCHES[0]}" --precision "$precision" || return 1
    done
}
do_reserved() {
    on_null || return
    local precision batch
    for precision in f32 bf16; do
        for batch in 1 4 12 64; do gpu memory "${MODEL[@]}" --batch "$batch" --precision "$precision" || return 1; done
        for batch in 1 4 16; do gpu memory "${XL[@]}" --batch "$batch" --precision "$precision" || return 1; done
    done
}

# The last line of a step in the summary as NAME|VERDICT|SECONDS|FIGURES.
last() { # step
    grep -F "{\"step\":\"$1\"," "$OUT/summary.jsonl" | tail -n 1 |
        sed 's/^{"step":"\([^"]*\)","shows":"[^"]*","device":"[^"]*","verdict":"\([^"]*\)","seconds":\([0-9.]*\),"commit":"[^"]*","figures":\[\(.*\)\]}$/\1|\2|\3|\4/'
}
# What the reader does next: for each step without a result, the command that repeats it and the log that says why.
advise() {
    local name verdict
    while IFS='|' read -r name _; do
        verdict=$(last "$name" | cut -d'|' -f2)
        case $verdict in
        failed | 'timed out' | interrupted)
            printf '%s %s: see logs/%s.txt in logs.tar.gz, then: bash check.sh %s\n' "$name" "$verdict" "$name" "$name"
            [ "$name" = prepare ] && printf 'if the file of kernels is damaged: rm -r %s\n' "$KERNELS"
            ;;
        'no time') printf '%s did not run: bash check.sh %s\n' "$name" "$name" ;;
        esac
    done < <(steps)
}
# summary.txt: the last result of every step, then what to do.
summarize() {
    local name verdict seconds figures
    {
        while IFS='|' read -r name _; do
            last "$name" | while IFS='|' read -r name verdict seconds figures; do
                printf '%-12s %-11s %7s s  %s\n' "$name" "$verdict" "$seconds" "$(cut -c 1-160 <<<"$figures")"
            done
        done < <(steps)
        advise
    } >"$OUT/summary.txt"
}
# Adds the line of the current step to the summary.
record() { # verdict
    local tenths=$((($(date +%s%N) - start) / 100000000))
    local seconds=$((tenths / 10)).$((tenths % 10))
    line "$name" "$shows" "$1" "$seconds" "$LOGS/$name.jsonl" >>"$OUT/summary.jsonl" || failed=1
    say "$(printf '%-12s %-11s %7s s  %s' "$name" "$1" "$seconds" "$(sed -n 1p "$LOGS/$name.jsonl" 2>/dev/null | cut -c 1-160)")"
}
archive() { # file, directory
    tar -czf "$OUT/$1.part" -C "$WORK" "$2" && mv "$OUT/$1.part" "$OUT/$1" || { rm -f "$OUT/$1.part"; say "cannot write $OUT/$1"; }
}

if [ $# = 0 ]; then
    : >"$OUT/summary.jsonl"
    [ "$ON_NULL" ] && set -- prepare launches reserved
fi
configure

pid= guard=
finish() {
    trap '' INT TERM HUP
    if [ "$pid" ]; then
        kill -9 -- "-$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
        record interrupted
    fi
    [ "$guard" ] && kill -9 -- "-$guard" 2>/dev/null && wait "$guard" 2>/dev/null
    summarize
    archive logs.tar.gz logs
    [ -d "$KERNELS" ] && [ -z "$ON_CPU" ] && archive kernels.tar.gz kernels
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
trap '' PIPE

SECONDS=0
failed=0
while IFS='|' read -r name limit shows; do
    case " $* " in '  ') ;; *" $name "*) ;; *) continue ;; esac
    # The limits are those of a GPU machine.
    [ "$ON_NULL" ] && limit=$TOTAL
    [ "$ON_CPU" ] && limit=$((limit * 5))
    left=$((TOTAL - SECONDS))
    start=$(date +%s%N)
    rm -f "$LOGS/$name".*
    if [ "$left" -lt 10 ]; then
        verdict='no time'
    else
        say "== $name"
        # The step and its guard each have a process group, so that all of a step ends at its limit, or with this script.
        set -m
        ("do_$name") </dev/null >"$LOGS/$name.jsonl" 2>"$LOGS/$name.txt" 9>&- &
        pid=$!
        (
            end=$((SECONDS + (limit < left ? limit : left)))
            while [ "$SECONDS" -lt "$end" ] && kill -0 $$; do sleep 1; done
            touch "$LOGS/$name.late"
            kill -9 -- "-$pid"
        ) </dev/null >/dev/null 2>&1 9>&- &
        guard=$!
        set +m
        wait "$pid" 2>/dev/null
        case $? in 0) verdict=passed ;; 77) verdict=skipped ;; *) verdict=failed ;; esac
        pid=
        kill -9 -- "-$guard" 2>/dev/null
        wait "$guard" 2>/dev/null
        guard=
        [ "$verdict" = failed ] && [ -e "$LOGS/$name.late" ] && verdict='timed out'
    fi
    record "$verdict"
    case $verdict in failed | 'timed out' | 'no time') failed=1 ;; esac
    case $verdict in failed | 'timed out') tail -n 12 "$LOGS/$name.txt" >&2 ;; esac
done < <(steps)
advise
exit "$failed"
