// Makes form fields of JSON Schemas, and JSON text of what was typed into them. No number becomes a
// double, and empty fields are left out, so that the server's defaults hold.

import { literal } from "./json.js";

/** Text that cannot become the JSON that its field needs; found before the server is asked. */
export class InvalidInput extends Error {
  constructor(pointer, detail) {
    super(detail);
    this.pointer = pointer;
  }
}

/** A field for each property of `schema`, at `base`, a JSON pointer. */
export function fieldsOf(schema, base = "") {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const plain = property.anyOf?.find(({ type }) => type !== "null") ?? property;
    return {
      name,
      pointer: `${base}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`,
      title: titleOf(name, property.title),
      description: property.description ?? "",
      isRequired: required.has(name),
      initial: initialOf(property.default),
      kind: kindOf(plain),
      options: plain.enum,
      minimum: plain.minimum,
      maximum: plain.maximum,
    };
  });
}

/** The schema's own title, unless that is only the name. */
function titleOf(name, title = name) {
  if (title.toLowerCase() !== name.toLowerCase()) return title;
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return words.length > 1 ? words[0].toUpperCase() + words.slice(1) : words;
}

function kindOf({ type, items, additionalProperties, enum: options }) {
  if (options) return "choice";
  if (type === "string") return "text";
  if (type === "integer" || type === "number") return "number";
  if (type === "boolean") return "switch";
  if (type === "array" && (items?.type ?? "string") === "string") return "lines";
  if (type === "object" && additionalProperties?.type === "string") return "pairs";
  return "json";
}

/** Plain default values are shown in the field; lists and objects are left empty. */
function initialOf(value) {
  if (value === undefined || value === null || typeof value === "object") return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The typed `text` of a field as JSON; undefined when it is left out. */
export function jsonOf(field, text) {
  const isEmpty = text.trim() === "";
  if (isEmpty) return undefined;
  return CONVERTERS[field.kind](text, field);
}

const CONVERTERS = {
  text: (text) => JSON.stringify(text.trim()),
  area: (text) => JSON.stringify(text),
  number: (text) => literal(text),
  choice: (text, { options }) => JSON.stringify(options.find((option) => String(option) === text) ?? text),
  switch: (text) => text,
  lines: (text) => JSON.stringify(text.split(/\r?\n/).filter((line) => line !== "")),
  pairs: (text, { pointer }) => object(text.split(/\r?\n/).filter(Boolean).map((line) => pair(line, pointer))),
  when: (text) => JSON.stringify(Number.isNaN(Date.parse(text)) ? text : new Date(text).toISOString()),
  json: (text, { pointer }) => {
    try {
      JSON.parse(text);
    } catch (error) {
      throw new InvalidInput(pointer, `this is not JSON: ${error.message}`);
    }
    return text.trim();
  },
};

function pair(line, pointer) {
  const at = line.indexOf("=");
  if (at < 1) throw new InvalidInput(pointer, "write each line as NAME=value");
  return [line.slice(0, at).trim(), JSON.stringify(line.slice(at + 1))];
}

/** A JSON object of pairs whose values are JSON already. */
export function object(pairs) {
  const members = pairs.filter(([, json]) => json !== undefined);
  return `{${members.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`;
}

/** [name, JSON] of each of `fields`, as `typed` has it by pointer. */
export function membersOf(fields, typed) {
  return fields.map((field) => [field.name, jsonOf(field, typed[field.pointer] ?? "")]);
}
