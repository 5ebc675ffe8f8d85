// One message: face, name, time, what it answers, its text and pictures, and what can be done with it.

import { avatar } from "./avatar.js";
import { interactionFailures, renderComponents } from "./components.js";
import { h, icon, iconButton, spinner } from "./dom.js";
import { embed } from "./embeds.js";
import { emojiElement } from "./emoji.js";
import { openMessageMenu, openPersonMenu } from "./menus.js";
import { attachments } from "./media.js";
import { roleColour } from "./rich_text.js";
import { localised, t } from "./text.js";
import { fullMoment, headerTime, shortTime, startOfDay } from "./time.js";
import { COMPONENTS_V2, EPHEMERAL, LOADING } from "./world.js";

//: Messages of one person closer together than this share one face and name, as in Discord's client.
const GROUP_MS = 7 * 60_000;
const ACTION_ROW = 1;
const PINNED = 6;
const JOINED = 7;
const SYSTEM = { [PINNED]: "chat.pinned", [JOINED]: "chat.joined" };

/** True when a message shows face and name of its own instead of joining the one before. */
export function startsGroup(message, before) {
  if (!before || before.author.id !== message.author.id) return true;
  if (message.message_reference || usedCommand(message) || SYSTEM[message.type] || SYSTEM[before.type]) return true;
  if ((message.flags & EPHEMERAL) !== (before.flags & EPHEMERAL) || message.webhook_id !== before.webhook_id) return true;
  const [then, now] = [new Date(before.timestamp), new Date(message.timestamp)];
  return now - then > GROUP_MS || startOfDay(now) !== startOfDay(then);
}

/** The interaction a message answers, when it came from a command. */
function usedCommand(message) {
  const about = message.interaction_metadata ?? message.interaction;
  if (!about || about.type !== 2) return null;
  return { user: about.user, name: message.interaction?.name ?? about.name ?? "", target: about.target_message_id };
}

/** The list item of one message. `grouped`: no face and name of its own. */
export function renderMessage(message, ui, { grouped = false } = {}) {
  const key = ui.world.keyOf(message.channel_id);
  const ephemeral = Boolean(message.flags & EPHEMERAL);
  const item = h("li", {
    class: ["message", grouped && "is-grouped", ephemeral && "is-ephemeral", ui.world.mentionsMe(message) && "is-mention"].filter(Boolean).join(" "),
    "data-testid": "message", "data-message-id": message.id, "data-ephemeral": ephemeral ? "true" : null, tabindex: -1,
    on: {
      contextmenu: (event) => {
        if (event.target.closest("a, input, textarea")) return;
        event.preventDefault();
        openMessageMenu(ui, key, message, { x: event.clientX, y: event.clientY });
      },
    },
  });
  if (SYSTEM[message.type]) item.append(systemLine(message, ui));
  else item.append(...[...above(message, key, ui), face(message, ui, grouped), body(message, key, ui, grouped)].filter(Boolean));
  item.append(toolbar(message, key, ui));
  return item;
}

function systemLine(message, ui) {
  return h("div", { class: "system-line" }, icon("right", 18), h("span", {}, t(SYSTEM[message.type], { name: authorName(message, ui) })), h("time", { class: "message-time" }, headerTime(new Date(message.timestamp))));
}

/** The line above: which message this replies to, or which command it answers. */
function above(message, key, ui) {
  const command = usedCommand(message);
  if (command) {
    return [h("div", { class: "above", "data-testid": "used-command" }, avatar(command.user, 16), personName(command.user, ui), ` ${t("chat.used")} `, h("span", { class: "used-name" }, command.target ? icon("apps", 13) : "/", commandLabel(command.name, ui)))];
  }
  if (!message.message_reference) return [];
  const original = message.referenced_message ?? ui.world.findMessage(key, message.message_reference.message_id);
  if (!original) return [h("div", { class: "above is-gone" }, icon("reply", 14), t("chat.replyGone"))];
  const preview = original.content ? ui.rich.line(original.content.slice(0, 160)) : h("em", {}, t("chat.clickAttachment"));
  return [h("button", { type: "button", class: "above above-reply", on: { click: () => ui.go(key, original.id) } }, avatar(original.author, 16), personName(original.author, ui), h("span", { class: "above-text" }, preview))];
}

/** `/queue` may be shown under its Spanish name: the same words as in the picker. */
function commandLabel(name, ui) {
  const [first, ...rest] = name.split(" ");
  const command = ui.world.commands.find((one) => one.name === name) ?? ui.world.commands.find((one) => one.name === first);
  if (!command) return name;
  return command.name === name ? localised(command, "name") : [localised(command, "name"), ...rest].join(" ");
}

function face(message, ui, grouped) {
  if (grouped) return h("time", { class: "gutter-time", "aria-hidden": "true" }, shortTime(new Date(message.timestamp)));
  const open = (event) => { event.preventDefault(); event.stopPropagation(); openPersonMenu(ui, message.author, { x: event.clientX, y: event.clientY }); };
  return h("span", { class: "message-face", on: { contextmenu: open } }, avatar(message.author, 40));
}

function body(message, key, ui, grouped) {
  return h("div", { class: "message-body" },
    !grouped && header(message, ui),
    content(message, ui),
    reactions(message),
    interactionFailures(message, ui.world),
    message.flags & EPHEMERAL ? ephemeralFoot(message, key, ui) : null);
}

function header(message, ui) {
  const date = new Date(message.timestamp);
  return h("h3", { class: "message-header" },
    personName(message.author, ui),
    message.author.bot && appTag(),
    h("time", { class: "message-time", datetime: message.timestamp, title: fullMoment(date) }, headerTime(date)));
}

export const appTag = () => h("span", { class: "app-tag" }, t("tag.app"));

function authorName(message, ui) {
  return ui.world.members.has(message.author.id) ? ui.world.nameOf(message.author.id) : (message.author.global_name ?? message.author.username);
}

function personName(user, ui) {
  const name = ui.world.members.has(user.id) ? ui.world.nameOf(user.id) : (user.global_name ?? user.username);
  const open = (event) => { event.preventDefault(); event.stopPropagation(); openPersonMenu(ui, user, { x: event.clientX, y: event.clientY }); };
  return h("span", { class: "person-name", "data-testid": "author", vars: roleColour(ui.world.topRole(user.id)), on: { contextmenu: open } }, name);
}

function content(message, ui) {
  const box = h("div", { class: "message-content", "data-testid": "message-content" });
  if (message.flags & LOADING) {
    box.append(h("p", { class: "thinking", "data-testid": "thinking" }, spinner("…"), t("chat.thinking", { name: authorName(message, ui) })));
    return box;
  }
  const edited = message.edited_timestamp && h("span", { class: "edited", title: fullMoment(new Date(message.edited_timestamp)) }, t("time.edited"));
  const layout = Boolean(message.flags & COMPONENTS_V2);
  if (!layout && message.content) {
    const text = ui.rich.blocks(message.content);
    if (edited) (text.lastElementChild?.matches("p") ? text.lastElementChild : text).append(" ", edited);
    box.append(text);
  }
  for (const { message: original } of message.message_snapshots ?? []) box.append(forwarded(original, ui));
  if (!layout) box.append(...attachments(message.attachments ?? []), ...(message.embeds ?? []).map((one) => embed(one, ui.rich)));
  const components = renderComponents(message, ui);
  if (components.length > 0) box.append(h("div", { class: layout ? "layout" : "rows" }, components));
  // A V2 card that counts by itself is edited all the time: saying so would only distract.
  if (edited && !layout && !message.content) box.append(edited);
  return box;
}

/** What a forward shows of the message it forwards; its buttons work only where they came from. */
function forwarded(original, ui) {
  const withoutButtons = (components) => components.filter((one) => one.type !== ACTION_ROW).map((one) => (one.components ? { ...one, components: withoutButtons(one.components) } : one));
  const shown = { ...original, id: "", components: withoutButtons(original.components ?? []) };
  return h("div", { class: "markup", "data-testid": "forwarded" }, h("blockquote", {},
    original.content && ui.rich.blocks(original.content),
    attachments(original.attachments ?? []),
    (original.embeds ?? []).map((one) => embed(one, ui.rich)),
    renderComponents(shown, ui)));
}

/** Emoji that others answered a message with, and how many did. */
function reactions(message) {
  if (!message.reactions?.length) return null;
  return h("div", { class: "reactions" }, message.reactions.map((one) =>
    h("span", { class: "reaction", "data-testid": "reaction", role: "img", "aria-label": `${one.emoji.name} ${one.count}` }, emojiElement(one.emoji), h("span", { "aria-hidden": "true" }, one.count))));
}

function ephemeralFoot(message, key, ui) {
  return h("p", { class: "ephemeral-foot" }, icon("eye", 16), t("chat.onlyYou"), " · ",
    h("button", { type: "button", class: "text-link", "data-testid": "dismiss", on: { click: () => dismiss(message, key, ui) } }, t("chat.dismiss")));
}

async function dismiss(message, key, ui) {
  ui.world.remove(key, message.id);
  await ui.api.deleteMessage(key, message.id).catch(() => {});   // gone from view either way
}

function toolbar(message, key, ui) {
  const more = iconButton("more", t("menu.more"), () => openMessageMenu(ui, key, message, more), { "data-testid": "message-more", "aria-haspopup": "menu" });
  return h("div", { class: "message-toolbar", role: "toolbar", "aria-label": t("chat.actions") },
    !(message.flags & EPHEMERAL) && ui.world.maySend(key) && iconButton("reply", t("menu.reply"), () => ui.replyTo(key, message), { "data-testid": "message-reply" }),
    more);
}

/** The line that stands for a command until its answer arrives. */
export function renderPlaceholder(interaction, ui) {
  const { bot } = ui.world;
  const failed = interaction.state === "failed";
  const text = failed ? (interaction.reason || t("chat.noAnswer")) : interaction.state === "thinking" ? t("chat.thinking", { name: ui.world.nameOf(bot.id) }) : t("chat.sending");
  return h("li", { class: "message is-ephemeral", "data-testid": "placeholder", "data-state": interaction.state },
    h("div", { class: "above" }, avatar(ui.world.me, 16), personName(ui.world.me, ui), ` ${t("chat.used")} `, h("span", { class: "used-name" }, interaction.label)),
    h("span", { class: "message-face" }, avatar(bot, 40)),
    h("div", { class: "message-body" },
      h("h3", { class: "message-header" }, personName(bot, ui), appTag(), h("time", { class: "message-time" }, headerTime(interaction.at))),
      h("p", { class: failed ? "interaction-failed" : "thinking", role: failed ? "alert" : "status" }, failed ? icon("warning", 16) : spinner("…"), text),
      failed && h("p", { class: "ephemeral-foot" }, icon("eye", 16), t("chat.onlyYou"), " · ", h("button", { type: "button", class: "text-link", "data-testid": "dismiss", on: { click: () => ui.world.dismissInteraction(interaction.id) } }, t("chat.dismiss")))));
}
