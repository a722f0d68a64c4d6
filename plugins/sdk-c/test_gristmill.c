/* The whole batch path natively. Run with: cc -std=c11 -Wall -Wextra -Werror -fsanitize=address,undefined test_gristmill.c -o test && ./test */
#include "gristmill.h"

#include <assert.h>

#define INPUTS(FIELD) FIELD(id, text) FIELD(value, float, .nullable = true) FIELD(many, integer)
#define OUTPUTS(FIELD) FIELD(label, text, .nullable = true) FIELD(half, float, .nullable = true) FIELD(pair, vector, .width = 2)

static int64_t limit = 3;
static bool loud;
static gm_text mark = {"!", 1};
static const gm_setting settings[] = {{"limit", GM_integer, &limit}, {"loud", GM_boolean, &loud}, {"mark", GM_text, &mark}, {0}};

/* Emits as many rows as `many` says; an event with more than the limit is refused. */
GM_ROWS(sample, INPUTS, OUTPUTS, .entity = "id", .stream = "one two", .settings = settings) {
    if (in->many > limit) return gm_reject(gm_join(2, (gm_text[]){gm_number(in->many), gm_str(" is too many")}));
    for (int64_t i = 0; i < in->many; i++) {
        float pair[2] = {(float)i, -(float)i};
        out->pair = pair;
        out->label = gm_join(2, (gm_text[]){in->id, mark});
        out->null.label = i == 1;
        out->half = in->value / 2;
        out->null.half = in->null.value;
        sample_emit(out);
    }
    return GM_SKIP;
}

static gm_result *apply(uint32_t rows) {
    static uint32_t offsets[4001];
    static char ids[4000];
    static double values[4000];
    static int64_t many[4000];
    uint8_t *valid = gm_bitmap(rows);
    for (uint32_t row = 0; row < rows; row++) {
        offsets[row + 1] = row + 1;
        ids[row] = (char)('a' + row % 26);
        values[row] = row;
        many[row] = row % 5;
        if (row % 2 == 1) gm_set_null(valid, row);
    }
    gm_column *columns = gm_alloc(3 * sizeof *columns);
    memset(columns, 0, 3 * sizeof *columns);
    columns[0].values.packed.offsets = (gm_list){offsets, rows + 1};
    columns[0].values.packed.bytes = (gm_list){ids, rows};
    columns[1].values.fixed = (gm_list){values, rows};
    columns[1].has_validity = 1;
    columns[1].validity = (gm_list){valid, (rows + 7) / 8};
    columns[2].values.fixed = (gm_list){many, rows};
    return gm_export_apply(rows, columns, 3);
}

static void rows_go_through(void) {
    gm_result *result = apply(10);
    assert(!result->is_error);
    gm_output output = result->value.output;
    /* 0 to 3 rows of each five events, the fifth is refused. */
    assert(output.rows == 12 && output.rejected.length == 2);
    const uint32_t *origins = output.origins.at;
    const uint32_t expected[] = {1, 2, 2, 3, 3, 3, 6, 7, 7, 8, 8, 8};
    assert(memcmp(origins, expected, sizeof expected) == 0);
    const gm_rejection *rejected = output.rejected.at;
    assert(rejected[1].row == 9 && gm_equal(rejected[1].reason, "4 is too many"));
    const gm_column *columns = output.columns.at;
    assert(columns[0].tag == GM_text && gm_equal(gm_get_text(&columns[0], 0), "b!") && gm_is_null(&columns[0], 2));
    assert(gm_is_null(&columns[1], 0) && gm_get_float(&columns[1], 1) == 1.0);
    assert(gm_get_vector(&columns[2], 5)[0] == 2.0F && gm_get_vector(&columns[2], 5)[1] == -2.0F);
    gm_export_applied(result);
}

static void many_rows_need_no_more_memory(void) {
    for (int call = 0; call < 1000; call++) {
        gm_result *result = apply(4000);
        assert(result->value.output.rows == 4800);
        gm_export_applied(result);
    }
    int blocks = 0;
    for (gm_block *block = gm_blocks; block != NULL; block = block->next) blocks++;
    assert(blocks < 16);
}

static void settings_are_read_or_refused(void) {
    const char *good = "{\"limit\": 7, \"loud\": true, \"mark\": \"a\\n\\\"\"}";
    gm_spec_result *described = gm_export_describe(good, (uint32_t)strlen(good));
    assert(!described->is_error && limit == 7 && loud && gm_equal(mark, "a\n\""));
    assert(described->value.spec.streams.length == 2 && described->value.spec.inputs.length == 3);
    /* A text outlives the call that read it. */
    gm_export_described(described);
    const char *unicode = "{\"mark\": \"caf\\u00e9 \\ud83e\\udd80\"}";
    described = gm_export_describe(unicode, (uint32_t)strlen(unicode));
    assert(!described->is_error);
    gm_export_described(described);
    memset(gm_alloc(64), 'x', 64);
    assert(gm_equal(mark, "caf\xc3\xa9 \xf0\x9f\xa6\x80"));
    mark = gm_str("!");
    limit = 3;
    const char *const bad[] = {"{\"limit\": 1.5}", "{\"limit\": \"7\"}", "{\"lim\": 7}", "[]", "{", "{\"limit\"}", "{\"limit\": 1,}", "{} {}", "{\"loud\": 1}", "{\"mark\": \"\\ud83e\"}", "{\"mark\": \"\\u12\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        described = gm_export_describe(bad[i], (uint32_t)strlen(bad[i]));
        assert(described->is_error && described->value.error.length > 0);
    }
    gm_export_described(described);
    limit = 3;
}

int main(void) {
    static int64_t moment;
    gm_text refused = gm_read_settings((const gm_setting[]){{"since", GM_timestamp, &moment}, {0}}, gm_str(""));
    assert(refused.length > 5 && memcmp(refused.at, "since has a kind that no setting has", 36) == 0);

    settings_are_read_or_refused();
    rows_go_through();
    many_rows_need_no_more_memory();
    return 0;
}
