// The next version of `tally`: it keeps the largest amount too, and takes over the states of the first.
import { Reject, float, folds, integer, nullable, text } from "gristmill";

interface Tally {
  count: number;
  sum: number;
  largest: number;
}

export const fold = folds({
  name: "tally",
  version: "2.0.0",
  doc: "Counts, sums and compares the events of an entity.",
  stream: "tally",
  entity: "id",
  inputs: { id: text, amount: nullable(float) },
  outputs: { seen: integer, total: float, largest: float },
  migrate(from, { seen, total }): Tally {
    if (!from.startsWith("1.")) throw new Reject(`version ${from} is not known here`);
    // The largest amount so far is at least the mean.
    return { count: seen, sum: total, largest: seen === 0 ? 0 : total / seen };
  },
  apply(state: Tally | null, { amount }) {
    const before = state ?? { count: 0, sum: 0, largest: 0 };
    const after = { count: before.count + 1, sum: before.sum + (amount ?? 0), largest: Math.max(before.largest, amount ?? 0) };
    return [after, { seen: after.count, total: after.sum, largest: after.largest }];
  },
});
