// Faces: initials on the person's own colour, a small picture frame for the bot. No foreign pictures.

import { h, icon } from "./dom.js";
import { hexColour } from "./rich_text.js";

const COLOURS = ["#5865f2", "#3ba55c", "#c77d1a", "#d6457b", "#8a5cd6", "#2f8fb3", "#c2513c"];

/** Colours by person, as the server chose them: messages do not carry them. */
const faces = new Map();

export function rememberFaces(people) {
  for (const person of people) faces.set(person.id, person.avatar_color);
}

/** The colour of a person: chosen by the server, else by the id. */
export function personColour(user) {
  const chosen = faces.get(user.id) ?? user.accent_color;
  if (typeof chosen === "number") return hexColour(chosen);
  if (typeof chosen === "string" && /^#?[0-9a-f]{6}$/i.test(chosen)) return chosen.startsWith("#") ? chosen : `#${chosen}`;
  return COLOURS[Number(BigInt(user.id) % BigInt(COLOURS.length))];
}

/** A round face. `status`: "online" | "offline" | null draws the small dot. */
export function avatar(user, size = 40, status = null) {
  const name = user.global_name ?? user.username ?? "?";
  const face = user.bot
    ? h("span", { class: "avatar-face avatar-bot" }, icon("image", Math.round(size * 0.55)))
    : h("span", { class: "avatar-face", vars: { "--face": personColour(user) } }, [...name][0].toUpperCase());
  return h("span", { class: "avatar", "aria-hidden": "true", vars: { "--avatar": `${size}px` } }, face, status && h("span", { class: `presence presence-${status}` }));
}
