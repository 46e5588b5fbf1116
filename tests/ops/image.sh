#!/usr/bin/env bash
# Builds the Dockerfile as it is, with buildah: no engine is needed. Where the two base images are not here and no
# registry of images can be reached, stand-ins of the same names are made of Debian's packages and this machine's Rust.
#
#   tests/ops/image.sh WORK TAG
set -euo pipefail
work=$1 tag=$2
cd "$(dirname "$(readlink -f "$0")")/../.."
export BUILDAH_ISOLATION=chroot
version=$(sed -n 's/^ARG RUST_VERSION=//p' Dockerfile)
runtime=gcr.io/distroless/static-debian12:nonroot
builder=docker.io/library/rust:$version-slim-bookworm

# has IMAGE: it is here, or has been fetched now.
has() {
    buildah inspect --type image "$1" >/dev/null 2>&1 || timeout 300 buildah pull -q "$1" >/dev/null 2>&1 || {
        printf '%s cannot be fetched: a stand-in is made\n' "$1"
        return 1
    }
}

runtime_stand_in() {
    local root=$work/static
    rm -rf "$root"
    mkdir -p "$root/etc/ssl/certs" "$root/tmp" "$root/home/nonroot"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nonroot:x:65532:' >"$root/etc/group"
    printf 'FROM scratch\nCOPY . /\nUSER 65532\n' >"$work/static.Containerfile"
    buildah bud -q --pull-never -f "$work/static.Containerfile" -t "$runtime" "$root"
}

# With this machine's own mirror of Debian and toolchain.
builder_stand_in() {
    local root=$work/builder mirror
    rustc --version | grep -qF " $version." || { printf 'needs Rust %s for the builder\n' "$version" && exit 1; }
    # shellcheck disable=SC2016 # apt fills it in
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | { grep -m1 '/debian/$' || true; })
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$root" \
        "${mirror:-http://deb.debian.org/debian}" >"$work/debootstrap.log" || { cat "$work/debootstrap.log" && exit 1; }
    mkdir -p "$root/usr/local/rust"
    (cd "$(rustc --print sysroot)" && tar c --exclude=./share .) | tar x -C "$root/usr/local/rust"
    {
        printf 'FROM scratch\nCOPY . /\n'
        printf 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n'
        printf 'ENV CARGO_HOME=/usr/local/cargo\n'
    } >"$work/builder.Containerfile"
    buildah bud -q --pull-never -f "$work/builder.Containerfile" -t "$builder" "$root"
    rm -rf "$root"
}

has "$runtime" || runtime_stand_in
has "$builder" || builder_stand_in

# The machine's own authorities, in case that its way to the registry of crates has one.
buildah bud --pull-never --layers=false --format docker -v /etc/ssl/certs:/etc/ssl/certs:ro \
    --build-arg REVISION="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" -t "$tag" .
