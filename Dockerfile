# One respraft node.
#
#   docker build -t respraft .
#   docker run -v ./respraft.toml:/etc/respraft/respraft.toml:ro -v respraft-1:/data respraft
#
# Three of them: docker compose -f conf/compose.yaml up

FROM python:3.11-slim AS build
# For the compiled modules; without a compiler respraft is installed as it is written.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python -m venv /opt/respraft
COPY pyproject.toml setup.py build_backend.py README.md LICENSE ./
COPY respraft respraft
RUN /opt/respraft/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.11-slim
# The id is a number of its own, so that a volume's owner stays the same from image to image.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin respraft \
    && install --directory --owner=respraft --group=respraft --mode=0700 /data
COPY --from=build /opt/respraft /opt/respraft
ENV PATH=/opt/respraft/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 7001 7101 7201
# /livez, not /readyz: a node that waits for the others is healthy, and restarting it would not help.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7201/livez', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["respraft"]
CMD ["server", "--config", "/etc/respraft/respraft.toml"]
