# The server of sentenc: `docker build -t sentenc .`, then
# `docker run --rm --read-only --cap-drop ALL --tmpfs /tmp -p 8000:8000 sentenc`.
FROM python:3.13-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY sentenc ./sentenc
RUN python -m venv /opt/sentenc \
    && /opt/sentenc/bin/pip install --no-cache-dir --disable-pip-version-check ".[serve]"

FROM python:3.13-slim
RUN groupadd --system --gid 10001 sentenc \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin sentenc
COPY --from=build /opt/sentenc /opt/sentenc
# Nothing is written: the root file system may be read-only.
ENV PATH=/opt/sentenc/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sentenc", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["cse-en"]
