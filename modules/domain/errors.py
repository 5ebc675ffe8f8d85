"""Our own small family of errors: a code and data. Words are chosen at the edge, per language."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """Everything that can go wrong for a person or an operator; each has a sentence `error.<code>` in both locales.

    Parameters, where a sentence needs any, are named in the comment behind the code.
    """

    # what a person asked for
    PROMPT_EMPTY = "prompt_empty"
    PROMPT_TOO_LONG = "prompt_too_long"  # limit, length
    PROMPT_BLOCKED = "prompt_blocked"
    MODEL_UNKNOWN = "model_unknown"  # model, known
    MODEL_NO_DEFAULT = "model_no_default"  # model, known
    MODEL_UNAVAILABLE = "model_unavailable"  # model, alternative
    MODEL_AGE_RESTRICTED = "model_age_restricted"  # model
    SIZE_INVALID = "size_invalid"  # text, example
    SIZE_OUT_OF_RANGE = "size_out_of_range"  # min_px, max_px, max_megapixels
    VALUE_OUT_OF_RANGE = "value_out_of_range"  # field, low, high
    VALUE_NOT_A_NUMBER = "value_not_a_number"  # field, example
    CHOICE_UNKNOWN = "choice_unknown"  # field, value
    PICTURE_MISSING = "picture_missing"
    PICTURE_WRONG_TYPE = "picture_wrong_type"
    PICTURE_BROKEN = "picture_broken"
    PICTURE_TOO_LARGE = "picture_too_large"  # limit_mib
    PICTURE_TOO_MANY_PIXELS = "picture_too_many_pixels"  # limit_megapixels
    PICTURE_TOO_COMPLEX = "picture_too_complex"
    PICTURES_BUSY = "pictures_busy"
    PICTURE_UNDER_WAY = "picture_under_way"
    PICTURE_GONE = "picture_gone"
    RESULT_TOO_LARGE = "result_too_large"  # megapixels, limit
    MESSAGE_OUT_OF_REACH = "message_out_of_reach"
    CONTENT_REFUSED = "content_refused"
    REFERENCE_NOT_TAKEN = "reference_not_taken"  # model
    # the queue
    ACTIVE_LIMIT_REACHED = "active_limit_reached"  # limit
    QUEUE_FULL = "queue_full"
    PERSON_BANNED = "person_banned"
    STOPPING = "stopping"
    JOB_UNKNOWN = "job_unknown"
    JOB_NOT_YOURS = "job_not_yours"  # owner
    JOB_OVER = "job_over"
    RECIPE_GONE = "recipe_gone"
    ORIGINAL_GONE = "original_gone"
    # servers
    SERVER_UNREACHABLE = "server_unreachable"
    SERVER_UNAUTHORISED = "server_unauthorised"
    SERVER_NOT_COMFYUI = "server_not_comfyui"
    SERVER_BROKEN = "server_broken"
    SERVER_REJECTED = "server_rejected"  # node, reason (for the log and admins only)
    UPLOAD_TOO_LARGE = "upload_too_large"  # what stands before the server refuses bodies of that size
    REQUEST_REFUSED = "request_refused"  # a healthy server, or what stands before it, refuses this one request
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAILED = "node_failed"
    TIMED_OUT = "timed_out"  # limit_s
    GPU_BROKEN = "gpu_broken"
    RESULT_INCOMPLETE = "result_incomplete"
    OUTPUT_TOO_LARGE = "output_too_large"
    INTERRUPTED = "interrupted"
    POISON = "poison"
    NO_SERVER_HAS_IT = "no_server_has_it"
    ATTEMPTS_USED_UP = "attempts_used_up"
    # templates
    TEMPLATE_INVALID = "template_invalid"  # workflow, problem
    # Discord
    NOT_IN_A_GUILD = "not_in_a_guild"
    OTHER_GUILD = "other_guild"
    ADMINS_ONLY = "admins_only"
    PERMISSION_MISSING = "permission_missing"  # permission, empty where it is not known which
    TWO_FACTOR_REQUIRED = "two_factor_required"
    DISCORD_BUSY = "discord_busy"  # wait_s, empty where Discord did not say
    CHANNEL_LIMIT_REACHED = "channel_limit_reached"
    COMMAND_OUT_OF_DATE = "command_out_of_date"
    COMMANDS_NOT_TAKEN = "commands_not_taken"  # wait_s, empty where Discord did not say
    COMMANDS_FORBIDDEN = "commands_forbidden"
    COMMANDS_AFTER_RESTART = "commands_after_restart"
    # ourselves
    DATABASE_UNAVAILABLE = "database_unavailable"
    UNEXPECTED = "unexpected"  # incident


Param = str | int | float


class FulletError(Exception):
    """An expected failure. `params` are data for the sentence (`limit=2`), never prose and never text of a foreign exception."""

    def __init__(self, code: ErrorCode, **params: Param) -> None:
        super().__init__(code.value)
        self.code = code
        self.params: dict[str, Param] = params

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"FulletError({self.code.value}{', ' if inside else ''}{inside})"
