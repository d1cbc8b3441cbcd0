"""Measurements for the table in the documentation."""

import json
from pathlib import Path

import pytest

MEASURED = Path(__file__).parents[2] / ".tools/hosts/measured.json"


@pytest.fixture(scope="session")
def _measured():
    measured = {}
    yield measured
    if measured:
        MEASURED.write_text(json.dumps(measured, indent=1))


@pytest.fixture
def measure(_measured):
    def of(program, transport):
        return _measured.setdefault(program.name, {}).setdefault(transport, {})

    return of
