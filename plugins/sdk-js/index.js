// Rows and columns for authors, the contract's batches for the host.

import { write as writeLine } from "./log.js";
import { read, write } from "./values.js";

const kind = (name, more = {}) => Object.freeze({ kind: name, nullable: false, ...more });

export const boolean = kind("boolean");
export const integer = kind("integer");
export const float = kind("float");
export const text = kind("text");
export const bytes = kind("bytes");
export const timestamp = kind("timestamp");
export const vector = (width) => kind("vector", { width });
export const nullable = (of) => Object.freeze({ ...of, nullable: true });
export const withDefault = (of, text) => Object.freeze({ ...of, default: String(text) });
export const doc = (of, text) => Object.freeze({ ...of, doc: text });

/** Thrown for an event that is no use: it becomes a dead letter with this reason, and its neighbours are unharmed. */
export class Reject extends Error {}

export const log = {
  debug: (message) => writeLine("debug", String(message)),
  info: (message) => writeLine("info", String(message)),
  warn: (message) => writeLine("warn", String(message)),
  error: (message) => writeLine("error", String(message)),
};

export function rows(definition) {
  const made = prepare(definition);
  return {
    definition,
    describe: made.describe,
    apply: (input) => attempt(() => {
      const sink = new Sink(made);
      const events = unpack(made, input, sink.refuse);
      for (let row = 0; row < input.rows; row++) {
        if (!sink.refused.has(row)) sink.attempt(row, () => definition.apply(eventAt(made, events, row), made.settings));
      }
      return sink.output(input.rows);
    }),
  };
}

export function columns(definition) {
  const made = prepare(definition);
  return {
    definition,
    describe: made.describe,
    apply: (input) => attempt(() => {
      const returned = definition.apply(Object.fromEntries(unpack(made, input, cannot).map((column, i) => [made.inputs[i].name, column])), made.settings, input.rows);
      const found = made.outputs.map(({ name }) => {
        const column = returned[name];
        if (column?.length !== input.rows) throw new TypeError(`\`${name}\` has ${column?.length} values for ${input.rows} rows`);
        return column;
      });
      return { batch: { rows: input.rows, columns: made.outputs.map((field, i) => write(field, found[i])) }, origins: undefined, rejected: [] };
    }),
  };
}

export function folds(definition) {
  const made = prepare(definition);
  const states = { kind: "bytes", nullable: true };
  return {
    definition,
    describe: made.describe,
    apply: (input, groups, before) => attempt(() => {
      const sink = new Sink(made);
      sink.ordered = false;
      const events = unpack(made, input, sink.refuse);
      const after = read(before, states, groups.length - 1, cannot).map((kept, group) => {
        let state = kept === null ? null : fromJson(kept);
        for (let row = groups[group]; row < groups[group + 1]; row++) {
          if (!sink.refused.has(row)) sink.attempt(row, () => {
            const [next, made_] = definition.apply(state, eventAt(made, events, row), made.settings);
            state = next;
            return made_;
          });
        }
        return state === null || state === undefined ? null : toJson(state);
      });
      return { output: sink.output(input.rows), states: write({ name: "state", ...states }, after) };
    }),
  };
}

function prepare(definition) {
  const fields = (of) => Object.entries(of).map(([name, field]) => ({ name, ...field }));
  const listed = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);
  const made = { inputs: fields(definition.inputs), outputs: fields(definition.outputs), settings: definition.settings };
  const onWire = ({ name, kind, nullable, default: text, width, doc }) => ({ name, kind, nullable, default: text, width, doc: doc ?? "" });
  made.describe = (settings) => attempt(() => {
    if (settings.trim() !== "") made.settings = given(definition.settings, JSON.parse(settings));
    return {
      name: definition.name,
      version: definition.version ?? "0.1.0",
      doc: definition.doc ?? "",
      streams: listed(definition.stream),
      entity: listed(definition.entity),
      eventTime: definition.eventTime,
      inputs: made.inputs.map(onWire),
      outputs: made.outputs.map(onWire),
      aggregations: [],
    };
  });
  return made;
}

function given(defaults, settings) {
  if (defaults === undefined) throw new TypeError("this transform takes no settings");
  for (const name of Object.keys(settings)) {
    if (!(name in defaults)) throw new TypeError(`there is no setting \`${name}\`; known are: ${Object.keys(defaults).join(", ")}`);
  }
  return { ...defaults, ...settings };
}

const unpack = (made, input, refuse) => made.inputs.map((field, i) => read(input.columns[i], field, input.rows, refuse));
/** Over whole columns there is nobody to refuse a row; the host then halves the batch until it stands alone. */
const cannot = (row, reason) => { throw new RangeError(`row ${row}: ${reason}`); };

function eventAt(made, columns, row) {
  const event = {};
  for (let i = 0; i < columns.length; i++) event[made.inputs[i].name] = columns[i][row];
  return event;
}

/** Collects rows, where they come from, and events that are refused. */
class Sink {
  ordered = true;
  origins = [];
  refused = new Map();
  refuse = (row, reason) => { if (!this.refused.has(row)) this.refused.set(row, reason); };

  constructor(made) {
    this.fields = made.outputs;
    this.columns = this.fields.map(() => []);
  }

  attempt(row, make) {
    try {
      const returned = make();
      for (const each of returned === null || returned === undefined ? [] : Array.isArray(returned) ? returned : [returned]) this.push(row, each);
    } catch (error) {
      this.refuse(row, reasonOf(error));
    }
  }

  push(row, each) {
    // All values of a row are looked at before any is kept.
    const values = this.fields.map((field) => {
      if (each[field.name] === undefined) throw new TypeError(`\`${field.name}\` is missing in what was returned`);
      return each[field.name];
    });
    values.forEach((value, i) => this.columns[i].push(value));
    this.origins.push(row);
  }

  output(rows) {
    const plain = this.ordered && this.refused.size === 0 && this.origins.length === rows && this.origins.every((origin, i) => origin === i);
    const columns = this.fields.map((field, i) => write(field, this.columns[i]));
    const rejected = [...this.refused].sort(([one], [other]) => one - other).map(([row, reason]) => ({ row, reason }));
    return { batch: { rows: this.origins.length, columns }, origins: plain ? undefined : this.origins, rejected };
  }
}

const reasonOf = (error) => (error instanceof Reject ? error.message : String(error));

/** What the contract fails with is a text. */
function attempt(work) {
  try {
    return work();
  } catch (error) {
    throw reasonOf(error);
  }
}

const toJson = (state) => [...unescape(encodeURIComponent(JSON.stringify(state)))].map((char) => char.charCodeAt(0));
const fromJson = (kept) => JSON.parse(decodeURIComponent(escape(String.fromCharCode(...kept))));
