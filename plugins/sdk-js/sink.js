// Collects rows, where they come from, and events that are refused.

import { problem, write } from "./values.js";

export class Sink {
  constructor(fields) {
    this.fields = fields;
    this.columns = fields.map(() => []);
    /** The event of each row; none as long as every event has given exactly one. */
    this.origins = null;
    /** Reasons by row; none until there is one. */
    this.refused = null;
  }

  refuse = (row, reason) => {
    this.refused ??= new Map();
    this.spelled();
    if (!this.refused.has(row)) this.refused.set(row, reason);
  };

  isRefused(row) {
    return this.refused !== null && this.refused.has(row);
  }

  /** From now on the event of each row is kept. */
  spelled() {
    this.origins ??= Array.from(this.columns[0], (_, row) => row);
    return this.origins;
  }

  /** Takes what an author's function returned for an event: a row, several, or none. */
  take(row, returned) {
    this.spelled();
    if (returned === null || returned === undefined) return;
    if (!Array.isArray(returned)) return this.push(row, returned);
    for (const each of returned) this.push(row, each);
  }

  push(row, each) {
    const { fields, columns } = this;
    for (let i = 0; i < fields.length; i++) columns[i].push(each[fields[i].name]);
    this.origins.push(row);
  }

  output(rows) {
    let columns = this.written();
    if (columns.includes(undefined)) {
      this.sift();
      columns = this.written();
    }
    const count = this.columns[0].length;
    const rejected = this.refused === null ? [] : [...this.refused].sort(([one], [other]) => one - other).map(([row, reason]) => ({ row, reason }));
    // An event that comes last and gives nothing leaves no trace in rows before it.
    const origins = this.origins ?? (count === rows ? undefined : this.spelled());
    return { batch: { rows: count, columns }, origins, rejected };
  }

  written() {
    return this.fields.map((field, i) => write(field, this.columns[i]));
  }

  /** Refuses the events whose rows have a value that is not right, and drops those rows. */
  sift() {
    const { fields, columns } = this;
    const origins = this.spelled();
    for (let row = 0; row < origins.length; row++) {
      for (let i = 0; i < fields.length; i++) {
        const wrong = problem(fields[i], columns[i][row]);
        if (wrong !== undefined) this.refuse(origins[row], `TypeError: ${wrong}`);
      }
    }
    const kept = origins.map((origin) => !this.isRefused(origin));
    this.columns = columns.map((column) => column.filter((_, row) => kept[row]));
    this.origins = origins.filter((_, row) => kept[row]);
  }
}
