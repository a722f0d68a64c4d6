// One of everything: what the conformance cases run in every language.
import { Reject, boolean, bytes, doc, float, integer, log, nullable, rows, text, timestamp, vector, withDefault } from "gristmill";

const values = {
  truth: nullable(boolean),
  whole: nullable(integer),
  real: nullable(float),
  text: nullable(text),
  blob: nullable(bytes),
  moment: nullable(timestamp),
  embedding: nullable(vector(3)),
};

export const transform = rows({
  name: "reference",
  version: "1.0.0",
  doc: "One of everything.",
  stream: "reference",
  entity: "id",
  settings: { factor: 2 },
  inputs: { id: text, action: withDefault(text, ""), ...values },
  outputs: { ...values, real: doc(nullable(float), "The number, scaled.") },
  apply({ id, action, truth, whole, real, text, blob, moment, embedding }, { factor }) {
    if (action === "reject") throw new Reject(`${id} asks for it`);
    if (action === "skip") return null;
    if (action === "log") log.warn(`a line about ${id}`);
    const row = {
      truth: truth === null ? null : !truth,
      whole: whole === null ? null : -whole - 1,
      real: real === null ? null : real * factor + 0.1,
      text: text === null ? null : `<${text}>`,
      blob: blob === null ? null : blob.slice().reverse(),
      moment: moment === null ? null : moment + 1_000_000,
      embedding: embedding === null ? null : embedding.map((number) => number * factor),
    };
    return action === "twice" ? [row, row] : row;
  },
});
