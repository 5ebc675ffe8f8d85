// Emoji of buttons and options: the system's own glyphs; a server's custom emoji by name.

import { h } from "./dom.js";

/** `emoji`: Discord's partial emoji {id, name}. */
export function emojiElement(emoji) {
  if (emoji.id) return h("span", { class: "custom-emoji", title: `:${emoji.name}:` }, `:${emoji.name}:`);
  return h("span", { class: "emoji", "aria-hidden": "true" }, emoji.name ?? "");
}
