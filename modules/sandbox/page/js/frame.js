// Everything around the chat: servers, channels, who one is, members, the line at the top.

import { avatar } from "./avatar.js";
import { h, icon, iconButton } from "./dom.js";
import { openChannelMenu, openPersonMenu } from "./menus.js";
import { appTag } from "./message.js";
import { isPrivate } from "./permissions.js";
import { roleColour } from "./rich_text.js";
import { t } from "./text.js";
import { CATEGORY, DM } from "./world.js";

const ANNOUNCEMENTS = 5;
//: Channel types this page can show: text, announcements. Voice and the like stay out.
const SHOWN = new Set([0, ANNOUNCEMENTS]);

/** The round buttons at the far left: talk with the bot, and the server. */
export class Rail {
  constructor(ui) {
    this.ui = ui;
    this.element = h("nav", { class: "rail", "aria-label": t("nav.servers"), "data-testid": "rail" });
    onAny(ui.world, ["guild", "read", "open"], () => this.show());
  }

  show() {
    const { world } = this.ui;
    if (!world.guild) return;
    const keys = [...world.channels.keys()];
    const mentions = keys.reduce((sum, key) => sum + world.read.mentions(key), 0);
    const inGuild = world.current !== DM;
    const home = this.button({ active: !inGuild, unread: world.isUnread(DM), mentions: world.read.mentions(DM), label: t("nav.dm"), testid: "rail-dm", open: () => this.ui.go(DM) }, icon("message", 24));
    const initials = world.guild.name.split(/\s+/).map((word) => [...word][0]).slice(0, 3).join("");
    const guild = this.button({ active: inGuild, unread: keys.some((key) => world.isUnread(key)), mentions, label: world.guild.name, testid: "rail-guild", open: () => this.ui.go(this.ui.lastGuildChannel()) }, initials);
    this.element.replaceChildren(...[home, h("hr", { class: "rail-line" }), world.guild.members.length > 0 && guild].filter(Boolean));
  }

  button({ active, unread, mentions, label, testid, open }, content) {
    return h("div", { class: `rail-item ${active ? "is-active" : ""} ${unread ? "is-unread" : ""}` },
      h("button", { type: "button", class: "rail-button", "aria-label": mentionLabel(label, mentions), title: label, "aria-current": active ? "page" : null, "data-testid": testid, on: { click: open } }, content),
      mentions > 0 && h("span", { class: "badge" }, String(mentions)));
  }
}

/** The channels this person may see, by category. */
export class ChannelList {
  constructor(ui) {
    this.ui = ui;
    this.collapsed = new Set();
    this.heading = h("h1", { class: "guild-name" });
    this.list = h("div", { class: "channel-scroller", role: "tree", "aria-label": t("nav.channels"), "data-testid": "channels" });
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    this.element = h("div", { class: "channel-list" }, h("header", { class: "guild-header" }, this.heading), this.list);
    onAny(ui.world, ["guild", "read", "open"], () => this.show());
  }

  show() {
    const { world } = this.ui;
    if (!world.guild) return;
    const inPrivate = world.current === DM;
    this.heading.textContent = inPrivate ? t("nav.dm") : world.guild.name;
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.channelId : null;
    const dm = h("div", { class: "channel-group" }, this.row(DM, { name: world.channelName(DM), face: avatar(world.bot, 24, world.botOnline ? "online" : "offline") }));
    const groups = groupChannels([...world.channels.values()]);
    this.list.replaceChildren(...(inPrivate ? [dm] : groups.map((group) => this.group(group))));
    if (!inPrivate && groups.length === 0) this.list.append(h("p", { class: "channel-none" }, t("nav.noChannels")));
    if (focused) this.list.querySelector(`[data-channel-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  group({ category, channels }) {
    const { world } = this.ui;
    const closed = category && this.collapsed.has(category.id);
    const shown = closed ? channels.filter((channel) => channel.id === world.current || world.isUnread(channel.id)) : channels;
    const rows = shown.map((channel) => this.row(channel.id, { name: channel.name, channel }));
    if (!category) return h("div", { class: "channel-group", role: "group" }, rows);
    return h("div", { class: closed ? "channel-group is-closed" : "channel-group", role: "group", "aria-label": category.name },
      h("button", { type: "button", class: "category", "aria-expanded": String(!closed), "aria-label": t("nav.collapse", { name: category.name }), "data-testid": "category", on: { click: () => this.toggle(category.id) } }, icon("chevron", 12), h("span", {}, category.name)), rows);
  }

  toggle(id) {
    if (!this.collapsed.delete(id)) this.collapsed.add(id);
    this.show();
  }

  row(key, { name, channel, face }) {
    const { world } = this.ui;
    const active = key === world.current;
    const unread = !active && world.isUnread(key);
    const mentions = world.read.mentions(key);
    const hidden = channel && isPrivate(world.guild, channel);
    const glyph = face ?? h("span", { class: "channel-glyph" }, icon(channel.type === ANNOUNCEMENTS ? "announce" : "hash", 20), hidden && h("span", { class: "channel-lock" }, icon("lock", 10)));
    const label = [mentionLabel(name, mentions), unread && t("nav.unread"), hidden && t("nav.private")].filter(Boolean).join(", ");
    return h("button", {
      type: "button", class: ["channel", active && "is-active", unread && "is-unread"].filter(Boolean).join(" "), role: "treeitem", "aria-selected": String(active), "aria-label": label,
      "data-testid": "channel", "data-channel-id": key, "data-channel-name": name,
      on: {
        click: () => this.ui.go(key),
        contextmenu: (event) => { if (!channel) return; event.preventDefault(); openChannelMenu(this.ui, channel, { x: event.clientX, y: event.clientY }); },
      },
    }, glyph, h("span", { class: "channel-name" }, name), mentions > 0 && h("span", { class: "badge", "data-testid": "mention-badge" }, String(mentions)));
  }

  onKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const stops = [...this.list.querySelectorAll("button")];
    stops[(stops.indexOf(document.activeElement) + step + stops.length) % stops.length]?.focus();
  }
}

/** [{category|null, channels}] in Discord's order: by position, loose channels first, empty categories left out. */
export function groupChannels(all) {
  const byPlace = (a, b) => (a.position ?? 0) - (b.position ?? 0) || (a.id < b.id ? -1 : 1);
  const categories = all.filter((channel) => channel.type === CATEGORY).sort(byPlace);
  const ids = new Set(categories.map((category) => category.id));
  const text = all.filter((channel) => SHOWN.has(channel.type)).sort(byPlace);
  const loose = text.filter((channel) => !ids.has(channel.parent_id));
  const groups = categories.map((category) => ({ category, channels: text.filter((channel) => channel.parent_id === category.id) }));
  return [...(loose.length > 0 ? [{ category: null, channels: loose }] : []), ...groups.filter((group) => group.channels.length > 0)];
}

/** Lower left: who one is, and everybody else one can be. */
export class PersonSwitcher {
  constructor(ui, people) {
    this.ui = ui;
    this.people = people;
    this.element = h("section", { class: "switcher", "aria-label": t("switch.hint"), "data-testid": "switcher" });
    onAny(ui.world, ["guild"], () => this.show());
    this.show();
  }

  show() {
    const { me } = this.ui.world;
    const mine = h("div", { class: "me", "data-testid": "me", "data-user-id": me.id }, avatar(me, 36, "online"),
      h("span", { class: "me-about" }, h("span", { class: "me-name" }, h("span", { class: "visually-hidden" }, `${t("switch.title")} `), me.global_name ?? me.username), h("span", { class: "me-role" }, this.about(me))));
    const others = h("div", { class: "faces", role: "group", "aria-label": t("switch.hint") }, this.people.map((person) => this.face(person, person.id === me.id)));
    this.element.replaceChildren(h("p", { class: "switcher-hint" }, t("switch.hint")), others, mine);
  }

  about(person) {
    const language = person.locale?.startsWith("es") ? "Español" : "English";
    const role = person.is_admin ? t("switch.admin") : (person.roles ?? []).filter((name) => name !== "@everyone").at(-1) ?? t("switch.member");
    return `${role} · ${language}`;
  }

  face(person, isMe) {
    const name = person.global_name ?? person.username;
    return h("button", {
      type: "button", class: isMe ? "face is-me" : "face", "aria-pressed": String(isMe), "aria-label": t("switch.to", { name }), title: `${name} · ${this.about(person)}`,
      "data-testid": "person", "data-user-id": person.id, "data-username": person.username, on: { click: () => this.ui.become(person.id) },
    }, avatar(person, 34), person.is_admin && h("span", { class: "face-crown" }, icon("crown", 12)));
  }
}

/** Right side: who is in this channel. */
export class MemberList {
  constructor(ui) {
    this.ui = ui;
    this.element = h("aside", { class: "members", "aria-label": t("nav.members"), "data-testid": "members" });
    onAny(ui.world, ["guild", "bot", "open"], () => this.show());
  }

  show() {
    const { world } = this.ui;
    if (!world.guild) return;
    const groups = new Map();
    const here = [...world.members.values()].filter((member) => world.current !== DM || [world.me.id, world.bot.id].includes(member.id));
    const members = here.sort((a, b) => world.nameOf(a.id).localeCompare(world.nameOf(b.id)));
    for (const member of members) {
      const role = world.topRole(member.id, (one) => one.hoist);
      const online = !member.user.bot || world.botOnline;
      const heading = !online ? t("members.offline") : member.user.bot && !role ? t("members.bots") : (role?.name ?? t("members.online"));
      groups.set(heading, [...(groups.get(heading) ?? []), member]);
    }
    this.element.replaceChildren(...[...groups].sort(([a], [b]) => this.rank(b) - this.rank(a)).map(([heading, list]) =>
      h("section", { class: "member-group" }, h("h2", {}, `${heading} — ${list.length}`), list.map((member) => this.row(member)))));
  }

  rank(heading) {
    if (heading === t("members.offline")) return -2;
    if (heading === t("members.online")) return -1;
    return [...this.ui.world.roles.values()].find((role) => role.name === heading)?.position ?? 0;
  }

  row(member) {
    const { world } = this.ui;
    const owner = world.guild.owner_id === member.id;
    const online = !member.user.bot || world.botOnline;
    const open = (event) => { event.preventDefault(); openPersonMenu(this.ui, member.user, { x: event.clientX, y: event.clientY }); };
    return h("button", { type: "button", class: online ? "member" : "member is-offline", "data-testid": "member", "data-user-id": member.id, on: { click: open, contextmenu: open } },
      avatar(member.user, 32, online ? "online" : "offline"),
      h("span", { class: "person-name", vars: roleColour(world.topRole(member.id)) }, world.nameOf(member.id)),
      member.user.bot && appTag(), owner && h("span", { class: "owner-mark", title: t("members.owner") }, icon("crown", 14)));
  }
}

/** The line above the chat. */
export class TopBar {
  constructor(ui) {
    this.ui = ui;
    this.element = h("header", { class: "top-bar", "data-testid": "top-bar" });
    onAny(ui.world, ["guild", "open", "bot"], () => this.show());
  }

  show() {
    const { world } = this.ui;
    if (!world.guild || !world.current) return;
    const key = world.current;
    const channel = world.channels.get(key);
    this.element.replaceChildren(
      iconButton("menu", t("nav.openChannels"), () => this.ui.toggleDrawer(), { class: "icon-button drawer-button", "data-testid": "open-channels" }),
      key === DM ? avatar(world.bot, 24, world.botOnline ? "online" : "offline") : h("span", { class: "channel-glyph" }, icon("hash", 22)),
      h("h2", { class: "top-name", "data-testid": "channel-title" }, world.channelName(key)),
      channel?.topic ? h("span", { class: "top-topic" }, this.ui.rich.line(channel.topic)) : h("span", { class: "top-topic" }),
      iconButton("people", t("nav.members"), () => this.ui.toggleMembers(), { "data-testid": "toggle-members" }));
  }
}

const mentionLabel = (name, mentions) => (mentions > 0 ? `${name}, ${t("nav.mentions", { count: mentions })}` : name);

/** Draws again at most once a frame, however many events ask for it. */
function onAny(world, types, run) {
  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    queueMicrotask(() => { asked = false; run(); });
  };
  for (const type of types) world.addEventListener(type, soon);
}
