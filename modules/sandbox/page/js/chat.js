// The messages of the open channel: order, grouping, day lines, unread line, scrolling, commands still waiting.

import { compareIds, h, icon } from "./dom.js";
import { avatar } from "./avatar.js";
import { renderMessage, renderPlaceholder, startsGroup } from "./message.js";
import { t } from "./text.js";
import { dayName, startOfDay } from "./time.js";
import { DM, EPHEMERAL } from "./world.js";

//: Closer to the end than this counts as reading the newest messages.
const AT_END_PX = 60;

export class ChatView {
  constructor(ui) {
    this.ui = ui;
    this.world = ui.world;
    this.list = h("ol", { class: "messages", "data-testid": "messages" });
    this.waiting = h("ol", { class: "messages messages-waiting" });
    this.scroller = h("div", { class: "scroller", tabindex: 0, role: "log", "aria-live": "polite", "aria-relevant": "additions", "data-testid": "scroller" }, h("div", { class: "scroller-fill" }), this.list, this.waiting);
    this.jump = h("button", { type: "button", class: "jump", hidden: true, on: { click: () => this.toEnd() } }, h("span", {}), icon("down", 16));
    this.typing = h("div", { class: "typing", "aria-live": "polite" });
    this.element = h("div", { class: "chat" }, this.scroller, this.jump);
    this.atEnd = true;
    this.unseen = 0;
    this.heightSeen = 0;
    this.scroller.addEventListener("scroll", () => this.onScroll(), { passive: true });
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(this.list);
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(this.scroller);
    this.listen();
    window.addEventListener("blur", this.onBlur = () => this.lookAway());
  }

  listen() {
    const on = (type, run) => this.world.addEventListener(type, (event) => run(event.detail));
    on("messages", ({ channel }) => channel === this.world.current && this.showAll());
    on("message", (change) => change.channel === this.world.current && this.change(change));
    on("interaction", (interaction) => this.showInteraction(interaction));
    on("typing", () => this.showTyping());
    on("guild", () => this.world.current && this.messages.length > 0 && this.refreshNames());
  }

  close() {
    window.removeEventListener("blur", this.onBlur);
  }

  /** From here on what arrives is new: the line moves to it. */
  lookAway() {
    this.unreadFrom = this.messages.at(-1)?.id ?? this.unreadFrom;
    this.list.querySelector(".unread-line")?.remove();
  }

  get messages() {
    return this.world.messages.get(this.world.current) ?? [];
  }

  // -- opening --------------------------------------------------------------------------------------------

  async open(key, jumpTo = null) {
    this.unreadFrom = this.world.read.marker(key) ?? "0";   // never been here: everything is new
    this.atEnd = true;
    this.unseen = 0;
    this.scroller.setAttribute("aria-label", t("chat.messages", { name: this.world.channelName(key) }));
    if (this.world.messages.has(key)) this.showAll();
    else this.list.replaceChildren(...skeleton());
    this.waiting.replaceChildren();
    this.showTyping();
    try {
      await this.world.loadMessages(key);
    } catch (error) {
      if (this.world.current === key) this.showTrouble(error, key);
      return;
    }
    if (this.world.current !== key) return;
    this.world.markRead(key);
    if (jumpTo) this.jumpTo(jumpTo);
  }

  showTrouble(error, key) {
    const retry = h("button", { type: "button", class: "button button-secondary", on: { click: () => this.open(key) } }, t("chat.retry"));
    this.list.replaceChildren(h("li", { class: "trouble", role: "alert" }, icon("warning", 28), h("p", {}, t(error.status === 403 || error.status === 404 ? "chat.forbidden" : "chat.failed")), retry));
  }

  showAll() {
    const items = [this.beginning()];
    this.messages.forEach((message, at) => items.push(...this.itemsFor(message, this.messages[at - 1])));
    this.list.replaceChildren(...items);
    this.waiting.replaceChildren();
    for (const interaction of this.world.interactions.values()) this.showInteraction(interaction);
    if (this.atEnd) this.toEnd();
  }

  beginning() {
    const key = this.world.current;
    const name = this.world.channelName(key);
    const bot = this.world.bot;
    return h("li", { class: "beginning" },
      key === DM ? avatar(bot, 72) : h("span", { class: "beginning-icon" }, icon("hash", 40)),
      h("h2", {}, key === DM ? name : t("chat.welcome", { name })),
      h("p", {}, key === DM ? t("chat.welcomeDm", { name }) : this.world.channels.get(key)?.topic ? this.ui.rich.line(this.world.channels.get(key).topic) : t("chat.start")));
  }

  itemsFor(message, before) {
    const date = new Date(message.timestamp);
    const newDay = !before || startOfDay(new Date(before.timestamp)) !== startOfDay(date);
    const firstUnread = this.unreadFrom && !(message.flags & EPHEMERAL) && message.author.id !== this.world.me.id && compareIds(message.id, this.unreadFrom) > 0
      && (!before || compareIds(before.id, this.unreadFrom) <= 0);
    return [
      newDay && h("li", { class: "day-line", role: "separator", "data-for": message.id }, h("span", {}, dayName(date))),
      firstUnread && h("li", { class: "unread-line", role: "separator", "data-testid": "unread-line", "data-for": message.id }, h("span", {}, t("chat.new"))),
      this.item(message, before),
    ].filter(Boolean);
  }

  item(message, before) {
    return renderMessage(message, this.ui, { grouped: !startsGroup(message, before) });
  }

  // -- changes --------------------------------------------------------------------------------------------

  find(id) {
    return this.list.querySelector(`[data-message-id="${CSS.escape(id)}"]`);
  }

  change({ kind, message }) {
    if (kind === "create") this.create(message);
    else if (kind === "update") this.redraw(message.id);
    else this.delete(message);
  }

  create(message) {
    const at = this.messages.findIndex((one) => one.id === message.id);
    if (at < this.messages.length - 1) return this.showAll();   // arrived late: find its place
    if (document.hasFocus() && this.atEnd) this.unreadFrom = this.list.querySelector(".unread-line") ? this.unreadFrom : message.id;
    this.list.append(...this.itemsFor(message, this.messages[at - 1]));
    const isMine = message.author.id === this.world.me.id || message.interaction_metadata?.user?.id === this.world.me.id;
    if (this.atEnd || isMine) this.toEnd();
    else {
      this.unseen += 1;
      this.showJump();
    }
    return undefined;
  }

  /** Draws one message again; who was on one of its buttons stays there. */
  redraw(id) {
    const old = this.find(id);
    const at = this.messages.findIndex((message) => message.id === id);
    if (!old || at < 0) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.dataset.customId : null;
    const hadFocus = old === document.activeElement;
    const fresh = this.item(this.messages[at], this.messages[at - 1]);
    keepPictures(old, fresh);
    keepSpoilers(old, fresh);
    old.replaceWith(fresh);
    if (focused) fresh.querySelector(`[data-custom-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    if (hadFocus) fresh.focus({ preventScroll: true });
  }

  delete(message) {
    this.find(message.id)?.remove();
    for (const line of this.list.querySelectorAll(`[data-for="${CSS.escape(message.id)}"]`)) line.remove();
    const next = this.messages.find((one) => compareIds(one.id, message.id) > 0);
    if (next) this.redraw(next.id);
  }

  /** A channel came or went: messages that name one may read differently now. */
  refreshNames() {
    for (const item of this.list.querySelectorAll(".message:has([data-channel], .mention-unknown)")) this.redraw(item.dataset.messageId);
  }

  showInteraction(interaction) {
    if (interaction.kind === "component" && interaction.channel === this.world.current) this.redraw(interaction.message);
    if (interaction.kind !== "command") return;
    const old = this.waiting.querySelector(`[data-local="${interaction.at.getTime()}"]`);
    const shown = interaction.channel === this.world.current && this.world.interactions.has(interaction.id);
    if (!shown) {
      old?.remove();
      return;
    }
    const fresh = renderPlaceholder(interaction, this.ui);
    fresh.dataset.local = interaction.at.getTime();
    if (old) old.replaceWith(fresh);
    else this.waiting.append(fresh);
    if (this.atEnd || !old) this.toEnd();
  }

  showTyping() {
    const people = [...(this.world.typing.get(this.world.current)?.keys() ?? [])].filter((id) => id !== this.world.me.id);
    const names = people.map((id) => this.world.nameOf(id)).join(", ");
    this.typing.replaceChildren(...(people.length > 0 ? [h("span", { class: "spinner" }, h("i"), h("i"), h("i")), t("chat.typing", { count: people.length, names })] : []));
  }

  // -- scrolling ------------------------------------------------------------------------------------------

  onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    // A card that grew or went away scrolls too; only the person leaves the end.
    const isGrowth = scrollHeight !== this.heightSeen;
    this.heightSeen = scrollHeight;
    if (isGrowth && this.atEnd) {
      this.toEnd();
      return;
    }
    this.atEnd = scrollHeight - scrollTop - clientHeight < AT_END_PX;
    if (this.atEnd && this.unseen > 0) {
      this.unseen = 0;
      this.world.markRead(this.world.current);
    }
    this.showJump();
  }

  showJump() {
    this.jump.hidden = this.atEnd;
    this.jump.firstChild.textContent = this.unseen > 0 ? t("chat.newBelow", { count: this.unseen }) : t("chat.jump");
  }

  toEnd() {
    this.atEnd = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.showJump();
  }

  jumpTo(id) {
    const item = this.find(id);
    if (!item) return;
    this.atEnd = false;
    item.scrollIntoView({ block: "center" });
    item.classList.add("is-target");
    item.focus({ preventScroll: true });
    setTimeout(() => item.classList.remove("is-target"), 2000);
  }
}

/** A card that is edited every second must not blink: pictures that stay keep their elements. */
function keepPictures(old, fresh) {
  const known = new Map([...old.querySelectorAll("img")].map((image) => [image.src, image]));
  for (const image of fresh.querySelectorAll("img")) {
    const same = known.get(image.src);
    if (!same || !same.complete || same.alt !== image.alt) continue;
    known.delete(image.src);
    image.replaceWith(same);
  }
}

function keepSpoilers(old, fresh) {
  const before = [...old.querySelectorAll(".spoiler")];
  [...fresh.querySelectorAll(".spoiler")].forEach((spoiler, at) => {
    if (before[at]?.classList.contains("is-open") && before[at].textContent === spoiler.textContent) spoiler.click();
  });
}

function skeleton() {
  return [3, 1, 4, 2].map((lines, at) => h("li", { class: "skeleton", "aria-hidden": "true" }, h("i", { class: "skeleton-face" }),
    h("div", {}, Array.from({ length: lines + 1 }, (_, line) => h("i", { class: `skeleton-line skeleton-${(at + line) % 4}` })))));
}
