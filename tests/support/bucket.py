"""A bucket of a real S3 server (moto's) on the loopback."""

from collections.abc import Iterator

import httpx
import pytest
from moto.server import ThreadedMotoServer

from hub.settings import FilesSettings

BUCKET = "files"


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 server that has an empty bucket `BUCKET`, and no other."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    httpx.put(f"{endpoint}/{BUCKET}", trust_env=False, headers={"host": "s3.amazonaws.com"})
    yield endpoint
    server.stop()


def bucket_settings(endpoint: str, monkeypatch: pytest.MonkeyPatch, name: str = BUCKET) -> FilesSettings:
    """Files in a bucket of that name; the environment has credentials that this server takes."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "test")
    return FilesSettings(s3_bucket=name, s3_endpoint=endpoint, s3_region="us-east-1")
