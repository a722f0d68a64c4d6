/* One of everything: what the conformance cases run in every language. */
#include "gristmill.h"

#define INPUTS(FIELD) \
    FIELD(id, text) \
    FIELD(action, text, .default_text = "") \
    FIELD(truth, boolean, .nullable = true) \
    FIELD(whole, integer, .nullable = true) \
    FIELD(real, float, .nullable = true) \
    FIELD(text, text, .nullable = true) \
    FIELD(blob, bytes, .nullable = true) \
    FIELD(moment, timestamp, .nullable = true) \
    FIELD(embedding, vector, .width = 3, .nullable = true)

#define OUTPUTS(FIELD) \
    FIELD(truth, boolean, .nullable = true) \
    FIELD(whole, integer, .nullable = true) \
    FIELD(real, float, .nullable = true, .doc = "The number, scaled.") \
    FIELD(text, text, .nullable = true) \
    FIELD(blob, bytes, .nullable = true) \
    FIELD(moment, timestamp, .nullable = true) \
    FIELD(embedding, vector, .width = 3, .nullable = true)

static double factor = 2.0;
static const gm_setting settings[] = {{"factor", GM_float, &factor}, {0}};

static gm_text reversed(gm_text bytes) {
    char *at = gm_alloc(bytes.length);
    for (uint32_t i = 0; i < bytes.length; i++) at[i] = bytes.at[bytes.length - 1 - i];
    return (gm_text){at, bytes.length};
}

GM_ROWS(reference, INPUTS, OUTPUTS, .doc = "One of everything.", .version = "1.0.0", .stream = "reference", .entity = "id", .settings = settings) {
    if (gm_equal(in->action, "reject")) return gm_reject(gm_join(2, (gm_text[]){in->id, gm_str(" asks for it")}));
    if (gm_equal(in->action, "skip")) return GM_SKIP;
    if (gm_equal(in->action, "log")) gm_log(GM_WARN, gm_join(2, (gm_text[]){gm_str("a line about "), in->id}));

    float *embedding = gm_alloc(3 * sizeof(float));
    for (int i = 0; i < 3; i++) embedding[i] = (float)((double)in->embedding[i] * factor);
    *out = (struct reference_out){
        .truth = !in->truth,
        .whole = ~in->whole,
        .real = in->real * factor + 0.1,
        .text = in->null.text ? in->text : gm_join(3, (gm_text[]){gm_str("<"), in->text, gm_str(">")}),
        .blob = reversed(in->blob),
        .moment = in->moment + 1000000,
        .embedding = embedding,
        .null = {in->null.truth, in->null.whole, in->null.real, in->null.text, in->null.blob, in->null.moment, in->null.embedding},
    };
    if (gm_equal(in->action, "twice")) reference_emit(out);
    return GM_ROW;
}
