// Files waiting to be sent: small previews with progress, each can be taken away again.

import { h, icon, iconButton } from "./dom.js";
import { fileSize, t } from "./text.js";

//: Most files one message may carry. Source: Discord developer docs, "Create Message".
const MAX_FILES = 10;

export class FileTray {
  /** `onChange` is called when files come or go. */
  constructor(ui, onChange) {
    Object.assign(this, { ui, onChange });
    this.files = [];
    this.element = h("ul", { class: "tray", hidden: true, "data-testid": "tray" });
  }

  /** False when there are too many already. */
  add(file) {
    if (this.files.length >= MAX_FILES) return false;
    const bar = h("span", { class: "tray-bar" });
    const entry = { file, preview: file.type.startsWith("image/") ? URL.createObjectURL(file) : null };
    entry.element = h("li", { class: "tray-file", "data-testid": "tray-file" },
      entry.preview ? h("img", { src: entry.preview, alt: "" }) : icon("file", 48),
      h("span", { class: "tray-name", title: file.name }, file.name), h("span", { class: "tray-size" }, fileSize(file.size)), bar,
      iconButton("trash", t("composer.remove", { name: file.name }), () => this.remove(entry), { class: "icon-button tray-remove" }));
    entry.upload = this.ui.api.upload(file, (part) => bar.style.setProperty("--part", String(part)));
    entry.upload.then(() => entry.element.classList.add("is-ready"), () => entry.element.classList.add("is-wrong"));
    this.files.push(entry);
    this.element.append(entry.element);
    this.show();
    return true;
  }

  remove(entry) {
    this.files = this.files.filter((one) => one !== entry);
    entry.element.remove();
    FileTray.release([entry]);
    this.show();
  }

  clear() {
    FileTray.release(this.take());
  }

  /** Empties the tray and gives what was in it. */
  take() {
    const taken = this.files;
    this.files = [];
    this.element.replaceChildren();
    this.show();
    return taken;
  }

  putBack(entries) {
    this.files = entries;
    this.element.replaceChildren(...entries.map((entry) => entry.element));
    this.show();
  }

  show() {
    this.element.hidden = this.files.length === 0;
    this.onChange();
  }

  /** The upload ids of files, once they are all there. */
  static async uploadIds(entries) {
    return (await Promise.all(entries.map((entry) => entry.upload))).map((upload) => upload.id);
  }

  /** Lets go of the previews. */
  static release(entries) {
    for (const entry of entries) if (entry.preview) URL.revokeObjectURL(entry.preview);
  }
}
