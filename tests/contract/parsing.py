"""The ways on which it is tested how a request is read: what keeps the mail has no part in that."""

import pytest

_WAYS = ["memory", pytest.param("tcp", marks=pytest.mark.unmeasured)]

# A test in a module about more than how requests are read.
only_read = pytest.mark.parametrize("way_name", _WAYS, indirect=True)


@pytest.fixture(params=_WAYS)
def way_name(request):
    return request.param
