/* Folds that take over states, and windows, natively. Run as test_gristmill.c. */
#include "gristmill.h"

#include <assert.h>

#define INPUTS(FIELD) FIELD(id, text) FIELD(amount, float)
#define OUTPUTS(FIELD) FIELD(total, float) FIELD(item, text, .nullable = true)

struct state {
    double total;
};

static gm_window windows[] = {
    GM_WINDOW(events_90s, count, total, "90s"),
    GM_WINDOW(median_30d, quantile, total, "30d", .number = 0.5, .doc = "Half are below."),
    GM_WINDOW(items, top, item, NULL, .number = 3),
    {0},
};

GM_MIGRATING_FOLD(sample, struct state, from_before, INPUTS, OUTPUTS, .entity = "id", .version = "2.0.0", .windows = windows) {
    state->total += in->amount;
    out->total = state->total;
    out->null.item = true;
    return GM_ROW;
}

/* The state before was a number of 32 bits. */
static const char *from_before(gm_text from, gm_text before, struct state *after) {
    int32_t total;
    if (!gm_equal(from, "1.0.0")) return "this version is not known here";
    if (before.length != sizeof total) return "a state has four bytes";
    memcpy(&total, before.at, sizeof total);
    after->total = total;
    return NULL;
}

static gm_migrated *migrated(const char *from, const int32_t *states, uint32_t count) {
    uint32_t *offsets = gm_alloc((count + 1) * sizeof *offsets);
    for (uint32_t i = 0; i <= count; i++) offsets[i] = i * 4;
    return gm_export_migrate(from, (uint32_t)strlen(from), GM_bytes, offsets, count + 1, (const char *)states, count * 4, 0, NULL, 0);
}

static void states_are_taken_over(void) {
    const int32_t before[] = {7, -1};
    gm_migrated *result = migrated("1.0.0", before, 2);
    assert(!result->is_error && result->value.states.tag == GM_bytes && !result->value.states.has_validity);
    for (uint32_t i = 0; i < 2; i++) {
        struct state after;
        gm_text kept = gm_get_text(&result->value.states, i);
        assert(kept.length == sizeof after);
        memcpy(&after, kept.at, sizeof after);
        assert(after.total == before[i]);
    }
    assert(migrated("1.0.0", before, 0)->value.states.values.packed.offsets.length == 1);
    result = migrated("0.9.0", before, 2);
    assert(result->is_error && gm_equal(result->value.error, "this version is not known here"));
    gm_export_did_migrate(result);
}

static void windows_are_described(void) {
    gm_spec_result *described = gm_export_describe("", 0);
    assert(!described->is_error && described->value.spec.aggregations.length == 3);
    const gm_window_record *records = described->value.spec.aggregations.at;
    assert(records[0].function.tag == 0 && records[0].window.is_some && records[0].window.milliseconds == 90000);
    assert(records[1].function.tag == 9 && records[1].function.of.rank == 0.5 && records[1].window.milliseconds == 2592000000);
    assert(records[2].function.tag == 11 && records[2].function.of.many == 3 && !records[2].window.is_some);
    gm_export_described(described);
}

static bool contains(gm_text text, const char *words) {
    size_t length = strlen(words);
    for (size_t at = 0; at + length <= text.length; at++) {
        if (memcmp(text.at + at, words, length) == 0) return true;
    }
    return false;
}

static void what_is_wrong_names_its_feature(void) {
    const struct {
        gm_window window;
        const char *words;
    } wrong[] = {
        {GM_WINDOW(totals, count, totl, "1h"), "there is no output `totl` to compute it over; the outputs are: total, item"},
        {GM_WINDOW(totals, count, total, "1 hour"), "a window of \"1 hour\""},
        {GM_WINDOW(totals, count, total, "h"), "as in \"24h\""},
        {GM_WINDOW(totals, count, total, "99999999999999999999d"), "a window of"},
        {GM_WINDOW(totals, quantile, total, NULL, .number = 90), "0 to 1 is right"},
        {GM_WINDOW(totals, top, item, NULL), "1 to 1000 are allowed"},
        {GM_WINDOW(totals, last_values, item, NULL, .number = 2.5), "1 to 1000 are allowed"},
        {{.feature = "totals", .function = (gm_aggregate)12, .column = "total"}, "there is no such function"},
    };
    const gm_window right = windows[0];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        windows[0] = wrong[i].window;
        gm_spec_result *described = gm_export_describe("", 0);
        assert(described->is_error && contains(described->value.error, "aggregation `totals`: ") && contains(described->value.error, wrong[i].words));
        gm_export_described(described);
    }
    windows[0] = (gm_window)GM_WINDOW(total, count, total, NULL);
    gm_spec_result *described = gm_export_describe("", 0);
    assert(described->is_error && contains(described->value.error, "`total`: there is an output of this name too"));
    windows[0] = right;
}

int main(void) {
    states_are_taken_over();
    windows_are_described();
    what_is_wrong_names_its_feature();
    return 0;
}
