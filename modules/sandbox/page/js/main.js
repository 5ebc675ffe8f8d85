// The page: puts its parts together for one person, and again for another when they are switched.
//
// For browser tests, `data-testid` (roles and names work as well):
//   frame      banner · rail, rail-dm, rail-guild · channels, category, channel[data-channel-name] (aria-selected), mention-badge
//              switcher, me[data-user-id], person[data-username] (aria-pressed) · members, member · top-bar, channel-title,
//              open-channels, toggle-members · net-notice, bot-notice, toast
//   chat       messages, scroller, message[data-message-id] (data-ephemeral), author, message-content, used-command, thinking, unread-line,
//              placeholder[data-state=sent|thinking|failed], interaction-failed, dismiss, message-more, message-reply, embed, file, gallery, picture, lightbox
//   components container, button[data-custom-id], link-button, select[data-custom-id], select-list, select-option[data-value]
//   composer   composer, send, attach, attach-input, tray, tray-file, open-commands, command-panel, command[data-command],
//              command-form, option[data-option], option-input, option-choose-file, option-file, add-option[data-option], suggestions,
//              suggestion[data-value], run-command
//   overlays   menu, menu-item, app-command, copy-text, delete-message, delete-channel · modal, modal-field[data-custom-id], modal-input,
//              modal-file, modal-error, modal-submit, modal-cancel, modal-close

import { PersonApi } from "./api.js";
import { rememberFaces } from "./avatar.js";
import { ChatView } from "./chat.js";
import { Composer } from "./composer.js";
import { announce, h, icon, iconButton } from "./dom.js";
import { EventsSocket, whatAnswers } from "./events_socket.js";
import { ChannelList, MemberList, PersonSwitcher, Rail, TopBar, groupChannels } from "./frame.js";
import { openModal } from "./modal.js";
import { RichText } from "./rich_text.js";
import { setLocale, t } from "./text.js";
import { DM, World } from "./world.js";

//: A username: unlike an id, it means the same person in the world of the next demo.
const REMEMBERED_PERSON = "fullet.person";
const BANNER_HIDDEN = "fullet.banner-hidden";
const RETRY_START_MS = 1_500;
//: A lost connection this short is nobody's business.
const QUIET_TRIES = 1;
const TROUBLE = { cut: "net.down", away: "net.away", stranger: "net.stranger" };

/** The client of one person: what views need of each other. */
class Client {
  constructor(people, me) {
    this.people = people;
    this.api = new PersonApi(me.id);
    this.world = new World(this.api, me);
    this.rich = new RichText({ world: this.world, go: (key, message) => this.go(key, message), useCommand: (name) => this.composer.useCommand(name) });
    this.build();
    this.world.addEventListener("guild", () => this.leaveLostChannel());
    this.world.addEventListener("read", () => this.showTitle());
    this.world.addEventListener("bot", () => this.showBotStatus());
    this.world.addEventListener("modal", (event) => openModal(this, event.detail));
    this.onFocus = () => this.world.current && this.world.markRead(this.world.current);
    window.addEventListener("focus", this.onFocus);
  }

  build() {
    const chat = new ChatView(this);
    this.chat = chat;
    this.dropZone = h("main", { class: "main" });
    this.composer = new Composer(this);
    this.netNotice = h("p", { class: "notice", role: "status", hidden: true, "data-testid": "net-notice" });
    this.botNotice = h("p", { class: "notice notice-bot", role: "status", hidden: true, "data-testid": "bot-notice" });
    this.dropZone.append(new TopBar(this).element, this.netNotice, chat.element, this.botNotice, this.composer.element, chat.typing);
    this.toastBox = h("div", { class: "toasts", role: "alert" });
    const sidebar = h("div", { class: "sidebar" }, h("div", { class: "sidebar-top" }, new Rail(this).element, new ChannelList(this).element), new PersonSwitcher(this, this.people).element);
    this.shade = h("div", { class: "shade", on: { click: () => this.toggleDrawer(false) } });
    this.element = h("div", { class: "client" }, sidebar, this.shade, this.dropZone, new MemberList(this).element, this.toastBox);
    this.element.classList.toggle("members-hidden", localStorage.getItem("fullet.members-hidden") === "1");
    this.element.addEventListener("keydown", (event) => event.key === "Escape" && this.toggleDrawer(false));
  }

  async start(channel) {
    await this.world.load();
    if (this.closed) return;
    this.socket = new EventsSocket(this.api, this.world.identity, {
      onEvent: (type, data) => this.world.apply(type, data),
      onUp: (again) => this.onUp(again),
      onDown: (tries, why) => this.onDown(tries, why),
      onAnotherWorld: () => location.reload(),   // nobody and nothing here has the same id there; the page itself may be newer too
    });
    this.showBotStatus();
    this.go(this.mayOpen(channel) ? channel : this.lastGuildChannel());
  }

  close() {
    this.closed = true;
    this.chat.close();
    this.socket?.close();
    window.removeEventListener("focus", this.onFocus);
  }

  // -- moving about ---------------------------------------------------------------------------------------

  mayOpen(key) {
    return key === DM || this.world.channels.has(key);
  }

  lastGuildChannel() {
    const remembered = localStorage.getItem(`fullet.channel.${this.world.me.id}`);
    if (this.world.channels.has(remembered)) return remembered;
    return groupChannels([...this.world.channels.values()]).flatMap((group) => group.channels)[0]?.id ?? DM;
  }

  /** Opens a channel, and goes to one of its messages. */
  go(channelId, message = null) {
    const key = this.world.keyOf(channelId);
    if (!this.mayOpen(key)) {
      this.toast(t("chat.forbidden"));
      return;
    }
    if (key === this.world.current) {
      if (message) this.chat.jumpTo(message);
      this.toggleDrawer(false);
      return;
    }
    this.world.current = key;
    if (key !== DM) localStorage.setItem(`fullet.channel.${this.world.me.id}`, key);
    rememberPlace(this.world.me.id, key);
    this.toggleDrawer(false);
    this.world.emit("open");
    this.composer.open(key);
    this.chat.open(key, message);
    this.showTitle();
    this.composer.focus();
  }

  leaveLostChannel() {
    if (this.world.current && !this.mayOpen(this.world.current)) this.go(this.lastGuildChannel());
  }

  async become(userId) {
    if (userId !== this.world.me.id) await openAs(this.people, this.people.find((person) => person.id === userId), null);
  }

  toggleDrawer(open = !this.element.classList.contains("drawer-open")) {
    this.element.classList.toggle("drawer-open", open);
  }

  toggleMembers() {
    const hidden = this.element.classList.toggle("members-hidden");
    this.element.classList.toggle("members-open", !hidden);
    localStorage.setItem("fullet.members-hidden", hidden ? "1" : "0");
  }

  // -- acting ---------------------------------------------------------------------------------------------

  replyTo(key, message) {
    if (key === this.world.current) this.composer.startReply(message);
  }

  mention(id) {
    this.composer.mention(id);
  }

  runContextCommand(key, command, target) {
    const { id, name, type } = command;
    this.world.interact({ kind: "command", channel: key, label: command.name_localizations?.[this.world.me.locale] ?? name }, () =>
      this.api.command({ channel: key, command: { id, name, type }, options: [], target_id: target }));
  }

  /** Does something whose failure is only worth a short note. */
  async attempt(act) {
    try {
      await act();
    } catch (error) {
      this.toast(error.message || t("error.generic"));
    }
  }

  toast(text) {
    const toast = h("p", { class: "toast", "data-testid": "toast" }, icon("warning", 18), text);
    this.toastBox.append(toast);
    setTimeout(() => toast.remove(), 5_000);
  }

  // -- how things are -------------------------------------------------------------------------------------

  /** Connected; after a pause, what happened meanwhile is asked for. What somebody is typing stays. */
  async onUp(again) {
    if (again) await this.catchUp();
    this.netNotice.hidden = true;
    this.showBotStatus();
  }

  async catchUp() {
    await this.world.load();
    if (this.world.current) await this.world.loadMessages(this.world.current);
    for (const key of [...this.world.messages.keys()]) if (key !== this.world.current) this.world.messages.delete(key);
    for (const interaction of [...this.world.interactions.values()]) if (interaction.state === "sent") this.world.settle(interaction, "done");
    announce(t("net.back"));
  }

  onDown(tries, why) {
    if (tries <= QUIET_TRIES) return;
    const sentence = t(TROUBLE[why]);
    if (this.netNotice.textContent !== sentence) this.netNotice.textContent = sentence;   // read aloud once, not at every try
    this.netNotice.hidden = false;
    this.showBotStatus();
  }

  showBotStatus() {
    const { world } = this;
    this.botNotice.hidden = world.botOnline || !this.netNotice.hidden;   // one trouble at a time: nothing is known of the bot then
    this.botNotice.textContent = t("net.botAway", { name: world.nameOf(world.bot.id) });
  }

  showTitle() {
    const { world } = this;
    const mentions = [DM, ...world.channels.keys()].reduce((sum, key) => sum + world.read.mentions(key), 0);
    const name = world.channelName(world.current);
    document.title = `${mentions > 0 ? `(${mentions}) ` : ""}${world.current === DM ? "@" : "#"}${name} | ${world.guild.name}`;
  }
}

// -- the page itself --------------------------------------------------------------------------------------

let client = null;

/** Everything anew for a person. `channel`: where to begin, if they may see it. */
async function openAs(people, me, channel) {
  client?.close();
  document.getElementById("overlays").replaceChildren();
  setLocale(me.locale);
  for (const memory of [sessionStorage, localStorage]) memory.setItem(REMEMBERED_PERSON, me.username);
  rememberPlace(me.id, channel);
  client = new Client(people, me);
  const app = document.getElementById("app");
  app.replaceChildren(...[banner(), client.element].filter(Boolean));
  app.setAttribute("aria-busy", "true");
  const mine = client;
  try {
    await client.start(channel);
  } catch {
    if (mine === client) return startLater();
  }
  if (mine === client) app.removeAttribute("aria-busy");
  return undefined;
}

/** Whom the address names; in another world than before, whoever has the name of the person this tab, or another, showed last. */
function whoToBe(people, userId) {
  const names = [sessionStorage, localStorage].map((memory) => memory.getItem(REMEMBERED_PERSON));
  const known = [(one) => one.id === userId, ...names.map((name) => (one) => one.username === name)];
  return known.map((fits) => people.find(fits)).find(Boolean) ?? whoToBegin(people);
}

/** Who has never been here begins as an ordinary member who speaks the browser's language. */
function whoToBegin(people) {
  const members = people.filter((person) => !person.is_admin);
  return members.find((person) => person.locale.slice(0, 2) === navigator.language.slice(0, 2)) ?? members[0] ?? people[0];
}

function banner() {
  if (sessionStorage.getItem(BANNER_HIDDEN)) return null;
  const box = h("aside", { class: "banner", "data-testid": "banner" }, h("p", {}, t("banner")), iconButton("close", t("banner.hide"), () => {
    sessionStorage.setItem(BANNER_HIDDEN, "1");
    box.remove();
  }));
  return box;
}

function rememberPlace(userId, channel) {
  const url = new URL(location.href);
  url.search = new URLSearchParams({ as: userId, ...(channel && { channel }) });
  history.replaceState(null, "", url);
}

/** Nothing can be shown yet: says why, and begins again a little later. */
async function startLater() {
  client?.close();
  client = null;
  const app = document.getElementById("app");
  app.removeAttribute("aria-busy");
  if (!app.querySelector(".start-trouble")) app.replaceChildren();   // in half a page there is nothing to press
  const sentence = t(TROUBLE[await whatAnswers(null)] ?? "error.start");
  if (app.textContent !== sentence) app.replaceChildren(h("p", { class: "start-trouble", role: "alert" }, sentence));
  setTimeout(begin, RETRY_START_MS);
}

async function begin() {
  const asked = new URLSearchParams(location.search);
  try {
    const people = await PersonApi.users();
    rememberFaces(people);
    await openAs(people, whoToBe(people, asked.get("as")), asked.get("channel"));
  } catch {
    setLocale(navigator.language);
    startLater();
  }
}

begin();
