"""Settings: the only reader of the environment. Every name is explained in docs/configuration.md and .env.example."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from modules.domain.people import Language
from modules.env_file import ENCODING, ENV_FILE, Misspelt, check_env_file, misspelt_names
from modules.utils.database import read_database_url

CommaList = Annotated[tuple[str, ...], NoDecode]

#: Discord's own limit for one guild's worth of patience; above it nobody would wait.
_LONGEST_GENERATION_S = 24 * 3600
#: So long or so much is "for ever"; a moment so many days ago is one that Python's calendar still knows.
_LONGEST_KEPT_DAYS, _MOST_KEPT_GB, _LONGEST_IDLE_MINUTES = 36_500, 1_000_000, 525_600


class Settings(BaseSettings):
    """What the operator wrote into `.env` or the environment; the environment wins."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding=ENCODING,
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    discord_token: SecretStr = Field(description="The bot's token")
    allowed_guild_id: int = Field(gt=0, description="The one Discord server this bot works for")

    comfy_urls: CommaList = Field(default=(), validate_default=True, description="ComfyUI addresses, separated by commas")
    comfy_url: str = Field(default="", description="One ComfyUI address, where COMFY_URLS is not set")
    comfy_api_key: CommaList = Field(
        default=(), repr=False, description="One key for all servers, or one for each in the order of COMFY_URLS"
    )
    gpu_vram_gb: Annotated[tuple[float, ...], NoDecode] = Field(default=(), description="Memory of each GPU in GB, in order")
    max_batch_size: int = Field(default=4, ge=1, le=16, description="Most pictures that share one workflow")
    merge_mode: Literal["auto", "batched", "stacked", "never"] = "auto"
    generation_timeout_s: float = Field(default=300, gt=0, le=_LONGEST_GENERATION_S)

    database_url: SecretStr = Field(default=SecretStr(""), description="Empty: database/bot_data.db")
    export_path: Path | None = Field(default=None, description="Folder for a copy of every picture")
    keep_pictures_days: float = Field(
        default=30, gt=0, le=_LONGEST_KEPT_DAYS, description="How long stored pictures are kept for Vary, Edit and Upscale"
    )
    keep_pictures_gb: float = Field(default=20, gt=0, le=_MOST_KEPT_GB, description="Most that stored pictures may take together")

    session_idle_minutes: float = Field(default=30, gt=0, le=_LONGEST_IDLE_MINUTES)
    user_active_limit: int = Field(default=2, ge=1, le=20)
    queue_limit: int = Field(default=500, ge=1, le=100_000)
    role_weights: Annotated[dict[int, float], NoDecode] = Field(
        default_factory=dict, description="Discord role id = share, separated by commas"
    )

    strict_startup: bool = False
    #: The demo and the tests point these at a stand-in on loopback; empty means the real Discord.
    fullet_discord_api: str = ""
    fullet_discord_gateway: str = ""
    default_locale: Language = Language.ENGLISH
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"

    @field_validator("comfy_urls", "comfy_api_key", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("gpu_vram_gb", mode="before")
    @classmethod
    def _split_numbers(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("role_weights", mode="before")
    @classmethod
    def _split_pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        return {role.strip(): weight.strip() for role, _, weight in pairs}

    @field_validator("role_weights")
    @classmethod
    def _weights_are_positive(cls, value: dict[int, float]) -> dict[int, float]:
        if any(not 0 < weight <= 100 for weight in value.values()):
            raise ValueError("every share must be above 0 and at most 100")
        return value

    @field_validator("comfy_urls")
    @classmethod
    def _addresses_are_usable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one ComfyUI address, such as http://127.0.0.1:8188")
        for address in value:
            _check_address(address)
        seen = [_same_place(address) for address in value]
        if len(set(seen)) != len(seen):
            raise ValueError("the same server stands in the list twice")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fall_back_to_one_url(cls, values: object) -> object:
        if isinstance(values, dict) and not values.get("comfy_urls") and values.get("comfy_url"):
            return {**values, "comfy_urls": values["comfy_url"]}
        return values

    @field_validator("comfy_api_key", "gpu_vram_gb")
    @classmethod
    def _one_or_one_for_each(cls, value: tuple[object, ...], info: ValidationInfo) -> tuple[object, ...]:
        addresses = info.data.get("comfy_urls")  # missing where it has a fault of its own
        if addresses and len(value) not in (0, 1, len(addresses)):
            raise ValueError("give one for all servers, or exactly one for each address in COMFY_URLS")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_one_we_speak(cls, value: SecretStr) -> SecretStr:
        read_database_url(value.get_secret_value(), Path())
        return value


def read_settings(**overrides: Any) -> Settings:
    """From the environment and `.env`; `overrides` win.

    Raises pydantic's ValidationError with everything that is wrong, EnvFileError where the file cannot be read at all.
    """
    check_env_file()
    return Settings(**overrides)


def misspelt_settings() -> list[Misspelt]:
    """Names in `.env` and the environment that look like a setting and are none: nobody reads them."""
    return misspelt_names((name.upper() for name in Settings.model_fields), os.environ)


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018  (raises when it is no number)
    except ValueError as error:
        raise ValueError(f"{_safe(address)} is not an address") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{_safe(address)} must begin with http:// or https:// and name a host")
    if parts.username or parts.password:
        raise ValueError(f"{parts.hostname}: put the user and password into COMFY_API_KEY as user:password, not into the address")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{parts.hostname}: only the address itself, without anything after the host and port")


def _safe(address: str) -> str:
    """An address without what may be a password."""
    return address.rpartition("@")[2]


def _same_place(address: str) -> tuple[str, str, int]:
    parts = urlsplit(address)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


#: pydantic's kinds of fault in the words of `.env`; the rest say it well themselves. Source: pydantic, "Validation Errors".
_FAULTS = {
    "missing": "is missing",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
}


def problems_of(error: ValidationError) -> list[str]:
    """Every problem in one sentence each, named as in `.env`; never a value (it may be a secret)."""
    return [
        f"{str(problem['loc'][0]).upper()}: {_fault(problem)}" for problem in error.errors(include_url=False, include_input=False)
    ]


def _fault(problem: ErrorDetails) -> str:
    if problem["type"] in _FAULTS:
        return _FAULTS[problem["type"]].format_map(problem.get("ctx", {}))
    return problem["msg"].removeprefix("Value error, ")
