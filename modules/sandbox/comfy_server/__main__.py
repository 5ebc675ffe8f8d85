"""`python -m modules.sandbox.comfy_server`: a stand-in as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from modules.sandbox.comfy_server.models import LARGE_MODELS
from modules.sandbox.comfy_server.objects import PACK_STATES
from modules.sandbox.comfy_server.sandbox import ComfySandbox
from modules.sandbox.comfy_server.settings import PREVIEW_METHODS


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="comfy_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8188, help="0 takes a free one")
    parser.add_argument("--name", default="comfy")
    parser.add_argument("--speed", type=float, default=1.0, help="2.0 is a card twice as fast")
    parser.add_argument(
        "--time-scale", type=float, default=1.0, help="seconds of the wall clock per simulated second; 0 does not wait"
    )
    parser.add_argument("--pack", choices=PACK_STATES, default="full", help="state of our node pack on this server")
    parser.add_argument("--preview-method", choices=PREVIEW_METHODS, default="none")
    parser.add_argument("--key", help="ask for this key: 'user:password' is Basic, anything else Bearer")
    parser.add_argument("--data", help="folder for outputs and inputs, kept across restarts (default: a temporary one)")
    parser.add_argument("--large", action="store_true", help="many checkpoints and LoRAs")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    sandbox = ComfySandbox(
        host=options.host,
        port=options.port,
        data=options.data,
        name=options.name,
        speed=options.speed,
        time_scale=options.time_scale,
        pack=options.pack,
        preview_method=options.preview_method,
        key=options.key,
        models=LARGE_MODELS if options.large else None,
    )
    async with sandbox:
        sys.stdout.write(f"ComfyUI stand-in {sandbox.name} on {sandbox.url}\n")
        sys.stdout.flush()
        await sandbox.run_for_ever()


async def _until_stopped(options: argparse.Namespace) -> None:
    serving = asyncio.create_task(_serve(options))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


if __name__ == "__main__":
    asyncio.run(_until_stopped(_arguments()))
