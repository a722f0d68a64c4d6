// From what the author says about a transform to what `describe` answers. What is wrong with it is said when it is defined, so a build fails.

import { aggregations } from "./aggregate.js";

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const STREAM = /^[!-~]{1,255}$/;
const listed = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);
const KNOWN = ["name", "version", "doc", "stream", "entity", "eventTime", "settings", "inputs", "outputs", "aggregate", "apply"];

/** Thrown for an event that is no use: it becomes a dead letter with this reason, and its neighbours are unharmed. */
export class Reject extends Error {}
Reject.prototype.name = "Reject";

/** Text that crosses the boundary has no halves of surrogate pairs; the call would end with a trap. */
export const wellFormed = (text) => (text.isWellFormed() ? text : text.toWellFormed());

/** What is said about an error: of one that the author meant, what they wrote. */
export function reasonOf(error) {
  try {
    return wellFormed(error instanceof Reject ? error.message : String(error));
  } catch {
    return "something was thrown that has no text";
  }
}

/** What the contract fails with is a text. */
export function attempt(work) {
  try {
    return work();
  } catch (error) {
    throw reasonOf(error);
  }
}

/** Looks at a definition and throws what is wrong with it; gives its fields, its settings and `describe`. */
export function define(definition, more = []) {
  const known = [...KNOWN, ...more];
  const { name, version = "0.1.0", doc = "", stream, entity, eventTime, settings } = definition;
  const wrong = (message) => {
    throw new TypeError(`transform ${JSON.stringify(name)}: ${message}`);
  };
  if (!NAME.test(name)) wrong("a name has 1 to 63 letters, digits and _, no digit first");
  for (const key of Object.keys(definition)) known.includes(key) || wrong(`there is no \`${key}\` in a definition; known are: ${known.join(", ")}`);
  for (const [what, text] of Object.entries({ version, doc })) typeof text === "string" || wrong(`\`${what}\` is a text`);
  for (const each of listed(stream)) STREAM.test(each) || wrong(`${JSON.stringify(each)} cannot name a stream; use printable ASCII characters and no spaces`);
  if (typeof definition.apply !== "function") wrong("it has no function `apply`");
  const made = { inputs: fields("input", definition.inputs, wrong), outputs: fields("output", definition.outputs, wrong), settings: undefined };
  checkEntity(listed(entity), made.inputs, wrong);
  if (eventTime !== undefined) {
    const field = input(eventTime, made.inputs, wrong);
    if (field.kind !== "timestamp" || field.nullable) wrong(`\`${eventTime}\` is the event time and must be a timestamp that is not nullable`);
  }
  if (made.outputs.length === 0) wrong("it has no outputs");
  for (const field of made.outputs) if (field.default !== undefined) wrong(`output \`${field.name}\` has a default; defaults are for inputs`);
  for (const field of made.inputs) {
    if (field.kind === "bigint") wrong(`input \`${field.name}\` is a bigint, and integers reach JavaScript as numbers; take an integer, and give bigints out`);
  }
  const windows = aggregations(definition.aggregate, made.outputs, (feature) => NAME.test(feature), wrong);
  const spec = { name, version, doc, streams: listed(stream), entity: listed(entity), eventTime, aggregations: windows };
  made.describe = (text) =>
    attempt(() => {
      made.settings = given(settings, text);
      return { ...spec, inputs: made.inputs.map(described), outputs: made.outputs.map(described) };
    });
  made.settings = given(settings, "");
  return made;
}

/**
 * The inputs that a function takes out of the event that is its parameter `at`: all of them, unless its source says that they are only some, as in
 * `({ price, quantity }) => …`. The others need not be decoded.
 */
export function taken(inputs, apply, at) {
  const source = Function.prototype.toString.call(apply);
  const [, before, pattern] = /^(?:function\b\s*)?[\w$]*\s*\(((?:\s*[\w$]+\s*,)*)\s*\{([\w$\s,:]*)\}\s*[,)]/.exec(source) ?? [];
  if (pattern === undefined || before.split(",").length - 1 !== at || /\barguments\b/.test(source)) return inputs;
  const names = pattern.split(",").map((part) => part.split(":")[0].trim());
  return inputs.filter(({ name }) => names.includes(name));
}

const described = (field) => (field.kind === "bigint" ? { ...field, kind: "integer" } : field);

function fields(role, of, wrong) {
  return Object.entries(of ?? {}).map(([name, field]) => {
    if (!NAME.test(name) || name === "__proto__") wrong(`${JSON.stringify(name)} is no name for an ${role}; a name has 1 to 63 letters, digits and _, no digit first`);
    if (typeof field?.kind !== "string") wrong(`${role} \`${name}\` has no kind; write for instance \`${name}: float\``);
    return { name, kind: field.kind, nullable: field.nullable, default: field.default, width: field.width, doc: field.doc ?? "" };
  });
}

function input(name, inputs, wrong) {
  return inputs.find((field) => field.name === name) ?? wrong(`there is no input \`${name}\`; the inputs are: ${inputs.map(({ name }) => name).join(", ")}`);
}

function checkEntity(entity, inputs, wrong) {
  if (entity.length === 0) wrong('say whose features these are: entity: "field"');
  for (const name of entity) {
    const { kind, nullable } = input(name, inputs, wrong);
    if (nullable) wrong(`\`${name}\` is part of the entity and cannot be nullable`);
    if (kind === "float" || kind === "vector") wrong(`\`${name}\` is a ${kind} and cannot be part of the entity; use text, integer, boolean, bytes or timestamp`);
  }
  if (new Set(entity).size !== entity.length) wrong("the entity names an input twice");
}

/** The settings: what the host gave, and defaults for the rest. */
function given(defaults, text) {
  const settings = text.trim() === "" ? {} : parsed(text);
  if (typeof settings !== "object" || settings === null || Array.isArray(settings)) throw new TypeError(`the settings are ${text}; expected an object`);
  const known = Object.keys(defaults ?? {});
  for (const [name, value] of Object.entries(settings)) {
    if (!known.includes(name)) throw new TypeError(`there is no setting \`${name}\`; ${known.length === 0 ? "this transform takes none" : `known are: ${known.join(", ")}`}`);
    const expected = shape(defaults[name]);
    if (expected !== "null" && shape(value) !== expected) throw new TypeError(`the setting \`${name}\` is ${JSON.stringify(value)}; expected ${AN[expected]}`);
  }
  return defaults === undefined ? undefined : Object.freeze({ ...defaults, ...settings });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TypeError(`the settings are no JSON: ${error.message}`);
  }
}

const AN = { boolean: "a boolean", number: "a number", string: "a string", array: "an array", object: "an object" };
const shape = (value) => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value);
