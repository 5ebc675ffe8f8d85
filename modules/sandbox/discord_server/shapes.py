"""How the things of the world look on the wire."""

from modules.sandbox.discord_server.clock import iso
from modules.sandbox.discord_server.components import media_of
from modules.sandbox.discord_server.wire import Json
from modules.sandbox.discord_server.world import (
    Application,
    ApplicationFlag,
    Attachment,
    Channel,
    ChannelKind,
    Command,
    Guild,
    Member,
    Message,
    MessageFlag,
    Overwrite,
    Role,
    User,
    World,
)


def user_json(user: User) -> Json:
    """A user object."""
    shape: Json = {
        "id": str(user.id),
        "username": user.username,
        "avatar": None,
        "discriminator": "0" if not user.is_bot else f"{user.id % 10_000:04}",
        "public_flags": 0,
        "flags": 0,
        "global_name": user.global_name,
        "primary_guild": None,
    }
    return shape | {"bot": True} if user.is_bot else shape


def member_json(world: World, member: Member, *, with_user: bool = True) -> Json:
    """A member object; message events carry it without the user."""
    shape: Json = {
        "avatar": None,
        "banner": None,
        "communication_disabled_until": iso(member.timed_out_until),
        "flags": 0,
        "joined_at": iso(member.joined_at),
        "nick": member.nick,
        "pending": False,
        "premium_since": iso(member.boosting_since),
        "roles": [str(role_id) for role_id in member.role_ids],
        "mute": False,
        "deaf": False,
    }
    return shape | {"user": user_json(world.users[member.user_id])} if with_user else shape


def role_json(role: Role) -> Json:
    """A role object."""
    shape: Json = {
        "id": str(role.id),
        "name": role.name,
        "description": None,
        "permissions": str(role.permissions),
        "position": role.position,
        "color": role.color,
        "colors": {"primary_color": role.color, "secondary_color": None, "tertiary_color": None},
        "hoist": role.hoist,
        "managed": role.bot_id is not None or role.is_booster,
        "mentionable": role.mentionable,
        "icon": None,
        "unicode_emoji": None,
        "flags": 0,
    }
    if role.bot_id is not None:
        shape["tags"] = {"bot_id": str(role.bot_id)}
    elif role.is_booster:
        shape["tags"] = {"premium_subscriber": None}
    return shape


def overwrite_json(overwrite: Overwrite) -> Json:
    """A permission overwrite."""
    return {
        "id": str(overwrite.target_id),
        "type": int(overwrite.kind),
        "allow": str(overwrite.allow),
        "deny": str(overwrite.deny),
    }


def channel_json(world: World, channel: Channel) -> Json:
    """A channel object, private or of a guild."""
    last = None if channel.last_message_id is None else str(channel.last_message_id)
    shape: Json = {"id": str(channel.id), "type": int(channel.kind), "flags": 0}
    if channel.kind is not ChannelKind.CATEGORY:
        shape["last_message_id"] = last
    if channel.guild_id is None:
        shape["recipients"] = [user_json(world.users[r]) for r in channel.recipient_ids]
        return shape
    if channel.is_thread:
        return shape | _thread_details(channel)
    shape |= {
        "guild_id": str(channel.guild_id),
        "name": channel.name,
        "position": channel.position,
        "parent_id": None if channel.parent_id is None else str(channel.parent_id),
        "permission_overwrites": [overwrite_json(o) for o in channel.overwrites],
        "nsfw": channel.is_nsfw,
    }
    if channel.kind in (ChannelKind.TEXT, ChannelKind.ANNOUNCEMENT):
        shape |= {"topic": channel.topic, "rate_limit_per_user": channel.slowmode_s}
        if channel.last_pin_at:
            shape["last_pin_timestamp"] = iso(channel.last_pin_at)
    if channel.kind is ChannelKind.VOICE:
        shape |= {"bitrate": 64_000, "user_limit": 0, "rtc_region": None, "rate_limit_per_user": 0}
    return shape


def _thread_details(thread: Channel) -> Json:
    """What a thread has in place of position and overwrites. Source: developer docs, "Channel Object", "Thread Metadata"."""
    return {
        "guild_id": str(thread.guild_id),
        "name": thread.name,
        "parent_id": str(thread.parent_id),
        "owner_id": str(thread.owner_id),
        "rate_limit_per_user": thread.slowmode_s,
        "message_count": 0,
        "member_count": 1,
        "total_message_sent": 0,
        "thread_metadata": {
            "archived": False,
            "archive_timestamp": iso(thread.opened_at),
            "auto_archive_duration": 4320,
            "locked": False,
            "create_timestamp": iso(thread.opened_at),
        },
    }


def attachment_json(attachment: Attachment) -> Json:
    """An attachment object; width and height only for pictures."""
    shape: Json = {
        "id": str(attachment.id),
        "filename": attachment.filename,
        "size": attachment.size,
        "url": attachment.url,
        "proxy_url": attachment.url,
        "content_type": attachment.content_type,
    }
    if attachment.width is not None:
        shape |= {"width": attachment.width, "height": attachment.height}
    if attachment.description is not None:
        shape["description"] = attachment.description
    if attachment.is_ephemeral:
        shape["ephemeral"] = True
    return shape


def unshown(message: Message) -> list[Attachment]:
    """The files that neither a component nor an embed of the message shows: only these are its `attachments`.

    Source: developer docs, "Message Object", `attachments`; discord-api-docs issues 4809, 8277 and 8279.
    """
    media = media_of(message.components)
    shown = {str(one.get("attachment_id")) for one in media}
    addresses = {(embed.get(name) or {}).get("url") for embed in message.embeds for name in ("image", "thumbnail")}
    return [one for one in message.attachments if str(one.id) not in shown and one.url not in addresses]


def snapshot_json(message: Message) -> Json:
    """What a forward keeps of a message: neither its author nor its id. Source: developer docs, "Message Snapshot Object"."""
    return {
        "message": {
            "type": int(message.kind),
            "content": message.content,
            "timestamp": iso(message.created_at),
            "edited_timestamp": iso(message.edited_at),
            "mentions": [],
            "mention_roles": [],
            "attachments": [attachment_json(one) for one in unshown(message)],
            "embeds": message.embeds,
            "components": message.components,
            "flags": message.flags,
        }
    }


def message_json(world: World, message: Message) -> Json:
    """A message object as REST, interactions and the gateway give it."""
    shape: Json = {
        "id": str(message.id),
        "type": int(message.kind),
        "channel_id": str(message.channel_id),
        "author": user_json(world.users[message.author_id]),
        "content": message.content,
        "timestamp": iso(message.created_at),
        "edited_timestamp": iso(message.edited_at),
        "tts": message.is_tts,
        "pinned": message.is_pinned,
        "mention_everyone": message.mentions_everyone,
        "mentions": [user_json(world.users[u]) for u in message.mention_ids],
        "mention_roles": [str(role_id) for role_id in message.mention_role_ids],
        "attachments": [attachment_json(a) for a in unshown(message)],
        "embeds": message.embeds,
        "components": message.components,
        "flags": message.flags,
    }
    if message.nonce is not None:
        shape["nonce"] = message.nonce
    if message.reactions:
        shape["reactions"] = [_reaction_json(world, emoji, users) for emoji, users in message.reactions.items()]
    if message.snapshots:
        shape["message_snapshots"] = message.snapshots
        shape["message_reference"] = message.reference
    elif message.reference is not None:
        shape["message_reference"] = message.reference
        shape["referenced_message"] = _referenced(world, message.reference)
    if message.interaction_metadata is not None:
        shape["interaction_metadata"] = message.interaction_metadata
        shape["application_id"] = shape["webhook_id"] = str(world.application.id)
    if message.interaction is not None:
        shape["interaction"] = message.interaction
    return shape


def _referenced(world: World, reference: Json) -> Json | None:
    target = world.messages.get(int(reference["channel_id"]), {}).get(int(reference.get("message_id", 0)))
    if target is None:
        return None
    shape = message_json(world, target)
    for too_deep in ("message_reference", "referenced_message", "reactions"):
        shape.pop(too_deep, None)
    return shape


def _reaction_json(world: World, emoji: str, user_ids: list[int]) -> Json:
    return {
        "emoji": {"id": None, "name": emoji},
        "count": len(user_ids),
        "count_details": {"normal": len(user_ids), "burst": 0},
        "burst_colors": [],
        "me_burst": False,
        "me": world.bot.id in user_ids,
    }


def message_event_json(world: World, message: Message) -> Json:
    """A message as the gateway dispatches it: with guild and member, except where Discord leaves them out.

    Private messages have no guild, and neither have ephemeral ones.
    """
    shape = message_json(world, message)
    channel = world.channel(message.channel_id)
    guild = world.guild_of(channel)
    if guild is None or message.has(MessageFlag.EPHEMERAL):
        return shape
    shape["guild_id"] = str(guild.id)
    if member := guild.members.get(message.author_id):
        shape["member"] = member_json(world, member, with_user=False)
    return shape


def guild_json(world: World, guild: Guild) -> Json:
    """A guild object as REST gives it."""
    return {
        "id": str(guild.id),
        "name": guild.name,
        "icon": None,
        "description": None,
        "home_header": None,
        "splash": None,
        "discovery_splash": None,
        "features": list(guild.features),
        "banner": None,
        "owner_id": str(guild.owner_id),
        "application_id": None,
        "region": "deprecated",
        "afk_channel_id": None,
        "afk_timeout": 300,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "widget_enabled": False,
        "widget_channel_id": None,
        "verification_level": 0,
        "roles": [role_json(role) for role in guild.roles.values()],
        "default_message_notifications": 0,
        "mfa_level": guild.mfa_level,
        "explicit_content_filter": 0,
        "max_presences": None,
        "max_members": 500_000,
        "max_stage_video_channel_users": 50,
        "max_video_channel_users": 25,
        "vanity_url_code": None,
        "premium_tier": guild.boost_tier,
        "premium_subscription_count": sum(1 for m in guild.members.values() if m.boosting_since),
        "preferred_locale": guild.preferred_locale,
        "rules_channel_id": None,
        "safety_alerts_channel_id": None,
        "public_updates_channel_id": None,
        "premium_progress_bar_enabled": False,
        "nsfw": False,
        "nsfw_level": 0,
        "emojis": [],
        "stickers": [],
        "incidents_data": None,
        "approximate_member_count": len(guild.members),
        "approximate_presence_count": len(guild.members),
    }


def guild_create_json(world: World, guild: Guild, members: list[Member]) -> Json:
    """The GUILD_CREATE event: the guild with its channels and those members the session may know at once.

    Without `unavailable` it means "you were invited"; with `unavailable: false` it follows READY.
    """
    shape = guild_json(world, guild)
    shape |= {
        "joined_at": iso(guild.members[world.bot.id].joined_at),
        "large": False,
        "member_count": len(guild.members),
        "voice_states": [],
        "members": [member_json(world, member) for member in members],
        "channels": [channel_json(world, channel) for channel in guild.channels.values()],
        "threads": [channel_json(world, thread) for thread in guild.threads.values()],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }
    return shape


def application_json(world: World, application: Application) -> Json:
    """The application as its own bot sees it."""
    return {
        "id": str(application.id),
        "name": application.name,
        "icon": None,
        "description": application.description,
        "type": None,
        "bot": user_json(world.users[application.bot_id]),
        "summary": "",
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": "0" * 64,
        "flags": application.flags,
        "flags_new": str(application.flags),
        "redirect_uris": [],
        "interactions_endpoint_url": None,
        "role_connections_verification_url": None,
        "owner": user_json(world.users[application.owner_id]),
        "approximate_guild_count": len(world.guilds),
        "approximate_user_install_count": 0,
        "approximate_user_authorization_count": 0,
        "explicit_content_filter": 0,
        "team": None,
        "eligible_oauth2_scopes": ["bot", "applications.commands"],
    }


def command_json(world: World, command: Command) -> Json:
    """A registered command."""
    shape = command.body | {
        "id": str(command.id),
        "application_id": str(world.application.id),
        "version": str(command.version),
        "type": command.kind,
        "name": command.name,
    }
    return shape | {"guild_id": str(command.guild_id)} if command.guild_id is not None else shape


def has_message_content(world: World) -> bool:
    """Whether the application was granted the message content intent at all."""
    return bool(world.application.flags & ApplicationFlag.MESSAGE_CONTENT)


def without_content(world: World, message: Message, shape: Json) -> Json:
    """What a bot without the message content intent is shown of a message it neither wrote nor is addressed by."""
    is_private = message.channel_id in world.dms or message.has(MessageFlag.EPHEMERAL)
    if is_private or message.author_id == world.bot.id or world.bot.id in message.mention_ids:
        return shape
    return shape | {"content": "", "embeds": [], "attachments": [], "components": []}
