# The gateway alone: decode, ask Triton, protect, write. Build from the checkout's root:
#   docker build -f docker/gateway.Dockerfile -t REGISTRY/privseg-gateway:0.1.0 .
FROM python:3.11-slim-bookworm

# OpenCV's wheel leaves these two to the system; Debian keeps only the newest patch of each, so no version is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml README.md ./
COPY requirements/constraints.txt requirements/
COPY privseg/ privseg/
RUN pip install --no-cache-dir --constraint requirements/constraints.txt '.[live]'

# The number the chart runs it under.
USER 10001:10001
WORKDIR /recordings
ENTRYPOINT ["privseg"]
