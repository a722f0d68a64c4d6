// Checked by `tsc --noEmit`: each line that must not compile says so.
import { boolean, columns, float, folds, integer, nullable, rows, text, vector } from "gristmill";
import { run } from "gristmill/testing";

const order = rows({
  name: "order",
  entity: "customer",
  settings: { factor: 2 },
  inputs: { customer: text, price: float, coupon: nullable(text) },
  outputs: { total: float, coupon: nullable(text), pair: vector(2) },
  apply({ price, coupon }, { factor }) {
    // @ts-expect-error a coupon may be null
    coupon.length;
    return { total: price * factor, coupon, pair: [price, price] };
  },
});
const total: number | undefined = run(order, []).rows[0]?.total;
void total;

// @ts-expect-error the entity is one of the inputs
rows({ name: "x", entity: "id", inputs: { customer: text }, outputs: { out: float }, apply: () => null });
// @ts-expect-error an output is missing
rows({ name: "x", entity: "id", inputs: { id: text }, outputs: { out: float, more: float }, apply: () => ({ out: 1 }) });
// @ts-expect-error an output has another kind
rows({ name: "x", entity: "id", inputs: { id: text }, outputs: { out: float }, apply: ({ id }) => ({ out: id }) });
// @ts-expect-error null only where it is legal
rows({ name: "x", entity: "id", inputs: { id: text }, outputs: { out: boolean }, apply: () => ({ out: null }) });
columns({ name: "x", entity: "id", inputs: { id: text }, outputs: { length: integer }, apply: ({ id }) => ({ length: id.map((id) => id.length) }) });
folds({
  name: "x",
  entity: "id",
  inputs: { id: text },
  outputs: { seen: integer },
  apply: (state: { seen: number } | null) => [{ seen: (state?.seen ?? 0) + 1 }, null],
});
