// Building blocks of the page: elements, icons, overlays, focus. Text always becomes a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element. Children may be nodes, strings (always text), arrays of those, or null.
 * Special props: `class`, `on: {click: fn}`, `vars: {"--accent": "#fff"}`; everything else is an attribute;
 * `true` sets an empty attribute, `false`/`null`/`undefined` leaves it out.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name === "vars") for (const [key, css] of Object.entries(value)) element.style.setProperty(key, css);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

//: Path data on a 24 x 24 grid, drawn for this page. A leading "!" means: filled, not stroked.
const ICONS = {
  hash: "M9.5 4 7.5 20M16.5 4l-2 16M4.5 9h16M3.5 15h16",
  lock: "M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13z",
  announce: "M4 10v4h3l8 4V6l-8 4zM18.5 9.5a3.5 3.5 0 0 1 0 5",
  chevron: "M6 9.5l6 6 6-6",
  people: "M9 12a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.4-4 3-6 6.500-6s6.100 2 6.500 6M16 5.300a3.300 3.300 0 0 1 0 6.400M18 14.500c2 .800 3.300 2.600 3.500 5.500",
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  more: "!M5 10.200a1.800 1.800 0 1 0 0 3.600 1.800 1.800 0 0 0 0-3.600zM12 10.200a1.800 1.800 0 1 0 0 3.600 1.800 1.800 0 0 0 0-3.600zM19 10.200a1.800 1.800 0 1 0 0 3.600 1.800 1.800 0 0 0 0-3.600z",
  reply: "M10 6 4 11.500l6 5.500M4.500 11.500H13c4.500 0 7 2.500 7 7",
  trash: "M4 6.500h16M9.500 6V4h5v2M6.500 6.500 7.500 20h9l1-13.500M10.500 10.500v6M13.500 10.500v6",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  link: "M10 14a4 4 0 0 0 6 .400l3-3a4 4 0 0 0-5.700-5.700l-1 1M14 10a4 4 0 0 0-6-.400l-3 3a4 4 0 0 0 5.700 5.700l1-1",
  external: "M13 4h7v7M20 4l-9.500 9.500M18 14v6H4V6h6",
  download: "M12 4v11M7 11l5 5 5-5M4.500 20h15",
  upload: "M12 16V5M7 9l5-5 5 5M4.500 20h15",
  file: "M6 3h8l5 5v13H6zM14 3v5h5",
  image: "M3.500 5h17v14h-17zM3.500 16l5-5 4 4 3-3 5 4.500M15.500 9.200a.8.8 0 1 0 0-.1z",
  eye: "M2.500 12S6 5.500 12 5.500 21.500 12 21.500 12 18 18.500 12 18.500 2.500 12 2.500 12zM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  send: "!M3.400 20.200 21.500 12 3.400 3.800 5.200 11l8.300 1-8.300 1z",
  check: "M5 12.500l4.500 4.500L19 7.500",
  warning: "M12 4 2.500 20h19zM12 10v4.500M12 17v.5",
  slash: "M16 4 8 20",
  apps: "M4 4h6.500v6.500H4zM13.500 4H20v6.500h-6.500zM4 13.500h6.500V20H4zM13.500 13.500H20V20h-6.500z",
  crown: "!M3 8l4.500 3.500L12 5l4.500 6.500L21 8l-1.800 10H4.800z",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  message: "M4 5h16v12H9l-5 4z",
  down: "M12 5v14M6 13l6 6 6-6",
};

/** An icon as inline SVG; hidden from screen readers, its button carries the name. */
export function icon(name, size = 20) {
  const path = ICONS[name];
  const filled = path.startsWith("!");
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({
    viewBox: "0 0 24 24", width: size, height: size, "aria-hidden": "true", class: "icon",
    fill: filled ? "currentColor" : "none", stroke: filled ? "none" : "currentColor",
    "stroke-width": 2, "stroke-linecap": "round", "stroke-linejoin": "round",
  })) svg.setAttribute(key, String(value));
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", filled ? path.slice(1) : path);
  svg.append(shape);
  return svg;
}

/** A square button that shows only an icon; `label` is its accessible name and its tooltip. */
export function iconButton(name, label, onClick, props = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, ...props, on: { click: onClick } }, icon(name, props.size ?? 20));
}

export function spinner(label) {
  return h("span", { class: "spinner", role: "img", "aria-label": label }, h("i"), h("i"), h("i"));
}

/** Tells screen readers something without moving the focus. */
export function announce(text) {
  const announcer = document.getElementById("announcer");
  announcer.textContent = "";
  requestAnimationFrame(() => { announcer.textContent = text; });
}

/** Remembers which layers are open so that Escape closes the topmost one only. */
const layers = [];
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || layers.length === 0) return;
  event.preventDefault();
  event.stopPropagation();
  layers.at(-1).close("escape");
}, true);

/**
 * Puts `content` above the page. `modal: true` dims the page and keeps the focus inside.
 * Returns `{close}`; closing gives the focus back to where it was.
 */
export function openLayer(content, { modal = false, onClose = () => {}, className = "", closeOnOutside = true } = {}) {
  const before = document.activeElement;
  const root = h("div", { class: `layer ${modal ? "layer-modal" : ""} ${className}` }, content);
  const layer = {
    root,
    close(reason = "code") {
      const at = layers.indexOf(layer);
      if (at < 0) return;
      layers.splice(at, 1);
      root.remove();
      document.removeEventListener("pointerdown", outside, true);
      if (before?.isConnected && (modal || root.contains(document.activeElement) || document.activeElement === document.body)) before.focus({ preventScroll: true });
      onClose(reason);
    },
  };
  function outside(event) {
    if (layers.at(-1) !== layer) return;
    const inside = modal ? event.target !== root : root.contains(event.target);
    if (!inside && closeOnOutside) layer.close("outside");
  }
  document.getElementById("overlays").append(root);
  layers.push(layer);
  // The press that opened the layer must not close it again.
  setTimeout(() => layers.includes(layer) && document.addEventListener("pointerdown", outside, true));
  if (modal) root.addEventListener("keydown", keepFocusInside(root));
  return layer;
}

export const FOCUSABLE = "a[href], button:not([disabled]), input:not([disabled]), textarea:not([disabled]), select:not([disabled]), [tabindex]:not([tabindex='-1'])";

function keepFocusInside(root) {
  return (event) => {
    if (event.key !== "Tab") return;
    const stops = [...root.querySelectorAll(FOCUSABLE)].filter((element) => element.offsetParent !== null);
    if (stops.length === 0) return;
    const edge = event.shiftKey ? stops[0] : stops.at(-1);
    if (document.activeElement === edge) {
      event.preventDefault();
      (event.shiftKey ? stops.at(-1) : stops[0]).focus();
    }
  };
}

/** Places a floating box beside an anchor (element or point), inside the window. */
export function placeBeside(box, anchor, { above = false, matchWidth = false } = {}) {
  const rect = anchor instanceof Element ? anchor.getBoundingClientRect() : new DOMRect(anchor.x, anchor.y, 0, 0);
  if (matchWidth) box.style.setProperty("width", `${rect.width}px`);
  const gap = 4;
  const { offsetWidth: width, offsetHeight: height } = box;
  const fitsBelow = rect.bottom + gap + height <= window.innerHeight - 8;
  const fitsAbove = rect.top - gap - height >= 8;
  const top = above && fitsAbove || !fitsBelow && fitsAbove ? rect.top - gap - height : Math.min(rect.bottom + gap, window.innerHeight - 8 - height);
  box.style.setProperty("left", `${Math.max(8, Math.min(rect.left, window.innerWidth - width - 8))}px`);
  box.style.setProperty("top", `${Math.max(8, top)}px`);
}

/** Moves an "active option" through a list with the arrow keys; the focus stays in the text box. */
export class OptionCursor {
  constructor(list, input) {
    this.list = list;
    this.input = input;
  }

  get options() {
    return [...this.list.querySelectorAll("[role=option]:not([aria-disabled=true]), [role=menuitem]")];
  }

  get active() {
    return this.list.querySelector(".is-active");
  }

  select(element) {
    this.active?.classList.remove("is-active");
    if (!element) {
      this.input?.removeAttribute("aria-activedescendant");
      return;
    }
    element.classList.add("is-active");
    if (element.id) this.input?.setAttribute("aria-activedescendant", element.id);
    element.scrollIntoView({ block: "nearest" });
  }

  move(step) {
    const options = this.options;
    if (options.length === 0) return;
    const at = options.indexOf(this.active);
    const next = at < 0 ? (step > 0 ? 0 : options.length - 1) : (at + step + options.length) % options.length;
    this.select(options[next]);
  }
}

let lastId = 0;
export const freshId = (prefix) => `${prefix}-${++lastId}`;

/** `a` is older than `b` when negative. Discord ids grow with time and outgrow doubles: compared as text. */
export function compareIds(a, b) {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
