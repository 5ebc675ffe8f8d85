"""FuLLet: fair, merged picture queue for ComfyUI on Discord.

    python app.py             run the bot with the settings of .env
    python app.py doctor      check settings, Discord, database and every ComfyUI
    python app.py demo        try it in the browser: no token, no GPU, no account

This is the composition root: the one place that builds concrete things and joins them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import stamina
import structlog
from pydantic import ValidationError

from modules.assembly import ROLES, Role
from modules.composition import run_program
from modules.config import Settings, misspelt_settings, problems_of, read_settings
from modules.env_file import EnvFileError
from modules.utils.logs import configure_logs

log = structlog.get_logger(__name__)

ROOT = Path(__file__).resolve().parent
#: The operator must mend something; the same code as for wrong arguments.
EXIT_MISCONFIGURED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    match options.verb:
        case "demo":
            return _demo(options)
        case "doctor":
            return _doctor(as_json=options.json)
        case _:
            return _run(options.role)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="app.py", description="Fair, merged picture queue for ComfyUI on Discord.")
    parser.add_argument(
        "--role", choices=ROLES, default="all", help="which part of the bot this process is; more than one needs PostgreSQL"
    )
    verbs = parser.add_subparsers(dest="verb")
    doctor = verbs.add_parser("doctor", help="check settings, Discord, database and every ComfyUI")
    doctor.add_argument("--json", action="store_true", help="for programs")
    demo = verbs.add_parser("demo", help="try it in the browser: no token, no GPU, no account")
    demo.add_argument("--port", type=int, default=8600, help="where the page is served (0: any free port)")
    demo.add_argument(
        "--data", type=Path, default=ROOT / ".demo", help="folder for the demo's database and pictures; emptied at every start"
    )
    demo.add_argument("--speed", type=float, default=1.0, help="how fast the stand-in GPUs are (2: twice as fast)")
    return parser


def _run(role: Role) -> int:
    settings = _settings()
    if settings is None:
        return EXIT_MISCONFIGURED
    for name in misspelt_settings():
        log.warning("setting_unknown", name=name.written, meant=name.meant)
    return asyncio.run(run_program(settings, role, root=ROOT))


def _doctor(*, as_json: bool) -> int:
    from modules.diagnosis import run_doctor

    settings = _settings()
    return EXIT_MISCONFIGURED if settings is None else asyncio.run(run_doctor(settings, root=ROOT, as_json=as_json))


def _demo(options: argparse.Namespace) -> int:
    from modules.sandbox.demo import run_demo

    command = [sys.executable, str(ROOT / "app.py")]
    return run_demo(command, port=options.port, data=options.data, speed=options.speed)


def _settings() -> Settings | None:
    """The settings, with logs configured; None after telling the operator everything that is wrong with them."""
    try:
        settings = read_settings()
    except EnvFileError as error:
        print(f"FuLLet cannot start: {error}", file=sys.stderr)
        return None
    except ValidationError as error:
        print("FuLLet cannot start. Mend this in .env (see .env.example):", file=sys.stderr)
        for problem in problems_of(error):
            print(f"  - {problem}", file=sys.stderr)
        _name_misspelt()
        return None
    secrets = [settings.discord_token.get_secret_value(), settings.database_url.get_secret_value(), *settings.comfy_api_key]
    configure_logs(settings.log_level, settings.log_format, secrets)
    stamina.instrumentation.set_on_retry_hooks([])  # by itself it warns at every try; who retries says once what came of it
    return settings


def _name_misspelt() -> None:
    """A name that nobody reads is the likeliest reason for one that is missing."""
    for name in misspelt_settings():
        print(f"  - {name.written}: no setting has this name; {name.meant} was probably meant", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
