FROM python:3.12-slim

RUN useradd --create-home --uid 10001 hub
WORKDIR /app
COPY pyproject.toml ./
COPY hub ./hub
COPY clients ./clients
RUN pip install --no-cache-dir '.[masking,sign-in]'

# /data holds the embedded store where no HUB_REDIS_URL is given.
RUN install --directory --owner hub --mode 700 /data
VOLUME /data
USER hub
ENV HUB_HOST=0.0.0.0 HUB_DATA_DIR=/data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# Longer than drain_ms, so that nobody is cut off: docker stop --time 20.
STOPSIGNAL SIGTERM
ENTRYPOINT ["hub"]
CMD ["serve"]
