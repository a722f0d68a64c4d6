/* Write Gristmill transforms in C: one header, nothing to link.
 *
 *     #include "gristmill.h"
 *
 *     #define INPUTS(FIELD)  FIELD(id, text) FIELD(value, float)
 *     #define OUTPUTS(FIELD) FIELD(doubled, float, .doc = "Twice the value.")
 *
 *     GM_ROWS(twice, INPUTS, OUTPUTS, .entity = "id", .stream = "readings") {
 *         out->doubled = in->value * 2;
 *         return GM_ROW;
 *     }
 *
 * The fields are listed once. GM_ROWS makes `struct twice_in` and `struct twice_out` of them, and begins the function
 *
 *     gm_verdict twice(const struct twice_in *in, struct twice_out *out)
 *
 * which is called for one event after the other. `in->null.value` says that an input is null, `out->null.doubled = true` that an output is.
 * GM_COLUMNS gives whole columns instead, GM_FOLD a state for each entity. A component has one of the three. `.windows` of the spec are
 * windows that the host keeps over the outputs (GM_WINDOW).
 *
 * Kinds and their C types: boolean `bool`, integer `int64_t`, float `double`, text and bytes `gm_text`, timestamp `int64_t` (microseconds since 1970-01-01 UTC),
 * vector `const float *` of the field's width. Properties of a field: .nullable, .default_text, .width (vectors), .doc.
 *
 * Memory: what gm_alloc gives, and every text that the host hands over, lasts until the call ends. Nothing is freed, nothing leaks.
 */
#ifndef GRISTMILL_H
#define GRISTMILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- What a transform is made of ---- */

/* Bytes, not ended by a zero. Text is UTF-8. */
typedef struct {
    const char *at;
    uint32_t length;
} gm_text;

/* What a column holds; the numbers are the contract's. */
typedef enum { GM_boolean, GM_integer, GM_float, GM_text, GM_bytes, GM_timestamp, GM_vector } gm_kind;

/* A field of the spec. */
typedef struct {
    const char *name;
    gm_kind kind;
    /* Inputs: null reaches the transform. Outputs: it may return null. */
    bool nullable;
    /* Inputs: stands in where an event lacks the field; decoded as if the event had carried it. NULL for none. */
    const char *default_text;
    /* Vectors: the numbers in one. */
    uint32_t width;
    /* For people: what it means, and its unit. */
    const char *doc;
} gm_field;

/* A setting: a member of the JSON object that the host's configuration gives to the transform. Kinds: boolean (bool *), integer (int64_t *), float (double *),
 * text (gm_text *). What `value` points to holds the default. */
typedef struct {
    const char *name;
    gm_kind kind;
    void *value;
} gm_setting;

/* A function over the values of one output in a window; the numbers are the contract's. */
typedef enum {
    GM_AGGREGATE_count,
    GM_AGGREGATE_sum,
    GM_AGGREGATE_mean,
    GM_AGGREGATE_min,
    GM_AGGREGATE_max,
    GM_AGGREGATE_variance,
    GM_AGGREGATE_first,
    GM_AGGREGATE_last,
    GM_AGGREGATE_distinct,
    GM_AGGREGATE_quantile,
    GM_AGGREGATE_last_values,
    GM_AGGREGATE_top,
} gm_aggregate;

/* A window that the host keeps over an output, and finishes when it is read. GM_WINDOW writes one. */
typedef struct {
    const char *feature;
    gm_aggregate function;
    /* The output that it is computed over. */
    const char *column;
    /* A number and s, m, h or d, as in "24h"; NULL: since the first event. */
    const char *window;
    /* quantile: the rank, 0 to 1. last_values and top: how many, 1 to 1000. */
    double number;
    /* For people: what it means, and its unit. */
    const char *doc;
} gm_window;

/* GM_WINDOW(median_1h, quantile, total, "1h", .number = 0.5) */
#define GM_WINDOW(feature_, function_, column_, window_, ...) \
    { .feature = #feature_, .function = GM_AGGREGATE_##function_, .column = #column_, .window = window_, __VA_ARGS__ }

/* What a transform says about itself. */
typedef struct {
    /* Its name, and its feature view's; the function's when NULL. */
    const char *name;
    /* "0.1.0" when NULL. */
    const char *version;
    const char *doc;
    /* The stream that it reads unless the host's configuration says otherwise. */
    const char *stream;
    /* The inputs that together are the key, with spaces between them. */
    const char *entity;
    /* The input, a timestamp, that says when the event happened; NULL: the time of the stream's entry. */
    const char *event_time;
    /* Ends with a setting without a name; NULL for none. */
    const gm_setting *settings;
    /* Ends with a window without a feature; NULL for none. */
    const gm_window *windows;
} gm_spec;

/* What becomes of an event. */
typedef enum {
    /* `out` is its row. */
    GM_ROW,
    /* It gives no row (beside those that were emitted). */
    GM_SKIP,
    /* It is refused: return gm_reject(...). */
    GM_REFUSED,
    /* Folds: no row, and the entity has no state any more. */
    GM_END,
} gm_verdict;

/* ---- What a transform may call ---- */

/* Memory until the end of the call, aligned to 8, not cleared. Never NULL: a transform without memory is stopped by the host. */
static inline void *gm_alloc(size_t bytes);

/* The text of a C string. */
static inline gm_text gm_str(const char *text) {
    return (gm_text){text, text == NULL ? 0 : (uint32_t)strlen(text)};
}

static inline bool gm_equal(gm_text text, const char *other) {
    return text.length == strlen(other) && memcmp(text.at, other, text.length) == 0;
}

/* Texts one after the other: gm_join(3, (gm_text[]){gm_str("<"), in->text, gm_str(">")}). */
static inline gm_text gm_join(size_t count, const gm_text *texts) {
    uint32_t length = 0;
    for (size_t i = 0; i < count; i++) length += texts[i].length;
    char *at = gm_alloc(length), *end = at;
    for (size_t i = 0; i < count; i++) {
        memcpy(end, texts[i].at, texts[i].length);
        end += texts[i].length;
    }
    return (gm_text){at, length};
}

/* A whole number in decimal digits. */
static inline gm_text gm_number(int64_t number) {
    char *buffer = gm_alloc(24), *at = buffer + 24;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (number < 0) *--at = '-';
    return (gm_text){at, (uint32_t)(buffer + 24 - at)};
}

/* Refuses the event: it becomes a dead letter with this reason, and its neighbours are unharmed. `return gm_reject(gm_str("why"));` */
static inline gm_verdict gm_reject(gm_text reason);

typedef enum { GM_DEBUG, GM_INFO, GM_WARN, GM_ERROR } gm_level;

/* A line in the host's log, under the transform's name. */
static inline void gm_log(gm_level level, gm_text line);

/* Columns of texts or bytes: value i is at[offsets[i] .. offsets[i + 1]]. */
typedef struct {
    const uint32_t *offsets;
    const char *at;
} gm_texts;

static inline gm_text gm_text_at(gm_texts texts, uint32_t row) {
    return (gm_text){texts.at + texts.offsets[row], texts.offsets[row + 1] - texts.offsets[row]};
}

/* Whether a row is not null; `valid` is a bitmap, or NULL where no row is. */
static inline bool gm_is_valid(const uint8_t *valid, uint32_t row) {
    return valid == NULL || (valid[row / 8] >> row % 8 & 1) != 0;
}

/* A bitmap in which all rows are valid, to be handed to gm_set_null. */
static inline uint8_t *gm_bitmap(uint32_t rows) {
    uint8_t *bits = gm_alloc((rows + 7) / 8 + 1);
    memset(bits, 0xff, (rows + 7) / 8 + 1);
    return bits;
}

static inline void gm_set_null(uint8_t *valid, uint32_t row) {
    valid[row / 8] &= (uint8_t) ~(1u << row % 8);
}

/* A column of texts that is being filled, row by row. */
typedef struct {
    uint32_t *offsets;
    char *at;
    uint32_t rows, rows_max, length, length_max;
} gm_text_builder;

/* Appends the next row's text. */
static inline void gm_push(gm_text_builder *to, gm_text text);

/* ---- What crosses the boundary: on wasm32 these are the contract's records in memory ---- */

typedef struct {
    const void *at;
    uint32_t length;
} gm_list;

typedef struct {
    uint8_t tag;
    union {
        gm_list fixed;
        struct {
            gm_list offsets, bytes;
        } packed;
        struct {
            uint32_t width;
            gm_list values;
        } vectors;
    } values;
    uint8_t has_validity;
    gm_list validity;
} gm_column;

typedef struct {
    uint32_t row;
    gm_text reason;
} gm_rejection;

typedef struct {
    uint32_t rows;
    gm_list columns;
    uint8_t has_origins;
    gm_list origins;
    gm_list rejected;
} gm_output;

/* result<output, string> and result<folded, string>. */
typedef struct {
    uint8_t is_error;
    union {
        gm_output output;
        gm_text error;
    } value;
    gm_column states;
} gm_result;

typedef struct {
    gm_list name, version, doc, streams, entity;
    uint8_t has_event_time;
    gm_list event_time;
    gm_list inputs, outputs, aggregations;
} gm_spec_record;

typedef struct {
    uint8_t is_error;
    union {
        gm_spec_record spec;
        gm_text error;
    } value;
} gm_spec_result;

typedef struct {
    gm_list feature, column;
    struct {
        uint8_t tag;
        union {
            double rank;
            uint32_t many;
        } of;
    } function;
    struct {
        uint8_t is_some;
        uint64_t milliseconds;
    } window;
    gm_list doc;
} gm_window_record;

/* result<column, string>. */
typedef struct {
    uint8_t is_error;
    union {
        gm_column states;
        gm_text error;
    } value;
} gm_migrated;

typedef struct {
    gm_list name;
    uint8_t kind, nullable;
    struct {
        uint8_t is_some;
        gm_list text;
    } default_text;
    struct {
        uint8_t is_some;
        uint32_t numbers;
    } width;
    gm_list doc;
} gm_field_record;

#ifdef __wasm32__
_Static_assert(sizeof(gm_column) == 32 && offsetof(gm_column, values) == 4 && offsetof(gm_column, validity) == 24, "a column");
_Static_assert(sizeof(gm_output) == 32 && offsetof(gm_output, origins) == 16, "an output");
_Static_assert(offsetof(gm_result, value) == 4 && offsetof(gm_result, states) == 36, "a result");
_Static_assert(sizeof(gm_spec_record) == 76 && offsetof(gm_spec_record, inputs) == 52, "a spec");
_Static_assert(sizeof(gm_field_record) == 40 && offsetof(gm_field_record, doc) == 32, "a field");
_Static_assert(sizeof(gm_window_record) == 56 && offsetof(gm_window_record, window) == 32 && offsetof(gm_window_record, doc) == 48, "a window");
_Static_assert(sizeof(gm_migrated) == 36, "a migration's result");
#endif

/* ---- Memory ---- */

enum { GM_BLOCK_BYTES = 256 * 1024 };

/* Blocks of memory, newest first. The first one is kept for good; larger ones are freed when the call is over. */
typedef struct gm_block {
    _Alignas(8) struct gm_block *next;
    size_t size, used;
} gm_block;

static gm_block *gm_blocks;
/* Whether a call has ended since memory was asked for last. */
static bool gm_call_is_over;

static inline void gm_end_call(void) {
    gm_call_is_over = true;
}

static inline void gm_forget(void) {
    while (gm_blocks != NULL && gm_blocks->next != NULL) {
        gm_block *next = gm_blocks->next;
        free(gm_blocks);
        gm_blocks = next;
    }
    if (gm_blocks != NULL) gm_blocks->used = 0;
    gm_call_is_over = false;
}

static inline void *gm_alloc(size_t bytes) {
    if (gm_call_is_over) gm_forget();
    bytes = (bytes + 7) & ~(size_t)7;
    if (gm_blocks == NULL || gm_blocks->size - gm_blocks->used < bytes) {
        size_t size = bytes > GM_BLOCK_BYTES ? bytes : GM_BLOCK_BYTES;
        gm_block *block = malloc(sizeof(gm_block) + size);
        if (block == NULL) abort();
        *block = (gm_block){gm_blocks, size, 0};
        gm_blocks = block;
    }
    void *at = (char *)(gm_blocks + 1) + gm_blocks->used;
    gm_blocks->used += bytes;
    return at;
}

static inline void gm_push(gm_text_builder *to, gm_text text) {
    if (to->offsets == NULL || to->rows == to->rows_max) {
        uint32_t rows_max = to->rows_max == 0 ? 1024 : to->rows_max * 2;
        uint32_t *offsets = gm_alloc((rows_max + 1) * sizeof(uint32_t));
        if (to->offsets == NULL) offsets[0] = 0;
        else memcpy(offsets, to->offsets, (to->rows + 1) * sizeof(uint32_t));
        to->offsets = offsets;
        to->rows_max = rows_max;
    }
    if (to->length_max - to->length < text.length) {
        uint32_t length_max = (to->length + text.length) * 2 + 1024;
        char *at = gm_alloc(length_max);
        if (to->length != 0) memcpy(at, to->at, to->length);
        to->at = at;
        to->length_max = length_max;
    }
    if (text.length != 0) memcpy(to->at + to->length, text.at, text.length);
    to->length += text.length;
    to->offsets[++to->rows] = to->length;
}

/* ---- The log ---- */

#ifdef __wasm32__
__attribute__((import_module("gristmill:transform/log@1.0.0"), import_name("write"))) void gm_host_log(uint32_t level, const char *at, uint32_t length);

static inline void gm_log(gm_level level, gm_text line) {
    gm_host_log(level, line.at, line.length);
}
#else
/* In unit tests: how many lines were logged, and the last one. */
static uint32_t gm_logged;
static gm_text gm_logged_last;

static inline void gm_log(gm_level level, gm_text line) {
    (void)level;
    gm_logged++;
    gm_logged_last = line;
}
#endif

/* ---- Settings: a flat JSON object ---- */

typedef struct {
    const char *at, *end;
} gm_json;

static inline void gm_json_space(gm_json *json) {
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r')) json->at++;
}

static inline bool gm_json_take(gm_json *json, const char *token) {
    size_t length = strlen(token);
    gm_json_space(json);
    if ((size_t)(json->end - json->at) < length || memcmp(json->at, token, length) != 0) return false;
    json->at += length;
    return true;
}

/* One unit of a \u escape, whose u was taken; -1 where it is none. */
static inline int32_t gm_json_unit(gm_json *json) {
    int32_t unit = 0;
    for (int digit = 0; digit < 4; digit++) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        if (++json->at >= json->end) return -1;
        const char *found = memchr(digits, *json->at, sizeof digits - 1);
        if (found == NULL) return -1;
        unit = unit << 4 | ((found - digits) & 15);
    }
    return unit;
}

/* A character in UTF-8; where it ends. */
static inline char *gm_utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char leads[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (char)(leads[more] | code >> (6 * more));
    while (more-- > 0) *to++ = (char)(0x80 | ((code >> (6 * more)) & 0x3f));
    return to;
}

/* The character of a \u escape, or of a pair of them. */
static inline bool gm_json_escaped(gm_json *json, char **to) {
    int32_t unit = gm_json_unit(json);
    if (unit >= 0xd800 && unit < 0xdc00) {
        if (json->end - json->at < 3 || json->at[1] != '\\' || json->at[2] != 'u') return false;
        json->at += 2;
        int32_t low = gm_json_unit(json);
        if (low < 0xdc00 || low > 0xdfff) return false;
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    } else if (unit < 0 || (unit >= 0xdc00 && unit < 0xe000)) {
        return false;
    }
    *to = gm_utf8(*to, (uint32_t)unit);
    return true;
}

/* A string. */
static inline bool gm_json_text(gm_json *json, gm_text *text) {
    if (!gm_json_take(json, "\"")) return false;
    char *to = gm_alloc((size_t)(json->end - json->at)), *end = to;
    for (; json->at < json->end && *json->at != '"'; json->at++) {
        if (*json->at == '\\') {
            static const char escapes[] = "\"\\/nrtbf", meanings[] = "\"\\/\n\r\t\b\f";
            if (++json->at == json->end) return false;
            if (*json->at == 'u') {
                if (!gm_json_escaped(json, &end)) return false;
                continue;
            }
            const char *escape = memchr(escapes, *json->at, sizeof escapes - 1);
            if (escape == NULL) return false;
            *end++ = meanings[escape - escapes];
        } else {
            *end++ = *json->at;
        }
    }
    *text = (gm_text){to, (uint32_t)(end - to)};
    return gm_json_take(json, "\"");
}

static inline bool gm_json_value(gm_json *json, const gm_setting *setting) {
    if (setting->kind == GM_boolean) {
        bool truth = gm_json_take(json, "true");
        if (!truth && !gm_json_take(json, "false")) return false;
        *(bool *)setting->value = truth;
        return true;
    }
    if (setting->kind == GM_text) {
        gm_text text;
        if (!gm_json_text(json, &text)) return false;
        /* It outlives the call, unlike what gm_alloc gives. */
        char *kept = malloc(text.length + 1);
        if (kept == NULL) return false;
        memcpy(kept, text.at, text.length);
        *(gm_text *)setting->value = (gm_text){kept, text.length};
        return true;
    }
    gm_json_space(json);
    const char *digits = json->at;
    while (json->at < json->end && memchr("+-.0123456789eE", *json->at, 15) != NULL) json->at++;
    size_t length = (size_t)(json->at - digits);
    if (length == 0 || length > 63) return false;
    char number[64], *rest;
    memcpy(number, digits, length);
    number[length] = 0;
    if (setting->kind == GM_integer) *(int64_t *)setting->value = strtoll(number, &rest, 10);
    else *(double *)setting->value = strtod(number, &rest);
    return *rest == 0;
}

static inline gm_text gm_settings_known(const gm_setting *settings) {
    gm_text known = gm_str("");
    for (const gm_setting *setting = settings; setting != NULL && setting->name != NULL; setting++) {
        known = gm_join(3, (gm_text[]){known, gm_str(known.length == 0 ? "" : ", "), gm_str(setting->name)});
    }
    return known;
}

/* Reads the settings into what they point to. Gives what is wrong, or nothing. */
static inline gm_text gm_read_settings(const gm_setting *settings, gm_text text) {
    for (const gm_setting *setting = settings; setting != NULL && setting->name != NULL; setting++) {
        if (setting->kind != GM_boolean && setting->kind != GM_integer && setting->kind != GM_float && setting->kind != GM_text) {
            return gm_join(2, (gm_text[]){gm_str(setting->name), gm_str(" has a kind that no setting has; use GM_boolean, GM_integer, GM_float or GM_text")});
        }
    }
    gm_json json = {text.at, text.at + text.length};
    gm_json_space(&json);
    if (json.at == json.end) return gm_str("");
    if (settings == NULL) return gm_str("this transform takes no settings");
    if (!gm_json_take(&json, "{")) return gm_str("the settings are not a JSON object");
    bool first = true;
    while (!gm_json_take(&json, "}")) {
        gm_text name;
        if (!first && !gm_json_take(&json, ",")) return gm_str("the settings are not JSON");
        first = false;
        if (!gm_json_text(&json, &name) || !gm_json_take(&json, ":")) return gm_str("the settings are not JSON");
        const gm_setting *setting = settings;
        while (setting->name != NULL && !gm_equal(name, setting->name)) setting++;
        if (setting->name == NULL) {
            return gm_join(4, (gm_text[]){gm_str("there is no setting `"), name, gm_str("`; known are: "), gm_settings_known(settings)});
        }
        if (!gm_json_value(&json, setting)) {
            static const char *const kinds[] = {"true or false", "a whole number", "a number", "a text"};
            return gm_join(4, (gm_text[]){gm_str("the setting `"), name, gm_str("` is not "), gm_str(kinds[setting->kind])});
        }
    }
    gm_json_space(&json);
    return gm_str(json.at == json.end ? "" : "the settings are not JSON");
}

/* ---- The spec ---- */

static inline gm_list gm_list_of(const char *text) {
    return (gm_list){text, gm_str(text).length};
}

static inline gm_list gm_field_records(const gm_field *fields, uint32_t count) {
    gm_field_record *records = gm_alloc(count * sizeof *records);
    for (uint32_t i = 0; i < count; i++) {
        const gm_field *field = &fields[i];
        records[i] = (gm_field_record){
            .name = gm_list_of(field->name),
            .kind = (uint8_t)field->kind,
            .nullable = field->nullable,
            .default_text = {field->default_text != NULL, gm_list_of(field->default_text)},
            .width = {field->kind == GM_vector, field->width},
            .doc = gm_list_of(field->doc),
        };
    }
    return (gm_list){records, count};
}

/* Words with spaces between them, as a list of strings. */
static inline gm_list gm_words(const char *text) {
    size_t length = text == NULL ? 0 : strlen(text);
    gm_list *words = gm_alloc((length / 2 + 1) * sizeof *words);
    uint32_t count = 0;
    for (size_t at = 0; at < length;) {
        size_t end = at;
        while (end < length && text[end] != ' ') end++;
        if (end > at) words[count++] = (gm_list){text + at, (uint32_t)(end - at)};
        at = end + 1;
    }
    return (gm_list){words, count};
}

/* The length of a window in milliseconds; 0 where it is none. */
static inline uint64_t gm_milliseconds(const char *window) {
    uint64_t number = 0;
    const char *at = window;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (number > UINT32_MAX) return 0;
        number = number * 10 + (uint64_t)(*at - '0');
    }
    if (at == window || *at == 0 || at[1] != 0) return 0;
    switch (*at) {
    case 's': return number * 1000;
    case 'm': return number * 60000;
    case 'h': return number * 3600000;
    case 'd': return number * 86400000;
    default: return 0;
    }
}

/* What is wrong with a window, or nothing. */
static inline gm_text gm_window_problem(const gm_window *window, const gm_field *outputs, uint32_t count) {
    if (window->function < GM_AGGREGATE_count || window->function > GM_AGGREGATE_top) return gm_str("there is no such function; use one of enum gm_aggregate");
    gm_text known = gm_str("");
    bool found = false;
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(outputs[i].name, window->feature) == 0) return gm_str("there is an output of this name too");
        found = found || (window->column != NULL && strcmp(outputs[i].name, window->column) == 0);
        known = gm_join(3, (gm_text[]){known, gm_str(i == 0 ? "" : ", "), gm_str(outputs[i].name)});
    }
    if (!found) {
        gm_text column = gm_str(window->column);
        return gm_join(4, (gm_text[]){gm_str("there is no output `"), column, gm_str("` to compute it over; the outputs are: "), known});
    }
    if (window->window != NULL && gm_milliseconds(window->window) == 0) {
        const char *right = "\"; a window is a number and s, m, h or d, as in \"24h\", and NULL is since the first event";
        return gm_join(3, (gm_text[]){gm_str("a window of \""), gm_str(window->window), gm_str(right)});
    }
    bool is_list = window->function == GM_AGGREGATE_last_values || window->function == GM_AGGREGATE_top;
    if (is_list && !(window->number >= 1 && window->number <= 1000 && window->number == (double)(uint32_t)window->number)) {
        return gm_str("`.number` says how many values it lists; 1 to 1000 are allowed");
    }
    if (window->function == GM_AGGREGATE_quantile && !(window->number >= 0 && window->number <= 1)) return gm_str("`.number` is the rank of a quantile; 0 to 1 is right");
    return gm_str("");
}

/* The windows as the contract wants them; where one is wrong, says what. */
static inline gm_list gm_window_records(const gm_window *windows, const gm_field *outputs, uint32_t output_count, gm_text *problem) {
    uint32_t count = 0;
    while (windows != NULL && windows[count].feature != NULL) count++;
    gm_window_record *records = gm_alloc(count * sizeof *records);
    for (uint32_t i = 0; i < count; i++) {
        const gm_window *window = &windows[i];
        gm_text wrong = gm_window_problem(window, outputs, output_count);
        if (wrong.length != 0) {
            *problem = gm_join(4, (gm_text[]){gm_str("aggregation `"), gm_str(window->feature), gm_str("`: "), wrong});
            return (gm_list){records, 0};
        }
        records[i] = (gm_window_record){
            .feature = gm_list_of(window->feature),
            .column = gm_list_of(window->column),
            .function.tag = (uint8_t)window->function,
            .window = {window->window != NULL, window->window == NULL ? 0 : gm_milliseconds(window->window)},
            .doc = gm_list_of(window->doc),
        };
        if (window->function == GM_AGGREGATE_quantile) records[i].function.of.rank = window->number;
        else records[i].function.of.many = (uint32_t)window->number;
    }
    return (gm_list){records, count};
}

static inline gm_spec_result *gm_describe(
    const gm_spec *spec, const char *name, const gm_field *inputs, uint32_t input_count, const gm_field *outputs, uint32_t output_count, gm_text settings) {
    gm_spec_result *result = gm_alloc(sizeof *result);
    gm_text problem = gm_read_settings(spec->settings, settings);
    gm_list windows = problem.length == 0 ? gm_window_records(spec->windows, outputs, output_count, &problem) : (gm_list){NULL, 0};
    if (problem.length != 0) {
        *result = (gm_spec_result){.is_error = 1, .value.error = problem};
        return result;
    }
    *result = (gm_spec_result){
        .value.spec =
            {
                .name = gm_list_of(spec->name == NULL ? name : spec->name),
                .version = gm_list_of(spec->version == NULL ? "0.1.0" : spec->version),
                .doc = gm_list_of(spec->doc),
                .streams = gm_words(spec->stream),
                .entity = gm_words(spec->entity),
                .has_event_time = spec->event_time != NULL,
                .event_time = gm_list_of(spec->event_time),
                .inputs = gm_field_records(inputs, input_count),
                .outputs = gm_field_records(outputs, output_count),
                .aggregations = windows,
            },
    };
    return result;
}

/* ---- Rows out of columns ---- */

static inline bool gm_is_null(const gm_column *column, uint32_t row) {
    return column->has_validity && !gm_is_valid(column->validity.at, row);
}

static inline bool gm_get_boolean(const gm_column *column, uint32_t row) {
    return ((const uint8_t *)column->values.fixed.at)[row] != 0;
}
static inline int64_t gm_get_integer(const gm_column *column, uint32_t row) {
    return ((const int64_t *)column->values.fixed.at)[row];
}
static inline double gm_get_float(const gm_column *column, uint32_t row) {
    return ((const double *)column->values.fixed.at)[row];
}
static inline int64_t gm_get_timestamp(const gm_column *column, uint32_t row) {
    return ((const int64_t *)column->values.fixed.at)[row];
}
static inline gm_text gm_get_text(const gm_column *column, uint32_t row) {
    return gm_text_at((gm_texts){column->values.packed.offsets.at, column->values.packed.bytes.at}, row);
}
static inline gm_text gm_get_bytes(const gm_column *column, uint32_t row) {
    return gm_get_text(column, row);
}
static inline const float *gm_get_vector(const gm_column *column, uint32_t row) {
    return (const float *)column->values.vectors.values.at + (size_t)row * column->values.vectors.width;
}

/* ---- Columns out of rows ---- */

/* An output column that is being filled. */
typedef struct {
    void *at;
    gm_text_builder texts;
    uint8_t *valid;
} gm_builder;

static struct {
    gm_builder *builders;
    uint32_t *origins;
    gm_rejection *rejected;
    uint32_t row, rows, rows_max, rejected_count, input_rows;
} gm_sink;

static inline size_t gm_value_bytes(const gm_field *field) {
    switch (field->kind) {
    case GM_boolean: return 1;
    case GM_vector: return field->width * sizeof(float);
    case GM_text:
    case GM_bytes: return 0;
    default: return 8;
    }
}

static inline void gm_sink_grow(const gm_field *outputs, uint32_t count, uint32_t rows_max) {
    uint32_t rows = gm_sink.rows;
    uint32_t *origins = gm_alloc((rows_max + 1) * sizeof *origins);
    if (rows != 0) memcpy(origins, gm_sink.origins, rows * sizeof *origins);
    gm_sink.origins = origins;
    for (uint32_t i = 0; i < count; i++) {
        gm_builder *builder = &gm_sink.builders[i];
        size_t bytes = gm_value_bytes(&outputs[i]);
        void *at = gm_alloc(bytes * rows_max + 8);
        if (rows != 0) memcpy(at, builder->at, bytes * rows);
        builder->at = at;
        if (builder->valid != NULL) {
            uint8_t *valid = gm_bitmap(rows_max);
            memcpy(valid, builder->valid, (gm_sink.rows_max + 7) / 8 + 1);
            builder->valid = valid;
        }
    }
    gm_sink.rows_max = rows_max;
}

static inline void gm_sink_begin(const gm_field *outputs, uint32_t count, uint32_t input_rows) {
    memset(&gm_sink, 0, sizeof gm_sink);
    gm_sink.builders = gm_alloc(count * sizeof(gm_builder));
    memset(gm_sink.builders, 0, count * sizeof(gm_builder));
    gm_sink.input_rows = input_rows;
    gm_sink_grow(outputs, count, input_rows + 1);
}

/* Makes room for one more row, and says which it is. */
static inline uint32_t gm_sink_row(const gm_field *outputs, uint32_t count) {
    if (gm_sink.rows == gm_sink.rows_max) gm_sink_grow(outputs, count, gm_sink.rows_max * 2);
    gm_sink.origins[gm_sink.rows] = gm_sink.row;
    return gm_sink.rows++;
}

/* Whether the event in hand has been refused. */
static inline bool gm_is_rejected(void) {
    return gm_sink.rejected_count != 0 && gm_sink.rejected[gm_sink.rejected_count - 1].row == gm_sink.row;
}

static inline gm_verdict gm_reject(gm_text reason) {
    if (gm_sink.rejected == NULL || gm_sink.rejected_count > gm_sink.input_rows) {
        gm_sink.rejected = gm_alloc((gm_sink.input_rows + 1) * sizeof(gm_rejection));
        gm_sink.rejected_count = 0;
    }
    /* Of several reasons for one event the last counts. */
    if (gm_is_rejected()) gm_sink.rejected_count--;
    gm_sink.rejected[gm_sink.rejected_count++] = (gm_rejection){gm_sink.row, reason};
    return GM_REFUSED;
}

/* What is done with the verdict on an event: whether its row counts. One that is refused has a reason, whoever forgot it. */
static inline bool gm_is_row(gm_verdict verdict) {
    if (verdict == GM_REFUSED && !gm_is_rejected()) gm_reject(gm_str("the transform refused it and gave no reason"));
    return verdict == GM_ROW && !gm_is_rejected();
}

/* For unit tests: why an event was refused last. */
static inline gm_text gm_last_reason(void) {
    return gm_sink.rejected_count == 0 ? gm_str("") : gm_sink.rejected[gm_sink.rejected_count - 1].reason;
}

static inline bool gm_put_null(gm_builder *builder, uint32_t row, bool is_null) {
    if (is_null) {
        if (builder->valid == NULL) builder->valid = gm_bitmap(gm_sink.rows_max);
        gm_set_null(builder->valid, row);
    }
    return is_null;
}

static inline void gm_put_boolean(gm_builder *to, uint32_t row, bool value, bool is_null, uint32_t width) {
    (void)width;
    ((uint8_t *)to->at)[row] = gm_put_null(to, row, is_null) ? 0 : value;
}
static inline void gm_put_integer(gm_builder *to, uint32_t row, int64_t value, bool is_null, uint32_t width) {
    (void)width;
    ((int64_t *)to->at)[row] = gm_put_null(to, row, is_null) ? 0 : value;
}
static inline void gm_put_timestamp(gm_builder *to, uint32_t row, int64_t value, bool is_null, uint32_t width) {
    gm_put_integer(to, row, value, is_null, width);
}
static inline void gm_put_float(gm_builder *to, uint32_t row, double value, bool is_null, uint32_t width) {
    (void)width;
    ((double *)to->at)[row] = gm_put_null(to, row, is_null) ? 0 : value;
}
static inline void gm_put_text(gm_builder *to, uint32_t row, gm_text value, bool is_null, uint32_t width) {
    (void)width;
    gm_push(&to->texts, gm_put_null(to, row, is_null) ? gm_str("") : value);
}
static inline void gm_put_bytes(gm_builder *to, uint32_t row, gm_text value, bool is_null, uint32_t width) {
    gm_put_text(to, row, value, is_null, width);
}
static inline void gm_put_vector(gm_builder *to, uint32_t row, const float *value, bool is_null, uint32_t width) {
    float *at = (float *)to->at + (size_t)row * width;
    if (gm_put_null(to, row, is_null || value == NULL)) memset(at, 0, width * sizeof(float));
    else memcpy(at, value, width * sizeof(float));
}

static inline gm_list gm_list_at(const void *at, uint32_t length) {
    return (gm_list){at == NULL ? gm_alloc(0) : at, length};
}

/* The columns that were filled, as the contract wants them. */
static inline gm_list gm_columns_out(const gm_field *outputs, uint32_t count, const gm_builder *builders, uint32_t rows) {
    gm_column *columns = gm_alloc(count * sizeof *columns);
    for (uint32_t i = 0; i < count; i++) {
        const gm_builder *builder = &builders[i];
        gm_column column = {.tag = (uint8_t)outputs[i].kind, .has_validity = builder->valid != NULL};
        column.validity = gm_list_at(builder->valid, builder->valid == NULL ? 0 : (rows + 7) / 8);
        if (outputs[i].kind == GM_text || outputs[i].kind == GM_bytes) {
            static const uint32_t zero = 0;
            const gm_text_builder *texts = &builder->texts;
            column.values.packed.offsets = gm_list_at(texts->offsets == NULL ? &zero : texts->offsets, texts->rows + 1);
            column.values.packed.bytes = gm_list_at(texts->at, texts->length);
        } else if (outputs[i].kind == GM_vector) {
            column.values.vectors.width = outputs[i].width;
            column.values.vectors.values = gm_list_at(builder->at, rows * outputs[i].width);
        } else {
            column.values.fixed = gm_list_at(builder->at, rows);
        }
        columns[i] = column;
    }
    return (gm_list){columns, count};
}

static inline gm_result *gm_finish(const gm_field *outputs, uint32_t count) {
    gm_result *result = gm_alloc(sizeof *result);
    *result = (gm_result){
        .value.output =
            {
                .rows = gm_sink.rows,
                .columns = gm_columns_out(outputs, count, gm_sink.builders, gm_sink.rows),
                .has_origins = 1,
                .origins = gm_list_at(gm_sink.origins, gm_sink.rows),
                .rejected = gm_list_at(gm_sink.rejected, gm_sink.rejected_count),
            },
    };
    return result;
}

static inline gm_result *gm_failed(gm_text problem) {
    gm_result *result = gm_alloc(sizeof *result);
    *result = (gm_result){.is_error = 1, .value.error = problem};
    return result;
}

/* ---- States: the bytes of a struct ---- */

static gm_builder gm_states;

/* Copies the state of a group; zeros where there is none. False when it is none of this size. */
static inline bool gm_load_state(const gm_column *states, uint32_t group, void *state, size_t bytes) {
    memset(state, 0, bytes);
    if (gm_is_null(states, group)) return true;
    gm_text kept = gm_get_text(states, group);
    if (kept.length != bytes) return false;
    memcpy(state, kept.at, bytes);
    return true;
}

static inline void gm_keep_state(uint32_t group, uint32_t groups, const void *state, size_t bytes, bool ended) {
    if (ended) {
        if (gm_states.valid == NULL) gm_states.valid = gm_bitmap(groups);
        gm_set_null(gm_states.valid, group);
    }
    gm_push(&gm_states.texts, (gm_text){state, ended ? 0 : (uint32_t)bytes});
}

/* ---- What the macros make ---- */

#define GM_CTYPE_boolean bool
#define GM_CTYPE_integer int64_t
#define GM_CTYPE_float double
#define GM_CTYPE_text gm_text
#define GM_CTYPE_bytes gm_text
#define GM_CTYPE_timestamp int64_t
#define GM_CTYPE_vector const float *

#define GM_MEMBER(field, kind, ...) GM_CTYPE_##kind field;
#define GM_NULL_MEMBER(field, kind, ...) bool field;
#define GM_TABLE_ENTRY(field, kind_, ...) {.name = #field, .kind = GM_##kind_, __VA_ARGS__},
#define GM_READ(field, kind, ...) \
    gm_row_in.field = gm_get_##kind(gm_from, gm_row), gm_row_in.null.field = gm_is_null(gm_from, gm_row), gm_from++;
#define GM_WRITE(field, kind, ...) \
    gm_put_##kind(&gm_sink.builders[gm_index], gm_row, gm_given->field, gm_given->null.field, gm_outputs[gm_index].width), gm_index++;

#ifdef __wasm32__
#define GM_EXPORT(name) __attribute__((export_name(name), used))
#define GM_WORLD(world) __asm__(".section \".custom_section.component-type:gristmill-sdk-c\",\"\",@\n.ascii \"" world "\"\n.text\n")
#include "gristmill_world.h"
#else
#define GM_EXPORT(name) __attribute__((unused))
#define GM_WORLD(world) _Static_assert(1, "")
#endif

#define GM_COUNT(fields) ((uint32_t)(sizeof(fields) / sizeof(fields)[0]))

/* What all three forms have: the tables of fields, and what describes them. */
#define GM_COMMON(function, INPUTS, OUTPUTS, interface, ...) \
    static const gm_field gm_inputs[] = {INPUTS(GM_TABLE_ENTRY)}; \
    static const gm_field gm_outputs[] = {OUTPUTS(GM_TABLE_ENTRY)}; \
    GM_EXPORT("gristmill:transform/" interface "@1.0.0#describe") gm_spec_result *gm_export_describe(const char *gm_at, uint32_t gm_length) { \
        static const gm_spec gm_own_spec = {__VA_ARGS__}; \
        const gm_text gm_given = {gm_at, gm_length}; \
        return gm_describe(&gm_own_spec, #function, gm_inputs, GM_COUNT(gm_inputs), gm_outputs, GM_COUNT(gm_outputs), gm_given); \
    } \
    GM_EXPORT("cabi_post_gristmill:transform/" interface "@1.0.0#describe") void gm_export_described(void *result) { \
        (void)result; \
        gm_end_call(); \
    } \
    GM_EXPORT("cabi_post_gristmill:transform/" interface "@1.0.0#apply") void gm_export_applied(void *result) { \
        (void)result; \
        gm_end_call(); \
    } \
    GM_EXPORT("cabi_realloc") void *gm_export_realloc(void *old, size_t old_bytes, size_t align, size_t bytes) { \
        (void)align; \
        void *at = gm_alloc(bytes); \
        if (old_bytes != 0) memcpy(at, old, old_bytes < bytes ? old_bytes : bytes); \
        return at; \
    }

#define GM_ROW_STRUCTS(function, INPUTS, OUTPUTS) \
    struct function##_in { \
        INPUTS(GM_MEMBER) \
        struct { \
            INPUTS(GM_NULL_MEMBER) \
        } null; \
    }; \
    struct function##_out { \
        OUTPUTS(GM_MEMBER) \
        struct { \
            OUTPUTS(GM_NULL_MEMBER) \
        } null; \
    };

/* `function_emit(&row)` adds a row of the event at hand, beside the one that is returned. */
#define GM_ROW_EMIT(function, OUTPUTS) \
    __attribute__((unused)) static void function##_emit(const struct function##_out *gm_given) { \
        uint32_t gm_row = gm_sink_row(gm_outputs, GM_COUNT(gm_outputs)), gm_index = 0; \
        OUTPUTS(GM_WRITE) \
    }

/* A transform of one event at a time: followed by the body of
 *     gm_verdict function(const struct function_in *in, struct function_out *out)
 * The rest of the arguments are members of gm_spec. `out` is zeroed before each call. */
#define GM_ROWS(function, INPUTS, OUTPUTS, ...) \
    GM_ROW_STRUCTS(function, INPUTS, OUTPUTS) \
    static gm_verdict function(const struct function##_in *in, struct function##_out *out); \
    GM_COMMON(function, INPUTS, OUTPUTS, "transform", __VA_ARGS__) \
    GM_WORLD(GM_ROW_TRANSFORM); \
    GM_ROW_EMIT(function, OUTPUTS) \
    GM_EXPORT("gristmill:transform/transform@1.0.0#apply") gm_result *gm_export_apply(uint32_t gm_rows, const gm_column *gm_given, uint32_t gm_count) { \
        if (gm_count != GM_COUNT(gm_inputs)) return gm_failed(gm_str("the batch has other columns than the inputs")); \
        gm_sink_begin(gm_outputs, GM_COUNT(gm_outputs), gm_rows); \
        for (uint32_t gm_row = 0; gm_row < gm_rows; gm_row++) { \
            const gm_column *gm_from = gm_given; \
            struct function##_in gm_row_in; \
            struct function##_out gm_row_out; \
            memset(&gm_row_out, 0, sizeof gm_row_out); \
            INPUTS(GM_READ) \
            gm_sink.row = gm_row; \
            if (gm_is_row(function(&gm_row_in, &gm_row_out))) function##_emit(&gm_row_out); \
        } \
        return gm_finish(gm_outputs, GM_COUNT(gm_outputs)); \
    } \
    static gm_verdict function(const struct function##_in *in, struct function##_out *out)

/* A stateful transform: followed by the body of
 *     gm_verdict function(State *state, const struct function_in *in, struct function_out *out)
 * `State` is a struct without pointers; its bytes are what the host keeps. It is all zeros before the first event of an entity, and after GM_END. What
 * was done to it for an event that is refused is undone. */
#define GM_FOLD(function, State, INPUTS, OUTPUTS, ...) GM_FOLD_IN(GM_STATEFUL_TRANSFORM, function, State, INPUTS, OUTPUTS, __VA_ARGS__)

/* The same, able to take over the states of another version with
 *     const char *migrate(gm_text from, gm_text before, State *after)
 * It is given the version that wrote a state, the bytes of that state (at any address: copy them), and a state of all zeros to fill. It returns NULL, or why
 * this version cannot go on from there, which refuses it. */
#define GM_MIGRATING_FOLD(function, State, migrate, INPUTS, OUTPUTS, ...) \
    static const char *migrate(gm_text from, gm_text before, State *after); \
    GM_EXPORT("gristmill:transform/migration@1.0.0#migrate") \
    gm_migrated *gm_export_migrate(const char *from, uint32_t from_length, uint32_t tag, const uint32_t *offsets, uint32_t offsets_length, const char *bytes, \
        uint32_t bytes_length, uint32_t has_validity, const uint8_t *validity, uint32_t validity_length) { \
        (void)bytes_length, (void)has_validity, (void)validity, (void)validity_length; \
        gm_migrated *gm_result_of = gm_alloc(sizeof *gm_result_of); \
        if (tag != GM_bytes) { \
            *gm_result_of = (gm_migrated){.is_error = 1, .value.error = gm_str("the states are not a column of bytes")}; \
            return gm_result_of; \
        } \
        uint32_t gm_many = offsets_length == 0 ? 0 : offsets_length - 1; \
        memset(&gm_states, 0, sizeof gm_states); \
        for (uint32_t gm_group = 0; gm_group < gm_many; gm_group++) { \
            State gm_after; \
            memset(&gm_after, 0, sizeof gm_after); \
            const char *gm_problem = migrate((gm_text){from, from_length}, gm_text_at((gm_texts){offsets, bytes}, gm_group), &gm_after); \
            if (gm_problem != NULL) { \
                *gm_result_of = (gm_migrated){.is_error = 1, .value.error = gm_str(gm_problem)}; \
                return gm_result_of; \
            } \
            gm_keep_state(gm_group, gm_many, &gm_after, sizeof gm_after, false); \
        } \
        const gm_field gm_state_field = {.name = "state", .kind = GM_bytes}; \
        *gm_result_of = (gm_migrated){.value.states = *(const gm_column *)gm_columns_out(&gm_state_field, 1, &gm_states, gm_many).at}; \
        return gm_result_of; \
    } \
    GM_EXPORT("cabi_post_gristmill:transform/migration@1.0.0#migrate") void gm_export_did_migrate(void *result) { \
        (void)result; \
        gm_end_call(); \
    } \
    GM_FOLD_IN(GM_MIGRATING_TRANSFORM, function, State, INPUTS, OUTPUTS, __VA_ARGS__)

#define GM_FOLD_IN(gm_in_world, function, State, INPUTS, OUTPUTS, ...) \
    GM_ROW_STRUCTS(function, INPUTS, OUTPUTS) \
    static gm_verdict function(State *state, const struct function##_in *in, struct function##_out *out); \
    GM_COMMON(function, INPUTS, OUTPUTS, "fold", __VA_ARGS__) \
    GM_WORLD(gm_in_world); \
    GM_ROW_EMIT(function, OUTPUTS) \
    static bool gm_fold_group(const gm_column *gm_of_columns, const gm_column *gm_of_states, uint32_t gm_of_group, uint32_t gm_of_groups, uint32_t gm_of_begin, uint32_t gm_of_end) { \
        State gm_of_state, gm_of_before; \
        bool gm_of_ended = gm_is_null(gm_of_states, gm_of_group); \
        if (!gm_load_state(gm_of_states, gm_of_group, &gm_of_state, sizeof gm_of_state)) return false; \
        for (uint32_t gm_row = gm_of_begin; gm_row < gm_of_end; gm_row++) { \
            const gm_column *gm_from = gm_of_columns; \
            struct function##_in gm_row_in; \
            struct function##_out gm_row_out; \
            memset(&gm_row_out, 0, sizeof gm_row_out); \
            INPUTS(GM_READ) \
            gm_sink.row = gm_row; \
            memcpy(&gm_of_before, &gm_of_state, sizeof gm_of_state); \
            gm_verdict gm_of_verdict = function(&gm_of_state, &gm_row_in, &gm_row_out); \
            bool gm_of_row = gm_is_row(gm_of_verdict); \
            if (gm_is_rejected()) { \
                memcpy(&gm_of_state, &gm_of_before, sizeof gm_of_state); \
                continue; \
            } \
            gm_of_ended = gm_of_verdict == GM_END; \
            if (gm_of_ended) memset(&gm_of_state, 0, sizeof gm_of_state); \
            if (gm_of_row) function##_emit(&gm_row_out); \
        } \
        gm_keep_state(gm_of_group, gm_of_groups, &gm_of_state, sizeof gm_of_state, gm_of_ended); \
        return true; \
    } \
    GM_EXPORT("gristmill:transform/fold@1.0.0#apply") \
    gm_result *gm_export_apply(uint32_t rows, const gm_column *columns, uint32_t count, const uint32_t *groups, uint32_t bounds, uint32_t tag, \
        const uint32_t *offsets, uint32_t offsets_length, const char *bytes, uint32_t bytes_length, uint32_t has_validity, const uint8_t *validity, \
        uint32_t validity_length) { \
        if (count != GM_COUNT(gm_inputs) || tag != GM_bytes) return gm_failed(gm_str("the batch has other columns than the inputs")); \
        gm_column states = {.tag = GM_bytes, .has_validity = (uint8_t)has_validity, .validity = {validity, validity_length}}; \
        states.values.packed.offsets = (gm_list){offsets, offsets_length}; \
        states.values.packed.bytes = (gm_list){bytes, bytes_length}; \
        gm_sink_begin(gm_outputs, GM_COUNT(gm_outputs), rows); \
        memset(&gm_states, 0, sizeof gm_states); \
        for (uint32_t group = 0; group + 1 < bounds; group++) { \
            if (!gm_fold_group(columns, &states, group, bounds - 1, groups[group], groups[group + 1])) { \
                return gm_failed(gm_str("a kept state has another size than the State of this version")); \
            } \
        } \
        gm_result *result = gm_finish(gm_outputs, GM_COUNT(gm_outputs)); \
        const gm_field state = {.name = "state", .kind = GM_bytes}; \
        result->states = *(const gm_column *)gm_columns_out(&state, 1, &gm_states, bounds == 0 ? 0 : bounds - 1).at; \
        return result; \
    } \
    static gm_verdict function(State *state, const struct function##_in *in, struct function##_out *out)

/* ---- Whole columns ---- */

#define GM_COLUMN_boolean const uint8_t *
#define GM_COLUMN_integer const int64_t *
#define GM_COLUMN_float const double *
#define GM_COLUMN_text gm_texts
#define GM_COLUMN_bytes gm_texts
#define GM_COLUMN_timestamp const int64_t *
#define GM_COLUMN_vector const float *

#define GM_FILLED_boolean uint8_t *
#define GM_FILLED_integer int64_t *
#define GM_FILLED_float double *
#define GM_FILLED_text gm_text_builder
#define GM_FILLED_bytes gm_text_builder
#define GM_FILLED_timestamp int64_t *
#define GM_FILLED_vector float *

#define GM_COLUMN_MEMBER(field, kind, ...) GM_COLUMN_##kind field;
#define GM_VALID_MEMBER(field, kind, ...) const uint8_t *field;
#define GM_FILLED_MEMBER(field, kind, ...) GM_FILLED_##kind field;
#define GM_FILLED_VALID_MEMBER(field, kind, ...) uint8_t *field;

#define GM_FIXED_IN(field) gm_in.field = gm_from->values.fixed.at
#define GM_PACKED_IN(field) gm_in.field = (gm_texts) { gm_from->values.packed.offsets.at, gm_from->values.packed.bytes.at }
#define GM_IN_boolean GM_FIXED_IN
#define GM_IN_integer GM_FIXED_IN
#define GM_IN_float GM_FIXED_IN
#define GM_IN_timestamp GM_FIXED_IN
#define GM_IN_text GM_PACKED_IN
#define GM_IN_bytes GM_PACKED_IN
#define GM_IN_vector(field) gm_in.field = gm_from->values.vectors.values.at
#define GM_COLUMN_IN(field, kind, ...) \
    GM_IN_##kind(field); \
    gm_in.valid.field = gm_from->has_validity ? gm_from->validity.at : NULL; \
    gm_from++;

#define GM_FIXED_OUT(field) gm_out.field = gm_sink.builders[gm_index].at
#define GM_PACKED_OUT(field) (void)0
#define GM_OUT_boolean GM_FIXED_OUT
#define GM_OUT_integer GM_FIXED_OUT
#define GM_OUT_float GM_FIXED_OUT
#define GM_OUT_timestamp GM_FIXED_OUT
#define GM_OUT_vector GM_FIXED_OUT
#define GM_OUT_text GM_PACKED_OUT
#define GM_OUT_bytes GM_PACKED_OUT
#define GM_COLUMN_OUT(field, kind, ...) \
    GM_OUT_##kind(field); \
    gm_index++;

#define GM_FIXED_BACK(field) (void)0
#define GM_PACKED_BACK(field) \
    if (gm_out.field.rows != gm_rows) return gm_failed(gm_str("output `" #field "` was not pushed once for each row")); \
    gm_sink.builders[gm_index].texts = gm_out.field
#define GM_BACK_boolean GM_FIXED_BACK
#define GM_BACK_integer GM_FIXED_BACK
#define GM_BACK_float GM_FIXED_BACK
#define GM_BACK_timestamp GM_FIXED_BACK
#define GM_BACK_vector GM_FIXED_BACK
#define GM_BACK_text GM_PACKED_BACK
#define GM_BACK_bytes GM_PACKED_BACK
#define GM_COLUMN_BACK(field, kind, ...) \
    GM_BACK_##kind(field); \
    gm_sink.builders[gm_index].valid = gm_out.valid.field; \
    gm_index++;

/* A transform of whole columns: followed by the body of
 *     const char *function(uint32_t rows, const struct function_in *in, struct function_out *out)
 * `in->price` is the column, `in->valid.price` its bitmap or NULL where no row is null. Output columns have room for `rows` values, all zero; texts
 * are pushed (gm_push). `out->valid.total = gm_bitmap(rows)` where some are null. Returns NULL, or why the whole batch cannot be used. */
#define GM_COLUMNS(function, INPUTS, OUTPUTS, ...) \
    struct function##_in { \
        INPUTS(GM_COLUMN_MEMBER) \
        struct { \
            INPUTS(GM_VALID_MEMBER) \
        } valid; \
    }; \
    struct function##_out { \
        OUTPUTS(GM_FILLED_MEMBER) \
        struct { \
            OUTPUTS(GM_FILLED_VALID_MEMBER) \
        } valid; \
    }; \
    static const char *function(uint32_t rows, const struct function##_in *in, struct function##_out *out); \
    GM_COMMON(function, INPUTS, OUTPUTS, "transform", __VA_ARGS__) \
    GM_WORLD(GM_ROW_TRANSFORM); \
    GM_EXPORT("gristmill:transform/transform@1.0.0#apply") gm_result *gm_export_apply(uint32_t gm_rows, const gm_column *gm_given, uint32_t gm_count) { \
        if (gm_count != GM_COUNT(gm_inputs)) return gm_failed(gm_str("the batch has other columns than the inputs")); \
        gm_sink_begin(gm_outputs, GM_COUNT(gm_outputs), gm_rows); \
        const gm_column *gm_from = gm_given; \
        uint32_t gm_index = 0; \
        struct function##_in gm_in; \
        struct function##_out gm_out; \
        memset(&gm_out, 0, sizeof gm_out); \
        for (uint32_t i = 0; i < GM_COUNT(gm_outputs); i++) memset(gm_sink.builders[i].at, 0, gm_value_bytes(&gm_outputs[i]) * gm_rows); \
        INPUTS(GM_COLUMN_IN) \
        OUTPUTS(GM_COLUMN_OUT) \
        const char *gm_problem = function(gm_rows, &gm_in, &gm_out); \
        if (gm_problem != NULL) return gm_failed(gm_str(gm_problem)); \
        gm_index = 0; \
        OUTPUTS(GM_COLUMN_BACK) \
        gm_sink.rows = gm_rows; \
        gm_result *gm_made = gm_finish(gm_outputs, GM_COUNT(gm_outputs)); \
        gm_made->value.output.has_origins = 0; \
        return gm_made; \
    } \
    static const char *function(uint32_t rows, const struct function##_in *in, struct function##_out *out)

#endif
