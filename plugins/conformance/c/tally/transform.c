/* Counts and sums: what the conformance cases of state run in every language. */
#include "gristmill.h"

#define INPUTS(FIELD) \
    FIELD(id, text) \
    FIELD(action, text, .default_text = "") \
    FIELD(amount, float, .nullable = true)

#define OUTPUTS(FIELD) \
    FIELD(seen, integer) \
    FIELD(total, float)

struct state {
    int64_t seen;
    double total;
};

GM_FOLD(tally, struct state, INPUTS, OUTPUTS, .doc = "Counts and sums the events of an entity.", .version = "1.0.0", .stream = "tally", .entity = "id") {
    if (gm_equal(in->action, "reject")) return gm_reject(gm_join(2, (gm_text[]){in->id, gm_str(" asks for it")}));
    if (gm_equal(in->action, "reset")) return GM_END;
    state->seen += 1;
    state->total += in->null.amount ? 0 : in->amount;
    out->seen = state->seen;
    out->total = state->total;
    return GM_ROW;
}
