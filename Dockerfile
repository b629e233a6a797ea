# The daemon in a container: non-root, and at ease with a read-only root. What it writes goes to /models, and only if
# WHISPER_MODEL asks for a download.
#
#   docker build --target cpu --build-arg COMMIT=$(git describe --always --dirty --exclude='*' --abbrev=12) -t transcriber:0.1.0 .
#   docker build --target cuda --build-arg COMMIT=... -t transcriber:0.1.0-cuda .
#   docker run --read-only -e NATS_URL=nats://broker:4222 -e WHISPER_MODEL=demo transcriber:0.1.0
#   docker run --read-only -e NATS_URL=nats://broker:4222 -e GATEWAY_HOST=0.0.0.0 -e GATEWAY_KEYS_FILE=/keys.toml \
#       -v $PWD/keys.toml:/keys.toml:ro -p 8000:8000 transcriber:0.1.0 gateway
#
# Whatever pip fetches has to have the hash that stands in locks/: what is installed, and what builds it. For base images of which
# you know the digest, name them with it: --build-arg BASE_IMAGE=python:3.14-slim-bookworm@sha256:... What the Python part of an
# image consists of lies in it as /opt/transcriber/sbom.cdx.json (CycloneDX).
#
# The target cuda is the image of cpu with the plug-in for NVIDIA's GPUs and the libraries that it needs on top: it runs on any
# machine. To build the plug-in takes some five hours of one core; --build-arg PLUG_IN=ready takes the one that `transcriber gpu
# build libggml-cuda.so` has written here, and --build-arg CUDA_ARCHITECTURES=90-real builds it for one kind of GPU.

# The newest Python for which all that it needs has wheels.
ARG BASE_IMAGE=python:3.14-slim-bookworm
# Where the GPU plug-in comes from: built here, or ready, as libggml-cuda.so beside this file.
ARG PLUG_IN=built
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
# under three names: only libX.so.N is ever loaded.
RUN python3 -m venv --without-pip /opt/transcriber \
    && pip --python /opt/transcriber/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl \
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
EXPOSE 8000 8080
ENTRYPOINT ["transcriber"]
CMD ["serve"]
ARG BASE_IMAGE
ARG VERSION
ARG COMMIT
LABEL org.opencontainers.image.title="transcriber" \
      org.opencontainers.image.description="Speech-to-text on a message bus: audio on a NATS subject in, text on a NATS subject out" \
      org.opencontainers.image.licenses="MIT AND Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"


# This stage depends on three files at most, since it takes long. It is one, and not a choice of two: buildah leaves out a stage that
# only a variable names.
FROM ${BASE_IMAGE} AS plug-in
ARG PLUG_IN
ARG CUDA_ARCHITECTURES=""
COPY transcriber/gpu/build.py transcriber/gpu/build.lock libggml-cuda.so* /src/
RUN if [ "$PLUG_IN" = ready ]; then cp /src/libggml-cuda.so /; else \
    apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && python3 /src/build.py /libggml-cuda.so ${CUDA_ARCHITECTURES:+--architectures "$CUDA_ARCHITECTURES"}; fi


# What lies on top of the image of cpu. --target, because here is no /opt/transcriber to install it in.
FROM ${BASE_IMAGE} AS cuda-build
WORKDIR /locks
COPY locks/image-cuda.lock .
RUN python3 -m venv /build \
    && site=/gpu/opt/transcriber/lib/python$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages \
    && awk '/^[a-z]/ { nvidia = /^nvidia-/ } nvidia' image-cuda.lock > /nvidia.lock \
    && /build/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r /nvidia.lock --target "$site"
COPY --from=plug-in /libggml-cuda.so /
RUN cp /libggml-cuda.so /gpu/opt/transcriber/lib/python3*/site-packages


FROM cpu-build AS cuda-list
COPY --from=cuda-build /gpu /
RUN cyclonedx-py environment --output-reproducible --output-file /opt/transcriber/sbom.cdx.json /opt/transcriber/bin/python


FROM cpu AS cuda
COPY --from=cuda-build /gpu /
COPY --from=cuda-list /opt/transcriber/sbom.cdx.json /opt/transcriber/
# Of the driver, which the container runtime brings.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL org.opencontainers.image.description="Speech-to-text on a message bus, on an NVIDIA GPU where there is one"
