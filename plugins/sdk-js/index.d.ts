/** What a column holds, and the type of its values. */
export interface Kind<T> {
  readonly kind: string;
  readonly nullable: boolean;
  readonly default?: string;
  readonly width?: number;
  readonly doc?: string;
  readonly of?: T;
}

export const boolean: Kind<boolean>;
/** Whole numbers. JavaScript holds them exactly between -2^53 and 2^53; an event beyond that is refused. */
export const integer: Kind<number>;
export const float: Kind<number>;
export const text: Kind<string>;
export const bytes: Kind<Uint8Array>;
/** Microseconds since 1970-01-01T00:00:00Z. */
export const timestamp: Kind<number>;
/** So many 32-bit floats. */
export function vector(width: number): Kind<number[]>;
/** The same where null is a legal value. */
export function nullable<T>(of: Kind<T>): Kind<T | null>;
/** The same with a text that stands in where an event lacks the field. */
export function withDefault<T>(of: Kind<T>, text: string | number | boolean): Kind<T>;
/** The same with words for people. */
export function doc<T>(of: Kind<T>, text: string): Kind<T>;

export type Fields = Record<string, Kind<unknown>>;
export type Row<F extends Fields> = { [Name in keyof F]: F[Name] extends Kind<infer T> ? T : never };
export type Columns<F extends Fields> = { [Name in keyof F]: F[Name] extends Kind<infer T> ? T[] : never };

interface Definition<I extends Fields, O extends Fields, S> {
  /** Of the transform, and of its feature view. */
  name: string;
  version?: string;
  doc?: string;
  /** The streams that it reads unless the host's configuration says otherwise. */
  stream?: string | string[];
  /** The inputs that together are the key. */
  entity: (keyof I & string) | (keyof I & string)[];
  /** The input of kind timestamp that says when the event happened; without one it is the time of the stream's entry. */
  eventTime?: keyof I & string;
  /** Settings and their defaults; the host's configuration may give others. */
  settings?: S;
  inputs: I;
  outputs: O;
}

/** A transform of one event at a time. It returns a row, several, or null for none; `throw new Reject("why")` refuses the event. The object with the event
 *  is the same for all events: keep values of it, not the object. */
export function rows<I extends Fields, O extends Fields, S = undefined>(
  definition: Definition<I, O, S> & { apply(event: Row<I>, settings: S): Row<O> | Row<O>[] | null },
): Transform<O>;

/** A transform of whole columns: one array for each input in, one as long for each output out. */
export function columns<I extends Fields, O extends Fields, S = undefined>(
  definition: Definition<I, O, S> & { apply(columns: Columns<I>, settings: S, rows: number): Columns<O> },
): Transform<O>;

/** A stateful transform: called for one event after the other of an entity, with the state that it returned last, null at first. A state is anything
 *  that JSON can hold; null ends it. An event that is refused leaves the state as it was, if a new state is made rather than the old one changed. */
export function folds<State, I extends Fields, O extends Fields, S = undefined>(
  definition: Definition<I, O, S> & { apply(state: State | null, event: Row<I>, settings: S): [State | null, Row<O> | Row<O>[] | null] },
): Transform<O>;

/** What the contract asks for; export it as `transform`, or as `fold` where it is stateful. */
export interface Transform<O extends Fields = Fields> {
  readonly definition: { readonly outputs: O };
}

/** Thrown for an event that is no use: it becomes a dead letter with this reason, and its neighbours are unharmed. */
export class Reject extends Error {}

/** Lines in the host's log, under the transform's name. */
export const log: Record<"debug" | "info" | "warn" | "error", (message: string) => void>;
