// Whole columns: what the conformance cases of columns run in every language.
import { columns, float, integer, nullable, text } from "gristmill";

export const transform = columns({
  name: "columns",
  version: "1.0.0",
  doc: "Whole columns.",
  stream: "orders",
  entity: "id",
  inputs: { id: text, price: float, pieces: nullable(integer), coupon: nullable(text) },
  outputs: { total: nullable(float), label: text, next: nullable(integer) },
  apply: ({ id, price, pieces, coupon }) => ({
    total: pieces.map((many, row) => (many === null ? null : price[row] * many)),
    label: id.map((name, row) => `${name}/${coupon[row] ?? "-"}`),
    next: pieces.map((many) => (many === null ? null : many + 1)),
  }),
});
