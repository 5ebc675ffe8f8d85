"""Rows and JSON to the house's values and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any
from uuid import UUID

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions
from modules.domain.jobs import AttemptId, Job, JobId, JobRequest, JobState, Origin, ServerName, WorkClass
from modules.domain.people import ChannelId, GuildId, InteractionId, MessageId, UserId
from modules.domain.recipes import Lora, ModelName, Recipe, Seed, WorkflowName
from modules.domain.records import FormDefaults, MessageKind, OutboxItem
from modules.utils.database.types import AnyRow, JsonValue

#: Of the JSON below. Raise it when a field changes its meaning; fields may come (with a default) and go without.
RECIPE_VERSION = 1
#: What a job needs whose own needs cannot be read.
UNREADABLE_NEEDS = frozenset({"unreadable"})
_ORIGINS = frozenset(origin.value for origin in Origin)
_RECIPE_FIELDS = frozenset(field.name for field in fields(Recipe))


def recipe_to_json(recipe: Recipe) -> JsonValue:
    """Everything of a recipe under its own names; the seed is an integer of up to 64 bits without a sign."""
    size = recipe.size and [recipe.size.width_px, recipe.size.height_px]
    return asdict(recipe) | {"v": RECIPE_VERSION, "size": size, "loras": [[lora.name, lora.strength] for lora in recipe.loras]}


def recipe_from_json(stored: JsonValue) -> Recipe:
    """Read what an older or newer FuLLet wrote: unknown fields are ignored, absent ones take their default.

    Raises RECIPE_GONE when what no default can stand for is missing.
    """
    if not isinstance(stored, Mapping):
        raise FulletError(ErrorCode.RECIPE_GONE)
    known: dict[str, Any] = {name: value for name, value in stored.items() if name in _RECIPE_FIELDS}
    try:
        known["size"] = Dimensions(*known["size"]) if known.get("size") else None
        known["loras"] = tuple(Lora(name=name, strength=strength) for name, strength in known.get("loras", ()))
        return Recipe(**known)
    except (TypeError, ValueError) as error:
        raise FulletError(ErrorCode.RECIPE_GONE) from error


def forms_to_json(forms: Mapping[ModelName, FormDefaults]) -> JsonValue:
    """Only what was set."""
    return {model: {name: value for name, value in asdict(kept).items() if value} for model, kept in forms.items()}


def forms_from_json(stored: JsonValue) -> dict[ModelName, FormDefaults]:
    """Whatever another version wrote is left out."""
    models = stored if isinstance(stored, Mapping) else {}
    return {ModelName(model): _form_from(kept) for model, kept in models.items() if isinstance(kept, Mapping)}


def _form_from(kept: Mapping[str, JsonValue]) -> FormDefaults:
    known: dict[str, Any] = {}
    for name, default in asdict(FormDefaults()).items():
        value = kept.get(name, default)
        known[name] = tuple(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return FormDefaults(**known)


def row_of_request(request: JobRequest) -> dict[str, object]:
    """The columns of a job that are fixed when it is accepted."""
    recipe, work = request.recipe, request.work
    return {
        "interaction_id": request.interaction_id,
        "user_id": request.person.user_id,
        "guild_id": request.person.guild_id,
        "display_name": request.person.display_name,
        "language": request.person.language.value,
        "origin": request.origin.value,
        "parent_id": request.parent_id,
        "channel_id": request.channel_id,
        "recipe": recipe_to_json(recipe),
        "prompt": recipe.prompt,
        "picture_count": recipe.count,
        "source_id": recipe.source,
        "reference_id": recipe.reference,
        "exact_key": work.exact_key,
        "heavy_key": work.heavy_key,
        "needs": sorted(work.needs),
        "is_mergeable": work.is_mergeable,
        "cost_s": work.cost_s,
    }


def work_of(row: AnyRow) -> WorkClass:
    """The work of a row of `job`. No server has what an unreadable one needs."""
    return WorkClass(
        exact_key=row.exact_key,
        heavy_key=row.heavy_key,
        needs=frozenset(row.needs) if _is_list_of_text(row.needs) else UNREADABLE_NEEDS,
        is_mergeable=row.is_mergeable,
        cost_s=row.cost_s,
    )


def job_of(row: AnyRow) -> Job:
    """A row of `job`, whatever stands in it: one that cannot be read (any more) says so in `is_readable`.

    So it can be shown and counted, and whoever would draw it ends it instead; everybody else's jobs go on.
    """
    try:
        recipe = recipe_from_json(row.recipe)
        is_readable = _is_list_of_text(row.needs) and _fits(recipe, row)
    except FulletError:
        is_readable = False
    if not is_readable:
        recipe = _recipe_beside(row)
    params = row.error_params
    return Job(
        id=JobId(row.id),
        seq=row.seq,
        interaction_id=InteractionId(row.interaction_id),
        user_id=UserId(row.user_id),
        guild_id=GuildId(row.guild_id),
        display_name=row.display_name,
        language=row.language,
        recipe=recipe,
        is_readable=is_readable,
        work=work_of(row),
        origin=Origin(row.origin) if row.origin in _ORIGINS else Origin.IMAGINE,
        state=JobState(row.state),
        channel_id=ChannelId(row.channel_id),
        parent_id=_job_id(row.parent_id),
        failed_attempts=row.failed_attempts,
        server_deaths=row.server_deaths,
        runs_alone=row.runs_alone,
        accepted_at=row.accepted_at,
        started_at=row.started_at,
        generated_at=row.generated_at,
        worked_s=row.worked_s,
        shared_by=row.shared_by,
        server=None if row.server is None else ServerName(row.server),
        attempt_id=None if row.attempt_id is None else AttemptId(row.attempt_id),
        error_code=row.error_code,
        error_params=params if isinstance(params, dict) else None,
        card_message_id=_message_id(row.card_message_id),
        result_message_id=_message_id(row.result_message_id),
    )


def _recipe_beside(row: AnyRow) -> Recipe:
    """What the columns beside an unreadable recipe still tell. Its workflow is none, so nothing is ever drawn by it."""
    return Recipe(
        workflow=WorkflowName(""),
        model=ModelName(""),
        prompt=row.prompt,
        size=None,
        seed=Seed(0),
        steps=1,
        cfg=1.0,
        count=row.picture_count,
        source=None if row.source_id is None else BlobId(row.source_id),
        reference=None if row.reference_id is None else BlobId(row.reference_id),
    )


def _fits(recipe: Recipe, row: AnyRow) -> bool:
    """Whether it has the types on which the places of pictures in an attempt depend."""
    stored = row.recipe
    return isinstance(stored["prompt"], str) and isinstance(stored["seed"], int) and recipe.count == row.picture_count


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def outbox_item_of(row: AnyRow) -> OutboxItem:
    """A row of `outbox`."""
    return OutboxItem(
        job_id=JobId(row.job_id),
        kind=MessageKind(row.kind),
        due_at=row.due_at,
        tries=row.tries,
        first_try_at=row.first_try_at,
        created_at=row.created_at,
    )


def _job_id(value: UUID | None) -> JobId | None:
    return None if value is None else JobId(value)


def _message_id(value: int | None) -> MessageId | None:
    return None if value is None else MessageId(value)
