// Slash commands as data: which there are, which match what was typed, what of an option is valid. No elements here.

import { localised } from "./text.js";

//: Option types. Source: Discord developer docs, "Application Command Option Type".
export const SUB_COMMAND = 1;
export const SUB_COMMAND_GROUP = 2;
export const STRING = 3;
export const INTEGER = 4;
export const BOOLEAN = 5;
export const USER = 6;
export const CHANNEL = 7;
export const ROLE = 8;
export const MENTIONABLE = 9;
export const NUMBER = 10;
export const ATTACHMENT = 11;

/**
 * Commands and sub commands as the flat list the picker shows:
 * `{command, path, label, name, description, options}`; `path` holds the names below the command.
 */
export function flatten(commands) {
  return commands.flatMap((command) => walk(command, command, [], [localised(command, "name")]));
}

function walk(command, node, path, labels) {
  const children = (node.options ?? []).filter((option) => option.type === SUB_COMMAND || option.type === SUB_COMMAND_GROUP);
  if (children.length > 0) return children.flatMap((child) => walk(command, child, [...path, child], [...labels, localised(child, "name")]));
  return [{
    command, path, label: labels.join(" "), name: [command.name, ...path.map((one) => one.name)].join(" "),
    description: localised(node, "description"), options: node.options ?? [],
  }];
}

/** Entries whose name (in either language) or description fits what was typed, best first. */
export function matching(entries, query) {
  const wanted = query.toLowerCase().trim();
  const rank = (entry) => {
    const names = [entry.label.toLowerCase(), entry.name.toLowerCase()];
    if (names.some((name) => name.startsWith(wanted))) return 0;
    if (names.some((name) => name.includes(wanted))) return 1;
    return entry.description.toLowerCase().includes(wanted) && wanted.length > 2 ? 2 : 3;
  };
  return entries.map((entry) => [rank(entry), entry]).filter(([place]) => place < 3)
    .sort(([a, one], [b, two]) => a - b || one.label.localeCompare(two.label)).map(([, entry]) => entry);
}

/** The entry typed out in full at the beginning of `text`, with the rest: `/imagine a castle`. */
export function typedCommand(entries, text) {
  const typed = text.slice(1).toLowerCase();
  const found = entries.flatMap((entry) => [entry.label, entry.name].map((name) => [name.toLowerCase(), entry]))
    .filter(([name]) => typed.startsWith(`${name} `)).sort(([a], [b]) => b.length - a.length)[0];
  return found ? { entry: found[1], rest: text.slice(1 + found[0].length).trimStart() } : null;
}

/** Splits `a castle size:1024x1024 seed: 7` into what belongs to which option; loose words go to the first text option. */
export function splitTyped(entry, rest) {
  const names = new Map(entry.options.flatMap((option) => [[option.name.toLowerCase(), option], [localised(option, "name").toLowerCase(), option]]));
  const given = new Map();
  const marks = [...rest.matchAll(/(^|\s)([\p{L}\p{N}_-]{1,32}):/gu)].filter((mark) => names.has(mark[2].toLowerCase()));
  const loose = rest.slice(0, marks[0]?.index ?? rest.length).trim();
  const first = entry.options.find((option) => option.type === STRING && !option.choices?.length);
  if (loose && first) given.set(first.name, loose);
  marks.forEach((mark, at) => {
    const value = rest.slice(mark.index + mark[0].length, marks[at + 1]?.index ?? rest.length).trim();
    given.set(names.get(mark[2].toLowerCase()).name, value);
  });
  return given;
}

/** `{value}` or `{error: [key, params]}` for what stands in a text field of an option. */
export function readOption(option, text, picked) {
  if (picked && picked.label === text) return { value: picked.value };
  const typed = text.trim();
  if (typed === "") return option.required ? { error: ["command.required"] } : {};
  const choices = option.choices ?? [];
  if (choices.length > 0 || picksOnly(option.type)) {
    const choice = choices.find((one) => [one.name, localised(one, "name")].some((name) => name.toLowerCase() === typed.toLowerCase()));
    return choice ? { value: choice.value } : { error: ["command.choose"] };
  }
  if (option.type === INTEGER || option.type === NUMBER) return readNumber(option, typed);
  if (option.min_length !== undefined && typed.length < option.min_length) return { error: ["command.minLength", { count: option.min_length }] };
  if (option.max_length !== undefined && typed.length > option.max_length) return { error: ["command.maxLength", { count: option.max_length }] };
  return { value: typed };
}

function readNumber(option, typed) {
  const whole = option.type === INTEGER;
  if (!(whole ? /^[+-]?\d{1,16}$/ : /^[+-]?(\d+\.?\d*|\.\d+)$/).test(typed.replace(",", "."))) return { error: [whole ? "command.integer" : "command.number"] };
  const value = Number(typed.replace(",", "."));
  if (whole && !Number.isSafeInteger(value)) return { error: ["command.integer"] };
  if (option.min_value !== undefined && value < option.min_value) return { error: ["command.min", { min: option.min_value }] };
  if (option.max_value !== undefined && value > option.max_value) return { error: ["command.max", { max: option.max_value }] };
  return { value };
}

/** Types whose value can only be chosen, never typed. */
export const picksOnly = (type) => [BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE].includes(type);

/** Discord's nested shape: the options of a sub command stand inside it, that inside its group. */
export function nest(entry, options) {
  return entry.path.reduceRight((inner, node) => [{ type: node.type, name: node.name, options: inner }], options);
}
