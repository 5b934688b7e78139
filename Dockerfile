# clipstream: the daemon with every role. Build: docker build -t clipstream .
FROM rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends clang libclang-dev pkg-config \
      libavcodec-dev libavformat-dev libavfilter-dev libavutil-dev libswscale-dev libswresample-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/clipstream /clipstream

# The voice detector's weights, from the published package, checked by hash.
FROM python:3.11-slim-bookworm AS weights
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN pip download --no-cache-dir --no-deps --dest /wheels faster-whisper==1.2.1 \
 && python -m zipfile -e /wheels/*.whl /wheel \
 && echo "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2  /wheel/faster_whisper/assets/silero_vad_v6.onnx" | sha256sum --check

# The same Debian release as the build: libav at run time must be the libav that the bindings were generated from.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
      libavcodec59 libavformat59 libavfilter8 libavutil57 libswscale6 libswresample4 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home clipstream \
 && install -d -o clipstream /scratch
COPY --from=build /clipstream /usr/local/bin/clipstream
COPY --from=weights /wheel/faster_whisper/assets/silero_vad_v6.onnx /usr/share/clipstream/models/silero_vad_v6.onnx
USER 10001
VOLUME /scratch
EXPOSE 8000 9464
ENTRYPOINT ["clipstream"]
CMD ["serve"]
