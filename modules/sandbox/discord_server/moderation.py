"""What moderators do to channels and members; both faces use it."""

from modules.sandbox.discord_server.context import Context
from modules.sandbox.discord_server.shapes import channel_json
from modules.sandbox.discord_server.wire import Json
from modules.sandbox.discord_server.world import Channel, Guild


def remove_channel(context: Context, channel: Channel) -> Json:
    """Take a guild channel and its messages out of the world; gives its last shape. A category's children stay."""
    world = context.world
    guild = world.guild_of(channel)
    assert guild is not None
    shape = channel_json(world, channel)
    orphans = [other for other in guild.channels.values() if other.parent_id == channel.id]
    del guild.channels[channel.id]
    for thread in [one for one in guild.threads.values() if one.parent_id == channel.id]:
        del guild.threads[thread.id]
        world.messages.pop(thread.id, None)
    world.messages.pop(channel.id, None)
    context.announcer.channel_deleted(channel, shape)
    for orphan in orphans:
        orphan.parent_id = None
        context.announcer.channel_updated(orphan)
    return shape


def remove_member(context: Context, guild: Guild, user_id: int) -> None:
    """Somebody leaves or is removed. Their overwrites go with them, as on Discord."""
    guild.member(user_id)
    del guild.members[user_id]
    for channel in guild.channels.values():
        channel.overwrites = [o for o in channel.overwrites if o.target_id != user_id]
    if user_id == context.world.bot.id:
        context.announcer.guild_left(guild)
    else:
        context.announcer.member_left(guild, context.world.users[user_id])
