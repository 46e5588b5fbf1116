# syntax=docker/dockerfile:1
# One static binary on an image without a shell. Build with: docker build -t trunkline:0.1.0 .
ARG RUST_VERSION=1.95

FROM docker.io/library/rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# glibc, linked statically: names are resolved by the program itself. Caches stay out of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(rustc --print host-tuple)" \
    && RUSTFLAGS="-C target-feature=+crt-static" \
       cargo build --release --locked --bin trunkline --target "$target" \
    && cp "target/$target/release/trunkline" /trunkline \
    && mkdir /state

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="trunkline" \
      org.opencontainers.image.description="A resilience sidecar for the Vapi and Twilio APIs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /trunkline /usr/local/bin/trunkline
COPY --from=build --chown=65532:65532 /state /var/lib/trunkline
COPY proxy.yaml /etc/trunkline/proxy.yaml
# Canned answers have to be asked for: production does not start with them.
ENV ENVIRONMENT=production \
    INTEGRATIONS_STUB_MODE=false \
    TRUNKLINE_CONFIG=/etc/trunkline/proxy.yaml
USER 65532:65532
WORKDIR /var/lib/trunkline
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["/usr/local/bin/trunkline", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/trunkline"]
CMD ["run"]
