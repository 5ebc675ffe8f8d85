// Markdown as elements. Everything from people ends in text nodes; links are http(s) only.

import { h, icon } from "./dom.js";
import { isOnlyEmoji, parseInline, parseMarkdown } from "./markdown.js";
import { t } from "./text.js";
import { timestampElement } from "./time.js";

/**
 * Renders texts of one page. `world` names people, roles and channels; `go` opens a channel;
 * `useCommand` starts a slash command that somebody mentioned.
 */
export class RichText {
  constructor({ world, go, useCommand }) {
    Object.assign(this, { world, go, useCommand });
  }

  /** A whole message or TextDisplay. */
  blocks(source) {
    const box = h("div", { class: isOnlyEmoji(source) ? "markup markup-jumbo" : "markup" });
    box.append(...parseMarkdown(source).map((block) => this.block(block)));
    return box;
  }

  /** One line: labels, descriptions, reply previews. */
  line(source) {
    return h("span", { class: "markup-line" }, this.inlines(parseInline(source.replace(/\s*\n\s*/g, " "))));
  }

  block(block) {
    switch (block.type) {
      case "paragraph": return h("p", {}, this.inlines(block.children));
      case "heading": return h(`h${block.level + 2}`, { class: `heading heading-${block.level}` }, this.inlines(block.children));
      case "subtext": return h("p", { class: "subtext" }, this.inlines(block.children));
      case "quote": return h("blockquote", {}, block.children.map((child) => this.block(child)));
      case "codeblock": return codeBlock(block);
      case "list": return this.list(block);
      default: throw new Error(`unknown block ${block.type}`);
    }
  }

  list(list) {
    const element = h(list.ordered ? "ol" : "ul", list.ordered && list.start !== 1 ? { start: list.start } : {});
    element.append(...list.items.map((item) => h("li", {}, this.inlines(item.children), item.nested.map((nested) => this.list(nested)))));
    return element;
  }

  inlines(nodes) {
    return nodes.map((node) => this.inline(node));
  }

  inline(node) {
    switch (node.type) {
      case "text": return node.text;
      case "break": return h("br");
      case "strong": return h("strong", {}, this.inlines(node.children));
      case "em": return h("em", {}, this.inlines(node.children));
      case "underline": return h("u", {}, this.inlines(node.children));
      case "strike": return h("s", {}, this.inlines(node.children));
      case "code": return h("code", {}, node.text);
      case "spoiler": return spoiler(this.inlines(node.children));
      case "link": return this.link(node);
      case "timestamp": return timestampElement(node.unix, node.style);
      case "emoji": return h("span", { class: "custom-emoji", title: `:${node.name}:` }, `:${node.name}:`);
      default: return this.mention(node);
    }
  }

  mention(node) {
    switch (node.type) {
      case "user": {
        const name = this.world.knowsPerson(node.id) ? this.world.nameOf(node.id) : t("mention.unknownUser");
        return h("span", { class: "mention", "data-user": node.id }, `@${name}`);
      }
      case "role": {
        const role = this.world.roles.get(node.id);
        return h("span", { class: "mention", vars: roleColour(role) }, `@${role?.name ?? t("mention.unknownRole")}`);
      }
      case "channel": return this.channelMention(node.id);
      case "everyone": return h("span", { class: "mention" }, `@${node.name}`);
      case "command":
        return h("button", { type: "button", class: "mention", on: { click: () => this.useCommand(node.name) } }, `/${node.name}`);
      default: throw new Error(`unknown inline ${node.type}`);
    }
  }

  channelMention(id) {
    const channel = this.world.channels.get(id);
    if (!channel) return h("span", { class: "mention mention-unknown" }, icon("lock", 14), t("mention.unknownChannel"));
    return h("button", { type: "button", class: "mention", "data-channel": id, on: { click: () => this.go(id) } }, icon("hash", 14), channel.name);
  }

  link(node) {
    const place = discordPlace(node.url);
    if (place && isBare(node)) return this.channelMention(place.channel);
    if (place) return h("a", { href: `?channel=${place.channel}`, on: { click: (event) => { event.preventDefault(); this.go(place.channel, place.message); } } }, this.inlines(node.children));
    return h("a", { href: node.url, target: "_blank", rel: "noopener noreferrer nofollow", title: node.url }, this.inlines(node.children));
  }
}

const isBare = (node) => node.children.length === 1 && node.children[0].text === node.url;

/** `{channel, message?}` when an address points into Discord itself: those open inside the page. */
export function discordPlace(url) {
  const match = /^(?:https:\/\/(?:\w+\.)?discord(?:app)?\.com|discord:\/\/-?)\/channels\/(?:\d+|@me)\/(\d+)(?:\/(\d+))?\/?$/.exec(url);
  return match ? { channel: match[1], message: match[2] } : null;
}

function spoiler(children) {
  const inner = h("span", { class: "spoiler-text" }, children);
  const box = h("span", { class: "spoiler", role: "button", tabindex: 0, "aria-label": t("media.reveal"), "aria-expanded": "false" }, inner);
  inner.inert = true;
  const show = (event) => {
    if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
    if (box.classList.contains("is-open")) return;
    event.preventDefault();
    box.classList.add("is-open");
    inner.inert = false;
    for (const name of ["role", "tabindex", "aria-label", "aria-expanded"]) box.removeAttribute(name);
  };
  box.addEventListener("click", show);
  box.addEventListener("keydown", show);
  return box;
}

function codeBlock(block) {
  const copy = h("button", { type: "button", class: "code-copy", on: { click: () => navigator.clipboard?.writeText(block.text) } }, icon("copy", 14), t("code.copy"));
  return h("div", { class: "codeblock" }, h("pre", {}, h("code", block.language ? { "data-language": block.language } : {}, block.text)), copy);
}

/** CSS variables for a role's colour; nothing when the role has none. */
export function roleColour(role) {
  return role?.color ? { "--role": hexColour(role.color) } : {};
}

export const hexColour = (number) => `#${number.toString(16).padStart(6, "0")}`;
