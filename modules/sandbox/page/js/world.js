// What one person knows: guild, people, messages, what is unread, which interactions are under way.
// Views listen to its events; only the server's answers and events change it.

import { compareIds } from "./dom.js";
import { ADMINISTRATOR, SEND_MESSAGES, channelPermissions, guildPermissions } from "./permissions.js";
import { ReadState } from "./read_state.js";

export const DM = "dm";
export const EPHEMERAL = 1 << 6;
export const LOADING = 1 << 7;
export const COMPONENTS_V2 = 1 << 15;
export const CATEGORY = 4;

//: Somebody who left the guild still talks with the bot.
const NO_GUILD = { id: "0", name: "—", channels: [], members: [], roles: [] };
//: How many messages a channel shows; older ones are left out of this page.
const MESSAGES_SHOWN = 200;
//: A typing notice stands this long. Source: Discord developer docs, "Trigger Typing Indicator".
const TYPING_MS = 10_000;

export class World extends EventTarget {
  constructor(api, me) {
    super();
    Object.assign(this, { api, me });
    this.identity = null;
    this.guild = null;
    this.dm = null;
    this.channels = new Map();
    this.members = new Map();
    this.roles = new Map();
    this.commands = [];
    this.messages = new Map();
    this.bot = null;
    this.botOnline = true;
    this.interactions = new Map();
    this.earlyEvents = new Map();
    this.typing = new Map();
    this.read = new ReadState(me.id);
    this.current = null;
  }

  emit(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Asks the server for everything again: at the start and after a lost connection. */
  async load() {
    const state = await this.api.state();
    this.identity = state.world;
    this.me = { ...this.me, ...state.me };
    this.guild = state.guild ?? NO_GUILD;
    this.dm = state.dm;
    this.bot = state.bot;
    this.botOnline = state.bot.online;
    this.commands = state.commands;
    this.roles = new Map(this.guild.roles.map((role) => [role.id, role]));
    this.members = new Map(this.guild.members.map((member) => [member.user.id, asMember(member)]));
    this.channels = new Map(this.guild.channels.map((channel) => [channel.id, channel]));
    this.read.begin([...this.channels.values(), { id: DM, last_message_id: this.dm.last_message_id }]);
    this.emit("guild");
    this.emit("commands");
    this.countMissedMentions();
  }

  // -- people ---------------------------------------------------------------------------------------------

  knowsPerson(id) {
    return this.members.has(id) || this.knownAuthors().has(id);
  }

  nameOf(id) {
    const member = this.members.get(id);
    if (member) return member.nick ?? member.user.global_name ?? member.user.username;
    const author = this.knownAuthors().get(id);
    return author?.global_name ?? author?.username ?? id;
  }

  /** People who left but wrote here, or are mentioned: known from the messages. */
  knownAuthors() {
    const authors = new Map([[this.me.id, this.me], [this.bot.id, this.bot]]);
    for (const messages of this.messages.values()) {
      for (const message of messages) for (const user of [message.author, ...(message.mentions ?? [])]) authors.set(user.id, user);
    }
    return authors;
  }

  /** The colour of a person's name: that of the highest role that has one. */
  topRole(id, wanted = (role) => role.color) {
    const roles = (this.members.get(id)?.roles ?? []).map((roleId) => this.roles.get(roleId)).filter((role) => role && wanted(role));
    return roles.sort((a, b) => b.position - a.position)[0] ?? null;
  }

  get myMember() {
    return this.members.get(this.me.id) ?? { id: this.me.id, user: this.me, roles: [] };
  }

  get isAdmin() {
    return Boolean(this.me.is_admin) || (guildPermissions(this.guild, this.roles, this.myMember) & ADMINISTRATOR) !== 0n;
  }

  maySend(channelKey) {
    const channel = this.channels.get(channelKey);
    if (!channel) return channelKey === DM;
    return this.isAdmin || (channelPermissions(this.guild, this.roles, this.myMember, channel) & SEND_MESSAGES) !== 0n;
  }

  /** Commands of one kind that work in a channel; the server leaves out those this person may not use. */
  commandsOfType(type, channelKey) {
    return this.commands.filter((command) => command.type === type && (channelKey !== DM || worksInDm(command)));
  }

  // -- channels and messages ------------------------------------------------------------------------------

  channelName(key) {
    return key === DM ? this.nameOf(this.bot.id) : (this.channels.get(key)?.name ?? "");
  }

  /** The key of a channel here: guild channels by id, the talk with the bot as "dm". */
  keyOf(channelId) {
    return channelId === this.dm?.id ? DM : channelId;
  }

  /** The channel object behind a key. */
  channel(key) {
    return key === DM ? this.dm : this.channels.get(key);
  }

  async loadMessages(key) {
    const messages = await this.api.messages(key, MESSAGES_SHOWN);
    this.messages.set(key, messages.sort((a, b) => compareIds(a.id, b.id)));
    for (const message of messages) this.answered(message);
    this.emit("messages", { channel: key });
    return messages;
  }

  findMessage(key, id) {
    return (this.messages.get(key) ?? []).find((message) => message.id === id) ?? null;
  }

  put(key, message, mayBeNew) {
    const list = this.messages.get(key);
    const at = list?.findIndex((known) => known.id === message.id) ?? -1;
    if (at >= 0) {
      list[at] = { ...list[at], ...message };
      this.emit("message", { kind: "update", channel: key, message: list[at] });
    } else if (list && mayBeNew) {
      list.push(message);
      list.sort((a, b) => compareIds(a.id, b.id));
      this.emit("message", { kind: "create", channel: key, message });
    }
  }

  remove(key, id) {
    const list = this.messages.get(key);
    const at = list?.findIndex((message) => message.id === id) ?? -1;
    if (at < 0) return;
    const [message] = list.splice(at, 1);
    this.emit("message", { kind: "delete", channel: key, message });
  }

  mentionsMe(message) {
    if (message.author.id === this.me.id) return false;
    return message.mention_everyone || (message.mentions ?? []).some((user) => user.id === this.me.id)
      || (message.mention_roles ?? []).some((role) => this.myMember.roles.includes(role));
  }

  isUnread(key) {
    return this.read.isUnread(key, this.channel(key)?.last_message_id);
  }

  /** Everything in a channel has been seen. */
  markRead(key) {
    const last = this.messages.get(key)?.filter((message) => !(message.flags & EPHEMERAL)).at(-1)?.id ?? this.channel(key)?.last_message_id;
    if (this.read.mark(key, last)) this.emit("read");
  }

  /** Mentions that arrived while this person was not looking (another person's turn, a closed tab). */
  async countMissedMentions() {
    const unread = [...this.channels.keys()].filter((key) => key !== this.current && this.isUnread(key)).slice(0, 25);
    for (const key of unread) {
      const since = this.read.marker(key);
      const messages = await this.api.messages(key, 50).catch(() => []);
      const missed = messages.filter((message) => (!since || compareIds(message.id, since) > 0) && this.mentionsMe(message)).length;
      if (this.read.setMentions(key, missed)) this.emit("read");
    }
  }

  // -- interactions ---------------------------------------------------------------------------------------

  /**
   * Sends an interaction and follows it. `post` does the call; `interaction` says what it was
   * ({kind: "command"|"component"|"modal", channel, message?, customId?, label?}).
   */
  async interact(interaction, post) {
    const local = { ...interaction, id: `local-${Math.random().toString(36).slice(2)}`, state: "sent", at: new Date() };
    this.interactions.set(local.id, local);
    this.emit("interaction", local);
    try {
      const { interaction_id: id } = await post();
      this.interactions.delete(local.id);
      local.id = id;
      this.interactions.set(id, local);
      this.emit("interaction", local);
      for (const [type, data] of this.earlyEvents.get(id) ?? []) this.apply(type, data);
      this.earlyEvents.delete(id);
    } catch (error) {
      this.settle(local, "failed", error.message);
    }
    return local;
  }

  /** Ends an interaction. What failed stays in view until it is dismissed or tried again. */
  settle(interaction, state, reason = "") {
    Object.assign(interaction, { state, reason });
    if (state === "done") this.interactions.delete(interaction.id);
    this.emit("interaction", interaction);
  }

  dismissInteraction(id) {
    const interaction = this.interactions.get(id);
    if (interaction) this.settle(interaction, "done");
  }

  /** A message answers the interaction it names: its place holder can go. */
  answered(message) {
    const id = message.interaction_metadata?.id ?? message.interaction?.id;
    const interaction = id && this.interactions.get(id);
    if (interaction && interaction.kind === "command") this.settle(interaction, "done");
  }

  /** What is being waited for, or went wrong, at a message (button presses and selections). */
  interactionsAt(messageId) {
    return [...this.interactions.values()].filter((one) => one.kind === "component" && one.message === messageId);
  }

  // -- events ---------------------------------------------------------------------------------------------

  apply(type, d) {
    const id = d.interaction_id;
    if (id && type !== "MODAL_OPEN" && !this.interactions.has(id)) {
      this.remember(id, type, d);
      return;
    }
    const handler = HANDLERS[type];
    if (handler) handler(this, d);
  }

  /** An event that overtook the answer to its own request. */
  remember(id, type, d) {
    this.earlyEvents.set(id, [...(this.earlyEvents.get(id) ?? []), [type, d]]);
    if (this.earlyEvents.size > 50) this.earlyEvents.delete(this.earlyEvents.keys().next().value);
  }

  setTyping(key, user) {
    const people = this.typing.get(key) ?? new Map();
    clearTimeout(people.get(user));
    people.set(user, setTimeout(() => this.stopTyping(key, user), TYPING_MS));
    this.typing.set(key, people);
    this.emit("typing", { channel: key });
  }

  stopTyping(key, user) {
    const people = this.typing.get(key);
    if (!people?.has(user)) return;
    clearTimeout(people.get(user));
    people.delete(user);
    this.emit("typing", { channel: key });
  }
}

const HANDLERS = {
  MESSAGE_CREATE(world, message) {
    const key = world.keyOf(message.channel_id);
    const channel = world.channel(key);
    if (channel && !(message.flags & EPHEMERAL)) channel.last_message_id = message.id;
    world.stopTyping(key, message.author.id);
    world.answered(message);
    world.put(key, message, true);
    if (message.author.id === world.me.id) world.read.mark(key, message.id);
    if (key === world.current && document.hasFocus()) world.markRead(key);
    else world.emit("read");
  },
  MESSAGE_UPDATE(world, message) {
    const key = world.keyOf(message.channel_id);
    world.put(key, message, false);
    world.answered(message);
  },
  MESSAGE_DELETE: (world, d) => world.remove(world.keyOf(d.channel_id), d.id),
  CHANNEL_CREATE: (world, channel) => setChannel(world, channel),
  CHANNEL_UPDATE: (world, channel) => setChannel(world, channel),
  CHANNEL_DELETE(world, channel) {
    world.channels.delete(channel.id);
    world.messages.delete(channel.id);
    world.read.forget(channel.id);
    world.emit("guild");
    world.emit("read");
  },
  COMMANDS_UPDATE: (world) => world.load().catch(() => {}),   // a lost server is noticed by the socket, which loads again
  NOTIFICATION(world, d) {
    const key = world.keyOf(d.channel);
    if (key === world.current && document.hasFocus()) return;
    world.read.setMentions(key, world.read.mentions(key) + 1);
    world.emit("read");
  },
  TYPING: (world, d) => world.setTyping(world.keyOf(d.channel_id), d.user_id),
  BOT_STATUS(world, d) {
    world.botOnline = d.online;
    world.emit("bot");
  },
  INTERACTION_DEFERRED(world, d) {
    const interaction = world.interactions.get(d.interaction_id);
    const isShown = world.findMessage(world.keyOf(d.channel), d.message_id) !== null;   // "is thinking..." stands there already
    world.settle(interaction, interaction.kind === "command" && !isShown ? "thinking" : "done");
  },
  INTERACTION_DONE: (world, d) => world.settle(world.interactions.get(d.interaction_id), "done"),
  INTERACTION_FAILED: (world, d) => world.settle(world.interactions.get(d.interaction_id), "failed"),
  MODAL_OPEN(world, d) {
    const interaction = world.interactions.get(d.interaction_id);
    if (interaction) world.settle(interaction, "done");
    world.emit("modal", { ...d, channel: world.keyOf(d.channel), message: interaction?.message });
  },
};

function setChannel(world, channel) {
  world.channels.set(channel.id, { ...world.channels.get(channel.id), ...channel });
  world.emit("guild");
}

const asMember = (member) => ({ ...member, id: member.user.id });

function worksInDm(command) {
  if (Array.isArray(command.contexts)) return command.contexts.includes(1);
  return command.dm_permission !== false && !command.guild_id;
}
