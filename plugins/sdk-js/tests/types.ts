// Checked by `tsc`: each line that must not compile says so.
import { bigint, boolean, bytes, columns, count, doc, float, folds, integer, log, nullable, quantile, rows, text, timestamp, vector, withDefault } from "gristmill";
import { run } from "gristmill/testing";

const order = rows({
  name: "order",
  entity: ["customer", "shop"],
  eventTime: "at",
  settings: { factor: 2 },
  inputs: { customer: text, shop: withDefault(integer, 1), price: doc(float, "In francs."), coupon: nullable(text), at: timestamp },
  outputs: { total: float, coupon: nullable(text), pair: vector(2), digest: bigint },
  apply({ price, shop, coupon, at }, settings) {
    // @ts-expect-error a coupon may be null
    coupon.length;
    // @ts-expect-error settings are those of all events
    settings.factor = 3;
    const sum: number = price + shop + at;
    return { total: sum * settings.factor, coupon, pair: new Float32Array(2), digest: 1n };
  },
});
const total: number | undefined = run(order, []).rows[0]?.total;
const digest: bigint | undefined = run(order, []).rows[0]?.digest;
const pair: number[] | undefined = run(order, []).rows[0]?.pair;
void [total, digest, pair];
// @ts-expect-error there is no such output
run(order, []).rows[0]?.price;

const id = { id: text };
// @ts-expect-error the entity is one of the inputs
rows({ name: "x", entity: "customer", inputs: id, outputs: { out: float }, apply: () => null });
// @ts-expect-error an entity key has no nulls
rows({ name: "x", entity: "id", inputs: { id: nullable(text) }, outputs: { out: float }, apply: () => null });
// @ts-expect-error nor is it a float
rows({ name: "x", entity: "id", inputs: { id: float }, outputs: { out: float }, apply: () => null });
// @ts-expect-error the event time is a timestamp
rows({ name: "x", entity: "id", eventTime: "at", inputs: { ...id, at: integer }, outputs: { out: float }, apply: () => null });
// @ts-expect-error that is not nullable
rows({ name: "x", entity: "id", eventTime: "at", inputs: { ...id, at: nullable(timestamp) }, outputs: { out: float }, apply: () => null });
// @ts-expect-error an output is missing
rows({ name: "x", entity: "id", inputs: id, outputs: { out: float, more: float }, apply: () => ({ out: 1 }) });
// @ts-expect-error an output has another kind
rows({ name: "x", entity: "id", inputs: id, outputs: { out: float }, apply: ({ id }) => ({ out: id }) });
// @ts-expect-error null only where it is legal
rows({ name: "x", entity: "id", inputs: id, outputs: { out: boolean }, apply: () => ({ out: null }) });
// @ts-expect-error a number is no bigint
rows({ name: "x", entity: "id", inputs: id, outputs: { out: bigint }, apply: () => ({ out: 1 }) });
// @ts-expect-error integers reach JavaScript as numbers
rows({ name: "x", entity: "id", inputs: { ...id, big: bigint }, outputs: { out: float }, apply: () => null });
// @ts-expect-error a transform cannot wait
rows({ name: "x", entity: "id", inputs: id, outputs: { out: float }, apply: async () => ({ out: 1 }) });
// @ts-expect-error there is no such input
rows({ name: "x", entity: "id", inputs: id, outputs: { out: float }, apply: ({ price }) => ({ out: 1 }) });
// @ts-expect-error nor such a setting
rows({ name: "x", entity: "id", inputs: id, settings: { factor: 1 }, outputs: { out: float }, apply: (_, { facto }) => ({ out: 1 }) });

// A default has the kind's type, and is never null to the function.
rows({
  name: "x",
  entity: "id",
  inputs: { ...id, at: withDefault(timestamp, "2024-01-01T00:00:00Z"), raw: withDefault(bytes, "none"), note: withDefault(nullable(text), "") },
  outputs: { out: integer },
  apply: ({ note, raw }) => ({ out: note.length + raw.length }),
});
// @ts-expect-error a text is no number
withDefault(float, "1");
// @ts-expect-error
withDefault(text, 1);
// @ts-expect-error a width is a number
vector("3");
// @ts-expect-error a line is a text
log.warn(1);

columns({ name: "x", entity: "id", inputs: { ...id, price: float }, outputs: { length: integer, price: float }, apply: ({ id, price }) => ({ length: id.map((id) => id.length), price: Float64Array.from(price) }) });
// @ts-expect-error a column, not a value
columns({ name: "x", entity: "id", inputs: id, outputs: { length: integer }, apply: ({ id }) => ({ length: id.length }) });
// @ts-expect-error texts are no numbers
columns({ name: "x", entity: "id", inputs: id, outputs: { length: integer }, apply: ({ id }) => ({ length: id }) });

folds({
  name: "x",
  entity: "id",
  inputs: id,
  outputs: { seen: integer },
  apply: (state: { seen: number } | null) => [{ seen: (state?.seen ?? 0) + 1 }, null],
});
// @ts-expect-error a fold returns a state too
folds({ name: "x", entity: "id", inputs: id, outputs: { seen: integer }, apply: (state: number | null) => ({ seen: 1 }) });
// @ts-expect-error the state that comes back has the type of the one that went in
folds({ name: "x", entity: "id", inputs: id, outputs: { seen: integer }, apply: (state: { seen: number } | null) => [{ sen: 1 }, null] });

rows({ name: "x", entity: "id", inputs: id, outputs: { out: float }, aggregate: { a: count("out", "1h"), b: quantile("out", 0.5), c: doc(count("out"), "Rows.") }, apply: () => null });
// @ts-expect-error there is no such output
rows({ name: "x", entity: "id", inputs: id, outputs: { out: float }, aggregate: { a: count("id", "1h") }, apply: () => null });
// @ts-expect-error a window is a number and a unit
count("out", "hour");
// @ts-expect-error a quantile has a rank
quantile("out", "1h");

folds({ name: "x", entity: "id", inputs: id, outputs: { seen: integer }, apply: (state: { seen: number } | null) => [state, null], migrate: (from, state) => ({ seen: from === "1" ? state : 0 }) });
// @ts-expect-error a migration gives the state of this version
folds({ name: "x", entity: "id", inputs: id, outputs: { seen: integer }, apply: (state: { seen: number } | null) => [state, null], migrate: () => "1" });
// @ts-expect-error rows have no state to migrate
rows({ name: "x", entity: "id", inputs: id, outputs: { out: float }, apply: () => null, migrate: () => 1 });
