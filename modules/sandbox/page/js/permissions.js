// What a person may do in a channel, by Discord's rules: roles first, then overwrites of @everyone, roles, person.

//: Bits of Discord's permission set that this page asks about. Source: Discord developer docs, "Permissions".
export const ADMINISTRATOR = 1n << 3n;
export const VIEW_CHANNEL = 1n << 10n;
export const SEND_MESSAGES = 1n << 11n;
const EVERYTHING = ~0n;

/** The permission bits of a member in the whole guild. */
export function guildPermissions(guild, roles, member) {
  if (guild.owner_id && member.id === guild.owner_id) return EVERYTHING;
  let bits = BigInt(roles.get(guild.id)?.permissions ?? 0);
  for (const id of member.roles) bits |= BigInt(roles.get(id)?.permissions ?? 0);
  return bits & ADMINISTRATOR ? EVERYTHING : bits;
}

/** The permission bits of a member in one channel. */
export function channelPermissions(guild, roles, member, channel) {
  let bits = guildPermissions(guild, roles, member);
  if (bits === EVERYTHING) return bits;
  const overwrites = channel.permission_overwrites ?? [];
  const apply = (chosen) => {
    const [deny, allow] = chosen.reduce(([no, yes], one) => [no | BigInt(one.deny ?? 0), yes | BigInt(one.allow ?? 0)], [0n, 0n]);
    bits = (bits & ~deny) | allow;
  };
  apply(overwrites.filter((one) => one.id === guild.id));
  apply(overwrites.filter((one) => one.id !== guild.id && member.roles.includes(one.id)));
  apply(overwrites.filter((one) => one.id === member.id));
  return bits;
}

/** Hidden from @everyone: shown with a lock, as only some may see it. */
export function isPrivate(guild, channel) {
  return (channel.permission_overwrites ?? []).some((one) => one.id === guild.id && BigInt(one.deny ?? 0) & VIEW_CHANNEL);
}
