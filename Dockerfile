ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS builder
WORKDIR /build
# The one step that downloads: every archive is checked against its hash. All later steps install
# from this folder alone, so that the image gets what was checked, without the tools of development.
COPY constraints.txt .
RUN pip download --quiet --no-cache-dir --require-hashes --only-binary :all: \
      --requirement constraints.txt --dest wheels
COPY pyproject.toml README.md LICENSE ./
COPY rta_service rta_service
RUN pip wheel --quiet --no-index --find-links wheels --no-deps --wheel-dir own . \
 && python -m venv /opt/rta \
 && /opt/rta/bin/pip install --quiet --no-index --find-links wheels --find-links own rta-service

FROM python:${PYTHON_VERSION}-slim
# LightGBM's OpenMP
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*
# a fixed uid, so that the owner of a mounted volume can be set beforehand
RUN groupadd --gid 10001 rta \
 && useradd --uid 10001 --gid rta --no-log-init --home-dir /data --shell /usr/sbin/nologin rta \
 && install --directory --owner rta --group rta --mode 0700 /data
COPY --from=builder /opt/rta /opt/rta
ENV PATH=/opt/rta/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RTA_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
# fails the build, not the start, when a library is missing
RUN ["rta", "--version"]
VOLUME ["/data"]
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('RTA_PORT', '8000')}/livez\", timeout=2)"]
ENTRYPOINT ["rta"]
CMD ["serve"]
