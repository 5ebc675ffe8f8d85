// The person's side of the stand-in: what a Discord client would ask its servers for, spoken as one person.

/** The server refused; `message` is a sentence for people, `status` the HTTP status. */
export class ApiError extends Error {
  constructor(status, message, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

//: A person's client gives up waiting for its own server after this long; the stand-in answers in milliseconds.
const REQUEST_TIMEOUT_MS = 20_000;

export class PersonApi {
  constructor(userId) {
    this.userId = userId;
  }

  static world(signal) { return request("GET", "/person/world", undefined, signal); }
  static users() { return request("GET", "/person/users"); }

  url(path, query = {}) {
    return `${path}?${new URLSearchParams({ as: this.userId, ...query })}`;
  }

  state() { return request("GET", this.url("/person/state")); }
  messages(channel, limit = 100) { return request("GET", this.url("/person/messages", { channel, limit })); }
  send(body) { return request("POST", this.url("/person/messages"), body); }
  deleteMessage(channel, message) { return request("DELETE", this.url(`/person/messages/${channel}/${message}`)); }
  command(body) { return request("POST", this.url("/person/commands"), body); }
  autocomplete(body, signal) { return request("POST", this.url("/person/autocomplete"), body, signal); }
  component(body) { return request("POST", this.url("/person/components"), body); }
  modal(body) { return request("POST", this.url("/person/modals"), body); }
  deleteChannel(channel) { return request("POST", this.url("/person/admin/delete_channel"), { channel }); }

  /** Uploads one file; `onProgress` gets 0..1. */
  upload(file, onProgress = () => {}) {
    return new Promise((resolve, reject) => {
      const body = new FormData();
      body.append("file", file, file.name);
      const http = new XMLHttpRequest();      // fetch cannot tell how far an upload is
      http.open("POST", this.url("/person/uploads"));
      http.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
      http.onload = () => {
        const answer = parse(http.responseText);
        if (http.status < 300) resolve(Array.isArray(answer) ? answer[0] : answer);
        else reject(new ApiError(http.status, sentence(answer, http.status), answer));
      };
      http.onerror = () => reject(new ApiError(0, "", null));
      http.send(body);
    });
  }
}

async function request(method, url, body, signal) {
  const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "", null);
  }
  const answer = parse(await response.text());
  if (!response.ok) throw new ApiError(response.status, sentence(answer, response.status), answer);
  return answer;
}

function parse(text) {
  try {
    return text === "" ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

const sentence = (answer, status) => answer?.message ?? answer?.error ?? `HTTP ${status}`;

/**
 * A picture or file address as this page may load it. Addresses of the stand-in's own CDN become relative,
 * so the page works under every name of this machine (localhost, 127.0.0.1); only http(s), blob and data pass.
 */
export function mediaUrl(address) {
  if (!address) return null;
  let url;
  try {
    url = new URL(address, location.href);
  } catch {
    return null;
  }
  if (url.pathname.startsWith("/cdn/")) return url.pathname + url.search;
  return ["http:", "https:", "blob:"].includes(url.protocol) ? url.href : null;
}
