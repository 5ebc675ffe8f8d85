// What has been read and who was mentioned meanwhile.

import { compareIds } from "./dom.js";

/** Where this person stopped reading, kept in the browser so that it survives a reload. */
export class ReadState {
  constructor(userId) {
    this.key = `fullet.read.${userId}`;
    this.saved = JSON.parse(localStorage.getItem(this.key) ?? "null");
  }

  /** Who opens the page for the first time has nothing unread, as somebody who just joined. */
  begin(channels) {
    if (this.saved) return;
    this.saved = { last: {}, mentions: {} };
    for (const channel of channels) if (channel.last_message_id) this.saved.last[channel.id] = channel.last_message_id;
    this.save();
  }

  save() {
    localStorage.setItem(this.key, JSON.stringify(this.saved));
  }

  marker(key) {
    return this.saved?.last[key] ?? null;
  }

  mentions(key) {
    return this.saved?.mentions[key] ?? 0;
  }

  isUnread(key, last) {
    return Boolean(last) && (!this.marker(key) || compareIds(last, this.marker(key)) > 0);
  }

  mark(key, last) {
    const before = this.marker(key);
    if (last && (!before || compareIds(last, before) > 0)) this.saved.last[key] = last;
    const changed = this.marker(key) !== before || this.mentions(key) > 0;
    delete this.saved.mentions[key];
    if (changed) this.save();
    return changed;
  }

  setMentions(key, count) {
    if (this.mentions(key) === count) return false;
    this.saved.mentions[key] = count;
    this.save();
    return true;
  }

  forget(key) {
    delete this.saved.last[key];
    delete this.saved.mentions[key];
    this.save();
  }
}
