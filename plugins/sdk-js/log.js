// The host's log. Without a host lines go nowhere, or to whoever looks at them: `testing.js` puts its own writer here, `component.js` the host's.

let writer = () => {};

export const write = (level, message) => writer(level, message);

/** Sets who gets the lines; gives who got them before. */
export function setWriter(next) {
  const before = writer;
  writer = next;
  return before;
}
