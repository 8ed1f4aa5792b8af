#!/usr/bin/env bash
# Everything that needs a card, in one run of at most ten minutes: what the card can do, every check,
# the checks again under compute-sanitizer where that is installed, and every timing. It needs the
# built program, with the kernels inside (`cargo xtask kernels`, then `cargo xtask build` and
# `cargo build --release --package farthing-gpu-tests`), and CUDA's libraries, nothing else.
#
#     host-tests/gpu/run.sh [--program FILE] [--only OPERATION,...] [STEP...]
#
# STEP is any of: limits check memcheck racecheck bench. All of them without one. What is long goes
# into files in $OUT (the folder at hand without it); what is printed is short. ..._S bounds a step.
set -uo pipefail

program=${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/release/farthing-gpu
only=
steps=()
while [ $# -gt 0 ]; do
    case $1 in
    --program) program=$2 && shift 2 ;;
    --only) only=$2 && shift 2 ;;
    limits | check | memcheck | racecheck | bench) steps+=("$1") && shift ;;
    *) echo "unknown argument $1" >&2 && exit 2 ;;
    esac
done
if [ ${#steps[@]} -eq 0 ]; then
    steps=(limits check memcheck racecheck bench)
fi
out=${OUT:-.}
mkdir -p "$out"
chmod +x "$program" 2>/dev/null
failed=0

# Python's packages bring libraries of their own, which no loader looks for.
libraries() {
    python3 - <<'PYTHON' 2>/dev/null
import glob, os, sys
for folder in sys.path:
    for name in glob.glob(os.path.join(folder, "nvidia", "*", "lib")):
        if any(glob.glob(os.path.join(name, part + "*")) for part in ("libcublasLt", "libnvrtc")):
            print(name)
PYTHON
    for folder in /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib; do
        [ -d "$folder" ] && echo "$folder"
    done
}
found=$(libraries | paste -sd: -)
export LD_LIBRARY_PATH=$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

chosen=()
[ -n "$only" ] && chosen=(--only "$only")

# Runs one step within its time into a file, and says how it ended.
step() {
    local name=$1 seconds=$2 file=$out/$1.txt
    shift 2
    local started=$SECONDS
    timeout --kill-after=10 "$seconds" "$@" >"$file" 2>&1
    local status=$?
    if [ $status -ne 0 ]; then
        failed=1
        grep -m 20 -E '^FAILED|^error' "$file" || tail -n 20 "$file"
    fi
    echo "== $name: status $status in $((SECONDS - started)) s"
}

sanitizer() {
    command -v compute-sanitizer && return
    for file in /usr/local/cuda/bin/compute-sanitizer \
        /usr/local/cuda/compute-sanitizer/compute-sanitizer; do
        [ -x "$file" ] && echo "$file" && return
    done
    return 1
}

# The small checks of each operation under one tool, several at a time: they wait for the host. Not
# those that call cuBLASLt, whose kernels are not ours.
sanitize() {
    local tool=$1 seconds=$2 checker
    if ! checker=$(sanitizer); then
        echo "== $tool: not run, compute-sanitizer is not installed"
        failed=1
        return
    fi
    export checker tool program
    step "$tool" "$seconds" bash -c '
        under() {
            log=$("$checker" --tool "$tool" --error-exitcode 9 --print-limit 10 \
                "$program" check --small --seed 1 --only "$1" 2>&1)
            status=$?
            if [ $status -eq 0 ]; then
                echo "ok     $tool $1"
            else
                printf "FAILED %s %s: status %s\n%s\n" "$tool" "$1" "$status" \
                    "$(grep -v "^ok " <<<"$log" | head -n 60)"
            fi
            return $status
        }
        export -f under
        printf "%s\n" "$@" | xargs -P 6 -I{} bash -c "under {}"' operations $(operations)
}

operations() {
    if [ -n "$only" ]; then
        tr ',' '\n' <<<"$only"
    else
        "$program" operations --own
    fi
}

for name in "${steps[@]}"; do
    case $name in
    limits) step limits "${LIMITS_S:-40}" "$program" limits --json "$out/limits.jsonl" ;;
    check) step check "${CHECK_S:-120}" "$program" check "${chosen[@]}" ;;
    memcheck) sanitize memcheck "${MEMCHECK_S:-90}" ;;
    racecheck) sanitize racecheck "${RACECHECK_S:-90}" ;;
    bench)
        step bench "${BENCH_S:-230}" "$program" bench --json "$out/results.jsonl" "${chosen[@]}"
        ;;
    esac
done

# The short part last: counts, and the lines that follow the table of timings.
[ -f "$out/check.txt" ] && grep -E ' passed, .* failed$|^seed ' "$out/check.txt"
for tool in memcheck racecheck; do
    [ -f "$out/$tool.txt" ] && echo "$tool: $(grep -c '^ok ' "$out/$tool.txt") ok," \
        "$(grep -c '^FAILED ' "$out/$tool.txt") failed"
done
if [ -f "$out/bench.txt" ]; then
    grep '^on ' "$out/bench.txt"
    grep -E ' MISSED( |$)' "$out/bench.txt" | head -n 60
    sed -n '/^copy: /,$p' "$out/bench.txt"
elif [ -f "$out/limits.txt" ]; then
    cat "$out/limits.txt"
fi
exit $failed
