/* Features of an order. */
#include "gristmill.h"

#define INPUTS(FIELD) \
    FIELD(customer, text) \
    FIELD(price, float) \
    FIELD(quantity, integer) \
    FIELD(coupon, text, .nullable = true)

#define OUTPUTS(FIELD) \
    FIELD(total, float, .doc = "Price of all pieces.") \
    FIELD(discounted, boolean, .doc = "Whether a coupon was used.")

GM_ROWS(features, INPUTS, OUTPUTS, .name = "NAME", .doc = "The latest order of a customer.", .stream = "orders", .entity = "customer") {
    if (in->quantity < 1) {
        return gm_reject(gm_join(3, (gm_text[]){gm_str("quantity is "), gm_number(in->quantity), gm_str("; at least 1 is right")}));
    }
    out->total = in->price * (double)in->quantity;
    out->discounted = !in->null.coupon;
    return GM_ROW;
}
