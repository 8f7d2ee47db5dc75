#!/usr/bin/env bash
# Measures lorascope against its peers, all sides in one run with the same threads:
#   bench/run.sh suite [--quick] [--rows patch,lens] [--threads N]  every work, with a results page (--quick: a small version)
#   bench/run.sh [--threads N] [--rounds N] [--runs N]           forward pass and decisions
#   bench/run.sh patch [--threads N] [--rounds N] [--sample N]   activation patching (TransformerLens and nnsight too)
#   bench/run.sh play [--threads N] [--surfaces N] [--sample N]  10,000 one-round games
#   bench/run.sh sweep [--threads N] [--lengths …] [--patches …] cost of patches against their number and the prompt's length
#   bench/run.sh train [--threads N] [--steps N]                 steps of training against PEFT on PyTorch
#   bench/run.sh episodes [--threads N] [--seeds N]              episodes to a clear policy, exact gradient against PPO
#   bench/run.sh gradients [--threads N] [--tokens N] [--runs N] attribution patching against a forward pass
#   bench/run.sh size [--threads N] [--only decide …]            four analyses and a sweep at Gemma-2-2b's true size (random weights)
#   bench/run.sh larger [--limit GIB] [--prompts N]              the same model in half of its weights' size of memory (as root)
# Sets up a Python environment for the peers once (in the cache folder; $BENCH_PYTHON names another Python that
# has bench/requirements.txt), gets SmolLM2, builds the release binaries, and runs bench/suite/run.py, or bench/compare.py, patch.py,
# play.py, sweep.py, train.py, size.py or larger.py. With $BENCH_CANDLE_MI=yes the suite also builds candle-mi (in the cache folder).
# Adapters: $LORASCOPE_ADAPTERS, else ../shared/adapters/smollm2 next to the repository.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${LORASCOPE_CACHE:-$HOME/.cache/lorascope}
adapters=${LORASCOPE_ADAPTERS:-../shared/adapters/smollm2}

peers_python() {
    if [[ -n ${BENCH_PYTHON:-} ]]; then
        echo "$BENCH_PYTHON"
        return
    fi
    # A change of the requirements makes another environment; the mark says that pip came to its end.
    local folder
    folder=$cache/peers/venv-$(sha256sum bench/requirements.txt | cut -c1-12)
    if [[ ! -e $folder/complete ]]; then
        python3 -m venv --clear "$folder" >&2
        "$folder/bin/pip" install --quiet --requirement bench/requirements.txt >&2
        touch "$folder/complete"
    fi
    echo "$folder/bin/python"
}

driver=compare
case ${1:-} in
    suite | patch | play | sweep | train | size | larger | gradients | episodes)
        driver=$1
        shift
        ;;
esac
if [[ $driver == episodes ]]; then
    cargo build --release --package lorascope
    exec python3 bench/episodes.py "$@"
fi
base=$(python3 scripts/get_smollm2.py)
if [[ $driver == gradients ]]; then
    cargo build --release --package lorascope-engine --example bench_gradients
    exec target/release/examples/bench_gradients --base "$base" "$@"
fi
python=$(peers_python)
if [[ $driver == suite ]]; then
    # One selection of packages, so that both commands are built with the same features of what they share.
    packages=(--package lorascope --package lorascope-engine --package lorascope-kernels)
    cargo build --release "${packages[@]}" --bin lorascope --example bench_forward --example matmul_speed
    candle=()
    if [[ ${BENCH_CANDLE_MI:-} == yes ]]; then
        CARGO_TARGET_DIR=$cache/peers/candle-mi cargo build --release --locked --manifest-path bench/suite/candle_mi/Cargo.toml
        candle=(--candle-mi "$cache/peers/candle-mi/release/candle-mi-peer")
    fi
    exec python3 bench/suite/run.py --base "$base" --adapters "$adapters" --python "$python" "${candle[@]}" "$@"
fi
cargo build --release --package lorascope
case $driver in
    compare) cargo build --release --package lorascope-engine --example bench_forward ;;
    sweep | size) cargo build --release --package lorascope-engine --example bench_sweep ;;
esac
if [[ $driver == size || $driver == larger ]]; then
    folder=$cache/gemma2-2b-random
    [[ -e $folder/complete ]] || { "$python" scripts/make_random_model.py "$folder" && touch "$folder/complete"; }
    exec "$python" "bench/$driver.py" --folder "$folder" "$@"
fi
exec python3 "bench/$driver.py" --base "$base" --adapters "$adapters" --python "$python" "$@"
