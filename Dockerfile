# The image that jobs run in. slurm/README.md, "In a container", says how to build and start it.
#
# torch's wheels on PyPI are built for CUDA 13.0 and bring cuBLAS, cuDNN and NCCL, so the base is the smallest
# of the CUDA runtime images: it holds what the driver wants, and says so to the container runtime. A tag can
# move; to pin what it stands for, give its digest, which `docker buildx imagetools inspect TAG` prints:
#   docker build --build-arg BASE=nvidia/cuda:13.0.3-base-ubuntu24.04@sha256:… .
ARG BASE=nvidia/cuda:13.0.3-base-ubuntu24.04

FROM ${BASE} AS base
# Python as the wheels of the pins want it; tini, since a first process that has not asked for SIGTERM never
# gets it; certificates, which W&B's own process takes from here; gcc and headers, with which torch
# builds kernels (compile=true).
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev python3 python3-dev tini \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH

FROM base AS dependencies
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY .image/requirements.txt .image/constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install pip==26.3 \
    && pip install -r requirements.txt -c constraints.txt --build-constraint constraints.txt

FROM dependencies AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY tissueseg tissueseg
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --build-constraint constraints.txt --wheel-dir dist .

FROM base
# A layer of gigabytes that changes with the pins alone, below one of megabytes that changes with the code.
COPY --from=dependencies /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/src/dist,target=/tmp/dist \
    pip install --no-cache-dir --no-index --no-deps /tmp/dist/*.whl \
    && pip check
COPY --chmod=0755 .image/entrypoint /usr/local/bin/tissueseg-entrypoint
# Users are whom the cluster says: 1000, or any number in any group without a name and a home of its own.
RUN install -d -g 0 -m 1777 /home/tissueseg /work
ENV HOME=/home/tissueseg PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 1000:0
WORKDIR /work
ENTRYPOINT ["tini", "-s", "--", "tissueseg-entrypoint"]
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tissueseg" \
      org.opencontainers.image.description="Cell segmentation on frozen pathology encoders, H&E and proteomics" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
