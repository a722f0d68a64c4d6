// Counts and sums: what the conformance cases of state run in every language.
import { Reject, float, folds, integer, nullable, text, withDefault } from "gristmill";

interface State {
  seen: number;
  total: number;
}

export const fold = folds({
  name: "tally",
  version: "1.0.0",
  doc: "Counts and sums the events of an entity.",
  stream: "tally",
  entity: "id",
  inputs: { id: text, action: withDefault(text, ""), amount: nullable(float) },
  outputs: { seen: integer, total: float },
  apply(state: State | null, { id, action, amount }) {
    if (action === "reject") throw new Reject(`${id} asks for it`);
    if (action === "reset") return [null, null];
    const before = state ?? { seen: 0, total: 0 };
    const after = { seen: before.seen + 1, total: before.total + (amount ?? 0) };
    return [after, after];
  },
});
