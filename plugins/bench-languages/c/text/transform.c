/* Five columns, three of them text, row by row: what the bench of languages runs in each of them. */
#include "gristmill.h"

#define INPUTS(FIELD)  FIELD(customer, text) FIELD(country, text) FIELD(price, float)
#define OUTPUTS(FIELD) FIELD(label, text) FIELD(total, float)

GM_ROWS(text, INPUTS, OUTPUTS, .entity = "customer", .stream = "orders") {
    out->label = gm_join(3, (gm_text[]){in->customer, gm_str("/"), in->country});
    out->total = in->price * 2.0;
    return GM_ROW;
}
