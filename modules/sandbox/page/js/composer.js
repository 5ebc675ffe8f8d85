// Where one writes: plain text with files, or a slash command. Drafts survive a change of channel and a reload.

import { avatar, personColour } from "./avatar.js";
import { CommandForm } from "./command_form.js";
import { flatten, matching, typedCommand } from "./commands.js";
import { OptionCursor, announce, freshId, h, icon, iconButton } from "./dom.js";
import { FileTray } from "./file_tray.js";
import { t } from "./text.js";
import { DM } from "./world.js";

//: Longest text a person may send. Source: Discord developer docs, "Create Message".
const MAX_LENGTH = 2000;
const CHAT_COMMAND = 1;

export class Composer {
  constructor(ui) {
    this.ui = ui;
    this.world = ui.world;
    this.replyingTo = null;
    this.outbox = Promise.resolve();
    this.build();
    this.world.addEventListener("commands", () => this.onInput());
    this.world.addEventListener("guild", () => this.showRights());
    this.element.addEventListener("paste", (event) => this.onPaste(event));
    this.dropOn(ui.dropZone);
  }

  build() {
    this.panel = h("div", { class: "popover composer-panel", hidden: true, "data-testid": "command-panel" });
    this.text = h("textarea", {
      class: "composer-text", rows: 1, "data-testid": "composer", role: "combobox", "aria-expanded": "false", "aria-autocomplete": "list", "aria-multiline": "true", autocomplete: "off",
      on: { input: () => this.onInput(), keydown: (event) => this.onKey(event) },
    });
    this.chooser = h("input", { type: "file", multiple: true, hidden: true, "data-testid": "attach-input", on: { change: () => { this.addFiles(this.chooser.files); this.chooser.value = ""; } } });
    this.tray = new FileTray(this.ui, () => this.showCount());
    this.reply = h("div", { class: "reply-bar", hidden: true });
    this.note = h("p", { class: "composer-note", role: "alert", hidden: true });
    this.count = h("span", { class: "composer-count", hidden: true });
    this.row = h("div", { class: "composer-row" },
      iconButton("plus", t("composer.attach"), () => this.chooser.click(), { class: "icon-button attach-button", "data-testid": "attach" }), this.chooser, this.text, this.count,
      iconButton("slash", t("composer.commands"), () => this.startSlash(), { "data-testid": "open-commands" }),
      iconButton("send", t("composer.send"), () => this.send(), { class: "icon-button send-button", "data-testid": "send" }));
    this.slot = h("div", { class: "composer-slot" }, this.row);
    this.box = h("div", { class: "composer-box" }, this.reply, this.tray.element, this.slot);
    this.drop = h("div", { class: "drop-note", hidden: true }, icon("upload", 40), h("p", {}, t("composer.drop")));
    this.element = h("div", { class: "composer", "data-testid": "composer-area" }, this.panel, this.note, this.box, this.drop);
    this.cursor = new OptionCursor(this.panel, this.text);
  }

  // -- channels and drafts --------------------------------------------------------------------------------

  draftKey(key) {
    return `fullet.draft.${this.world.me.id}.${key}`;
  }

  open(key) {
    this.form?.leave();
    this.key = key;
    this.cancelReply();
    this.tray.clear();
    this.say(null);
    this.text.value = sessionStorage.getItem(this.draftKey(key)) ?? "";
    const name = this.world.channelName(key);
    this.text.placeholder = t("composer.placeholder", { name: key === DM ? `@${name}` : `#${name}` });
    this.text.setAttribute("aria-label", this.text.placeholder);
    this.showRights();
    this.onInput();
  }

  showRights() {
    if (!this.key) return;
    const may = this.world.maySend(this.key);
    this.box.classList.toggle("is-locked", !may);
    for (const control of this.row.querySelectorAll("button, textarea")) control.disabled = !may;
    if (!may) this.text.placeholder = t("composer.locked");
  }

  focus() {
    if (!this.text.disabled && window.matchMedia("(hover: hover)").matches) this.text.focus({ preventScroll: true });
  }

  say(sentence) {
    this.note.hidden = !sentence;
    this.note.textContent = sentence ?? "";
  }

  // -- typing ---------------------------------------------------------------------------------------------

  onInput() {
    if (this.form) return;
    sessionStorage.setItem(this.draftKey(this.key), this.text.value);
    this.text.style.setProperty("height", "auto");
    this.text.style.setProperty("height", `${Math.min(this.text.scrollHeight, window.innerHeight * 0.4)}px`);
    this.showCount();
    if (this.text.value.startsWith("/") && document.activeElement === this.text) this.showPicker();
    else this.showNames();
  }

  showCount() {
    const left = MAX_LENGTH - this.text.value.length;
    this.count.hidden = left > 200;
    this.count.textContent = String(left);
    this.count.classList.toggle("is-over", left < 0);
    this.row.classList.toggle("is-ready", this.text.value.trim() !== "" || this.tray.files.length > 0);
  }

  onKey(event) {
    if (event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const open = !this.panel.hidden;
    if (open && step) this.cursor.move(step);
    else if (open && (event.key === "Enter" || event.key === "Tab") && !event.shiftKey && this.cursor.active) this.cursor.active.click();
    else if (open && event.key === "Escape") this.hidePanel();
    else if (!open && event.key === "Escape" && this.replyingTo) this.cancelReply();
    else if (event.key === "Enter" && !event.shiftKey) this.send();
    else return;
    event.preventDefault();
  }

  hidePanel() {
    this.panel.hidden = true;
    this.panel.replaceChildren();
    this.text.setAttribute("aria-expanded", "false");
    this.cursor.select(null);
  }

  showPanel(heading, rows, label) {
    const list = h("div", { class: "suggestions", role: "listbox", id: freshId("picker"), "aria-label": label }, rows);
    this.panel.replaceChildren(...[heading, list].filter(Boolean));
    this.panel.hidden = false;
    this.text.setAttribute("aria-expanded", "true");
    this.text.setAttribute("aria-controls", list.id);
    this.cursor.input = this.text;
    this.cursor.select(this.cursor.options[0]);
  }

  // -- slash commands -------------------------------------------------------------------------------------

  entries() {
    return flatten(this.world.commandsOfType(CHAT_COMMAND, this.key));
  }

  startSlash() {
    if (this.form) return;
    if (!this.text.value.startsWith("/")) this.text.value = "/";
    this.text.focus();
    this.onInput();
  }

  showPicker() {
    const entries = this.entries();
    const typed = typedCommand(entries, this.text.value);
    if (typed) {
      this.startCommand(typed.entry, typed.rest);
      return;
    }
    const query = this.text.value.slice(1);
    const found = matching(entries, query);
    if (found.length === 0) {
      this.showPanel(null, [], t("command.picker"));
      this.panel.append(h("p", { class: "popover-empty" }, entries.length === 0 ? t("command.noneAtAll") : t("command.none", { query })));
      return;
    }
    const bot = this.world.bot;
    this.showPanel(h("header", { class: "picker-head" }, avatar(bot, 20), this.world.nameOf(bot.id)), found.map((entry) => this.pickerRow(entry)), t("command.picker"));
  }

  pickerRow(entry) {
    const element = h("div", {
      class: "option picker-row", role: "option", id: freshId("command"), "data-testid": "command", "data-command": entry.name,
      on: { pointerdown: (event) => event.preventDefault(), click: () => this.startCommand(entry), pointermove: () => this.cursor.select(element) },
    }, h("span", { class: "option-about" },
      h("span", { class: "option-label" }, `/${entry.label}`, entry.options.filter((option) => option.required).map((option) => h("span", { class: "picker-option" }, option.name_localizations?.[this.world.me.locale] ?? option.name))),
      h("span", { class: "option-description" }, entry.description)));
    return element;
  }

  /** Starts a command named in a message, or chosen in the picker. */
  startCommand(entry, typed = "") {
    this.hidePanel();
    this.text.value = "";
    sessionStorage.removeItem(this.draftKey(this.key));
    this.say(null);
    this.form = new CommandForm({ ui: this.ui, channel: this.key, entry, panel: this.panel, typed, onDone: () => this.endCommand() });
    this.slot.replaceChildren(this.form.element);
    for (const { file } of this.tray.files) this.form.takeFile(file);
    this.tray.clear();
    this.form.start();
  }

  endCommand() {
    this.form = null;
    this.slot.replaceChildren(this.row);
    this.hidePanel();
    this.onInput();
    this.focus();
  }

  useCommand(name) {
    const entry = this.entries().find((one) => one.name === name);
    if (entry) this.startCommand(entry);
  }

  // -- names of people and channels -----------------------------------------------------------------------

  /** `@an` offers people, `#ge` channels. */
  showNames() {
    const before = this.text.value.slice(0, this.text.selectionStart);
    const typed = /(^|\s)([@#])([\p{L}\p{N}_.-]{0,32})$/u.exec(before);
    const rows = typed && document.activeElement === this.text ? this.nameRows(typed[2], typed[3].toLowerCase()) : [];
    if (rows.length === 0) {
      if (!this.panel.hidden) this.hidePanel();
      return;
    }
    this.showPanel(null, rows.slice(0, 8).map((row) => this.nameRow(row, before.length - typed[3].length)), t("command.picker"));
  }

  nameRows(sign, wanted) {
    const { world } = this;
    const rows = sign === "@"
      ? [...world.members.values()].map((member) => ({ name: world.nameOf(member.id), picture: avatar(member.user, 24), description: member.user.username }))
      : [...world.channels.values()].filter((channel) => channel.type !== 4).map((channel) => ({ name: channel.name, picture: icon("hash", 18), description: "" }));
    return rows.filter((row) => `${row.name} ${row.description}`.toLowerCase().includes(wanted));
  }

  nameRow(row, from) {
    const element = h("div", {
      class: "option", role: "option", id: freshId("name"), "data-testid": "name",
      on: { pointerdown: (event) => event.preventDefault(), pointermove: () => this.cursor.select(element), click: () => this.insert(`${row.name} `, from) },
    }, row.picture, h("span", { class: "option-about" }, h("span", { class: "option-label" }, row.name)), row.description && h("span", { class: "option-description" }, row.description));
    return element;
  }

  insert(text, from = this.text.selectionStart) {
    this.text.setRangeText(text, from, this.text.selectionStart, "end");
    this.onInput();
    this.text.focus();
  }

  mention(id) {
    if (this.form) return;
    this.insert(`@${this.world.nameOf(id)} `);
  }

  /** Names as typed become Discord's ids; the longest name wins. */
  withIds(text) {
    const names = [
      ...[...this.world.members.values()].map((member) => [`@${this.world.nameOf(member.id)}`, `<@${member.id}>`]),
      ...[...this.world.channels.values()].map((channel) => [`#${channel.name}`, `<#${channel.id}>`]),
    ].sort(([a], [b]) => b.length - a.length);
    return names.reduce((result, [name, id]) => result.replaceAll(new RegExp(`(?<![\\w<])${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?![\\p{L}\\p{N}_])`, "gu"), () => id), text);
  }

  // -- files ----------------------------------------------------------------------------------------------

  addFiles(files) {
    for (const file of files) {
      if (this.form) this.form.takeFile(file);
      else if (!this.tray.add(file)) this.say(t("composer.tooMany"));
    }
  }

  onPaste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    this.addFiles(files);
  }

  dropOn(zone) {
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files") && this.world.maySend(this.key);
    zone.addEventListener("dragover", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      this.drop.hidden = false;
    });
    zone.addEventListener("dragleave", (event) => { if (!zone.contains(event.relatedTarget)) this.drop.hidden = true; });
    zone.addEventListener("drop", (event) => {
      this.drop.hidden = true;
      if (!holdsFiles(event)) return;
      event.preventDefault();
      this.addFiles(event.dataTransfer.files);
    });
  }

  // -- replies and sending --------------------------------------------------------------------------------

  startReply(message) {
    this.replyingTo = message;
    const name = this.world.nameOf(message.author.id);
    this.reply.replaceChildren(h("span", {}, t("composer.replying", { name: "" }), h("strong", { vars: { "--face": personColour(message.author) } }, name)), iconButton("close", t("composer.cancelReply"), () => this.cancelReply()));
    this.reply.hidden = false;
    this.text.focus();
  }

  cancelReply() {
    this.replyingTo = null;
    this.reply.hidden = true;
  }

  /** Takes what was written off the composer at once, so that one can go on writing, and sends it in its turn. */
  send() {
    const content = this.withIds(this.text.value.trim());
    if (content === "" && this.tray.files.length === 0) return;
    if (content.length > MAX_LENGTH) {
      this.say(t("composer.tooLong", { count: content.length, max: MAX_LENGTH }));
      return;
    }
    const letter = { key: this.key, typed: this.text.value, content, files: this.tray.take(), reply: this.replyingTo };
    this.text.value = "";
    this.say(null);
    this.cancelReply();
    this.onInput();
    this.outbox = this.outbox.then(() => this.deliver(letter));
  }

  async deliver(letter) {
    this.row.classList.add("is-sending");
    try {
      const files = await FileTray.uploadIds(letter.files);
      const message = await this.ui.api.send({ channel: letter.key, content: letter.content, files, ...(letter.reply && { reply_to: letter.reply.id }) });
      this.world.put(letter.key, message, true);
      FileTray.release(letter.files);
    } catch (error) {
      this.giveBack(letter, error);
    } finally {
      this.row.classList.remove("is-sending");
    }
  }

  /** Not sent: everything stands in the composer again, unless something new does. */
  giveBack(letter, error) {
    if (this.key !== letter.key) sessionStorage.setItem(this.draftKey(letter.key), letter.typed);
    else if (this.text.value === "") {
      this.text.value = letter.typed;
      this.tray.putBack(letter.files);
      this.onInput();
    }
    this.say(t("composer.failed", { reason: error.message || t("net.failed") }));
    announce(this.note.textContent);
  }
}
