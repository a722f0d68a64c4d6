/* The next version of `tally`: it keeps the largest amount too, and takes over the states of the first. */
#include "gristmill.h"

#define INPUTS(FIELD) \
    FIELD(id, text) \
    FIELD(amount, float, .nullable = true)

#define OUTPUTS(FIELD) \
    FIELD(seen, integer) \
    FIELD(total, float) \
    FIELD(largest, float)

struct state {
    int64_t count;
    double sum, largest;
};

GM_MIGRATING_FOLD(tally, struct state, from_before, INPUTS, OUTPUTS, .doc = "Counts, sums and compares the events of an entity.", .version = "2.0.0", .stream = "tally", .entity = "id") {
    double amount = in->null.amount ? 0 : in->amount;
    state->count += 1;
    state->sum += amount;
    if (amount > state->largest) state->largest = amount;
    out->seen = state->count;
    out->total = state->sum;
    out->largest = state->largest;
    return GM_ROW;
}

static const char *from_before(gm_text from, gm_text before, struct state *after) {
    struct {
        int64_t seen;
        double total;
    } old;
    if (from.length < 2 || memcmp(from.at, "1.", 2) != 0) return "this version is not known here";
    if (before.length != sizeof old) return "a state of version 1 has 16 bytes";
    memcpy(&old, before.at, sizeof old);
    /* The largest amount so far is at least the mean. */
    *after = (struct state){old.seen, old.total, old.seen == 0 ? 0 : old.total / (double)old.seen};
    return NULL;
}
