// Context menus: of a message, a person, a channel. Apps' own commands come first, as they are why one looks here.

import { OptionCursor, announce, freshId, h, icon, openLayer, placeBeside } from "./dom.js";
import { localised, t } from "./text.js";
import { EPHEMERAL } from "./world.js";

const USER_COMMAND = 2;
const MESSAGE_COMMAND = 3;

/** `items`: [{label, icon, run, danger?, testid?}] or "line" or {heading}. */
function openMenu(items, anchor, label) {
  const box = h("div", { class: "popover menu", role: "menu", "aria-label": label, tabindex: -1, "data-testid": "menu" });
  const cursor = new OptionCursor(box, box);
  for (const item of items) {
    if (item === "line") box.append(h("hr", { class: "menu-line" }));
    else if (item.heading) box.append(h("p", { class: "menu-heading" }, item.heading));
    else box.append(entry(item));
  }
  function entry(item) {
    const element = h("button", {
      type: "button", class: item.danger ? "menu-item is-danger" : "menu-item", role: "menuitem", id: freshId("entry"), tabindex: -1, "data-testid": item.testid ?? "menu-item",
      on: { click: () => { layer.close(); item.run(); }, pointermove: () => cursor.select(element) },
    }, h("span", {}, item.label), icon(item.icon, 18));
    return element;
  }
  box.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) cursor.move(step);
    else if (event.key === "Enter" || event.key === " ") cursor.active?.click();
    else if (event.key === "Tab") layer.close();
    else return;
    event.preventDefault();
  });
  const layer = openLayer(box);
  placeBeside(box, anchor);
  box.focus({ preventScroll: true });
  return layer;
}

export function openMessageMenu(ui, key, message, anchor) {
  const { world } = ui;
  const ephemeral = Boolean(message.flags & EPHEMERAL);
  const apps = ephemeral ? [] : world.commandsOfType(MESSAGE_COMMAND, key).map((command) => ({
    label: localised(command, "name"), icon: "apps", testid: "app-command",
    run: () => ui.runContextCommand(key, command, message.id),
  }));
  const text = textOf(message);
  const own = message.author.id === world.me.id;
  openMenu([
    ...(apps.length > 0 ? [{ heading: t("menu.apps") }, ...apps, "line"] : []),
    ...(!ephemeral && world.maySend(key) ? [{ label: t("menu.reply"), icon: "reply", run: () => ui.replyTo(key, message) }] : []),
    ...(text ? [{ label: t("menu.copyText"), icon: "copy", testid: "copy-text", run: () => copy(text) }] : []),
    { label: t("menu.copyId"), icon: "link", run: () => copy(message.id) },
    ...(ephemeral ? ["line", { label: t("chat.dismiss"), icon: "close", run: () => { world.remove(key, message.id); ui.api.deleteMessage(key, message.id).catch(() => {}); } }] : []),
    ...(own && !ephemeral ? ["line", { label: t("menu.delete"), icon: "trash", danger: true, testid: "delete-message", run: () => ui.attempt(() => ui.api.deleteMessage(key, message.id)) }] : []),
  ], anchor, t("chat.actions"));
}

export function openPersonMenu(ui, user, anchor) {
  const key = ui.world.current;
  const apps = ui.world.commandsOfType(USER_COMMAND, key).map((command) => ({
    label: localised(command, "name"), icon: "apps", testid: "app-command", run: () => ui.runContextCommand(key, command, user.id),
  }));
  openMenu([
    ...(apps.length > 0 ? [{ heading: t("menu.apps") }, ...apps, "line"] : []),
    ...(user.bot ? [{ label: t("nav.dm"), icon: "message", run: () => ui.go("dm") }] : []),
    { label: t("menu.mention"), icon: "plus", run: () => ui.mention(user.id) },
    { label: t("menu.copyId"), icon: "link", run: () => copy(user.id) },
  ], anchor, user.global_name ?? user.username);
}

export function openChannelMenu(ui, channel, anchor) {
  openMenu([
    { label: t("menu.copyId"), icon: "link", run: () => copy(channel.id) },
    ...(ui.world.isAdmin ? ["line", { label: t("nav.deleteChannel"), icon: "trash", danger: true, testid: "delete-channel", run: () => ui.attempt(() => ui.api.deleteChannel(channel.id)) }] : []),
  ], anchor, channel.name);
}

/** The words of a message, also those inside the layouts of Components V2. */
function textOf(message) {
  const texts = [message.content];
  const walk = (components) => {
    for (const component of components ?? []) {
      if (component.content) texts.push(component.content);
      walk(component.components);
    }
  };
  walk(message.components);
  return texts.filter(Boolean).join("\n");
}

async function copy(text) {
  await navigator.clipboard?.writeText(text);
  announce(t("menu.copied"));
}
