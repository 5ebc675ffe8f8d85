// The drop-down of components and forms: fixed options, or people, roles and channels; one or several.

import { avatar } from "./avatar.js";
import { OptionCursor, freshId, h, icon, openLayer, placeBeside, spinner } from "./dom.js";
import { emojiElement } from "./emoji.js";
import { roleColour } from "./rich_text.js";
import { t } from "./text.js";

export const STRING_SELECT = 3;
const USER_SELECT = 5;
const ROLE_SELECT = 6;
const MENTIONABLE_SELECT = 7;
const CHANNEL_SELECT = 8;
//: With more options than this a search field helps.
const SEARCH_FROM = 9;

export const isSelect = (type) => type === STRING_SELECT || (type >= USER_SELECT && type <= CHANNEL_SELECT);

/** [{value, label, description?, emoji?, picture?, default}] of a select of any type. */
export function optionsOf(component, world) {
  const chosen = new Set((component.default_values ?? []).map((value) => String(value.id)));
  const option = (value, label, extra) => ({ value, label, default: chosen.has(value), ...extra });
  const people = () => [...world.members.values()].map((member) => option(member.id, world.nameOf(member.id), { description: member.user.username, picture: avatar(member.user, 24) }));
  const roles = () => [...world.roles.values()].filter((role) => role.id !== world.guild.id).map((role) => option(role.id, `@${role.name}`, { picture: h("span", { class: "role-dot", vars: roleColour(role) }) }));
  switch (component.type) {
    case STRING_SELECT: return component.options ?? [];
    case USER_SELECT: return people();
    case ROLE_SELECT: return roles();
    case MENTIONABLE_SELECT: return [...people(), ...roles()];
    case CHANNEL_SELECT: {
      const types = component.channel_types;
      return [...world.channels.values()].filter((channel) => !types?.length || types.includes(channel.type)).map((channel) => option(channel.id, channel.name, { picture: icon("hash", 18) }));
    }
    default: throw new Error(`no select of type ${component.type}`);
  }
}

/**
 * A select. `onCommit(values)` is called when a choice was made (several: when the list closes).
 * `name` is its accessible name; `busy` shows that a choice is on its way.
 */
export class Select {
  constructor({ component, world, name, busy = false, inForm = false, onCommit }) {
    Object.assign(this, { component, busy, onCommit, inForm });
    this.options = optionsOf(component, world);
    this.values = this.options.filter((option) => option.default).map((option) => option.value);
    this.min = component.min_values ?? (component.required === false ? 0 : 1);
    this.max = Math.min(component.max_values ?? 1, this.options.length || 1);
    this.label = h("span", { class: "select-value" });
    this.button = h("button", {
      type: "button", class: "select", role: "combobox", "aria-haspopup": "listbox", "aria-expanded": "false",
      "aria-label": name ?? component.placeholder ?? t("select.placeholder"), "data-testid": "select", "data-custom-id": component.custom_id,
      disabled: component.disabled, "aria-busy": busy ? "true" : null,
      on: { click: () => this.open(), keydown: (event) => this.onKey(event) },
    }, this.label, busy ? spinner("…") : icon("chevron", 20));
    this.element = h("div", { class: "select-box" }, this.button);
    this.show();
  }

  get several() {
    return this.max > 1;
  }

  show() {
    const chosen = this.options.filter((option) => this.values.includes(option.value));
    this.label.classList.toggle("is-placeholder", chosen.length === 0);
    if (chosen.length === 0) this.label.replaceChildren(this.component.placeholder ?? t("select.placeholder"));
    else this.label.replaceChildren(...chosen.map((option) => h("span", { class: this.several ? "select-chip" : "select-chosen" }, pictureOf(option), option.label)));
  }

  onKey(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    this.open();
  }

  open() {
    if (this.layer || this.busy) return;
    const before = this.values.join("\n");
    this.list = h("div", { class: "select-list", role: "listbox", id: freshId("listbox"), "aria-multiselectable": String(this.several), "data-testid": "select-list" });
    const searchable = this.component.type !== STRING_SELECT || this.options.length > SEARCH_FROM;
    this.search = h("input", {
      class: searchable ? "select-search" : "select-search visually-hidden", type: "text", placeholder: t("select.search"), "aria-label": t("select.search"),
      role: "combobox", "aria-expanded": "true", "aria-controls": this.list.id, autocomplete: "off", spellcheck: "false",
      on: { input: () => this.fill(), keydown: (event) => this.onListKey(event) },
    });
    this.note = h("span", { class: "select-note" });
    const foot = this.several && h("div", { class: "select-foot" }, this.note, h("button", { type: "button", class: "button button-small button-primary", on: { click: () => this.layer.close() } }, t("select.apply")));
    const box = h("div", { class: "popover select-popover" }, this.search, this.list, foot);
    this.cursor = new OptionCursor(this.list, this.search);
    this.fill();
    this.button.setAttribute("aria-expanded", "true");
    this.layer = openLayer(box, {
      onClose: (reason) => {
        this.layer = null;
        this.button.setAttribute("aria-expanded", "false");
        if (reason !== "pick" && !this.several) return;
        this.finish(before);
      },
    });
    placeBeside(box, this.button, { matchWidth: true });
    this.search.focus({ preventScroll: true });
  }

  /** Too few chosen: everything goes back to what it was. */
  finish(before) {
    if (this.several && this.values.length < this.min && !(this.inForm && this.values.length === 0)) {
      this.values = before === "" ? [] : before.split("\n");
      this.show();
      return;
    }
    this.button.focus({ preventScroll: true });
    if (this.values.join("\n") !== before || !this.inForm) this.onCommit?.([...this.values]);
  }

  fill() {
    const query = this.search.value.trim().toLowerCase();
    const found = this.options.filter((option) => `${option.label} ${option.description ?? ""}`.toLowerCase().includes(query));
    this.list.replaceChildren(...found.map((option) => this.row(option)));
    if (found.length === 0) this.list.append(h("p", { class: "popover-empty" }, t("select.none")));
    this.cursor.select(this.list.querySelector("[aria-selected=true]") ?? this.cursor.options[0]);
    this.showCount();
  }

  row(option) {
    const selected = this.values.includes(option.value);
    const full = this.several && !selected && this.values.length >= this.max;
    const element = h("div", {
      class: "option", role: "option", id: freshId("option"), "aria-selected": String(selected), "aria-disabled": full ? "true" : null,
      "data-testid": "select-option", "data-value": option.value,
      on: { click: () => !full && this.pick(option.value), pointermove: () => this.cursor.select(element) },
    }, pictureOf(option), h("span", { class: "option-about" }, h("span", { class: "option-label" }, option.label), option.description && h("span", { class: "option-description" }, option.description)),
    this.several ? h("span", { class: "checkbox" }, selected && icon("check", 16)) : selected && icon("check", 18));
    return element;
  }

  pick(value) {
    if (!this.several) {
      const clears = this.min === 0 && this.values.includes(value);
      this.values = clears ? [] : [value];
      this.show();
      this.layer.close("pick");
      return;
    }
    this.values = this.values.includes(value) ? this.values.filter((one) => one !== value) : [...this.values, value];
    const active = this.cursor.active?.dataset.value;
    this.show();
    this.fill();
    this.cursor.select(this.cursor.options.find((option) => option.dataset.value === active));
    this.search.focus({ preventScroll: true });
  }

  showCount() {
    if (!this.several) return;
    this.note.textContent = this.values.length < this.min ? t("select.min", { count: this.min }) : t("select.max", { count: this.max });
  }

  onListKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      this.cursor.move(step);
    } else if (event.key === "Enter" || (event.key === " " && this.search.value === "")) {
      event.preventDefault();
      this.cursor.active?.click();
    } else if (event.key === "Tab") {
      event.preventDefault();
      this.layer.close();
    }
  }
}

const pictureOf = (option) => option.picture?.cloneNode(true) ?? (option.emoji ? emojiElement(option.emoji) : null);
