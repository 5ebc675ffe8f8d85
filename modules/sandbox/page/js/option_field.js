// One option of a slash command: a pill with the option's name and a field that fits its type.

import { avatar } from "./avatar.js";
import { h, icon } from "./dom.js";
import { ATTACHMENT, BOOLEAN, CHANNEL, INTEGER, MENTIONABLE, NUMBER, ROLE, STRING, USER, picksOnly, readOption } from "./commands.js";
import { roleColour } from "./rich_text.js";
import { localised, t } from "./text.js";
import { CATEGORY } from "./world.js";

//: Waits for a pause in typing before asking the bot for suggestions.
const AUTOCOMPLETE_PAUSE_MS = 200;
//: Discord shows at most this many suggestions. Source: Discord developer docs, "Autocomplete".
const SUGGESTIONS_SHOWN = 25;
//: A longer text takes a line of its own.
const WIDE_FROM = 50;

export class OptionField {
  static isFileOption = (option) => option.type === ATTACHMENT;

  constructor({ form, option }) {
    Object.assign(this, { form, option });
    this.world = form.ui.world;
    this.picked = null;
    this.error = null;
    this.name = localised(option, "name");
    this.element = h("div", { class: this.isLong ? "pill is-long" : "pill", "data-testid": "option", "data-option": option.name }, h("span", { class: "pill-name", on: { click: () => this.focus() } }, this.name));
    this.element.append(this.isFile ? this.fileButton() : this.textField());
  }

  get isFile() { return this.option.type === ATTACHMENT; }
  get isLong() { return this.option.type === STRING && !this.option.choices?.length; }
  get isPicked() { return this.picked !== null && this.picked.label === this.input?.value; }
  get isEmpty() { return this.isFile ? !this.file : this.input.value.trim() === ""; }
  /** Only a row of the list is a valid value. */
  get mustPick() { return Boolean(this.option.choices?.length) || picksOnly(this.option.type); }

  textField() {
    const { option } = this;
    this.input = h(this.isLong ? "textarea" : "input", {
      class: "pill-input", "aria-label": this.name, autocomplete: "off", spellcheck: this.isLong ? null : "false", rows: this.isLong ? 1 : null,
      inputmode: option.type === INTEGER ? "numeric" : option.type === NUMBER ? "decimal" : null, maxlength: this.isLong ? 6000 : 100,
      role: this.mustPick || option.autocomplete ? "combobox" : null, "aria-expanded": this.mustPick || option.autocomplete ? "false" : null, "aria-controls": this.form.list.id,
      "aria-required": option.required ? "true" : null, "data-testid": "option-input",
      on: { input: () => this.onInput(), focus: () => this.onFocus(), blur: () => this.onBlur() },
    });
    this.fit();
    return this.input;
  }

  fileButton() {
    const chooser = h("input", { type: "file", hidden: true, "data-testid": "option-file", on: { change: () => chooser.files[0] && this.take(chooser.files[0]) } });
    this.caption = h("span", {}, t("command.chooseFile"));
    this.button = h("button", {
      type: "button", class: "pill-file", "aria-label": this.name, "data-testid": "option-choose-file",
      on: { click: () => chooser.click(), focus: () => { this.form.suggest(this, []); this.form.describe(this); } },
    }, icon("upload", 16), this.caption);
    return h("span", { class: "pill-file-box" }, chooser, this.button);
  }

  focus() {
    (this.input ?? this.button).focus();
  }

  setText(text) {
    if (this.isFile) return;
    this.input.value = text;
    this.fit();
  }

  /** As wide as its text; long text wraps and grows instead. */
  fit() {
    if (this.isFile) return;
    if (this.isLong) {
      this.element.classList.toggle("is-wide", this.input.value.length > WIDE_FROM);
      this.input.style.setProperty("height", "auto");
      this.input.style.setProperty("height", `${Math.max(22, this.input.scrollHeight)}px`);
    } else this.input.style.setProperty("width", `calc(${Math.max(3, this.input.value.length)}ch + 22px)`);
  }

  onInput() {
    // A slash command's text has no lines: pasted line ends become spaces.
    if (/\n/.test(this.input.value)) this.input.value = this.input.value.replace(/\s*\n\s*/g, " ");
    if (this.takeNextName()) return;
    this.setError(null);
    this.fit();
    this.suggest();
  }

  /** `a castle size:` typed inside a text moves on to the option `size`. */
  takeNextName() {
    const typed = this.isLong && /^([\s\S]*)\s([\p{L}\p{N}_-]+):$/u.exec(this.input.value);
    const option = typed && this.form.unused().find((one) => [one.name, localised(one, "name")].includes(typed[2]));
    if (!option) return false;
    this.setText(typed[1]);
    this.form.use(option).focus();
    return true;
  }

  onFocus() {
    this.fit();
    this.form.describe(this);
    this.suggest();
  }

  onBlur() {
    clearTimeout(this.timer);
    this.request?.abort();
    if (this.mustPick && this.input.value && !this.isPicked) this.completeTyped();
    if (!this.isEmpty && !this.form.done) this.check();
  }

  /** "flux" typed without choosing counts as the choice of that name. */
  completeTyped() {
    const row = this.rows("").find((one) => one.label.toLowerCase() === this.input.value.trim().toLowerCase());
    if (row) this.pick(row);
  }

  // -- suggestions ----------------------------------------------------------------------------------------

  suggest() {
    if (this.option.autocomplete) this.askBot();
    else if (this.mustPick) {
      const query = this.isPicked ? "" : this.input.value;
      const rows = this.rows(query);
      this.form.suggest(this, rows.slice(0, SUGGESTIONS_SHOWN), { note: rows.length === 0 ? t("command.noOptions") : null, activeFirst: true });
    } else this.form.suggest(this, []);
  }

  rows(query) {
    const wanted = query.trim().toLowerCase().replace(/^[@#]/, "");
    return this.allRows().filter((row) => `${row.label} ${row.description ?? ""}`.toLowerCase().includes(wanted));
  }

  allRows() {
    const { option, world } = this;
    if (option.choices?.length) return option.choices.map((choice) => ({ label: localised(choice, "name"), value: choice.value }));
    const people = () => [...world.members.values()].map((member) => ({ label: world.nameOf(member.id), value: member.id, description: member.user.username, picture: avatar(member.user, 24) }));
    const roles = () => [...world.roles.values()].map((role) => ({ label: role.name, value: role.id, picture: h("span", { class: "role-dot", vars: roleColour(role) }) }));
    switch (option.type) {
      case BOOLEAN: return [true, false].map((value) => ({ label: t(`boolean.${value}`), value }));
      case USER: return people();
      case ROLE: return roles();
      case MENTIONABLE: return [...people(), ...roles()];
      case CHANNEL:
        return [...world.channels.values()].filter((channel) => (option.channel_types?.length ? option.channel_types.includes(channel.type) : channel.type !== CATEGORY))
          .map((channel) => ({ label: channel.name, value: channel.id, picture: icon("hash", 18) }));
      default: return [];
    }
  }

  askBot() {
    clearTimeout(this.timer);
    this.request?.abort();
    this.timer = setTimeout(async () => {
      const request = new AbortController();
      this.request = request;
      const { ui, channel, reference } = this.form;
      this.form.suggest(this, [], { note: t("command.loading") });
      try {
        const { choices } = await ui.api.autocomplete({ channel, command: reference, options: this.form.draft(this) }, request.signal);
        if (request.signal.aborted || document.activeElement !== this.input) return;
        const rows = choices.map((choice) => ({ label: localised(choice, "name"), value: choice.value }));
        this.form.suggest(this, rows, { note: rows.length === 0 && this.option.type !== STRING ? t("command.noOptions") : null });
      } catch {
        if (!request.signal.aborted) this.form.suggest(this, [], { note: t("command.autocompleteFailed") });
      }
    }, AUTOCOMPLETE_PAUSE_MS);
  }

  pick(row) {
    this.picked = row;
    this.setText(row.label);
    this.setError(null);
    clearTimeout(this.timer);
  }

  stop() {
    clearTimeout(this.timer);
    this.request?.abort();
  }

  // -- files ----------------------------------------------------------------------------------------------

  take(file) {
    this.file = file;
    this.upload = null;
    this.setError(null);
    this.element.classList.add("has-file");
    this.caption.textContent = t("composer.uploading", { name: file.name });
    this.form.describe(this);
    this.uploading = this.form.ui.api.upload(file).then(
      (upload) => { this.upload = upload; this.caption.textContent = file.name; },
      (error) => { this.file = null; this.caption.textContent = t("command.chooseFile"); this.setError(["composer.failed", { reason: error.message }]); });
    return this;
  }

  // -- values ---------------------------------------------------------------------------------------------

  read() {
    if (this.isFile) return this.upload ? { value: this.upload.id } : this.option.required ? { error: this.error ?? ["command.required"] } : {};
    return readOption(this.option, this.input.value, this.picked);
  }

  check() {
    if (this.mustPick && !this.isPicked) this.completeTyped();
    this.setError(this.read().error ?? null);
  }

  setError(error) {
    this.error = error;
    this.element.classList.toggle("is-wrong", Boolean(error));
    (this.input ?? this.button).setAttribute("aria-invalid", String(Boolean(error)));
    if (error && this.element.contains(document.activeElement)) this.form.describe(this);
  }

  submitted() {
    return { type: this.option.type, name: this.option.name, value: this.read().value };
  }

  /** For autocompletion: the one in hand as typed, the others by their value. */
  draft(focused) {
    return focused ? { type: this.option.type, name: this.option.name, value: this.input.value, focused: true } : this.submitted();
  }
}
