"""
docs/openapi.json against a real hub, by schemathesis: requests that fit the document and requests that don't.

No answer is one that the document doesn't have, none is a 5xx but a documented 503, and each body is of its schema.
SOAK_OPENAPI says how many requests each operation gets (`make fuzz`).
"""

import json
import logging
import os
import time
import uuid
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.processes import ROOT, HubProcess
from tests.support.tokens import token

EXAMPLES = int(os.environ.get("SOAK_OPENAPI", "5"))
CHECKS: list[CheckFunction] = [status_code_conformance, content_type_conformance, response_schema_conformance]
ROLES = {"/v1/events": "connector", "/v1/revocations": "admin", "/metrics": "admin"}
ORG = "fuzz-" + uuid.uuid4().hex[:8]

schema = schemathesis.openapi.from_path(str(ROOT / "docs/openapi.json"))
# What its coverage phase adds is a request for each way in which each field can be wrong: thousands.
schema.config.phases.coverage.enabled = EXAMPLES > 100


@schemathesis.serializer("application/x-ndjson")
def _ndjson(_: Any, value: Any) -> bytes:
    """One object a line."""
    return b"\n".join(json.dumps(one).encode() for one in (value if isinstance(value, list) else [value]))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Its libraries log each request."""
    logging.getLogger("urllib3").setLevel(logging.WARNING)


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_conform_to_openapi(case: Any, hub: HubProcess) -> None:
    """Whatever is asked: a documented status with a body of its schema, with a token that may and with one that may not."""
    role = ROLES.get(case.path, "supervisor")
    for bearer in (token(f"u{time.monotonic_ns() % 1000}", role, ORG), token("max", "agent", ORG), ""):
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        answer = case.call(base_url=hub.url, headers=headers, timeout=20)
        assert answer.status_code < 500 or (answer.status_code == 503 and case.path == "/readyz"), answer.text
        case.validate_response(answer, checks=CHECKS)


def test_the_hub_has_failed_at_none_of_it(hub: HubProcess) -> None:
    """After all of that its log has no traceback."""
    text = hub.log.read_text()
    assert "Traceback" not in text
    assert " failed" not in text
