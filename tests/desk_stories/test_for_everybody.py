"""Each screen by the rules of axe: no serious finding, light and dark, wide and on a phone."""

import pytest
from browser import needs_browser

from tests.desk_stories import world
from tests.desk_stories.stage import OnFile

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]

SCREENS = (
    *("", "/decisions", "/questions/0", "/conversations", "/conversations/one?id=harbour"),
    *("/conversations/write", "/agents", "/stuck", "/stuck/settle?what=drop&item=boss/0"),
    *("/mailboxes", "/mailboxes/one?mailbox=boss", "/mailboxes/message?mailbox=boss&id=0"),
    *("/search?q=ship", "/mailboxes/one?mailbox=nowhere"),
)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_axe_finds_nothing_serious(tmp_path, open_tab, scheme, width):
    from axe_playwright_python.async_playwright import Axe

    async with OnFile(tmp_path) as stage:
        await world.fill(stage)
        tab = await open_tab(
            color_scheme=scheme, viewport={"width": width, "height": 844}, bypass_csp=True
        )
        await stage.enter(tab)
        found = []
        for path in SCREENS:
            await tab.goto(stage.desk + path)
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width, path
            results = await Axe().run(tab)
            found += [
                (path, one["id"], one["nodes"][0]["html"][:200])
                for one in results.response["violations"]
                if one["impact"] in {"serious", "critical"}
            ]
        assert found == []
