// Components of messages, both generations: rows of buttons and selects, and the layouts of Components V2.

import { h, icon, spinner } from "./dom.js";
import { emojiElement } from "./emoji.js";
import { fileCard, gallery, resolveMedia, veil } from "./media.js";
import { discordPlace, hexColour } from "./rich_text.js";
import { Select, isSelect } from "./select.js";
import { t } from "./text.js";

const ACTION_ROW = 1;
const BUTTON = 2;
const SECTION = 9;
const TEXT_DISPLAY = 10;
const THUMBNAIL = 11;
const MEDIA_GALLERY = 12;
const FILE = 13;
const SEPARATOR = 14;
const CONTAINER = 17;

const BUTTON_STYLES = { 1: "primary", 2: "secondary", 3: "success", 4: "danger", 5: "link", 6: "secondary" };

/** All components of one message. `ui` gives world, rich text and the way to press. */
export function renderComponents(message, ui) {
  const view = new MessageComponents(message, ui);
  return (message.components ?? []).map((component) => view.render(component));
}

class MessageComponents {
  constructor(message, ui) {
    this.message = message;
    this.ui = ui;
    this.underWay = new Set(ui.world.interactionsAt(message.id).filter((one) => one.state !== "failed").map((one) => one.customId));
  }

  render(component) {
    switch (component.type) {
      case ACTION_ROW: return h("div", { class: "action-row" }, component.components.map((child) => this.render(child)));
      case BUTTON: return this.button(component);
      case SECTION: return this.section(component);
      case TEXT_DISPLAY: return h("div", { class: "text-display" }, this.ui.rich.blocks(component.content));
      case THUMBNAIL: return this.thumbnail(component);
      case MEDIA_GALLERY: return gallery(component.items.map((item) => this.picture(item)));
      case FILE: return this.file(component);
      case SEPARATOR: return h("hr", { class: `separator ${component.divider === false ? "is-blank" : ""} ${component.spacing === 2 ? "is-large" : ""}` });
      case CONTAINER: return this.container(component);
      default: return isSelect(component.type) ? this.select(component) : h("p", { class: "subtext" }, `[${component.type}]`);
    }
  }

  container(component) {
    const colour = component.accent_color;
    const box = h("section", {
      class: colour === null || colour === undefined ? "container" : "container has-accent", "data-testid": "container",
      vars: colour === null || colour === undefined ? {} : { "--accent": hexColour(colour) },
    }, component.components.map((child) => this.render(child)));
    return component.spoiler ? veil(box, `${this.message.id}/${component.id}`) : box;
  }

  section(component) {
    return h("div", { class: "section" },
      h("div", { class: "section-text" }, component.components.map((child) => this.render(child))),
      h("div", { class: "section-accessory" }, this.render(component.accessory)));
  }

  picture(item) {
    const media = resolveMedia(item.media);
    return { ...media, description: item.description, spoiler: item.spoiler };
  }

  thumbnail(component) {
    return h("div", { class: "thumbnail" }, gallery([{ ...this.picture(component), width: null }]));
  }

  file(component) {
    const media = resolveMedia(component.file);
    return fileCard({ url: media.url, name: component.name ?? media.name, size: component.size ?? undefined, spoiler: component.spoiler });
  }

  button(component) {
    const content = [component.emoji && emojiElement(component.emoji), component.label && h("span", { class: "button-label" }, component.label)];
    const className = `button button-${BUTTON_STYLES[component.style] ?? "secondary"}`;
    if (component.url) return this.linkButton(component, className, content);
    const busy = this.underWay.has(component.custom_id);
    return h("button", {
      type: "button", class: className, disabled: component.disabled, "aria-busy": busy ? "true" : null, "aria-label": component.label ? null : component.emoji?.name,
      "data-testid": "button", "data-custom-id": component.custom_id,
      on: { click: () => !busy && this.press(component) },   // not disabled meanwhile: the focus would be lost
    }, busy ? [spinner(component.label ?? "…"), h("span", { class: "is-ghost" }, content)] : content);
  }

  linkButton(component, className, content) {
    const place = discordPlace(component.url);
    const href = place ? `?channel=${place.channel}` : /^https?:\/\//.test(component.url) ? component.url : null;
    if (!href || component.disabled) return h("span", { class: className, "aria-disabled": "true", role: "link" }, content, icon("external", 16));
    return h("a", {
      class: className, href, target: place ? null : "_blank", rel: "noopener noreferrer nofollow", "data-testid": "link-button",
      on: { click: (event) => place && (event.preventDefault(), this.ui.go(place.channel, place.message)) },
    }, content, !place && icon("external", 16));
  }

  select(component) {
    const select = new Select({ component, world: this.ui.world, busy: this.underWay.has(component.custom_id), onCommit: (values) => this.press(component, values) });
    return select.element;
  }

  press(component, values) {
    const { ui, message } = this;
    for (const old of ui.world.interactionsAt(message.id)) if (old.state === "failed") ui.world.dismissInteraction(old.id);
    const channel = ui.world.keyOf(message.channel_id);
    ui.world.interact({ kind: "component", channel, message: message.id, customId: component.custom_id }, () =>
      ui.api.component({ channel, message: message.id, custom_id: component.custom_id, component_type: component.type, ...(values && { values }) }));
  }
}

/** The line under a message when a press came to nothing. */
export function interactionFailures(message, world) {
  const failed = world.interactionsAt(message.id).some((one) => one.state === "failed");
  return failed && h("p", { class: "interaction-failed", role: "alert", "data-testid": "interaction-failed" }, icon("warning", 16), t("chat.interactionFailed"));
}
