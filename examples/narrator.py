"""Prints what agents do, so that a reader can follow."""

import itertools
import json
import warnings

from rich.console import Console
from rich.markup import escape

console = Console(highlight=False, soft_wrap=True)
numbers = itertools.count(1)

# Both create_react_agent and its successor do; the first comes with LangGraph itself.
warnings.filterwarnings("ignore", message="create_react_agent has been moved")


def opening(model):
    """Say who plays: a script, or a real model."""
    if model is None:
        console.print("A scripted model plays both agents: no key, no network. The mail is real.")
    else:
        console.print(f"{escape(model)} plays both agents; what it does may differ each time.")


def scene(name, purpose):
    """Announce an agent and what it is about to do."""
    console.print(f"\n[bold]{next(numbers)}. {name}[/]  [italic]{escape(purpose)}")


def show(name, step):
    """Print one step of an agent, and return the tool that it used."""
    used = None
    for message in next(iter(step.values()))["messages"]:
        if message.type == "tool":
            used = message.name
            for line in told(message):
                console.print(f"      {line}")
            continue
        for call in message.tool_calls:
            arguments = ", ".join(f"{key}={value!r}" for key, value in call["args"].items())
            console.print(f"   [cyan]{name}[/] calls [bold]{call['name']}[/]({escape(arguments)})")
        if message.content:
            console.print(f"   [cyan]{name}[/] says: {escape(str(message.content))}")
    return used


def told(message):
    """Yield what a tool's result says, in lines for people."""
    if message.status == "error":
        yield f"[red]{escape(message.content)}[/]"
        return
    result = json.loads(message.content)
    for agent in result.get("agents", ()):
        says = escape(agent["untrusted_card"])
        name = escape(agent["untrusted_name"])
        yield f"[green]{name}[/], reached at {agent['mail_address']}: {says}"
    for mail in result.get("messages", ()):
        priority = mail.get("claimed_priority", "normal")
        count = mail.get("delivery_count", 1)
        again = f" [yellow](delivery {count})[/]" if count > 1 else ""
        text = escape(mail["untrusted_content"])
        sender = escape(mail["untrusted_envelope"]["from"])
        yield f"[green]#{mail['msg_id']}[/] {priority}, from {sender}: {text}{again}"
    if "leased_seconds" in result:
        yield f"[dim]leased for {result['leased_seconds']} s, to be acked[/]"
    if "empty" in result:
        yield f"[yellow]nothing now: {escape(result['empty'])}[/]"
    if "msg_id" in result:
        yield f"[green]stored[/] as #{result['msg_id']} in {result['mail_address']}"
    if "acked" in result:
        confirmed = ", ".join(f"#{number}" for number in result["acked"])
        yield f"[green]confirmed[/] {confirmed}"
    if "name" in result:
        yield f"[green]registered[/], reached at {result['mail_address']}"
    if "your_unread" in result:
        yield f"[yellow]{escape(result['your_unread'])}[/]"


def crash():
    """Say that an agent has stopped in the middle."""
    console.print("   [bold red]power fails[/]: fetched, neither answered nor acked")


def summary():
    """Say what has been seen, and what to do next."""
    console.print(
        "\n[bold]What you have seen[/]\n"
        "  Mail was stored while its reader was offline, and read in order of priority.\n"
        "  A fetch only leases. The crash lost nothing, because only an ack confirms;\n"
        "  delivery 2 says that a task may be done twice, so let that do no harm.\n"
        "  All of it ran in this process, on one SQLite file: no server.\n"
        "\n[bold]What to do next[/]\n"
        "  Read examples/two_agents.py: it is all there is to it.\n"
        "  Run it with a real model (install its LangChain package, set its key):\n"
        "    make demo MODEL=anthropic:claude-sonnet-4-5\n"
        "  In your own agents:\n"
        '    tools = Mq9Toolkit(agent="planner").get_tools()\n'
        "    app = create_react_agent(model, tools)"
    )
