# One image for every role: `docker build -t chat4all .`, then `docker run … chat4all serve --role router`. docs/DEPLOY.md says how.
# Needs BuildKit (any Docker since 23), for the caches.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
# Dependencies stay compiled between builds in the two caches. They are no part of the image, hence the copy.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin chat4all && \
    strip --strip-debug -o /usr/local/bin/chat4all target/release/chat4all

# With a shell, which makes the API key at the first start, and with zlib, which librdkafka needs.
FROM debian:bookworm-20260824-slim
# Whom we trust over TLS. One file, so that nothing is installed here.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/chat4all /usr/local/bin/chat4all
# A new volume takes its owner from the folder that it covers: data of the embedded engines, and the API key.
RUN groupadd --gid 10001 chat4all && \
    useradd --uid 10001 --gid 10001 --home-dir /var/lib/chat4all --no-create-home --shell /usr/sbin/nologin chat4all && \
    install -d -m 0750 -o 10001 -g 10001 /var/lib/chat4all /run/chat4all
USER 10001:10001
WORKDIR /var/lib/chat4all
# Finishes what is under way; up to half a minute, see `stop_grace_period` in docker-compose.yml.
STOPSIGNAL SIGTERM
# Of a process with the role api; others have other ports: `chat4all health --url http://127.0.0.1:8081`.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["chat4all", "health"]
ENTRYPOINT ["chat4all"]
CMD ["serve"]
