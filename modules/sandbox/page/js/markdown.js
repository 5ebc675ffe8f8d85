// Discord's flavour of markdown as a small tree. Pure: text in, plain objects out; rich_text.js makes elements of them.
//
// Blocks:  {type: "paragraph"|"heading"|"subtext"|"quote"|"codeblock"|"list", ...}
// Inlines: {type: "text"|"strong"|"em"|"underline"|"strike"|"spoiler"|"code"|"link"|"user"|"role"|"channel"|
//           "command"|"everyone"|"timestamp"|"emoji"|"break", ...}

//: Deeper nesting than this is somebody playing; it stays plain text.
const MAX_DEPTH = 8;

/** The whole of a message. */
export function parseMarkdown(source, depth = 0) {
  const blocks = [];
  let rest = source.replace(/\r\n?/g, "\n");
  let paragraph = "";
  const flush = () => {
    if (paragraph !== "") blocks.push({ type: "paragraph", children: parseInline(paragraph) });
    paragraph = "";
  };
  while (rest !== "") {
    const found = depth < MAX_DEPTH && nextBlock(rest, depth, paragraph === "" || paragraph.endsWith("\n"));
    if (found) {
      paragraph = paragraph.replace(/\n$/, "");
      flush();
      blocks.push(found.block);
      rest = rest.slice(found.length);
      continue;
    }
    const cut = rest.search(/\n|```/);
    const length = cut < 0 ? rest.length : cut === 0 ? (rest[0] === "\n" ? 1 : 3) : rest[cut] === "\n" ? cut + 1 : cut;
    paragraph += rest.slice(0, length);
    rest = rest.slice(length);
  }
  flush();
  return blocks;
}

function nextBlock(rest, depth, atLineStart) {
  let match = /^```(?:([\w+#.-]+)\n)?\n*([\s\S]*?)\n*```\n?/.exec(rest);
  if (match && match[2].trim() !== "") return { length: match[0].length, block: { type: "codeblock", language: match[1] ?? "", text: match[2] } };
  if (!atLineStart) return null;
  match = /^(#{1,3}) +([^\n]+)(?:\n|$)/.exec(rest);
  if (match) return { length: match[0].length, block: { type: "heading", level: match[1].length, children: parseInline(match[2].trim()) } };
  match = /^-# +([^\n]+)(?:\n|$)/.exec(rest);
  if (match) return { length: match[0].length, block: { type: "subtext", children: parseInline(match[1]) } };
  match = /^>>> ([\s\S]+)$/.exec(rest);
  if (match) return { length: match[0].length, block: { type: "quote", children: parseMarkdown(match[1], depth + 1) } };
  match = /^(?:> [^\n]*(?:\n|$)|>(?:\n|$))+/.exec(rest);
  if (match) return { length: match[0].length, block: { type: "quote", children: parseMarkdown(match[0].replace(/^> ?/gm, "").replace(/\n$/, ""), depth + 1) } };
  match = /^(?: *(?:[-*]|\d{1,10}\.) +[^\n]+(?:\n|$)(?: {2,}[^\n]+(?:\n|$))*)+/.exec(rest);
  if (match) {
    const text = oneList(match[0]);
    return { length: text.length, block: parseList(text.replace(/\n$/, "").split("\n")) };
  }
  return null;
}

/** Numbers after bullets (or the other way round) at the outer level begin a list of their own. */
function oneList(text) {
  const isOrdered = (line) => /^ ?\d/.test(line);
  const lines = text.split(/(?<=\n)/);
  const end = lines.findIndex((line) => /^ ?\S/.test(line) && isOrdered(line) !== isOrdered(lines[0]));
  return (end < 0 ? lines : lines.slice(0, end)).join("");
}

function parseList(lines) {
  const root = { type: "list", ordered: false, start: 1, items: [] };
  const stack = [{ indent: -1, list: root, fresh: true }];
  for (const line of lines) {
    const match = /^( *)([-*]|(\d{1,10})\.) +(.+)$/.exec(line);
    if (!match) {
      stack.at(-1).list.items.at(-1).children.push({ type: "break" }, ...parseInline(line.trim()));
      continue;
    }
    const indent = match[1].length;
    while (stack.length > 1 && indent < stack.at(-1).indent) stack.pop();
    if (stack.length === 1) {
      stack.push({ indent, list: root });
      Object.assign(root, { ordered: match[3] !== undefined, start: Number(match[3] ?? 1) });
    } else if (indent > stack.at(-1).indent + 1 && stack.length < MAX_DEPTH) {
      const list = { type: "list", ordered: match[3] !== undefined, start: Number(match[3] ?? 1), items: [] };
      stack.at(-1).list.items.at(-1).nested.push(list);
      stack.push({ indent, list });
    }
    stack.at(-1).list.items.push({ children: parseInline(match[4]), nested: [] });
  }
  return root;
}

//: What is known by its look alone: [pattern at the current place, what it makes].
const TOKENS = [
  [/^\\([^0-9A-Za-z\s])/, (m) => ({ type: "text", text: m[1] })],
  [/^\n/, () => ({ type: "break" })],
  [/^<@!?(\d+)>/, (m) => ({ type: "user", id: m[1] })],
  [/^<@&(\d+)>/, (m) => ({ type: "role", id: m[1] })],
  [/^<#(\d+)>/, (m) => ({ type: "channel", id: m[1] })],
  [/^<\/([^:>\n]{1,100}):(\d+)>/, (m) => ({ type: "command", name: m[1], id: m[2] })],
  [/^<t:(-?\d{1,13})(?::([tTdDfFR]))?>/, (m) => ({ type: "timestamp", unix: Number(m[1]), style: m[2] ?? "f" })],
  [/^<(a?):(\w{2,32}):(\d+)>/, (m) => ({ type: "emoji", name: m[2], id: m[3], animated: m[1] === "a" })],
  [/^@(everyone|here)/, (m) => ({ type: "everyone", name: m[1] })],
  [/^<(https?:\/\/[^\s>]+)>/, (m) => link(m[1], [{ type: "text", text: m[1] }])],
  [/^https?:\/\/[^\s<]+[^<.,:;"'\]\s)*_|~]/, (m) => link(m[0], [{ type: "text", text: m[0] }])],
];
//: Marks that stand in pairs around something; two characters before one.
const PAIRS = [["||", "spoiler"], ["**", "strong"], ["__", "underline"], ["~~", "strike"], ["*", "em"], ["_", "em"]];
const LINK_TARGET = /^\(\s*<?(https?:\/\/(?:[^\s<>()]|\([^\s<>()]*\))+)>?(?:\s+"[^"\n]*")?\s*\)/;
const SPECIAL = /[\\\n`<@[h|*_~]/g;
const WORD = /[A-Za-z0-9_]/;

const link = (url, children) => ({ type: "link", url, children });

/** One stretch of text without blocks. */
export function parseInline(source, depth = 0) {
  return depth > MAX_DEPTH ? [{ type: "text", text: source }] : new InlineParser(source, depth).run();
}

/** Reads from left to right; a mark whose partner was missed once is not looked for again, so the time stays bounded. */
class InlineParser {
  constructor(source, depth) {
    Object.assign(this, { source, depth, at: 0, nodes: [], unpaired: new Set() });
  }

  run() {
    while (this.at < this.source.length) this.token() || this.code() || this.masked() || this.pair() || this.plain();
    return this.nodes;
  }

  add(node, length) {
    const last = this.nodes.at(-1);
    if (node.type === "text" && last?.type === "text") last.text += node.text;
    else this.nodes.push(node);
    this.at += length;
    return true;
  }

  token() {
    const rest = this.source.slice(this.at);
    for (const [pattern, make] of TOKENS) {
      const match = pattern.exec(rest);
      if (match) return this.add(make(match), match[0].length);
    }
    return false;
  }

  /** As many backticks as began it end it. */
  code() {
    const ticks = /^`+/.exec(this.source.slice(this.at))?.[0];
    if (!ticks) return false;
    for (let from = this.at + ticks.length; ;) {
      const open = this.source.indexOf(ticks, from);
      if (open < 0) return this.add({ type: "text", text: ticks }, ticks.length);
      let end = open;
      while (this.source[end] === "`") end += 1;
      if (end - open === ticks.length) return this.add({ type: "code", text: this.source.slice(this.at + ticks.length, open) }, end - this.at);
      from = end;
    }
  }

  /** `[words](https://address)`; anything but http(s) stays text. */
  masked() {
    if (this.source[this.at] !== "[" || this.unpaired.has("]")) return false;
    let open = 0;
    for (let end = this.at; end < this.source.length && this.source[end] !== "\n"; end += 1) {
      const character = this.source[end];
      if (character === "\\") end += 1;
      else if (character === "[") open += 1;
      else if (character === "]" && (open -= 1) === 0) {
        const target = LINK_TARGET.exec(this.source.slice(end + 1));
        const words = this.source.slice(this.at + 1, end);
        return target !== null && words.trim() !== "" && this.add(link(target[1], parseInline(words, this.depth + 1)), end + 1 + target[0].length - this.at);
      }
    }
    if (!this.source.includes("\n", this.at)) this.unpaired.add("]");
    return false;
  }

  pair() {
    for (const [mark, type] of PAIRS) {
      if (!this.source.startsWith(mark, this.at) || !this.mayOpen(mark)) continue;
      const inside = this.at + mark.length;
      const end = this.partner(mark, inside);
      if (end > inside) return this.add({ type, children: parseInline(this.source.slice(inside, end), this.depth + 1) }, end + mark.length - this.at);
    }
    return false;
  }

  /** `_word_` counts only at the edges of words (snake_case_names stay as they are); `* ` begins a list, not emphasis. */
  mayOpen(mark) {
    if (mark === "_") return !WORD.test(this.source[this.at - 1] ?? " ");
    return mark !== "*" || /\S/.test(this.source[this.at + 1] ?? " ");
  }

  /** Where the partner of `mark` begins, or -1. */
  partner(mark, from) {
    if (this.unpaired.has(mark)) return -1;
    const { source } = this;
    for (let at = from; at < source.length; at += 1) {
      if (source[at] === "\\") at += 1;
      else if (mark.length === 2 && source.startsWith(mark, at) && at > from) {
        while (source.startsWith(mark, at + 1)) at += 1;   // ***: the inner mark closes first
        return at;
      } else if (mark.length === 1 && source[at] === mark) {
        const inner = source.startsWith(mark + mark, at) ? this.partner(mark + mark, at + 2) : -1;
        if (inner >= 0) at = inner + 1;
        else if (this.mayClose(mark, at, from)) return at;
      }
    }
    this.unpaired.add(mark);
    return -1;
  }

  mayClose(mark, at, from) {
    if (at === from || this.source[at + 1] === mark || this.source[at - 1] === mark) return false;
    return mark === "_" ? !WORD.test(this.source[at + 1] ?? " ") : /\S/.test(this.source[at - 1]);
  }

  plain() {
    SPECIAL.lastIndex = this.at + 1;
    const end = SPECIAL.exec(this.source)?.index ?? this.source.length;
    return this.add({ type: "text", text: this.source.slice(this.at, end) }, end - this.at);
  }
}

/** True when there is nothing but up to 27 emoji (Discord then shows them large). */
export function isOnlyEmoji(source) {
  const emoji = source.match(/\p{Extended_Pictographic}(?:\uFE0F|\u200D\p{Extended_Pictographic}|\p{Emoji_Modifier})*|\p{Regional_Indicator}{2}|<a?:\w+:\d+>/gu);
  if (!emoji || emoji.length > 27) return false;
  return source.replace(/\s/g, "").length === emoji.join("").length;
}
