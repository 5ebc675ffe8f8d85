// Pictures and files: attachments, galleries of 1-10, spoilers, download cards and the large view.

import { mediaUrl } from "./api.js";
import { h, icon, iconButton, openLayer } from "./dom.js";
import { fileSize, t } from "./text.js";

//: A single picture is shown inside this box, as Discord's client does at its usual width.
const MAX_WIDTH = 550;
const MAX_HEIGHT = 350;

//: SVG is a document that can hold scripts: a file to download, as in Discord.
const PICTURE_TYPE = /^image\/(png|jpeg|webp|gif|avif)$/;
const PICTURE_NAME = /\.(png|jpe?g|webp|gif|avif)$/i;
const SPOILER_PREFIX = "SPOILER_";

/** Which spoilers this person opened; an edited message must not close them again. */
const revealed = new Set();

export const isPicture = (attachment) => PICTURE_TYPE.test(attachment.content_type ?? "") || PICTURE_NAME.test(attachment.filename ?? "");

/** What an attachment is for a gallery. */
export function pictureOf(attachment) {
  return {
    url: attachment.url, width: attachment.width, height: attachment.height, name: attachment.filename,
    description: attachment.description, spoiler: attachment.filename?.startsWith(SPOILER_PREFIX),
  };
}

/** What a component shows. The message's `attachments` do not list such files: all that is known of one stands in its media. */
export function resolveMedia(media) {
  return { url: media.url, width: media.width, height: media.height, name: fileName(media.url) };
}

function fileName(url) {
  const last = (url ?? "").split(/[?#]/)[0].split("/").at(-1);
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/** 1-10 pictures in Discord's mosaic. `pictures`: [{url, width, height, name, description, spoiler}]. */
export function gallery(pictures) {
  const shown = pictures.slice(0, 10);
  if (shown.length === 1) return h("div", { class: "gallery gallery-1", "data-testid": "gallery" }, tile(shown[0], shown, 0, true));
  return h("div", { class: `gallery gallery-${shown.length}`, "data-testid": "gallery" }, shown.map((picture, at) => tile(picture, shown, at, false)));
}

function tile(picture, all, at, alone) {
  const label = picture.description || picture.name || t("media.picture");
  const image = h("img", { src: mediaUrl(picture.url), alt: label, loading: "lazy", decoding: "async", draggable: "false" });
  const button = h("button", {
    type: "button", class: "picture", "aria-label": t("media.open", { name: label }), "data-testid": "picture",
    on: { click: () => openLightbox(all, at) },
  }, image);
  image.addEventListener("error", () => button.replaceChildren(missing(picture.url)), { once: true });
  if (alone) reserveSpace(button, picture);
  return picture.spoiler ? veil(button, picture.url) : button;
}

/** Keeps the room a picture will need, so that nothing jumps when it arrives. */
function reserveSpace(button, { width, height }) {
  if (!width || !height) return;
  const scale = Math.min(1, MAX_WIDTH / width, MAX_HEIGHT / height);
  button.style.setProperty("--width", `${Math.round(width * scale)}px`);
  button.style.setProperty("--ratio", `${width} / ${height}`);
  button.classList.add("is-sized");
}

/** A picture from elsewhere is not loaded (nothing leaves this machine): it becomes a link. */
function missing(url) {
  const address = mediaUrl(url);
  const foreign = address?.startsWith("http") && new URL(address).origin !== location.origin;
  return h("span", { class: "picture-missing" }, icon("image", 24), foreign ? h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, address) : t("media.gone"));
}

/** Covers something until it is pressed. */
export function veil(content, key) {
  if (revealed.has(key)) return content;
  const box = h("div", { class: "veil" }, content);
  content.inert = true;
  const cover = h("button", { type: "button", class: "veil-cover", "aria-label": t("media.reveal"), on: { click: open } }, h("span", {}, t("media.spoiler")));
  function open() {
    revealed.add(key);
    content.inert = false;
    cover.remove();
    box.classList.add("is-open");
  }
  box.append(cover);
  return box;
}

/** A file to download. `file`: {url, name, size, spoiler}. */
export function fileCard(file) {
  const address = mediaUrl(file.url);
  const card = h("div", { class: "file-card", "data-testid": "file" },
    icon("file", 30),
    h("span", { class: "file-about" },
      h("a", { href: address, download: file.name, class: "file-name" }, file.name),
      file.size !== undefined && h("span", { class: "file-size" }, fileSize(file.size))),
    h("a", { href: address, download: file.name, class: "icon-button", "aria-label": t("media.download", { name: file.name }), title: t("media.download", { name: file.name }) }, icon("download")));
  return file.spoiler ? veil(card, file.url) : card;
}

/** The attachments of an ordinary message: pictures first, together, then files. */
export function attachments(list) {
  const pictures = list.filter(isPicture);
  const files = list.filter((one) => !isPicture(one));
  return [
    pictures.length > 0 && gallery(pictures.map(pictureOf)),
    ...files.map((one) => fileCard({ url: one.url, name: one.filename, size: one.size, spoiler: one.filename.startsWith(SPOILER_PREFIX) })),
  ].filter(Boolean);
}

/** The large view of one picture among several. */
export function openLightbox(pictures, start) {
  let at = start;
  const image = h("img", { class: "lightbox-picture", alt: "" });
  const caption = h("p", { class: "lightbox-caption" });
  const original = h("a", { target: "_blank", rel: "noopener noreferrer", class: "lightbox-link" }, icon("external", 16), t("media.original"));
  const download = h("a", { class: "lightbox-link" }, icon("download", 16), h("span", {}));
  const several = pictures.length > 1;
  const box = h("div", { class: "lightbox", role: "dialog", "aria-modal": "true", "aria-label": t("media.picture"), "data-testid": "lightbox" },
    several && iconButton("left", t("media.previous"), () => show(at - 1), { class: "icon-button lightbox-step lightbox-previous", size: 28 }),
    h("figure", {}, image, h("figcaption", {}, caption, h("span", { class: "lightbox-links" }, original, download))),
    several && iconButton("right", t("media.next"), () => show(at + 1), { class: "icon-button lightbox-step lightbox-next", size: 28 }),
    iconButton("close", t("media.close"), () => layer.close(), { class: "icon-button lightbox-close", size: 26 }));
  function show(next) {
    at = (next + pictures.length) % pictures.length;
    const picture = pictures[at];
    const address = mediaUrl(picture.url);
    image.src = address;
    image.alt = picture.description || picture.name || t("media.picture");
    caption.textContent = [picture.description || picture.name, several ? `${at + 1} / ${pictures.length}` : ""].filter(Boolean).join(" · ");
    original.href = address;
    download.href = address;
    download.setAttribute("download", picture.name ?? "");
    download.lastChild.textContent = t("media.download", { name: "" }).trim();
  }
  const keys = (event) => {
    if (several && event.key === "ArrowLeft") show(at - 1);
    if (several && event.key === "ArrowRight") show(at + 1);
  };
  show(start);
  document.addEventListener("keydown", keys);
  const layer = openLayer(box, { modal: true, className: "layer-dark", onClose: () => document.removeEventListener("keydown", keys) });
  box.addEventListener("click", (event) => [box, box.querySelector("figure")].includes(event.target) && layer.close());
  box.querySelector(".lightbox-close").focus();
}
