// The host's log. Without a host lines are kept for tests to look at: `testing.js` puts its own writer here.

let writer = () => {};

export const write = (level, message) => writer(level, message);
export const setWriter = (next) => { writer = next; };
