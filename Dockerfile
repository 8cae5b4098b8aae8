# The image holds one static program, the certificates of public authorities, and nothing else: no shell, no libc.
#
#   docker build -t baton .
#   docker build -t baton --build-arg RUST_IMAGE=docker.io/library/rust@sha256:… .     with a pinned base
#   docker build -t baton --build-arg BINARY=prebuilt .                                with dist/baton (`make dist`)
#
# Needs BuildKit, which builds only the stages that the last one uses. Pin RUST_IMAGE by digest where you release from.

ARG RUST_IMAGE=docker.io/library/rust:1.95-alpine
ARG BINARY=build

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# Thin LTO in what is shipped only: tests need no such build. For the host's own target, whatever it is; naming it keeps
# the static linking away from build scripts.
ENV CARGO_PROFILE_RELEASE_LTO=thin CARGO_TERM_COLOR=never
RUN rustc -vV > /tmp/rustc \
    && target=$(sed -n 's/^host: //p' /tmp/rustc) \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin baton --target "$target" \
    && mkdir /out \
    && cp "target/$target/release/baton" /out/baton \
    && sh ops/static /out/baton \
    && cp /etc/ssl/certs/ca-certificates.crt /out/ca-certificates.crt

FROM scratch AS prebuilt
COPY dist/ /out/

# hadolint ignore=DL3006
FROM ${BINARY} AS binary

FROM scratch
COPY --from=binary /out/baton /baton
COPY --from=binary /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Any uid that is not root: nothing here has to be written to.
USER 65532:65532
ENV BATON_HTTP__LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/baton", "healthcheck"]
ENTRYPOINT ["/baton"]
CMD ["run"]
