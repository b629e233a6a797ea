# The daemon in a container: non-root, and at ease with a read-only root. What it writes goes to /models, and only if
# WHISPER_MODEL asks for a download.
#
#   docker build --target cpu --build-arg COMMIT=$(git describe --always --dirty --exclude='*' --abbrev=12) -t transcriber:0.1.0 .
#   docker build --target cuda -t transcriber:0.1.0-cuda .
#   docker run --read-only -e NATS_URL=nats://broker:4222 -e WHISPER_MODEL=demo transcriber:0.1.0
#
# Whatever pip fetches has to have the hash that stands in locks/: what is installed, and what builds it. For base images of which
# you know the digest, name them with it: --build-arg BASE_IMAGE=python:3.14-slim-bookworm@sha256:... What the Python part of an
# image consists of lies in it as /opt/transcriber/sbom.cdx.json (CycloneDX).

# The newest Python for which all that it needs has wheels.
ARG BASE_IMAGE=python:3.14-slim-bookworm
# Ubuntu 24.04 is NVIDIA's image with the nearest Python, 3.12; the two must be of one CUDA version.
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-runtime-ubuntu24.04
ARG CUDA_BUILD_IMAGE=nvidia/cuda:12.8.1-devel-ubuntu24.04
ARG VERSION=0.1.0
# Of the source; it is part of --version and a label. The build has no repository to ask.
ARG COMMIT=""


FROM ${BASE_IMAGE} AS cpu-build
RUN apt-get update \
    && apt-get install -y --no-install-recommends clang-16 libomp-16-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
ENV CC=clang-16 CXX=clang++-16
ARG X86_KERNELS="haswell skylakex cascadelake zen4 sapphirerapids"
ARG ARM_KERNELS="armv8.0_1 armv8.2_2 armv8.6_1"
WORKDIR /locks
COPY locks .
# What builds is here, and not in the image. Of image.lock one package is built from its source with our options.
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes -r image-build.lock \
    && awk '/^[a-z]/ { source = /^pywhispercpp==/ } { print > (source ? "/source.lock" : "/wheels.lock") }' image.lock
ENV PATH=/build/bin:$PATH
WORKDIR /kernels
RUN pip download --no-cache-dir --no-deps --no-build-isolation --no-binary pywhispercpp --require-hashes -r /source.lock \
    && tar -xzf pywhispercpp-*.tar.gz --strip-components=1 \
    && cmake -G Ninja -S whisper.cpp -B build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
       -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DGGML_NATIVE=OFF -DGGML_LLAMAFILE=ON \
       -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN' \
       -DWHISPER_BUILD_TESTS=OFF -DWHISPER_BUILD_EXAMPLES=OFF -DWHISPER_BUILD_SERVER=OFF \
    && case $(uname -m) in aarch64) kernels=$ARM_KERNELS ;; *) kernels=$X86_KERNELS ;; esac \
    && cmake --build build --target $(printf 'ggml-cpu-%s ' $kernels)
# pywhispercpp hands every environment variable to CMake.
RUN GGML_BACKEND_DL=ON GGML_CPU=OFF GGML_NATIVE=OFF \
    CMAKE_BUILD_WITH_INSTALL_RPATH=ON CMAKE_INSTALL_RPATH='$ORIGIN' \
    pip wheel --no-cache-dir --no-deps --no-build-isolation --no-binary pywhispercpp --require-hashes -r /source.lock -w /wheels \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes -r /wheels.lock -w /wheels
# --without-pip: the image installs nothing later, so it carries no installer. A wheel holds no links, so each library lies there
# under three names: only libX.so.N is ever loaded. Of the package in voices.lock only the weights are used, which tell voices apart.
RUN python3 -m venv --without-pip /opt/transcriber \
    && install="pip --python /opt/transcriber/bin/python install --no-cache-dir --no-deps" \
    && $install --require-hashes -r /locks/voices.lock \
    && $install --no-index /wheels/*.whl \
    && cd /opt/transcriber/lib/python3*/site-packages && rm lib*.so lib*.so.*.*.* \
    && cp /kernels/build/bin/libggml-cpu-*.so /usr/lib/llvm-16/lib/libomp.so.5 .
WORKDIR /src
COPY . .
ARG COMMIT
RUN SOURCE_COMMIT=$COMMIT pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index -w /ours . \
    && pip --python /opt/transcriber/bin/python install --no-cache-dir --no-deps --no-index /ours/*.whl \
    && cyclonedx-py environment --output-reproducible --output-file /opt/transcriber/sbom.cdx.json /opt/transcriber/bin/python


FROM ${BASE_IMAGE} AS cpu
COPY --from=cpu-build /opt/transcriber /opt/transcriber
RUN install -d -o 10001 -g 10001 /models
ENV PATH=/opt/transcriber/bin:$PATH WHISPER_MODEL_DIR=/models
USER 10001:10001
VOLUME /models
EXPOSE 8080
ENTRYPOINT ["transcriber"]
CMD ["serve"]
ARG BASE_IMAGE
ARG VERSION
ARG COMMIT
LABEL org.opencontainers.image.title="transcriber" \
      org.opencontainers.image.description="Speech-to-text on a message bus: audio on a NATS subject in, text on a NATS subject out" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"


FROM ${CUDA_BUILD_IMAGE} AS cuda-build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /locks
COPY locks .
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes -r image-build.lock \
    && awk '/^[a-z]/ { source = /^pywhispercpp==/ } { print > (source ? "/source.lock" : "/wheels.lock") }' image.lock
ENV PATH=/build/bin:$PATH
# GGML_NATIVE is off because the machine that builds is not the one that runs; one set of kernels will do, since the GPU has
# the work. Device code, not PTX: with a read-only root there is no cache, and PTX would be compiled at each start;
# the last entry keeps PTX for GPUs newer than the list. The two RPATH settings let the extension find libwhisper.
ARG CUDA_ARCHITECTURES="75-real;80-real;86-real;89-real;90"
RUN GGML_CUDA=ON GGML_CUDA_GRAPHS=ON GGML_CUDA_NCCL=OFF GGML_NATIVE=OFF \
    CMAKE_CUDA_ARCHITECTURES="${CUDA_ARCHITECTURES}" \
    CMAKE_BUILD_WITH_INSTALL_RPATH=ON CMAKE_INSTALL_RPATH='$ORIGIN' \
    pip wheel --no-cache-dir --no-deps --no-build-isolation --no-binary pywhispercpp --require-hashes -r /source.lock -w /wheels \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes -r /wheels.lock -w /wheels
RUN python3 -m venv --without-pip /opt/transcriber \
    && install="pip --python /opt/transcriber/bin/python install --no-cache-dir --no-deps" \
    && $install --require-hashes -r /locks/voices.lock \
    && $install --no-index /wheels/*.whl \
    && cd /opt/transcriber/lib/python3*/site-packages && rm lib*.so lib*.so.*.*.*
WORKDIR /src
COPY . .
ARG COMMIT
RUN SOURCE_COMMIT=$COMMIT pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index -w /ours . \
    && pip --python /opt/transcriber/bin/python install --no-cache-dir --no-deps --no-index /ours/*.whl \
    && cyclonedx-py environment --output-reproducible --output-file /opt/transcriber/sbom.cdx.json /opt/transcriber/bin/python


FROM ${CUDA_IMAGE} AS cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=cuda-build /opt/transcriber /opt/transcriber
RUN install -d -o 10001 -g 10001 /models
ENV PATH=/opt/transcriber/bin:$PATH WHISPER_MODEL_DIR=/models
USER 10001:10001
VOLUME /models
EXPOSE 8080
ENTRYPOINT ["transcriber"]
CMD ["serve"]
ARG CUDA_IMAGE
ARG VERSION
ARG COMMIT
LABEL org.opencontainers.image.title="transcriber" \
      org.opencontainers.image.description="Speech-to-text on a message bus, on an NVIDIA GPU: audio on a NATS subject in, text on a NATS subject out" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.base.name="${CUDA_IMAGE}"
