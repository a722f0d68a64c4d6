/* Declares every function of windows once: each language must say the same of itself as this does. */
#include "gristmill.h"

#define INPUTS(FIELD) \
    FIELD(id, text) \
    FIELD(amount, float, .nullable = true) \
    FIELD(item, text) \
    FIELD(quantity, integer, .default_text = "1")

#define OUTPUTS(FIELD) \
    FIELD(amount, float, .nullable = true) \
    FIELD(quantity, integer) \
    FIELD(item, text)

static const gm_window windows_kept[] = {
    GM_WINDOW(amounts_90s, count, amount, "90s"),
    GM_WINDOW(amount_sum_5m, sum, amount, "5m"),
    GM_WINDOW(amount_mean_1h, mean, amount, "1h"),
    GM_WINDOW(quantity_min_24h, min, quantity, "24h"),
    GM_WINDOW(quantity_max_7d, max, quantity, "7d"),
    GM_WINDOW(amount_variance_30d, variance, amount, "30d"),
    GM_WINDOW(item_first, first, item, NULL),
    GM_WINDOW(item_last, last, item, NULL),
    GM_WINDOW(items_365d, distinct, item, "365d"),
    GM_WINDOW(amount_p90_1h, quantile, amount, "1h", .number = 0.9),
    GM_WINDOW(items_last_5, last_values, item, NULL, .number = 5),
    GM_WINDOW(items_top_3_1h, top, item, "1h", .number = 3),
    GM_WINDOW(quantity_sum, sum, quantity, NULL),
    {0},
};

GM_ROWS(windows, INPUTS, OUTPUTS, .doc = "Hands events on to windows of every function.", .version = "1.0.0", .stream = "windows", .entity = "id", .windows = windows_kept) {
    out->amount = in->amount;
    out->null.amount = in->null.amount;
    out->quantity = in->quantity;
    out->item = in->item;
    return GM_ROW;
}
