"""The ways on which it is tested how a request is read: what keeps the mail has no part in that."""

import pytest


@pytest.fixture(params=["memory", pytest.param("tcp", marks=pytest.mark.unmeasured)])
def way_name(request):
    return request.param
