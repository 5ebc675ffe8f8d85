"""Discord's permission algorithm, over many guilds."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from modules.sandbox.discord_server.permissions import (
    EVERYTHING,
    NOTHING,
    TIMED_OUT,
    Permission,
    base_permissions,
    outranks,
    permissions_in,
)
from modules.sandbox.discord_server.world import Channel, ChannelKind, Guild, Member, Overwrite, OverwriteKind, Role

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GUILD, OWNER, SOMEBODY, LOW, HIGH = 1, 2, 3, 10, 11
#: Bits that matter to text channels, without ADMINISTRATOR, which overrides everything.
ORDINARY = [Permission.VIEW_CHANNEL, Permission.SEND_MESSAGES, Permission.ATTACH_FILES, Permission.MANAGE_MESSAGES]
bits = st.lists(st.sampled_from(ORDINARY), unique=True).map(lambda chosen: int(sum(chosen)))


@st.composite
def guilds(draw: st.DrawFn) -> tuple[Guild, Member, Channel]:
    roles = {
        GUILD: Role(id=GUILD, name="@everyone", permissions=draw(bits), position=0),
        LOW: Role(id=LOW, name="low", permissions=draw(bits), position=1),
        HIGH: Role(id=HIGH, name="high", permissions=draw(bits), position=2),
    }
    member = Member(user_id=SOMEBODY, joined_at=NOW, role_ids=draw(st.lists(st.sampled_from([LOW, HIGH]), unique=True)))
    owner = Member(user_id=OWNER, joined_at=NOW)
    guild = Guild(id=GUILD, name="g", owner_id=OWNER, roles=roles, members={SOMEBODY: member, OWNER: owner})
    targets = [(OverwriteKind.ROLE, t) for t in (GUILD, LOW, HIGH)] + [(OverwriteKind.MEMBER, SOMEBODY)]
    chosen = draw(st.lists(st.sampled_from(targets), unique=True))
    overwrites = [Overwrite(target_id=t, kind=kind, allow=(allow := draw(bits)), deny=draw(bits) & ~allow) for kind, t in chosen]
    channel = Channel(id=20, kind=ChannelKind.TEXT, guild_id=GUILD, overwrites=overwrites)
    return guild, member, channel


@given(guilds())
def test_who_does_not_see_a_channel_may_do_nothing_in_it(made: tuple[Guild, Member, Channel]) -> None:
    allowed = permissions_in(*made, NOW)
    assert allowed == NOTHING or Permission.VIEW_CHANNEL in allowed


@given(guilds())
def test_owner_and_administrators_may_do_everything_everywhere(made: tuple[Guild, Member, Channel]) -> None:
    guild, member, channel = made
    assert permissions_in(guild, guild.members[OWNER], channel, NOW) == EVERYTHING
    guild.roles[HIGH].permissions |= Permission.ADMINISTRATOR
    member.role_ids = [HIGH]
    assert permissions_in(guild, member, channel, NOW) == EVERYTHING


@given(guilds(), st.sampled_from(ORDINARY))
def test_the_most_particular_overwrite_has_the_last_word(made: tuple[Guild, Member, Channel], bit: Permission) -> None:
    """Member over roles over @everyone over the roles' own permissions; among roles, allowing wins."""
    guild, member, channel = made
    by_target = {o.target_id: o for o in channel.overwrites}
    role_overwrites = [by_target[r] for r in member.role_ids if r in by_target]
    expected = bool(base_permissions(guild, member, NOW) & bit)
    for allows, denies in (
        ([by_target[GUILD].allow], [by_target[GUILD].deny]) if GUILD in by_target else ([], []),
        ([o.allow for o in role_overwrites], [o.deny for o in role_overwrites]),
        ([by_target[SOMEBODY].allow], [by_target[SOMEBODY].deny]) if SOMEBODY in by_target else ([], []),
    ):
        if any(a & bit for a in allows):
            expected = True
        elif any(d & bit for d in denies):
            expected = False
    allowed = permissions_in(guild, member, channel, NOW)
    if Permission.VIEW_CHANNEL not in allowed:
        return  # then everything is gone, whatever was said
    if bit is Permission.ATTACH_FILES and Permission.SEND_MESSAGES not in allowed:
        expected = False
    assert (bit in allowed) is expected


def test_among_roles_allowing_wins_whatever_their_order() -> None:
    view, send = int(Permission.VIEW_CHANNEL), int(Permission.SEND_MESSAGES)
    roles = {r: Role(id=r, name=str(r), permissions=view, position=r) for r in (GUILD, LOW, HIGH)}
    member = Member(user_id=SOMEBODY, joined_at=NOW, role_ids=[LOW, HIGH])
    guild = Guild(id=GUILD, name="g", owner_id=OWNER, roles=roles, members={SOMEBODY: member})
    for allowing, denying in ((LOW, HIGH), (HIGH, LOW)):
        overwrites = [
            Overwrite(target_id=allowing, kind=OverwriteKind.ROLE, allow=send),
            Overwrite(target_id=denying, kind=OverwriteKind.ROLE, deny=send),
        ]
        channel = Channel(id=20, kind=ChannelKind.TEXT, guild_id=GUILD, overwrites=overwrites)
        assert Permission.SEND_MESSAGES in permissions_in(guild, member, channel, NOW)


@given(guilds())
def test_a_time_out_leaves_reading(made: tuple[Guild, Member, Channel]) -> None:
    guild, member, channel = made
    before = permissions_in(guild, member, channel, NOW)
    member.timed_out_until = NOW + timedelta(minutes=1)
    assert permissions_in(guild, member, channel, NOW) == before & TIMED_OUT
    assert permissions_in(guild, member, channel, NOW + timedelta(minutes=2)) == before


@given(guilds())
def test_nobody_but_the_owner_stands_above_their_own_highest_role(made: tuple[Guild, Member, Channel]) -> None:
    guild, member, _ = made
    highest = max([GUILD, *member.role_ids])
    assert not outranks(guild, member, guild.roles[highest])
    assert all(outranks(guild, guild.members[OWNER], role) for role in guild.roles.values())
