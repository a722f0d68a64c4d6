/* Whole columns: what the conformance cases of columns run in every language. */
#include "gristmill.h"

#define INPUTS(FIELD) \
    FIELD(id, text) FIELD(price, float) FIELD(pieces, integer, .nullable = true) FIELD(coupon, text, .nullable = true)
#define OUTPUTS(FIELD) FIELD(total, float, .nullable = true) FIELD(label, text) FIELD(next, integer, .nullable = true)

GM_COLUMNS(columns, INPUTS, OUTPUTS, .version = "1.0.0", .doc = "Whole columns.", .entity = "id", .stream = "orders") {
    out->valid.total = out->valid.next = gm_bitmap(rows);
    for (uint32_t row = 0; row < rows; row++) {
        if (gm_is_valid(in->valid.pieces, row)) {
            out->total[row] = in->price[row] * (double)in->pieces[row];
            out->next[row] = in->pieces[row] + 1;
        } else {
            gm_set_null(out->valid.next, row);
        }
        gm_text coupon = gm_is_valid(in->valid.coupon, row) ? gm_text_at(in->coupon, row) : gm_str("-");
        gm_push(&out->label, gm_join(3, (gm_text[]){gm_text_at(in->id, row), gm_str("/"), coupon}));
    }
    return NULL;
}
