// Forms that the bot opens: labels with text fields, selects, files, choices; checked, sent, and kept when sending fails.

import { avatar } from "./avatar.js";
import { freshId, h, icon, iconButton, openLayer, spinner, FOCUSABLE } from "./dom.js";
import { Select, isSelect } from "./select.js";
import { fileSize, t } from "./text.js";

const ACTION_ROW = 1;
const TEXT_INPUT = 4;
const TEXT_DISPLAY = 10;
const LABEL = 18;
const FILE_UPLOAD = 19;
const RADIO_GROUP = 21;
const CHECKBOX_GROUP = 22;
const CHECKBOX = 23;
const PARAGRAPH = 2;
//: Longest text of an input when the form names none. Source: Discord developer docs, "Text Input".
const TEXT_MAX = 4000;

/**
 * Opens a form. `data`: {interaction_id, title, custom_id, components, channel}.
 * It closes when the bot has answered; on failure everything typed stays.
 */
export function openModal(ui, data) {
  return new ModalForm(ui, data);
}

class ModalForm {
  constructor(ui, data) {
    Object.assign(this, { ui, data });
    this.fields = [];
    const { bot } = ui.world;
    const title = h("h2", { id: freshId("modal-title") }, data.title);
    this.trouble = h("p", { class: "modal-trouble", role: "alert", hidden: true, "data-testid": "modal-error" });
    this.submitButton = h("button", { type: "submit", class: "button button-primary", "data-testid": "modal-submit" }, t("modal.submit"));
    this.form = h("form", { class: "modal", novalidate: true, role: "dialog", "aria-modal": "true", "aria-labelledby": title.id, "data-testid": "modal", on: { submit: (event) => this.submit(event) } },
      h("header", { class: "modal-head" }, avatar(bot, 32), title, iconButton("close", t("modal.cancel"), () => this.layer.close(), { "data-testid": "modal-close" })),
      h("div", { class: "modal-body" }, h("p", { class: "modal-note" }, icon("warning", 16), t("modal.note", { name: ui.world.nameOf(bot.id) })), data.components.map((component) => this.row(component))),
      this.trouble,
      h("footer", { class: "modal-foot" }, h("button", { type: "button", class: "button button-plain", "data-testid": "modal-cancel", on: { click: () => this.layer.close() } }, t("modal.cancel")), this.submitButton));
    this.layer = openLayer(this.form, { modal: true, closeOnOutside: false, onClose: () => this.stop?.() });
    (this.form.querySelector(`.modal-body :is(${FOCUSABLE})`) ?? this.submitButton).focus();
  }

  // -- building -------------------------------------------------------------------------------------------

  row(component) {
    switch (component.type) {
      case TEXT_DISPLAY: return h("div", { class: "text-display" }, this.ui.rich.blocks(component.content));
      case ACTION_ROW: return component.components.map((child) => this.labelled(child, { label: child.label }));
      case LABEL: return this.labelled(component.component, component);
      default: return null;
    }
  }

  /** A field under its label; `is_required` shows as the usual star. */
  labelled(component, { label, description }) {
    const field = this.field(component, label ?? "");
    this.fields.push(field);
    const required = component.type !== CHECKBOX && component.required !== false;
    field.problem = h("p", { class: "field-problem", id: freshId("problem"), role: "alert", hidden: true });
    const name = h(field.labelFor ? "label" : "span", { class: "field-label", for: field.labelFor ?? null }, label ?? "", required && h("span", { class: "field-star", "aria-hidden": "true" }, " *"));
    field.box = h("div", { class: "field", "data-testid": "modal-field", "data-custom-id": component.custom_id }, name, description && h("p", { class: "field-description" }, description), field.element, field.problem);
    return field.box;
  }

  field(component, label) {
    if (component.type === TEXT_INPUT) return textField(component);
    if (isSelect(component.type)) return this.selectField(component, label);
    switch (component.type) {
      case FILE_UPLOAD: return new FileField(this.ui, component, label);
      case RADIO_GROUP: return choiceField(component, "radio", label);
      case CHECKBOX_GROUP: return choiceField(component, "checkbox", label);
      case CHECKBOX: return checkField(component, label);
      default: throw new Error(`no form field of type ${component.type}`);
    }
  }

  selectField(component, label) {
    const select = new Select({ component, world: this.ui.world, name: label, inForm: true });
    return {
      element: select.element,
      focus: () => select.button.focus(),
      problemOf: () => select.values.length === 0 ? (component.required === false ? null : t("modal.required")) : select.values.length < select.min ? t("select.min", { count: select.min }) : null,
      value: () => ({ type: component.type, id: component.id, custom_id: component.custom_id, values: select.values }),
    };
  }

  // -- sending --------------------------------------------------------------------------------------------

  check() {
    let first = null;
    for (const field of this.fields) {
      const problem = field.problemOf();
      field.problem.textContent = problem ?? "";
      field.problem.hidden = !problem;
      field.box.classList.toggle("is-wrong", Boolean(problem));
      if (problem) first ??= field;
    }
    first?.focus();
    return first === null;
  }

  async submit(event) {
    event.preventDefault();
    if (this.busy || !this.check()) return;
    this.setBusy(true);
    await Promise.allSettled(this.fields.map((field) => field.uploading));
    if (!this.check()) return this.setBusy(false);
    const { ui, data } = this;
    const interaction = await ui.world.interact({ kind: "modal", channel: data.channel, message: data.message }, () =>
      ui.api.modal({ interaction_id_of_the_modal: data.interaction_id, custom_id: data.custom_id, components: this.submitted() }));
    this.follow(interaction);
    return undefined;
  }

  /** Discord's shape of a submitted form: the same rows, holding values. */
  submitted() {
    const values = this.fields.map((field) => field.value());
    return this.data.components.map((component) => {
      if (component.type === ACTION_ROW) return { type: ACTION_ROW, id: component.id, components: component.components.map(() => values.shift()) };
      if (component.type === LABEL) return { type: LABEL, id: component.id, component: values.shift() };
      return { type: component.type, id: component.id };
    });
  }

  follow(interaction) {
    const { world } = this.ui;
    const look = () => {
      if (interaction.state === "sent") return;
      this.stop();
      if (interaction.state === "failed") this.fail(interaction);
      else this.layer.close();
    };
    world.addEventListener("interaction", look);
    this.stop = () => {
      this.stop = null;
      world.removeEventListener("interaction", look);
    };
    look();
  }

  fail(interaction) {
    this.ui.world.dismissInteraction(interaction.id);
    this.setBusy(false);
    this.trouble.hidden = false;
    this.trouble.replaceChildren(icon("warning", 16), t("modal.failed"));
  }

  setBusy(busy) {
    this.busy = busy;
    this.trouble.hidden = true;
    this.submitButton.disabled = busy;
    this.submitButton.replaceChildren(busy ? spinner(t("modal.submit")) : t("modal.submit"));
  }
}

function textField(component) {
  const id = freshId("field");
  const long = component.style === PARAGRAPH;
  const max = component.max_length ?? TEXT_MAX;
  const input = h(long ? "textarea" : "input", {
    class: "text-input", id, type: long ? null : "text", rows: long ? 4 : null, placeholder: component.placeholder, maxlength: max, autocomplete: "off", value: component.value ?? "",
    "data-testid": "modal-input", on: { input: () => showLeft() },
  });
  const left = h("span", { class: "field-left", "aria-hidden": "true" });
  const showLeft = () => { left.textContent = input.value.length > max * 0.8 || component.max_length ? String(max - input.value.length) : ""; };
  showLeft();
  return {
    element: h("div", { class: "text-box" }, input, left), labelFor: id, focus: () => input.focus(),
    problemOf() {
      const length = input.value.length;
      if (input.value.trim() === "") return component.required === false ? null : t("modal.required");
      return component.min_length && length < component.min_length ? t("command.minLength", { count: component.min_length }) : null;
    },
    value: () => ({ type: TEXT_INPUT, id: component.id, custom_id: component.custom_id, value: input.value }),
  };
}

/** Radio buttons (one value) or check boxes (several). */
function choiceField(component, kind, label) {
  const name = freshId("choice");
  const inputs = component.options.map((option) => h("input", { type: kind, name, value: option.value, checked: option.default }));
  const rows = component.options.map((option, at) => h("label", { class: "choice" }, inputs[at], h("span", { class: "option-about" }, h("span", { class: "option-label" }, option.label), option.description && h("span", { class: "option-description" }, option.description))));
  const chosen = () => inputs.filter((input) => input.checked).map((input) => input.value);
  const several = kind === "checkbox";
  return {
    element: h("div", { class: "choices", role: several ? "group" : "radiogroup", "aria-label": label }, rows), focus: () => inputs[0]?.focus(),
    problemOf() {
      const count = chosen().length;
      const required = component.required !== false;
      if (count === 0) return required ? t("modal.required") : null;
      if (several && count < (component.min_values ?? 1)) return t("select.min", { count: component.min_values });
      return several && component.max_values && count > component.max_values ? t("select.max", { count: component.max_values }) : null;
    },
    value: () => ({ type: component.type, id: component.id, custom_id: component.custom_id, ...(several ? { values: chosen() } : { value: chosen()[0] ?? null }) }),
  };
}

function checkField(component, label) {
  const input = h("input", { type: "checkbox", checked: component.default, "aria-label": label });
  return { element: h("label", { class: "choice" }, input), focus: () => input.focus(), problemOf: () => null, value: () => ({ type: CHECKBOX, id: component.id, custom_id: component.custom_id, value: input.checked }) };
}

/** Files of a form: chosen, or dropped on the field. */
class FileField {
  constructor(ui, component, label) {
    Object.assign(this, { ui, component });
    this.files = [];
    this.max = component.max_values ?? 1;
    const chooser = h("input", { type: "file", hidden: true, multiple: this.max > 1, "data-testid": "modal-file", on: { change: () => { this.take(chooser.files); chooser.value = ""; } } });
    this.button = h("button", { type: "button", class: "button button-secondary", "aria-label": `${label}: ${t("modal.chooseFiles")}`, on: { click: () => chooser.click() } }, icon("upload", 16), t("modal.chooseFiles"));
    this.list = h("ul", { class: "field-files" });
    this.element = h("div", {
      class: "file-field",
      on: { dragover: (event) => event.preventDefault(), drop: (event) => { event.preventDefault(); event.stopPropagation(); this.take(event.dataTransfer.files); } },
    }, chooser, this.button, h("span", { class: "file-hint" }, t("modal.dropFiles")), this.list);
  }

  get uploading() { return Promise.allSettled(this.files.map((entry) => entry.upload)); }

  focus() { this.button.focus(); }

  take(files) {
    for (const file of files) {
      if (this.files.length >= this.max) this.files.shift();
      const entry = { file, id: null };
      entry.upload = this.ui.api.upload(file).then((upload) => { entry.id = upload.id; }, () => { entry.failed = true; }).finally(() => this.show());
      this.files.push(entry);
    }
    this.show();
  }

  show() {
    this.list.replaceChildren(...this.files.map((entry) => h("li", { class: entry.failed ? "is-wrong" : "" }, icon("file", 16), h("span", { class: "tray-name" }, entry.file.name), h("span", { class: "tray-size" }, fileSize(entry.file.size)),
      iconButton("close", t("composer.remove", { name: entry.file.name }), () => { this.files = this.files.filter((one) => one !== entry); this.show(); }))));
  }

  problemOf() {
    if (this.files.length === 0) return this.component.required === false ? null : t("modal.required");
    if (this.files.length < (this.component.min_values ?? 1)) return t("select.min", { count: this.component.min_values });
    return this.files.some((entry) => entry.failed) ? t("error.generic") : null;
  }

  value() {
    return { type: FILE_UPLOAD, id: this.component.id, custom_id: this.component.custom_id, values: this.files.map((entry) => entry.id).filter(Boolean) };
  }
}
