/** The kinds of the contract; a `bigint` is an integer there. */
export type KindName = "boolean" | "integer" | "bigint" | "float" | "text" | "bytes" | "timestamp" | "vector";

/** What a column holds, and the type of its values. */
export interface Kind<T, K extends KindName = KindName> {
  readonly kind: K;
  readonly nullable: boolean;
  readonly default?: string;
  readonly width?: number;
  readonly doc?: string;
  /** Never there; it carries the type. */
  readonly of?: T;
}

export const boolean: Kind<boolean, "boolean">;
/** Whole numbers. JavaScript holds them exactly between -2^53 and 2^53; an event beyond that is refused, if the function takes the field. */
export const integer: Kind<number, "integer">;
/** Whole numbers of 64 bits, exactly. For outputs only: integers reach JavaScript as numbers, and what is lost there cannot be found again. */
export const bigint: Kind<bigint, "bigint">;
/** 64-bit floating point; NaN and the infinities are legal. */
export const float: Kind<number, "float">;
/** Text. A string with half of a surrogate pair is none, and refuses its event. */
export const text: Kind<string, "text">;
export const bytes: Kind<Uint8Array, "bytes">;
/** Microseconds since 1970-01-01T00:00:00Z, a whole number; exact until the year 2255. */
export const timestamp: Kind<number, "timestamp">;
/** So many 32-bit floats. An output is rounded to them. */
export function vector(width: number): Kind<number[], "vector">;

/** The same where null is a legal value. */
export function nullable<T, K extends KindName>(of: Kind<T, K>): Kind<T | null, K>;
/** The same with a value that stands in where an event lacks the field or has null there. Inputs only. A timestamp is microseconds, or RFC 3339 with an offset. */
export function withDefault<T, K extends KindName>(of: Kind<T, K>, value: Default<T, K>): Kind<NonNullable<T>, K>;
/** The same with words for people: what it means, and its unit. */
export function doc<T, K extends KindName>(of: Kind<T, K>, text: string): Kind<T, K>;
export function doc<C extends string>(of: Aggregation<C>, text: string): Aggregation<C>;

type Default<T, K extends KindName> = K extends "bytes" ? string : K extends "timestamp" ? number | string : NonNullable<T>;

/** What a transform returns, by name. */
export type Fields = Record<string, Kind<unknown>>;
/** What a transform reads, by name. */
export type InputFields = Record<string, Kind<unknown, Exclude<KindName, "bigint">>>;

type Value<F> = F extends Kind<infer T, KindName> ? T : never;
/** One event, or one row of features. */
export type Row<F extends Fields> = { [Name in keyof F]: Value<F[Name]> };
/** What may be returned for a row: a vector may be any array of numbers. */
export type OutputRow<F extends Fields> = { [Name in keyof F]: Returned<Value<F[Name]>> };
/** The columns of a batch, each as long. */
export type Columns<F extends Fields> = { [Name in keyof F]: Value<F[Name]>[] };
/** What may be returned for a batch: numbers also as a typed array, of which a Float64Array (BigInt64Array) goes out as it is. */
export type OutputColumns<F extends Fields> = { [Name in keyof F]: ReturnedColumn<Value<F[Name]>> };

type Numbers = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array;
type Returned<T> = T extends number[] ? readonly number[] | Numbers : T;
type ReturnedColumn<T> = readonly Returned<T>[] | ([T] extends [number | null] ? Numbers : never) | ([T] extends [bigint | null] ? BigInt64Array : never);

type Named<I extends InputFields, K extends KindName> = { [Name in keyof I]: null extends Value<I[Name]> ? never : I[Name]["kind"] extends K ? Name : never }[keyof I] & string;
/** Inputs that may be part of the entity key. */
export type EntityName<I extends InputFields> = Named<I, "text" | "integer" | "boolean" | "bytes" | "timestamp">;

export interface Definition<I extends InputFields, O extends Fields, S> {
  /** Of the transform, and of its feature view: 1 to 63 letters, digits and _, no digit first. */
  name: string;
  /** For people, and for taking over states. */
  version?: string;
  /** For people: what it computes. */
  doc?: string;
  /** The streams that it reads unless the host's configuration says otherwise. */
  stream?: string | string[];
  /** The inputs that together are the key. */
  entity: EntityName<I> | EntityName<I>[];
  /** The input of kind timestamp that says when the event happened; without one it is the time of the stream's entry. */
  eventTime?: Named<I, "timestamp">;
  /** Settings and their defaults; the host's configuration may give others of the same types. A default of null takes anything. */
  settings?: S;
  /** What it reads. Inputs that the function's parameter does not name, as in `({ price, quantity }) => …`, are not even decoded. */
  inputs: I;
  /** What it returns. */
  outputs: O;
  /** Windows that the host keeps over the outputs, by feature. */
  aggregate?: Record<string, Aggregation<keyof O & string>>;
}

/** A length of time: a number and s, m, h or d. */
export type Window = `${number}${"s" | "m" | "h" | "d"}`;

/** A function over the values of an output in a window. */
export interface Aggregation<Column extends string = string> {
  readonly aggregate: string;
  readonly column: Column;
  readonly window?: Window;
  readonly value?: number;
}

/** How many values are not null. Here and below: in the window up to the moment of the read; without one since the first event. */
export function count<C extends string>(column: C, window?: Window): Aggregation<C>;
/** The sum of integers or floats. */
export function sum<C extends string>(column: C, window?: Window): Aggregation<C>;
/** The arithmetic mean. */
export function mean<C extends string>(column: C, window?: Window): Aggregation<C>;
/** The smallest integer, float or timestamp. */
export function min<C extends string>(column: C, window?: Window): Aggregation<C>;
/** The largest integer, float or timestamp. */
export function max<C extends string>(column: C, window?: Window): Aggregation<C>;
/** The variance of the population. */
export function variance<C extends string>(column: C, window?: Window): Aggregation<C>;
/** The earliest value by event time. */
export function first<C extends string>(column: C, window?: Window): Aggregation<C>;
/** The latest value by event time. */
export function last<C extends string>(column: C, window?: Window): Aggregation<C>;
/** How many different values there are, estimated. */
export function distinct<C extends string>(column: C, window?: Window): Aggregation<C>;
/** The value at a rank from 0 to 1, estimated. */
export function quantile<C extends string>(column: C, rank: number, window?: Window): Aggregation<C>;
/** The latest values, at most so many, newest first. */
export function lastValues<C extends string>(column: C, many: number, window?: Window): Aggregation<C>;
/** The most frequent values, at most so many, most frequent first. */
export function top<C extends string>(column: C, many: number, window?: Window): Aggregation<C>;

/** A transform of one event at a time. It returns a row, several, or null for none; `throw new Reject("why")` refuses the event. The object with the event
 *  is the same for all events: keep values of it, not the object. */
export function rows<I extends InputFields, O extends Fields, S = undefined>(
  definition: Definition<I, O, S> & { apply(event: Row<I>, settings: Readonly<S>): OutputRow<O> | OutputRow<O>[] | null },
): Transform<O>;

/** A transform of whole columns: one array for each input in, one as long for each output out. What it throws makes the host halve the batch until the events
 *  that cause it stand alone. */
export function columns<I extends InputFields, O extends Fields, S = undefined>(
  definition: Definition<I, O, S> & { apply(columns: Columns<I>, settings: Readonly<S>, rows: number): OutputColumns<O> },
): Transform<O>;

/** A stateful transform: called for one event after the other of an entity, with the state that it returned last, null at first. It returns the new state and
 *  a row, several, or null for none. A state is made of plain objects, arrays, numbers, strings, booleans, null, bigints and Uint8Arrays; null ends it. An event
 *  that is refused leaves the state as it was. */
export function folds<State, I extends InputFields, O extends Fields, S = undefined>(
  definition: Definition<I, O, S> & {
    apply(state: State | null, event: Row<I>, settings: Readonly<S>): [state: State | null, rows: OutputRow<O> | OutputRow<O>[] | null];
    /** Takes over a state that another version wrote, which `from` names. What it throws refuses the new version. */
    migrate?(from: string, state: any): State;
  },
): Transform<O>;

/** What the contract asks for; export it as `transform`, or as `fold` where it is stateful. */
export interface Transform<O extends Fields = Fields> {
  readonly definition: { readonly outputs: O };
}

/** Thrown for an event that is no use: it becomes a dead letter with this reason, and its neighbours are unharmed. */
export class Reject extends Error {}

/** Lines in the host's log, under the transform's name. */
export const log: Readonly<Record<"debug" | "info" | "warn" | "error", (message: string) => void>>;
