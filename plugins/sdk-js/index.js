// Rows and columns for authors, the contract's batches for the host.

import { attempt, define, taken, wellFormed } from "./define.js";
import { setWriter, write as writeLine } from "./log.js";
import { Sink, foldLoop, open, rowLoop } from "./sink.js";
import { offsetsOf, read, stateOf, stateText, write } from "./values.js";

export { Reject } from "./define.js";
export { count, distinct, first, last, lastValues, max, mean, min, quantile, sum, top, variance } from "./aggregate.js";
export { bigint, boolean, bytes, doc, float, integer, nullable, text, timestamp, vector, withDefault } from "./kinds.js";

const line = (level) => (message) => writeLine(level, wellFormed(String(message)));
export const log = Object.freeze({ debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") });

export function rows(definition) {
  const made = define(definition);
  const inputs = taken(made.inputs, definition.apply, 0);
  const loop = rowLoop(inputs, made.outputs);
  return {
    definition,
    describe: made.describe,
    apply: (input) =>
      attempt(() => {
        const sink = new Sink(made.outputs, input.rows);
        const opened = open(made.inputs, inputs, input, sink);
        loop(opened)(opened.inputs, sink, definition.apply, made.settings, 0, input.rows);
        return sink.output();
      }),
  };
}

export function columns(definition) {
  const made = define(definition);
  const inputs = taken(made.inputs, definition.apply, 0);
  return {
    definition,
    describe: made.describe,
    apply: (input) =>
      attempt(() => {
        const events = {};
        for (const field of inputs) events[field.name] = read(input.columns[made.inputs.indexOf(field)], field, input.rows, cannot);
        const returned = definition.apply(events, made.settings, input.rows);
        if (returned === null || typeof returned !== "object") throw new TypeError("nothing was returned; expected an object with an array for each output");
        return { batch: { rows: input.rows, columns: made.outputs.map((field) => write(field, returned[field.name], input.rows)) }, origins: undefined, rejected: [] };
      }),
  };
}

/** Over whole columns there is nobody to refuse a row; the host then halves the batch until it stands alone. */
const cannot = (_row, reason) => {
  throw new RangeError(reason);
};

/** States are text, and bytes to the host. */
const STATE = { name: "state", kind: "text", nullable: true, isBytes: true };

/** Takes over states that another version wrote, one after the other. */
const migration = (migrate) => ({
  migrate: (from, states) =>
    attempt(() => {
      const length = offsetsOf(states.values.val.offsets).length - 1;
      const after = read(states, STATE, length, cannot).map((kept, at) => {
        const state = migrate(from, stateOf(kept));
        if (state === null || state === undefined) throw new TypeError(`state ${at} was migrated to ${state}; a state that is there stays one`);
        return stateText(state);
      });
      return write({ ...STATE, nullable: false }, after, length);
    }),
});

export function folds(definition) {
  const made = define(definition, ["migrate"]);
  const { name, migrate } = definition;
  if (migrate !== undefined && typeof migrate !== "function") throw new TypeError(`transform ${JSON.stringify(name)}: \`migrate\` is a function of a version and a state`);
  const inputs = taken(made.inputs, definition.apply, 1);
  const loop = foldLoop(inputs, made.outputs);
  return {
    definition,
    isFold: true,
    migration: migrate && migration(migrate),
    describe: made.describe,
    apply: (input, ends, before) =>
      attempt(() => {
        const groups = offsetsOf(ends);
        const sink = new Sink(made.outputs, input.rows);
        const states = new States(definition.apply, made.settings);
        const opened = open(made.inputs, inputs, input, sink);
        const again = (row, state) => states.before(row, state, sink, inputs, opened.inputs);
        const after = read(before, STATE, groups.length - 1, cannot).map((kept, group) => {
          const state = states.start(kept, groups[group]);
          const next = loop(opened)(opened.inputs, sink, definition.apply, made.settings, groups[group], groups[group + 1], state, again);
          return next === null ? null : stateText(next);
        });
        return { output: sink.output(), states: write(STATE, after, after.length) };
      }),
  };
}

/** Gives back the state that an event found, after the author's function changed it and then threw. */
class States {
  constructor(apply, settings) {
    this.apply = apply;
    this.settings = settings;
  }

  start(kept, row) {
    this.kept = kept;
    this.row = row;
    return kept === null ? null : stateOf(kept);
  }

  /**
   * The state before an event that is refused. What cannot be changed is it still; else it is made anew from the last one kept as text. The function
   * depends on nothing but what it is given, so the events since then lead to the same state again; that is done once for each event at most.
   */
  before(row, state, sink, fields, inputs) {
    if (state === null || typeof state !== "object") return state;
    let again = this.kept === null ? null : stateOf(this.kept);
    // Its lines have been written.
    const writer = setWriter(() => {});
    try {
      for (let at = this.row; at < row; at++) {
        if (!sink.isRefused(at)) [again] = this.apply(again, eventAt(fields, inputs, at), this.settings);
      }
    } finally {
      setWriter(writer);
    }
    this.kept = again === null ? null : stateText(again);
    this.row = row + 1;
    return again;
  }
}

const eventAt = (fields, inputs, row) =>
  Object.fromEntries(fields.map(({ name }, i) => [name, inputs[i].values === null ? inputs[i].whole.slice(inputs[i].offsets[row], inputs[i].offsets[row + 1]) : inputs[i].values[row]]));
