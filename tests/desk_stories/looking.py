"""Actions of a person at a page: look until something is there, and press a button by its name."""

from waiting import until


async def sees(page, *texts):
    """Wait until all of these texts are on the page, in `main`."""
    from playwright.async_api import TimeoutError as TooLate

    for text in texts:
        try:
            await page.locator("main").get_by_text(text).first.wait_for()
        except TooLate:
            raise AssertionError(f"{text!r} is not on {page.url}: {await read(page)}") from None


async def read(page):
    """Return what the page says, in `main`."""
    return await page.locator("main").inner_text()


async def press(page, name, role="button"):
    """Press the first button, or link, of a name; the page that follows is there."""
    await page.get_by_role(role, name=name, exact=True).first.click()
    await page.wait_for_load_state()


async def loads_until(page, text):
    """Load a page again and again, as one does without scripts, until a text is there."""

    async def is_there():
        await page.reload()
        return text in await read(page)

    await until(is_there)


async def log_in(page, desk, user, secret):
    """Log in at a desk of a server."""
    await page.goto(desk)
    await page.get_by_label("User").fill(user)
    await page.get_by_label("Password").fill(secret)
    await press(page, "Log in")
