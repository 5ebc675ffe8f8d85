// A chosen slash command in the composer: its options as fields, their suggestions above, checked before it runs.

import { OptionField } from "./option_field.js";
import { OptionCursor, freshId, h, icon, iconButton } from "./dom.js";
import { nest, splitTyped } from "./commands.js";
import { localised, t } from "./text.js";

export class CommandForm {
  /** `panel` is the box above the composer; `typed` what already stood behind the command's name. */
  constructor({ ui, channel, entry, panel, typed = "", onDone }) {
    Object.assign(this, { ui, channel, entry, panel, onDone });
    this.fields = [];
    this.list = h("div", { class: "suggestions", role: "listbox", id: freshId("suggestions"), "data-testid": "suggestions" });
    this.about = h("div", { class: "panel-about" });
    this.cursor = new OptionCursor(this.list, null);
    this.pills = h("div", { class: "pills" });
    this.extra = h("div", { class: "extra-options" });
    this.element = h("div", { class: "command-form", role: "form", "aria-label": `/${entry.label}`, "data-testid": "command-form", on: { keydown: (event) => this.onKey(event) } },
      h("span", { class: "command-name" }, `/${entry.label}`), this.pills, this.extra,
      h("span", { class: "command-buttons" }, iconButton("close", t("command.leave"), () => this.leave()),
        iconButton("send", t("command.send"), () => this.submit(), { class: "icon-button send-button", "data-testid": "run-command" })));
    this.prefill(splitTyped(entry, typed));
  }

  prefill(given) {
    for (const option of this.entry.options) {
      if (!option.required && !given.has(option.name)) continue;
      const field = this.add(option);
      if (given.has(option.name)) field.setText(given.get(option.name));
    }
    this.showExtra();
  }

  /** Called once the form is on the page. */
  start() {
    this.panel.replaceChildren(this.about, this.list);
    this.panel.hidden = false;
    for (const one of this.fields) one.fit();
    const field = this.fields.find((one) => one.isEmpty) ?? this.fields[0];
    if (field) field.focus();
    else (this.extra.querySelector("button") ?? this.element.querySelector(".send-button")).focus();
    this.describe(field);
  }

  add(option) {
    const field = new OptionField({ form: this, option });
    this.fields.push(field);
    this.pills.append(field.element);
    return field;
  }

  unused() {
    return this.entry.options.filter((option) => !this.fields.some((field) => field.option.name === option.name));
  }

  showExtra() {
    this.extra.replaceChildren(...this.unused().map((option) => h("button", {
      type: "button", class: "extra-option", title: localised(option, "description"), "aria-label": t("command.add", { name: localised(option, "name") }), "data-testid": "add-option", "data-option": option.name,
      on: { click: () => this.use(option).focus(), focus: () => this.describe(null, option) },
    }, icon("plus", 12), localised(option, "name"))));
  }

  /** Takes an optional option in; gives its field. */
  use(option) {
    const field = this.add(option);
    this.showExtra();
    return field;
  }

  drop(field) {
    if (field.option.required) return;
    const at = this.fields.indexOf(field);
    this.fields.splice(at, 1);
    field.element.remove();
    this.showExtra();
    (this.fields[at - 1] ?? this.fields[0])?.focus();
  }

  /** The line above: what the option in hand means, or what is wrong with it. */
  describe(field, option = field?.option) {
    const error = field?.error;
    this.about.replaceChildren(
      h("span", { class: "panel-option" }, option ? localised(option, "name") : `/${this.entry.label}`),
      h("span", { class: error ? "panel-error" : "panel-description", role: error ? "alert" : null }, error ? t(...error) : option ? localised(option, "description") : this.entry.description),
      h("span", { class: "panel-keys" }, t("command.keys")));
  }

  /** Shows what may be chosen: rows of {label, value, description?, picture?}, or a note. */
  suggest(field, rows, { note = null, activeFirst = false } = {}) {
    this.cursor.input = field.input;
    this.list.replaceChildren(...rows.map((row) => this.row(field, row)));
    if (note) this.list.append(h("p", { class: "popover-empty" }, note));
    this.list.hidden = rows.length === 0 && !note;
    field.input?.setAttribute("aria-expanded", String(rows.length > 0));
    this.cursor.select(activeFirst ? this.cursor.options[0] : null);
  }

  row(field, row) {
    const element = h("div", {
      class: "option", role: "option", id: freshId("option"), "data-testid": "suggestion", "data-value": String(row.value),
      on: { pointerdown: (event) => event.preventDefault(), click: () => this.pick(field, row), pointermove: () => this.cursor.select(element) },
    }, row.picture, h("span", { class: "option-about" }, h("span", { class: "option-label" }, row.label), row.description && h("span", { class: "option-description" }, row.description)));
    element.row = row;
    return element;
  }

  pick(field, row) {
    field.pick(row);
    this.advance(field);
  }

  /** To the next option that still needs something. */
  advance(field) {
    const at = this.fields.indexOf(field);
    const next = this.fields.slice(at + 1).find((one) => one.isEmpty) ?? this.fields.find((one) => one.isEmpty && one.option.required);
    if (next) next.focus();
    else {
      this.suggest(field, []);
      (field.input ?? field.button)?.focus();
    }
  }

  onKey(event) {
    const field = this.fields.find((one) => one.element.contains(event.target));
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.isComposing) return;
    if (step && this.cursor.options.length > 0) this.cursor.move(step);
    else if (event.key === "Enter" && event.target.matches("input, textarea")) this.onEnter(field);
    else if (event.key === "Tab" && !event.shiftKey && this.cursor.active && field?.mustPick) this.pick(field, this.cursor.active.row);
    else if (event.key === "Escape") this.leave();
    else if (event.key === "Backspace" && field?.isEmpty && event.target.value === "") this.onBackspace(field);
    else return;
    event.preventDefault();
  }

  onEnter(field) {
    const active = this.cursor.active;
    if (field && active && !field.isPicked) this.pick(field, active.row);
    else this.submit();
  }

  onBackspace(field) {
    if (!field.option.required) this.drop(field);
    else if (this.fields.every((one) => one.isEmpty)) this.leave();
  }

  /** A dropped or pasted file goes to the first attachment option that is free. */
  takeFile(file) {
    const field = this.fields.find((one) => one.isFile && one.isEmpty) ?? this.fields.find((one) => one.isFile);
    if (field) return field.take(file);
    const option = this.unused().find(OptionField.isFileOption);
    return option && this.use(option).take(file);
  }

  /** The options as typed so far in Discord's shape, for autocompletion of `focused`. */
  draft(focused) {
    const known = this.fields.filter((field) => field === focused || field.read().value !== undefined);
    return nest(this.entry, known.map((field) => field.draft(field === focused)));
  }

  get reference() {
    const { id, name, type } = this.entry.command;
    return { id, name, type: type ?? 1 };
  }

  async submit() {
    if (this.done) return;
    await Promise.allSettled(this.fields.map((field) => field.uploading));
    for (const field of this.fields) field.check();
    const wrong = this.fields.find((field) => field.error);
    if (wrong) {
      wrong.focus();
      this.describe(wrong);
      return;
    }
    const options = nest(this.entry, this.fields.filter((field) => !field.isEmpty).map((field) => field.submitted()));
    this.finish();
    const { ui, channel, entry } = this;
    ui.world.interact({ kind: "command", channel, label: `/${entry.label}` }, () => ui.api.command({ channel, command: this.reference, options }));
  }

  leave() {
    this.finish();
  }

  finish() {
    if (this.done) return;
    this.done = true;
    for (const field of this.fields) field.stop();
    this.onDone();
  }
}
