import type { Fields, Row, Transform } from "./index.js";

/** What became of a batch. */
export interface Outcome<O extends Fields> {
  /** The rows of features, in order. */
  rows: Row<O>[];
  /** For each row the index of the event that it comes from. */
  origins: number[];
  /** The reason of each event that was refused, by its index. */
  rejected: Map<number, string>;
  /** Lines logged, as level and message. */
  logged: ["debug" | "info" | "warn" | "error", string][];
  /** After a fold: the state of each entity, by its key (the JSON text of all parts where it has several). */
  states: Map<unknown, unknown>;
}

/** Runs events through a transform as one batch. A field that an event lacks has its default, or is null. Throws where the host would have made a dead
 *  letter of an event before the transform saw it, and where it would not take what comes back. `states` are those of the entities before a fold. */
export function run<O extends Fields>(
  transform: Transform<O>,
  events: readonly Record<string, unknown>[],
  options?: { settings?: string | object; states?: ReadonlyMap<unknown, unknown> },
): Outcome<O>;

/** Takes over states that another version, `from`, wrote, by entity, as a host does before the first event of a new version. */
export function migrate(transform: Transform, from: string, states: ReadonlyMap<unknown, unknown>): Map<unknown, unknown>;
