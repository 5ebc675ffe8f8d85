// Embeds: the older kind of card, with a coloured edge, a title, fields and pictures.

import { mediaUrl } from "./api.js";
import { h } from "./dom.js";
import { gallery } from "./media.js";
import { hexColour } from "./rich_text.js";
import { headerTime } from "./time.js";

/** One embed of a message. `rich` renders its texts. */
export function embed(data, rich) {
  const body = h("div", { class: "embed-body" },
    data.provider?.name && h("div", { class: "embed-provider" }, data.provider.name),
    data.author?.name && h("div", { class: "embed-author" }, smallPicture(data.author.icon_url), linked(data.author.url, data.author.name)),
    data.title && h("div", { class: "embed-title" }, data.url ? linked(data.url, rich.line(data.title)) : rich.line(data.title)),
    data.description && h("div", { class: "embed-description" }, rich.blocks(data.description)),
    data.fields?.length > 0 && fields(data.fields, rich));
  return h("article", { class: "embed", "data-testid": "embed", vars: data.color !== undefined && data.color !== null ? { "--accent": hexColour(data.color) } : {} },
    h("div", { class: "embed-top" }, body, data.thumbnail?.url && h("img", { class: "embed-thumbnail", src: mediaUrl(data.thumbnail.url), alt: "", loading: "lazy" })),
    data.image?.url && gallery([{ url: data.image.url, width: data.image.width, height: data.image.height }]),
    footer(data));
}

function fields(list, rich) {
  return h("dl", { class: "embed-fields" }, list.map((field) =>
    h("div", { class: field.inline ? "embed-field is-inline" : "embed-field" }, h("dt", {}, rich.line(field.name)), h("dd", {}, rich.blocks(field.value)))));
}

function footer(data) {
  const parts = [data.footer?.text, data.timestamp && headerTime(new Date(data.timestamp))].filter(Boolean);
  if (parts.length === 0) return null;
  return h("footer", { class: "embed-footer" }, smallPicture(data.footer?.icon_url), h("span", {}, parts.join(" • ")));
}

const smallPicture = (url) => url && h("img", { class: "embed-icon", src: mediaUrl(url), alt: "" });

function linked(url, content) {
  return /^https?:\/\//.test(url ?? "") ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, content) : h("span", {}, content);
}
