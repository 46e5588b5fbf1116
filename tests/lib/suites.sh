# shellcheck shell=bash
# The suites by name, and what each counts. Every `suite_NAME` prints its tests' own output and leaves its result in
# `passed` and `failed`. Sourced by tests/run.
# shellcheck disable=SC2034 # read there

SUITES=(cargo redis rfc9111 autobahn sdk browser loom traces observability chart examples soak)
# Those that take long, with `tests/run --all` or by name.
SLOW=(fuzz image)

declare -A TITLES=(
    [cargo]="unit and integration tests"
    [redis]="several replicas on real Redis and Valkey servers"
    [rfc9111]="the public tests for HTTP caches"
    [autobahn]="Autobahn's WebSocket cases, behind the proxy as without it"
    [sdk]="the vendors' SDKs through the static binary"
    [browser]="the status page in Chromium, on the real binary"
    [traces]="traces at a receiver of the official kind"
    [observability]="dashboards and alerts on a real Prometheus"
    [image]="the image, built by the Dockerfile and run"
    [examples]="what operators copy: compose file, unit, Dockerfile"
    [chart]="the chart by the real Helm, judged by Kubernetes' schemas"
    [loom]="every interleaving of the breaker's concurrent part"
    [fuzz]="configuration, routes, paths, vendors' bodies and the whole wire under a fuzzer"
    [soak]="a run with faults and reloads: memory flat, nothing unexplained"
)

# run_counted PATTERN COMMAND...: runs it, and adds up `N passed` and `N failed` of the lines that match PATTERN. A
# command that fails without saying how many tests did counts as one failure.
run_counted() {
    local lines=$1 log status=0
    shift
    log=$(mktemp "$WORK/log.XXXXXX")
    "$@" 2>&1 | tee "$log" || status=$?
    passed=$(sum "$lines" passed "$log")
    failed=$(sum "$lines" '(failed|errors?)' "$log")
    rm "$log"
    if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
        failed=1
    elif [ $((passed + failed)) = 0 ]; then
        printf 'no test ran\n'
        failed=1
    fi
}

sum() {
    { grep -E "$1" "$3" || true; } | { grep -oE "[0-9]+ $2" || true; } | awk '{ total += $1 } END { print total + 0 }'
}

suite_cargo() {
    run_counted '^test result:' cargo test --locked --no-fail-fast
}

# One test at a time: each has several processes, and measures what they do under load. On Valkey run those whose
# scripts and commands a store might take otherwise; the rest is about what a server's death looks like.
suite_redis() {
    local redis_passed redis_failed
    install_redis
    install_valkey
    run_counted '^test result:' cargo test --locked --test redis -- --test-threads=1
    redis_passed=$passed redis_failed=$failed
    say "the same promises on Valkey"
    REDIS_SERVER=$VALKEY_SERVER run_counted '^test result:' cargo test --locked --test redis -- --test-threads=1 \
        keyed:: duplicates:: breakers:: places:: flushed_nobody a_key_of_another a_full_store --skip tls_is_spoken
    passed=$((passed + redis_passed)) failed=$((failed + redis_failed))
}

suite_rfc9111() {
    install_cache_tests
    cargo build --locked || { passed=0 failed=1 && return; }
    run_counted '^[0-9]+ passed' node tests/rfc9111/run.mjs target/debug/trunkline "$WORK/rfc9111"
}

suite_autobahn() {
    install_venv autobahn "Autobahn's WebSocket cases" tests/autobahn/requirements.txt
    cargo build --locked || { passed=0 failed=1 && return; }
    run_counted '^autobahn result:' "$WORK/autobahn/bin/python" tests/autobahn/run.py "$(target_dir)/debug/trunkline"
}

suite_sdk() {
    install_python
    install_node
    install_promtool
    need curl curl
    need chromium chromium
    build_static || { passed=0 failed=1 && return; }
    export TRUNKLINE_BIN PYTHONPYCACHEPREFIX=$WORK/pycache
    run_counted '^=+ .* in [0-9.]+s' python -m pytest tests/sdk
}

suite_traces() {
    run_ops test_traces.py
}

suite_observability() {
    install_promtool
    run_ops test_dashboards.py
}

suite_chart() {
    install_ops
    install_helm
    install_operator_models
    run_ops test_chart.py
}

suite_examples() {
    need systemd-analyze systemd
    run_ops test_examples.py
}

# The whole build once more, inside the image's own builder.
suite_image() {
    need buildah buildah
    need debootstrap debootstrap
    need unshare util-linux
    install_ops
    mkdir -p "$WORK/image"
    as_root env PATH="$PATH" tests/ops/image.sh "$WORK/image" localhost/trunkline:test || { passed=0 failed=1 && return; }
    export PYTHONPYCACHEPREFIX=$WORK/pycache
    run_counted '^=+ .* in [0-9.]+s' as_root env PATH="$WORK/ops/bin:$PATH" python -m pytest tests/ops/test_image.py
}

# run_ops FILE: tests of what operators are given, through the static binary.
run_ops() {
    install_ops
    build_static || { passed=0 failed=1 && return; }
    export TRUNKLINE_BIN PYTHONPYCACHEPREFIX=$WORK/pycache
    run_counted '^=+ .* in [0-9.]+s' env PATH="$WORK/ops/bin:$PATH" python -m pytest "tests/ops/$1"
}

# This machine's own target.
host() { rustc -vV | sed -n 's/^host: //p'; }

# Where cargo builds, as an absolute path.
target_dir() {
    realpath -m "${CARGO_TARGET_DIR:-target}"
}

# Linked statically for this machine's own target, as the image holds it, but not optimized as a whole: that takes
# minutes, and the image's own suite builds it once as it is shipped.
build_static() {
    RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo build --release --locked --target "$(host)" || return
    TRUNKLINE_BIN=$(target_dir)/$(host)/release/trunkline
    if ldd "$TRUNKLINE_BIN" 2>&1 | grep -q '=>'; then
        printf '%s is not static\n' "$TRUNKLINE_BIN"
        return 1
    fi
}

suite_browser() {
    install_browser
    cargo build --locked || { passed=0 failed=1 && return; }
    TRUNKLINE_BIN=$PWD/target/debug/trunkline BROWSER_MODULES=$WORK/browser CHROMIUM=$(command -v chromium) \
        run_counted '^browser result:' node tests/browser/page.mjs
}

# Loom replaces the lock and the atomics, in a crate that holds the breaker alone.
suite_loom() {
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$PWD/target/loom \
        run_counted '^test result:' cargo test --locked --release --manifest-path tests/loom/Cargo.toml --lib loom_
}

# Each target for FUZZ_SECONDS, from its seeds. The compiler's own counters guide it, so that no other toolchain is
# needed, and the libraries are those of the debug build. An input that breaks a target stays in tests/.work/fuzz, and
# belongs among its seeds once that is mended.
suite_fuzz() {
    local target
    need g++ g++
    passed=0 failed=0
    # The versions of the package itself, and libFuzzer's beside them.
    cp Cargo.lock tests/fuzz/Cargo.lock
    RUSTC_WRAPPER=$PWD/tests/fuzz/rustc CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$(target_dir) \
        cargo build --bins --manifest-path tests/fuzz/Cargo.toml || { failed=1 && return; }
    for target in config matcher path sniff wire; do
        if fuzz "$target"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
        fi
    done
    printf 'fuzz result: %d passed; %d failed\n' "$passed" "$failed"
}

# fuzz TARGET: runs it, and says how often. One that hardly ran has proved nothing, and fails. SIGPIPE is ignored, as
# Rust's own main would ignore it.
fuzz() {
    local log=$WORK/fuzz/$1.log ran status=0
    mkdir -p "$WORK/fuzz/$1"
    (trap '' PIPE && exec "$(target_dir)/debug/fuzz-$1" -max_total_time="${FUZZ_SECONDS:-15}" -rss_limit_mb=2048 \
        -timeout=20 -print_final_stats=1 -verbosity=0 -artifact_prefix="$WORK/fuzz/$1-" \
        "$WORK/fuzz/$1" "tests/fuzz/seeds/$1") >"$log" 2>&1 || status=$?
    ran=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "$status" != 0 ]; then
        tail -n 60 "$log"
        printf 'fuzz: %s is broken by an input in %s\n' "$1" "$WORK/fuzz"
    elif [ "${ran:-0}" -lt 100 ]; then
        printf 'fuzz: %s ran %s times only\n' "$1" "${ran:-0}"
        status=1
    else
        printf 'fuzz: %s stood %s inputs\n' "$1" "$ran"
    fi
    return "$status"
}

# SOAK_SECONDS is one minute in a run of everything; half an hour tells slow leaks too.
suite_soak() {
    need python3 python3
    build_static || { passed=0 failed=1 && return; }
    run_counted '^[0-9]+ passed' python3 tests/soak/soak.py "$TRUNKLINE_BIN" "${SOAK_SECONDS:-60}"
}
