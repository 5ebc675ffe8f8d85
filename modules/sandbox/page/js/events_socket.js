// The stream of events: connects, says how it is, and asks what answers at this address before it connects again.

import { PersonApi } from "./api.js";

//: Between two tries: short at first, and never so long that somebody who started the demo again would reload by hand.
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 3_000;
//: A stand-in on this machine answers within milliseconds; what stays silent this long is away.
const ANSWER_WITHIN_MS = 5_000;
//: From here on (HTTP status) a port forwarder speaks for a program that is gone.
const SERVER_ERRORS = 500;

/** What answers at this page's address: the "same" world, "another" one, a "stranger" that is no stand-in, or nobody ("away"). */
export async function whatAnswers(world) {
  try {
    const answer = await PersonApi.world(AbortSignal.timeout(ANSWER_WITHIN_MS));
    if (!answer?.world) return "stranger";
    return answer.world === world ? "same" : "another";
  } catch (error) {
    return error.status > 0 && error.status < SERVER_ERRORS ? "stranger" : "away";
  }
}

export class EventsSocket {
  /**
   * `world`: the identity of the world this page shows. `onUp(again)` may be a promise: when it fails, the connection is tried again.
   * `onDown(tries, why)`: `why` is "cut", "away" or "stranger". After `onAnotherWorld` nothing more is tried.
   */
  constructor(api, world, { onEvent, onUp, onDown, onAnotherWorld }) {
    Object.assign(this, { api, world, onEvent, onUp, onDown, onAnotherWorld });
    this.tries = 0;
    this.closed = false;
    this.timer = null;
    this.onWake = () => this.timer && this.ask();   // browsers slow the timers of hidden tabs down, to one a minute
    window.addEventListener("focus", this.onWake);
    window.addEventListener("online", this.onWake);
    document.addEventListener("visibilitychange", this.onWake);
    this.connect();
  }

  connect() {
    const url = new URL(this.api.url("/person/events"), location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => this.arrive(socket);
    socket.onmessage = (message) => {
      if (this.closed) return;
      const event = JSON.parse(message.data);
      this.onEvent(event.t, event.d);
    };
    socket.onclose = () => !this.closed && this.wait("cut");
  }

  async arrive(socket) {
    try {
      await this.onUp(this.tries > 0);
      if (socket.readyState === WebSocket.OPEN) this.tries = 0;
    } catch {
      socket.close();   // half a connection is none: what happened meanwhile is not known
    }
  }

  wait(why) {
    this.tries += 1;
    this.onDown(this.tries, why);
    this.timer = setTimeout(() => this.ask(), Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.tries - 1)));
  }

  async ask() {
    clearTimeout(this.timer);
    this.timer = null;
    const found = await whatAnswers(this.world);
    if (this.closed) return;
    if (found === "same") this.connect();
    else if (found === "another") this.onAnotherWorld();
    else this.wait(found);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    window.removeEventListener("focus", this.onWake);
    window.removeEventListener("online", this.onWake);
    document.removeEventListener("visibilitychange", this.onWake);
    this.socket.close();
  }
}
