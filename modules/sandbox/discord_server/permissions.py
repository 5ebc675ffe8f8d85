"""Who may do what where: Discord's permission algorithm.

Source: developer docs, "Permissions" (base permissions, overwrites, implicit permissions, hierarchy).
"""

from datetime import datetime
from enum import IntFlag

from modules.sandbox.discord_server.world import Channel, Guild, Member, Role


class Permission(IntFlag):
    """The permission bits; all of Discord's, so that "everything" means the same here."""

    CREATE_INSTANT_INVITE = 1 << 0
    KICK_MEMBERS = 1 << 1
    BAN_MEMBERS = 1 << 2
    ADMINISTRATOR = 1 << 3
    MANAGE_CHANNELS = 1 << 4
    MANAGE_GUILD = 1 << 5
    ADD_REACTIONS = 1 << 6
    VIEW_AUDIT_LOG = 1 << 7
    PRIORITY_SPEAKER = 1 << 8
    STREAM = 1 << 9
    VIEW_CHANNEL = 1 << 10
    SEND_MESSAGES = 1 << 11
    SEND_TTS_MESSAGES = 1 << 12
    MANAGE_MESSAGES = 1 << 13
    EMBED_LINKS = 1 << 14
    ATTACH_FILES = 1 << 15
    READ_MESSAGE_HISTORY = 1 << 16
    MENTION_EVERYONE = 1 << 17
    USE_EXTERNAL_EMOJIS = 1 << 18
    VIEW_GUILD_INSIGHTS = 1 << 19
    CONNECT = 1 << 20
    SPEAK = 1 << 21
    MUTE_MEMBERS = 1 << 22
    DEAFEN_MEMBERS = 1 << 23
    MOVE_MEMBERS = 1 << 24
    USE_VAD = 1 << 25
    CHANGE_NICKNAME = 1 << 26
    MANAGE_NICKNAMES = 1 << 27
    MANAGE_ROLES = 1 << 28
    MANAGE_WEBHOOKS = 1 << 29
    MANAGE_GUILD_EXPRESSIONS = 1 << 30
    USE_APPLICATION_COMMANDS = 1 << 31
    REQUEST_TO_SPEAK = 1 << 32
    MANAGE_EVENTS = 1 << 33
    MANAGE_THREADS = 1 << 34
    CREATE_PUBLIC_THREADS = 1 << 35
    CREATE_PRIVATE_THREADS = 1 << 36
    USE_EXTERNAL_STICKERS = 1 << 37
    SEND_MESSAGES_IN_THREADS = 1 << 38
    USE_EMBEDDED_ACTIVITIES = 1 << 39
    MODERATE_MEMBERS = 1 << 40
    VIEW_CREATOR_MONETIZATION_ANALYTICS = 1 << 41
    USE_SOUNDBOARD = 1 << 42
    CREATE_GUILD_EXPRESSIONS = 1 << 43
    CREATE_EVENTS = 1 << 44
    USE_EXTERNAL_SOUNDS = 1 << 45
    SEND_VOICE_MESSAGES = 1 << 46
    SEND_POLLS = 1 << 49
    USE_EXTERNAL_APPS = 1 << 50
    PIN_MESSAGES = 1 << 51
    BYPASS_SLOWMODE = 1 << 52


#: In a server with server-wide two-factor authentication a bot may use these only if its owner's account has it. Source:
#: developer docs, "Permissions", the rights marked with an asterisk.
NEEDS_TWO_FACTOR = (
    Permission.KICK_MEMBERS
    | Permission.BAN_MEMBERS
    | Permission.ADMINISTRATOR
    | Permission.MANAGE_CHANNELS
    | Permission.MANAGE_GUILD
    | Permission.MANAGE_MESSAGES
    | Permission.MANAGE_ROLES
    | Permission.MANAGE_WEBHOOKS
    | Permission.MANAGE_GUILD_EXPRESSIONS
    | Permission.MANAGE_THREADS
)
NOTHING = Permission(0)
EVERYTHING = Permission(sum(Permission))
#: What somebody in a time-out keeps.
TIMED_OUT = Permission.VIEW_CHANNEL | Permission.READ_MESSAGE_HISTORY
#: What cannot be done in a text channel without SEND_MESSAGES.
NEEDS_SENDING = Permission.MENTION_EVERYONE | Permission.SEND_TTS_MESSAGES | Permission.ATTACH_FILES | Permission.EMBED_LINKS
#: What a private conversation allows both sides.
IN_DM = (
    Permission.VIEW_CHANNEL
    | Permission.SEND_MESSAGES
    | Permission.EMBED_LINKS
    | Permission.ATTACH_FILES
    | Permission.READ_MESSAGE_HISTORY
    | Permission.ADD_REACTIONS
    | Permission.USE_EXTERNAL_EMOJIS
    | Permission.USE_APPLICATION_COMMANDS
    | Permission.PIN_MESSAGES
)

_EVERYTHING, _TIMED_OUT, _NEEDS_SENDING = int(EVERYTHING), int(TIMED_OUT), int(NEEDS_SENDING)
_ADMINISTRATOR = int(Permission.ADMINISTRATOR)
_VIEW_CHANNEL, _SEND_MESSAGES = int(Permission.VIEW_CHANNEL), int(Permission.SEND_MESSAGES)


# Sums are made on plain numbers: a crowd of listeners asks for them at every message, and flags are slow to combine.


def base_permissions(guild: Guild, member: Member, now: datetime) -> Permission:
    """What a member may do in the guild before any channel has its say."""
    return Permission(_base(guild, member, now))


def _base(guild: Guild, member: Member, now: datetime) -> int:
    if guild.owner_id == member.user_id:
        return _EVERYTHING
    allowed = guild.everyone.permissions
    for role_id in member.role_ids:
        allowed |= guild.roles[role_id].permissions
    if allowed & _ADMINISTRATOR:
        return _EVERYTHING
    return allowed & _TIMED_OUT if member.is_timed_out(now) else allowed


def permissions_in(guild: Guild, member: Member, channel: Channel, now: datetime) -> Permission:
    """What a member may do in one channel: base, then the overwrites of @everyone, roles and member, in that order."""
    allowed = _base(guild, member, now)
    if allowed & _ADMINISTRATOR:
        return EVERYTHING
    allowed = _overwritten(allowed, guild, member, channel)
    if member.is_timed_out(now):
        allowed &= _TIMED_OUT
    if not allowed & _VIEW_CHANNEL:
        return NOTHING
    if not allowed & _SEND_MESSAGES:
        allowed &= ~_NEEDS_SENDING
    return Permission(allowed)


def _overwritten(allowed: int, guild: Guild, member: Member, channel: Channel) -> int:
    by_target = {o.target_id: o for o in channel.overwrites}  # ids are unique over roles and members
    if everyone := by_target.get(guild.id):
        allowed = allowed & ~everyone.deny | everyone.allow
    role_allow = role_deny = 0
    for role_id in member.role_ids:
        if overwrite := by_target.get(role_id):
            role_allow |= overwrite.allow
            role_deny |= overwrite.deny
    allowed = allowed & ~role_deny | role_allow
    if own := by_target.get(member.user_id):
        allowed = allowed & ~own.deny | own.allow
    return allowed


def top_role(guild: Guild, member: Member) -> Role:
    """The member's highest role; @everyone when there is no other."""
    return max([guild.everyone, *(guild.roles[r] for r in member.role_ids)], key=lambda role: (role.position, -role.id))


def outranks(guild: Guild, actor: Member, role: Role) -> bool:
    """Whether `actor` stands above `role`, the owner above all."""
    if guild.owner_id == actor.user_id:
        return True
    highest = top_role(guild, actor)
    return (highest.position, -highest.id) > (role.position, -role.id)
