/* Five whole columns, three of them text: what the bench of languages runs in each of them. */
#include "gristmill.h"

#define INPUTS(FIELD)  FIELD(customer, text) FIELD(country, text) FIELD(price, float)
#define OUTPUTS(FIELD) FIELD(label, text) FIELD(total, float)

GM_COLUMNS(text_columns, INPUTS, OUTPUTS, .entity = "customer", .stream = "orders") {
    for (uint32_t row = 0; row < rows; row++) {
        gm_text parts[] = {gm_text_at(in->customer, row), gm_str("/"), gm_text_at(in->country, row)};
        gm_push(&out->label, gm_join(3, parts));
        out->total[row] = in->price[row] * 2.0;
    }
    return NULL;
}
