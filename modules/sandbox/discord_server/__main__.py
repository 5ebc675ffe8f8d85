"""`python -m modules.sandbox.discord_server --port 8008`: the stand-in alone, until it is interrupted."""

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from modules.sandbox.discord_server.demo import demo_world
from modules.sandbox.discord_server.sandbox import DiscordSandbox

#: With a state file: so much may be lost when the process is killed.
SAVE_EVERY_S = 5.0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A Discord stand-in on loopback, with a page to use it as a person would.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--token", default=None, help="the bot's token; made up when left out")
    parser.add_argument("--rate-limits", action="store_true", help="enforce Discord's rate limits")
    parser.add_argument("--openapi", type=Path, default=None, help="Discord's OpenAPI description, to check everything against")
    parser.add_argument("--state", type=Path, default=None, help="a file that keeps the world between runs")
    parser.add_argument("--guests", type=int, default=0, help="so many more members, for load tests")
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Run until SIGINT or SIGTERM."""
    sandbox = DiscordSandbox(
        world=demo_world(token=options.token, guests=options.guests),
        host=options.host,
        port=options.port,
        rate_limits=options.rate_limits,
        openapi=options.openapi,
        state=options.state,
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with sandbox:
        spec = "on" if sandbox.context.journal.spec.is_on else "off (no OpenAPI description found)"
        lines = [
            f"page                    {sandbox.page_url}",
            f"FULLET_DISCORD_API      {sandbox.api_base}",
            f"FULLET_DISCORD_GATEWAY  {sandbox.gateway_url}",
            f"DISCORD_TOKEN           {sandbox.bot_token}",
            f"ALLOWED_GUILD_ID        {next(iter(sandbox.world.guilds))}",
            f"checking against Discord's description: {spec}",
        ]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SAVE_EVERY_S)
            sandbox.save()


if __name__ == "__main__":
    asyncio.run(serve(parse(sys.argv[1:])))
