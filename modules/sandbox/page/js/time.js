// Moments as Discord writes them, and the clock that keeps relative ones ("in 2 minutes") true by itself.

import { currentLocale, t } from "./text.js";

const format = (options) => new Intl.DateTimeFormat(currentLocale(), options);

/** 14:05 */
export const shortTime = (date) => format({ hour: "numeric", minute: "2-digit" }).format(date);
export const fullMoment = (date) => format({ dateStyle: "full", timeStyle: "short" }).format(date);
export const dayName = (date) => format({ dateStyle: "long" }).format(date);

/** "Today at 14:05", "Yesterday at ...", or the date. */
export function headerTime(date, now = new Date()) {
  const days = Math.round((startOfDay(now) - startOfDay(date)) / 86_400_000);
  if (days === 0) return t("time.today", { time: shortTime(date) });
  if (days === 1) return t("time.yesterday", { time: shortTime(date) });
  return format({ dateStyle: "short", timeStyle: "short" }).format(date);
}

export const startOfDay = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();

const STYLES = {
  t: { hour: "numeric", minute: "2-digit" },
  T: { hour: "numeric", minute: "2-digit", second: "2-digit" },
  d: { day: "2-digit", month: "2-digit", year: "numeric" },
  D: { day: "numeric", month: "long", year: "numeric" },
  f: { day: "numeric", month: "long", year: "numeric", hour: "numeric", minute: "2-digit" },
  F: { weekday: "long", day: "numeric", month: "long", year: "numeric", hour: "numeric", minute: "2-digit" },
};

const UNITS = [["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

function relative(seconds) {
  const words = new Intl.RelativeTimeFormat(currentLocale(), { numeric: "always" });
  const size = Math.abs(seconds);
  const [unit, length] = UNITS.find(([, unitLength]) => size >= unitLength) ?? UNITS.at(-1);
  return words.format(Math.round(seconds / length), unit);
}

/** The `<time>` element for `<t:unix:style>`; style R counts by itself while it is on the page. */
export function timestampElement(unix, style = "f") {
  const date = new Date(unix * 1000);
  const element = document.createElement("time");
  element.className = "timestamp";
  if (Number.isNaN(date.getTime())) {
    element.textContent = "Invalid Date";
    return element;
  }
  element.dateTime = date.toISOString();
  element.title = fullMoment(date);
  if (style === "R") {
    element.dataset.relative = String(unix);
    element.textContent = relative(unix - Date.now() / 1000);
  } else {
    element.textContent = format(STYLES[style] ?? STYLES.f).format(date);
  }
  return element;
}

// One clock for the whole page: only the texts that changed are touched.
setInterval(() => {
  const now = Date.now() / 1000;
  for (const element of document.querySelectorAll("time[data-relative]")) {
    const text = relative(Number(element.dataset.relative) - now);
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);
